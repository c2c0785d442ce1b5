"""Make the table of what tuning tried and chose."""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from surefoot.files import UserError
from surefoot.job import job, paths
from surefoot.layouts import write_tables
from surefoot.results import read_records
from surefoot.tables import tuning_table

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        if not snakemake.input.trials:
            raise UserError(
                "no method of the run has grids for the recipe of the first task; give methods.<name>.grids.<recipe>, "
                "keys and the values to try (config/README.md)"
            )
        trials = pd.concat([read_records(path) for path in paths(snakemake.input.trials)], ignore_index=True)
        table = tuning_table(trials, snakemake.params.eval_set)
        write_tables({"tuning": table}, {"labels": snakemake.params.labels}, Path(snakemake.output.table).parent)
