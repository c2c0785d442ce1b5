"""Choose the winner of a search and write it as a learned objective, with all trials in one file."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.files import read_json, write_json
from surefoot.job import job, paths
from surefoot.records import total_cost, versions
from surefoot.trials import complete, read_trials, write_objective, write_trials

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        space, out, wildcards = snakemake.params.space, snakemake.output, snakemake.wildcards
        trials = complete(read_trials(paths(snakemake.input.trials)), snakemake.params.trials)
        meters = [read_json(path) for path in paths(snakemake.input.meters)]
        about = {"task": wildcards.task, "model": wildcards.model, "search_seed": int(wildcards.search_seed)}
        images = {key: meters[0][key] for key in ("training_images", "validation_images")}
        write_objective(Path(out.objective), trials, space, about | images | {"versions": versions("optuna")})
        write_trials(Path(out.trials), trials, trials[0]["search"], **about, space=space["name"])
        write_json(Path(out.meter), total_cost(meters))
