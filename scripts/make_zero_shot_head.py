"""Make the zero-shot head of a model for a task."""

from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.clip import save_state
from surefoot.device import pick_device
from surefoot.job import job
from surefoot.tasks import load_task
from surefoot.zeroshot import zero_shot_head

if TYPE_CHECKING:
    from snakemake.iocontainers import snakemake


def main(model: Path, task: dict, head: Path) -> None:
    """Embed class names and templates and write the head."""
    card = load_task(task)
    save_state(head, zero_shot_head(model, card.prompt_names, card.templates, pick_device()))


if "snakemake" in globals():
    with job(snakemake):
        main(
            model=Path(snakemake.input.model),
            task=snakemake.params.task,
            head=Path(snakemake.output.head),
        )
