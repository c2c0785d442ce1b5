"""Tables and figures from committed records: they change only when someone means them to.

The records are those of a smoke run. After a meant change: `python -m tests.golden.test_tables results` takes records
from a folder in which the smoke experiment ran, and writes the expected tables anew.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from surefoot.layouts import write_tables
from surefoot.tables import KINDS, build_tables

HERE = Path(__file__).resolve().parent
RECORDS, EXPECTED = HERE / "records", HERE / "expected"
NAMES = (
    "main",
    "alpha",
    "ensembles",
    "effects",
    "metrics",
    "methods",
    "surgical",
    "choices",
    "factors",
    "online",
    "search",
    "learned",
    "trials",
    "importances",
    *("lengths", "without"),
)


def make_tables(folder: Path) -> None:
    """Write the tables of the committed records, without those that hold times."""
    story = json.loads((RECORDS / "story.json").read_text())
    files = json.loads((RECORDS / "files.json").read_text())
    none: dict = {kind: [] for kind in KINDS}
    tables = build_tables(none | {kind: [RECORDS / path for path in paths] for kind, paths in files.items()}, story)
    write_tables({name: tables[name] for name in NAMES}, story["titles"], folder)


@pytest.mark.parametrize("form", ["csv", "md", "tex"])
@pytest.mark.parametrize("name", NAMES)
def test_table_is_as_committed(made: Path, name: str, form: str) -> None:
    assert (made / f"{name}.{form}").read_text() == (EXPECTED / f"{name}.{form}").read_text()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    make_tables(folder)
    return folder


def test_tables_and_figures_need_no_torch() -> None:
    code = "import sys, surefoot.tables, surefoot.figures, surefoot.report; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=HERE.parents[1]).returncode == 0


def take(results: Path) -> None:
    """Take records from a results folder and write the expected tables."""
    import yaml
    from snakemake.utils import update_config

    from surefoot.config import parse_config
    from surefoot.flow import Plan
    from surefoot.flow_search import Searches
    from surefoot.story import build_story

    shutil.rmtree(RECORDS, ignore_errors=True)
    merged: dict = {}
    for name in ("config.yaml", "experiments/smoke.yaml"):
        update_config(merged, yaml.safe_load((HERE.parents[1] / "config" / name).read_text()))
    plan = Plan(parse_config(merged))
    searches = Searches(plan)
    files = {
        "metrics": plan.evaluations("metrics.parquet") + searches.evaluations("metrics.parquet"),
        "predictions": plan.evaluations("predictions.parquet") + searches.evaluations("predictions.parquet"),
        "objectives": searches.files("objective.yaml"),
        "searches": searches.files("trials.parquet"),
        "search_meters": searches.files("meter.json"),
        "finals": searches.finals("record.json"),
        "lengths": searches.analyses("lengths"),
        "without": searches.analyses("without"),
        "trials": plan.adaptations("adapt", "trials.parquet"),
        "adapted": plan.adaptations("adapt", "predictions.parquet"),
        "factors": plan.adaptations("adapt", "factors.parquet"),
        "online": plan.adaptations("online", "predictions.parquet"),
    }
    inside = {kind: [str(Path(*Path(path).parts[1:])) for path in paths] for kind, paths in files.items()}
    for path in (path for paths in inside.values() for path in paths):
        (RECORDS / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(results / path, RECORDS / path)
    (RECORDS / "files.json").write_text(json.dumps(inside, indent=1) + "\n")
    (RECORDS / "story.json").write_text(json.dumps(build_story(plan), indent=1, ensure_ascii=False) + "\n")
    EXPECTED.mkdir(exist_ok=True)
    make_tables(EXPECTED)


if __name__ == "__main__":
    take(Path(sys.argv[1]))
