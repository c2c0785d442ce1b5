"""Write the card of the embedded CLIP."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.clip import load_state
from surefoot.data import Data, split_folders
from surefoot.device import use_cpu
from surefoot.files import atomic, read_json
from surefoot.job import job
from surefoot.model_card import draws, fine_tuning_gain, model_card, zero_shot_by_style
from surefoot.results import read_records
from surefoot.run_entries import Bootstrap
from surefoot.tasks import load_task

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake):
        use_cpu()
        given, model = snakemake.params, Path(snakemake.input.model)
        bootstrap = Bootstrap.model_validate(given.bootstrap)
        data = Data(load_task(given.task), split_folders(snakemake.input.splits))
        scores = zero_shot_by_style(model, load_state(Path(snakemake.input.head)), data, bootstrap)
        metrics, predictions = map(read_records, (snakemake.input.metrics, snakemake.input.predictions))
        gain = fine_tuning_gain(metrics, predictions, bootstrap)
        with atomic(Path(snakemake.output.card)) as partial:
            partial.write_text(
                model_card(model, read_json(Path(snakemake.input.made)), scores, gain, bootstrap.level),
                encoding="utf-8",
            )
        with atomic(Path(snakemake.output.draws)) as partial:
            draws().to_csv(partial, index=False)
