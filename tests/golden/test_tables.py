"""Tables from committed records: they change only when someone means them to.

`smoke` holds the records of a smoke run and the tables expected of them; of other experiments tables and figures lie
in docs/<experiment>, for people to read. After a meant change of a table: `python -m tests.golden.test_tables
<experiment>` makes them again; with a folder of results behind it, in which the experiment ran, of new records.

An experiment of many hours may be taken in parts: its `part.yaml` says, as a config file, what of it has run, and
records that the folder of results does not have stay as they are.
"""

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from surefoot.experiments_page import plan_of
from surefoot.layouts import write_tables
from surefoot.tables import KINDS, build_tables
from tests.golden.packed import HERE, pack, unpacked

EXPERIMENTS = sorted(path.parent.name for path in HERE.glob("*/records"))
NAMES = (
    "main",
    "alpha",
    "ensembles",
    "effects",
    "metrics",
    "methods",
    "surgical",
    "targets",
    "choices",
    "factors",
    "online",
    "search",
    "learned",
    "trials",
    "importances",
    *("lengths", "without"),
)
DRAWN = {  # the figures that docs/findings.md shows
    "emoji_full": ("frontier", "shots", "factors"),
    "emoji_autoft": ("search", "learned", "importances", "lengths", "without"),
}
LONG = {
    "metrics",
    "factors",
    "trials.csv",
}  # a row per seed, epoch or trial: figures show them, and people do not read them


def expected(experiment: str) -> Path:
    """Folder of the tables of an experiment."""
    return HERE / "smoke/tables" if experiment == "smoke" else HERE.parents[1] / "docs" / experiment


def make_tables(experiment: str, folder: Path) -> dict[str, Any]:
    """Write the tables of the committed records, without those that hold times and those without a row.

    Returns the story of the records.
    """
    with TemporaryDirectory() as temporary:
        records = unpacked(experiment, Path(temporary))
        story, files = (json.loads((records / name).read_text()) for name in ("story.json", "files.json"))
        none: dict = {kind: [] for kind in KINDS}
        tables = build_tables(none | {kind: [records / path for path in paths] for kind, paths in files.items()}, story)
    filled = {name: tables[name] for name in NAMES if name in tables and len(tables[name])}
    write_tables(filled, story, folder)
    return story


@cache
def made(experiment: str) -> dict[str, str]:
    """Name -> text of every table, made once."""
    with TemporaryDirectory() as folder:
        make_tables(experiment, Path(folder))
        return {path.name: path.read_text() for path in to_read(experiment, Path(folder))}


def to_read(experiment: str, tables: Path) -> list[Path]:
    """Those files of a folder of tables that are committed."""
    return [path for path in tables.iterdir() if experiment == "smoke" or not {path.stem, path.name} & LONG]


def committed(experiment: str) -> list[Path]:
    return sorted(p for p in expected(experiment).iterdir() if p.suffix in (".csv", ".md", ".tex"))


@pytest.mark.parametrize(
    ("experiment", "path"), [pytest.param(e, p, id=f"{e}-{p.name}") for e in EXPERIMENTS for p in committed(e)]
)
def test_table_is_as_committed(experiment: str, path: Path) -> None:
    assert made(experiment)[path.name] == path.read_text()


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_table_is_committed(experiment: str) -> None:
    assert set(made(experiment)) == {path.name for path in committed(experiment)}


def test_records_of_these_experiments_are_committed() -> None:
    assert EXPERIMENTS == ["emoji_autoft", "emoji_full", "smoke"]


def test_the_smoke_run_has_every_table() -> None:
    """But `targets`: each of its tasks has one."""
    names = set(NAMES) - {"targets"}
    assert set(made("smoke")) == {f"{name}.{form}" for name in names for form in ("csv", "md", "tex")}


def test_tables_and_figures_need_no_torch() -> None:
    code = "import sys, surefoot.tables, surefoot.figures, surefoot.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=HERE.parents[1]).returncode == 0


def take(experiment: str, results: Path) -> None:
    """Take records from a results folder, packed tightly.

    Raises FileNotFoundError if it lacks one that was not taken before.
    """
    from surefoot.flow_search import Searches
    from surefoot.story import build_story

    part = [f"../tests/golden/{experiment}/part"] if (HERE / experiment / "part.yaml").is_file() else []
    records, plan = HERE / experiment / "records", plan_of(experiment, *part)
    searches = Searches(plan)
    files = {
        "metrics": plan.evaluations("metrics.parquet") + searches.evaluations("metrics.parquet"),
        "predictions": plan.evaluations("predictions.parquet") + searches.evaluations("predictions.parquet"),
        "objectives": searches.files("objective.yaml"),
        "searches": searches.searches("trials.parquet"),
        "search_meters": searches.searches("meter.json"),
        "finals": searches.finals("record.json"),
        "lengths": searches.analyses("lengths"),
        "without": searches.analyses("without"),
        "trials": plan.adaptations("adapt", "trials.parquet"),
        "adapted": plan.adaptations("adapt", "predictions.parquet"),
        "factors": plan.adaptations("adapt", "factors.parquet"),
        "online": plan.adaptations("online", "predictions.parquet"),
    }
    inside = {kind: [str(Path(*Path(path).parts[1:])) for path in paths] for kind, paths in files.items()}
    wanted = [path for paths in inside.values() for path in paths]
    for path in wanted:
        if part and (records / path).is_file() and not (results / path).is_file():
            continue
        (records / path).parent.mkdir(parents=True, exist_ok=True)
        if path in inside["predictions"]:
            pack(results / path, records / path)
        else:
            shutil.copy(results / path, records / path)
    for path in {path for path in records.rglob("*") if path.is_file()} - {records / path for path in wanted}:
        path.unlink()
    (records / "files.json").write_text(json.dumps(inside, indent=1) + "\n")
    (records / "story.json").write_text(json.dumps(build_story(plan), indent=1, ensure_ascii=False) + "\n")


def remake(experiment: str) -> None:
    """Make the tables, and the figures that people read, of the committed records."""
    from surefoot.figures import draw_figures

    folder = expected(experiment)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with TemporaryDirectory() as temporary:
        tables, figures = Path(temporary) / "tables", Path(temporary) / "figures"
        tables.mkdir()
        story = make_tables(experiment, tables)
        for path in to_read(experiment, tables):
            shutil.copy(path, folder)
        draw_figures(tables, story, figures)
        for name in DRAWN.get(experiment, ()):
            shutil.copy(figures / f"{name}.png", folder)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        take(sys.argv[1], Path(sys.argv[2]))
    remake(sys.argv[1])
