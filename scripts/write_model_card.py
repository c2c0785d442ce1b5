"""Write the card of the embedded CLIP."""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from surefoot import config
from surefoot.clip import load_state
from surefoot.data import Data, split_folders
from surefoot.device import pick_device
from surefoot.files import atomic
from surefoot.flow import load_task
from surefoot.job import job
from surefoot.model_card import fine_tuning_gain, model_card, zero_shot_by_style

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


if "snakemake" in globals():
    with job(snakemake.log[0]):
        pick_device()
        given, model = snakemake.params, Path(snakemake.input.model)
        bootstrap = config.Bootstrap.model_validate(given.bootstrap)
        data = Data(load_task(given.task), split_folders(snakemake.input.splits))
        scores = zero_shot_by_style(model, load_state(Path(snakemake.input.head)), data, bootstrap)
        metrics, predictions = map(pd.read_parquet, (snakemake.input.metrics, snakemake.input.predictions))
        gain = fine_tuning_gain(metrics, predictions, bootstrap)
        how = config.Pretraining.model_validate(given.how)
        with atomic(Path(snakemake.output.card)) as partial:
            partial.write_text(model_card(model, how, scores, gain, bootstrap.level), encoding="utf-8")
