"""docs/data.md says what the code and the tests say."""

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.utils import update_config

from surefoot.config import parse_config
from surefoot.data_page import data_page
from surefoot.docs import REMAKE
from surefoot.fingerprint import ROOT
from surefoot.flow import PUBLISHED, Plan
from surefoot.proofs import COMMON, EVALUATED, READ, RUN, TRAINED, read_by
from surefoot.tasks import family
from tests.workflow.test_families import EXPERIMENTS, overlay

TESTS = sorted({RUN, *COMMON.values(), *(test for tests in READ.values() for test in tests.values())})


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / "docs/data.md").read_text(encoding="utf-8") == data_page(), f"run `{REMAKE}`"


@pytest.mark.parametrize("test", TESTS)
def test_every_named_test_exists(test: str) -> None:
    file, name = test.split(": ")
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_data_set_is_read_by_a_test_and_no_entry_is_stale() -> None:
    assert set(READ) == set(PUBLISHED)
    for name in PUBLISHED:
        assert {read_by(name, source) for source in family(name).SOURCES} == set(READ[name].values())


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_trains_and_evaluates_is_what_the_workflow_is_run_on(name: str) -> None:
    merged: dict[str, Any] = {}
    for path in ("config.yaml", f"experiments/{EXPERIMENTS[name][0]}.yaml", "scales/smoke.yaml"):
        update_config(merged, yaml.safe_load((ROOT / "config" / path).read_text(encoding="utf-8")))
    update_config(merged, yaml.safe_load(overlay(name, Path("/data"))))
    plan, splits = Plan(parse_config(merged)), family(name).SPLITS
    tasks = [plan.tasks[task] for task in plan.config.run.tasks]
    seen = {part.split for task in tasks for eval_set in task.eval_sets for part in eval_set.parts}
    seen |= {target.split for task in plan.config.surgical.tasks for target in plan.tasks[task].targets}
    assert TRAINED[name] == {splits[part.split].source for task in tasks for part in task.train}
    assert EVALUATED[name] == {splits[split].source for split in seen}
