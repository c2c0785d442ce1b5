"""A published number, and files of such numbers, for tests."""

import csv
from pathlib import Path
from typing import Any

import yaml

from surefoot.published import COLUMNS, Published
from tests.workflow.conftest import ROOT

GOLDEN = ROOT / "tests" / "golden" / "smoke"
RULE = {"tolerance": 1.0, "deviations": 2.0, "shared": {}}
ROW = Published(
    paper="A paper",
    table="Table 1",
    task="imagenet",
    model="ViT-B-16",
    method="ft",
    ensemble="none",
    alpha=1.0,
    eval_set="id_test",
    metric="top1",
    value=80.0,
    std=None,
    spread="",
    n_seeds=None,
    comparable="yes",
    verification="verified",
    words="Fine-tuning",
    note="",
    source="its table",
)


def raw_config(**changes: Any) -> dict[str, Any]:
    """The default config as read, with some sections replaced."""
    return yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8")) | changes


def written(folder: Path, *rows: Published, columns: tuple[str, ...] = COLUMNS) -> Path:
    """A file of numbers, written with these columns as its head."""
    path = folder / "numbers.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    return path
