"""What a trial of a search costs beyond its inner steps and one validation pass, and against the official way.

Usage: python benchmarks/search_overhead.py [--trials 5] [--space autoft]

Needs the prepared data and the zero-shot head of emoji-style (`snakemake results/search/emoji-style/emoji-clip/\
ft-searched/search-0/objective.yaml` makes both). The official way (AutoFT's code) copies the model twice for every
trial, makes a new loader iterator for every step, whose workers decode some eight batches to use one, and decodes the
validation images for every trial; here it trains the same classifier by the same steps on the same images as PNG files.
Trials of both ways alternate in one run; medians are printed.
"""

import argparse
import copy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import yaml
from PIL import Image
from torch.utils.data import DataLoader, Dataset

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from surefoot.config import parse_config  # noqa: E402
from surefoot.data import Data, Examples, split_folders  # noqa: E402
from surefoot.flow import Plan  # noqa: E402
from surefoot.flow_search import Searches  # noqa: E402
from surefoot.method_entries import changed  # noqa: E402
from surefoot.objective import Context, Objective  # noqa: E402
from surefoot.proposals import propose  # noqa: E402
from surefoot.search import BATCH, Arena  # noqa: E402
from surefoot.tasks import load_task  # noqa: E402
from surefoot.trials import changes  # noqa: E402

MODEL = ROOT / "results/models/emoji-clip"
HEAD = ROOT / "results/zeroshot/emoji-style/emoji-clip/head.safetensors"


class Files(Dataset):
    """Images as PNG files with their labels, decoded one by one."""

    def __init__(self, examples: Examples, folder: Path) -> None:
        folder.mkdir()
        self.labels, self.paths = examples.labels, [folder / f"{i}.png" for i in range(len(examples))]
        for path, image in zip(self.paths, examples.images(np.arange(len(examples))).numpy(), strict=True):
            Image.fromarray(image).save(path)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return np.array(Image.open(self.paths[index])), int(self.labels[index])


def official_trial(arena: Arena, settings: dict, train: Files, validation: Files) -> None:
    """A trial as AutoFT's code runs it, with our terms and our model."""
    training, recipe = changed(arena.space["training"], arena.space["recipe"], settings, "benchmark")
    classifier = copy.deepcopy(arena.classifier)
    start = copy.deepcopy(classifier)
    arena.references.options = training.options
    tower = copy.deepcopy(arena.references.train_text()) if "text" in training.train else None
    arena.references.trained_text = tower or arena.references.trained_text
    trained = dict(classifier.named_parameters())
    arena.references.start = {name: tensor.detach() for name, tensor in start.named_parameters()}
    if tower is not None:
        trained |= {f"text.{name}": tensor for name, tensor in tower.named_parameters()}
        arena.references.start |= {f"text.{k}": t.detach() for k, t in copy.deepcopy(tower).named_parameters()}
    optimizer = torch.optim.AdamW(trained.values(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    objective = Objective(training.objective)
    loader = DataLoader(train, recipe.batch_size, shuffle=True, num_workers=2, prefetch_factor=4)
    for step in range(recipe.steps):
        images, labels = next(iter(loader))
        x = arena.preprocess(images)
        loss, _ = objective(Context(classifier, x, labels, 0, trained, arena.references, step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        for images, _ in DataLoader(validation, BATCH, num_workers=2, prefetch_factor=4):
            classifier(arena.preprocess(images)).argmax(-1)


def seconds(call: Callable[[], object]) -> float:
    """Wall seconds of a call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def main(trials: int, space: str) -> None:
    """Print the overhead of a trial and the ratio against the official way."""
    torch.set_num_threads(1)
    torch.multiprocessing.set_sharing_strategy("file_system")
    plan = Plan(parse_config(yaml.safe_load((ROOT / "config/config.yaml").read_text())))
    cell = SimpleNamespace(task="emoji-style", model="emoji-clip", space=space, search_seed="0")
    splits = [str(ROOT / file) for file in plan.splits(cell)]
    begin = time.perf_counter()
    data = Data(load_task(plan.task_entry(cell)), split_folders(splits))
    arena = Arena(MODEL, HEAD, data, Searches(plan).search_entry(cell), None, 0)
    start_up = time.perf_counter() - begin + seconds(lambda: arena.images)
    steps = arena.space["trial"]["steps"]
    proposals = propose(arena.dimensions, "random", 0, [], trials + 1)
    arena.run(0, proposals[-1])  # warms caches up
    whole, twice, passes, official = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        files = Files(arena.examples, Path(folder) / "train"), Files(arena.validation, Path(folder) / "validation")
        for number, proposal in enumerate(proposals[:trials]):
            own = changes(arena.dimensions, proposal, "trials")
            settings = {**arena.space["trial"], **{key: value for key, value in own.items() if key != "seed"}}
            double = settings | {"steps": 2 * steps}
            whole.append(seconds(lambda n=number, p=proposal: arena.run(n, p)))
            twice.append(seconds(lambda n=number, s=double: arena.train(s, n, {})))
            passes.append(seconds(lambda n=number: arena.evaluate(n)))
            official.append(seconds(lambda s=settings: official_trial(arena, s, *files)))
    trial, validation = statistics.median(whole), statistics.median(passes)
    # Twice the steps without validation, minus a trial without its validation: the steps alone.
    inner = statistics.median(t - (w - p) for t, w, p in zip(twice, whole, passes, strict=True))
    beyond = trial - inner - validation
    print(f"start-up of a job {start_up:8.2f} s (data, model, validation images; not the interpreter)")
    print(f"one trial         {trial:8.3f} s: {steps} inner steps {inner:.3f}, validation {validation:.3f}")
    print(f"beyond them       {beyond:8.3f} s: {100 * beyond / trial:.1f} % of a trial")
    print(f"official way      {statistics.median(official):8.3f} s: {statistics.median(official) / trial:.2f} x ours")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5, help="trials of each way")
    parser.add_argument("--space", default="autoft", help="entry of spaces")
    given = parser.parse_args()
    main(given.trials, given.space)
