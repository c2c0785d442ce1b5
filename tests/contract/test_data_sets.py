"""Data sets that no run of the workflow's tests uses: from their makers' archives to records, in one process."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from surefoot.clip import save_state
from surefoot.data import Data
from surefoot.download import fetch
from surefoot.evaluate import evaluate_runs
from surefoot.experiments_page import plan_of
from surefoot.finetune import Bench, finetune
from surefoot.prepare import prepare_files
from surefoot.proofs import IN_PROCESS
from surefoot.resume import Resumable
from surefoot.sources import Source
from surefoot.surgical import adapt
from surefoot.tasks import family, load_task
from surefoot.zeroshot import zero_shot_head
from tests.download.hosting import Host, distributed
from tests.fabricate import transfer, wilds
from tests.tiny import SIDE

# Task -> the experiment that has it, and its main training method there.
TASKS = {
    "sst2-16shot": ("autoft_fewshot_transfer", "ft"),
    "pcam-16shot": ("autoft_fewshot_transfer", "ft"),
    "cifar100": ("wise_ft_transfer", "ft"),
    "dtd": ("wise_ft_transfer", "ft"),
    "food101": ("wise_ft_transfer", "ft"),
    "sun397": ("wise_ft_transfer", "ft"),
    "camelyon17-source": ("surgical_clip", "ft"),
    "waterbirds-source": ("surgical_groups", "source-net"),
    "celeba-source": ("surgical_groups", "source-net"),
}
TARGETS = {name.removesuffix("-source"): name for name in TASKS if name.endswith("-source")}


def fabricated(source: Source, folder: Path) -> Path:
    """Folder of a fabricated data set."""
    if source.name in transfer.KNOWN:
        transfer.fabricate(folder, images_per_class=6, data=(source.name,))
        return folder
    getattr(wilds, source.name)(folder, 6, np.random.default_rng(0))
    return folder / source.folders[0]


def opened(entry: dict, host: Host, folder: Path) -> Data:
    """A task with its splits, by what the rules `fetch_data` and `prepare` call."""
    task, known, folders = load_task(entry), family(entry["family"]), {}
    sources = [known.SOURCES[name] for name in {known.SPLITS[split].source for split in task.splits}]
    offered = {s.name: distributed(s, fabricated(s, folder / "made" / s.name), host) for s in sources}
    for split in task.splits:
        how = known.SPLITS[split]
        found = fetch(offered[how.source], folder / "raw" / how.source, None)
        assert found["how"] == "download"
        folders[split] = folder / split
        prepare_files(how, Path(found.pop("root")), SIDE, folders[split], folder / "state" / split, found, split, False)
    few = tuple(replace(target, validation=2) for target in task.targets)
    return Data(replace(task, targets=few), folders)


@pytest.mark.parametrize("name", TASKS)
def test_a_data_set_is_prepared_trained_on_and_evaluated(name: str, host: Host, model: Path, tmp_path: Path) -> None:
    experiment, method = TASKS[name]
    plan = plan_of(experiment, "scales/smoke")
    cell = SimpleNamespace(task=name, method=method)
    data = opened(plan.task_entry(cell), host, tmp_path)
    head, weights = tmp_path / "head.safetensors", tmp_path / "weights.safetensors"
    save_state(head, zero_shot_head(model, data.task.prompt_names, data.task.templates))
    bench = Bench(model, head, data, plan.method_entry(cell))
    files = weights, tmp_path / "record.json", tmp_path / "meter.json"
    finetune(bench, None, 0, Resumable(tmp_path / "run", "job"), "code", *files)
    how = {"model": model, "head": head, "data": data, "batch": 64, "renders": 1}
    found = evaluate_runs(starts=[], ends=[weights], name=method, seeds=[0], alphas=[0.0, 0.5, 1.0], **how)
    assert set(found.metrics["eval_set"]) == {s.name for s in data.task.eval_sets}
    line = found.metrics[found.metrics["space"] == "weights"]
    main = line[line["metric"] == plan.config.tasks[name].metric]
    assert len(main) == 3 * len(data.task.eval_sets) and main["value"].between(0, 100).all()
    assert np.isfinite(found.metrics["value"]).all()

    for target in (target for target, source in TARGETS.items() if source == name):
        entry = plan.task_entry(SimpleNamespace(task=target))
        adapted = adapt(
            model,
            head,
            {0: weights},
            opened(entry, host, tmp_path / "target"),
            plan.adapt_entry(SimpleNamespace(task=target, method="tune-head")),
            rates=plan.config.surgical.learning_rates,
            shots=plan.config.surgical.shots,
            states=lambda case: Resumable(tmp_path / "adapted" / str(case), "job"),
        )
        assert adapted.trials["validation"].between(0, 100).all() and len(adapted.predictions)


def test_these_are_the_data_sets_that_are_said_to_be_tried() -> None:
    tried = {name.partition("-")[0] for name in TASKS}
    assert tried == IN_PROCESS
