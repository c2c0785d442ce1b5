"""The whole graph on a small task: complete, repeatable, and rerun by content."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.workflow.conftest import SMOKE, SNAKEMAKE, snakemake

UNSTEADY = {"inference.json", "cost.csv", "cost.md", "cost.tex", "report.html"}


def results(folder: Path) -> dict[str, str]:
    """Digest of every result that must be equal between equal runs: all but times."""
    found = {}
    for path in sorted((folder / "results").rglob("*")):
        inside = path.relative_to(folder / "results")
        steady = path.name not in UNSTEADY and inside.parts[0] not in ("logs", "benchmarks", "manifests", ".receipts")
        steady &= not path.name.endswith("meter.json")
        if path.is_file() and steady and ".snakemake" not in path.name:
            timed = inside.parts[0] == ".state" and path.name.startswith("trial-")  # with what the trial cost
            found[str(inside)] = "" if timed else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def test_everything_is_made(smoke: Path) -> None:
    tables = ("main", "alpha", "ensembles", "effects", "metrics", "cost", "methods", "surgical", "choices", "factors")
    for name in (*tables, "online"):
        for form in ("csv", "md", "tex"):
            assert (smoke / f"results/tables/{name}.{form}").stat().st_size > 0
    for name in ("frontier", "robustness", "alpha", "blocks", "shots", "factors"):
        for form in ("svg", "png", "csv"):
            assert (smoke / f"results/figures/{name}.{form}").stat().st_size > 0
    page = (smoke / "results/report.html").read_text()
    assert "<script src" not in page and 'src="http' not in page, "the page needs other files"
    assert page.index("A smoke run") < page.index("<h2>")
    main = pd.read_csv(smoke / "results/tables/main.csv")
    assert set(main["eval_set"]) == {"id_test", "line", "glyph", "openmoji", "average", "effective"}
    assert main[["value", "low", "high"]].notna().all(axis=None)
    assert (main["low"] <= main["high"]).all()


def test_records_agree_with_tables(smoke: Path) -> None:
    records = pd.concat(pd.read_parquet(p) for p in (smoke / "results/evaluate").rglob("metrics.parquet"))
    main = pd.read_csv(smoke / "results/tables/main.csv")
    tuned = main[(main["label"] == "FT") & (main["eval_set"] == "line")]["value"].item()
    rows = records[
        (records["method"] == "ft")
        & (records["alpha"] == 1)
        & (records["space"] == "weights")
        & (records["eval_set"] == "line")
        & (records["metric"] == "mean_per_class")
    ]
    assert len(rows) == 3
    assert abs(rows["value"].mean() - tuned) < 1e-3


@pytest.mark.fault(
    "interruption",
    "kill -9 of Snakemake and its jobs at three random moments of a run",
    "the next run goes on; all results, made on one core, have the bytes of a run on two cores that nobody hit",
)
def test_a_run_on_one_core_that_is_killed_again_and_again_gives_the_same_bytes(smoke: Path, clone: Path) -> None:
    moments = random.Random()  # every run of the tests hits elsewhere
    for seconds in (moments.uniform(4, 25) for _ in range(3)):
        running = subprocess.Popen(
            [SNAKEMAKE, "--cores", "1", *SMOKE],
            cwd=clone,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(seconds)
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        snakemake(clone, "--unlock", *SMOKE)
    snakemake(clone, "--cores", "1", *SMOKE)
    first, second = results(smoke), results(clone)
    assert first.keys() == second.keys()
    assert {name for name in first if first[name] != second[name]} == set()


def test_a_search_in_shards_ends_with_the_same_objective(smoke: Path, after_smoke: Path) -> None:
    """Four jobs, two for each of two rounds, where the smoke run has one job."""
    search = "results/search/emoji-smoke/emoji-clip/autoft/search-0"
    for folder in (search, search.replace("results", "results/.state")):
        shutil.rmtree(after_smoke / folder)
    (after_smoke / "overlay.yaml").write_text("search: {shards: 2}\n")
    snakemake(after_smoke, "--cores", "2", f"{search}/objective.yaml", *SMOKE, "overlay.yaml")
    assert len(list((after_smoke / search).glob("round-*/shard-*.parquet"))) == 4
    for name in ("objective.yaml", "trials.parquet"):
        assert (after_smoke / search / name).read_bytes() == (smoke / search / name).read_bytes()


def test_report_of_snakemake_is_one_file(after_smoke: Path) -> None:
    snakemake(after_smoke, "--report", "report.html", *SMOKE)
    page = (after_smoke / "report.html").read_text()
    for name in ("main.csv", "frontier.svg", "alpha.svg", "contact-emoji-smoke.png"):
        assert name in page, f"{name} is not in the report"


def test_finished_run_has_nothing_to_do(smoke: Path, planned: Callable[[Path], set[str]]) -> None:
    assert planned(smoke) == set()


def test_comment_reruns_nothing(after_smoke: Path, planned: Callable[[Path], set[str]]) -> None:
    for name in ("surefoot/train.py", "scripts/finetune.py", "surefoot/tables.py"):
        path = after_smoke / name
        path.write_text(path.read_text() + "\n# A remark that changes nothing.\n")
    assert planned(after_smoke) == set()


def test_changed_module_reruns_its_own_jobs(after_smoke: Path, planned: Callable[[Path], set[str]]) -> None:
    path = after_smoke / "surefoot/tables.py"
    path.write_text(path.read_text().replace("one decimal", "one decimal") + "\nUNUSED = 1\n")
    tables = planned(after_smoke)
    assert "make_tables" in tables
    assert tables.isdisjoint({"prepare", "fetch_model", "zero_shot", "finetune", "evaluate"})
    path = after_smoke / "surefoot/objective.py"
    path.write_text(path.read_text() + "\nUNUSED = 1\n")
    assert {"finetune", "evaluate", "make_tables"} <= planned(after_smoke)
    assert planned(after_smoke).isdisjoint({"prepare", "fetch_model", "zero_shot"})


def test_changed_method_reruns_its_own_jobs(after_smoke: Path, planned: Callable[[Path], set[str]]) -> None:
    path = after_smoke / "config/experiments/smoke.yaml"
    path.write_text(path.read_text().replace("smoke: {learning_rate: 3.0e-3", "smoke: {learning_rate: 1.0e-3"))
    out = snakemake(after_smoke, "-n", *SMOKE).stdout
    assert "with lp" in out and "with ft" not in out


def test_export_is_a_model_for_plain_open_clip(after_smoke: Path) -> None:
    import json

    import open_clip
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file

    stem = after_smoke / "results/export/emoji-smoke/emoji-clip/ft"
    snakemake(after_smoke, "--cores", "1", str((stem / "alpha-1.safetensors").relative_to(after_smoke)), *SMOKE)
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{after_smoke}/results/models/emoji-clip")
    open_clip.load_checkpoint(model, str(stem / "alpha-1.safetensors"))
    tuned = load_file(after_smoke / "results/finetune/emoji-smoke/emoji-clip/ft/seed-0/weights.safetensors")
    assert torch.equal(model.state_dict()["visual.proj"], tuned["image.proj"])
    assert torch.equal(load_file(stem / "alpha-1.head.safetensors")["weight"], tuned["head.weight"])
    with safe_open(stem / "alpha-1.head.safetensors", "pt") as file:
        assert json.loads(file.metadata()["classes"])[0] == "smiley"
