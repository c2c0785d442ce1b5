"""What each method costs in training, relative to FT: every method of the config in turn, several rounds in one run.

Usage: python benchmarks/method_cost.py [--images 512] [--rounds 3]

Uses the embedded CLIP and random images, so it needs no prepared data. Prints seconds per epoch and the ratio to FT, as
medians over the rounds, which alternate between the methods, so that a slow moment of the machine hits all of them.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from surefoot.clip import Classifier, Preprocess  # noqa: E402
from surefoot.config import Config, parse_config  # noqa: E402
from surefoot.data import Examples  # noqa: E402
from surefoot.device import pick_device  # noqa: E402
from surefoot.finetune import start_classifier  # noqa: E402
from surefoot.method_entries import Head  # noqa: E402
from surefoot.references import References  # noqa: E402
from surefoot.resume import Resumable  # noqa: E402
from surefoot.splits import Split  # noqa: E402
from surefoot.tasks import build_task  # noqa: E402
from surefoot.train import Run, fit  # noqa: E402
from surefoot.zeroshot import zero_shot_head  # noqa: E402

MODEL = ROOT / "resources/emoji-clip"
EPOCHS = 3  # of which the first is left out: it warms caches up
ARMS = {"tune-embedding", "tune-first", "tune-middle", "tune-last", "tune-head", "tune-all"}


def random_examples(count: int, classes: int) -> Examples:
    """Random images with random labels."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (count, 48, 48, 3), np.uint8), rng.integers(0, classes, count)
    split = Split(images, pd.DataFrame({"label": labels}), "")
    names = labels.astype(str)
    return Examples(((split, np.arange(count)),), labels, clusters=names, groups=names, also=np.full(count, ""))


def seconds_per_epoch(config: Config, method: str, recipe: str, examples: Examples, head: dict, task: object) -> float:
    """Seconds of one epoch of a method, without start-up."""
    device = pick_device()
    training, how = config.resolve(method, recipe)
    how = how.model_copy(update={"keep": "last"})
    classifier: Classifier = start_classifier(MODEL, head, training, Head(), None, 0).to(device)
    references = References(MODEL, head, task, training.options, 0, device)
    preprocess, times = Preprocess.of(MODEL), []
    for epochs in (1, EPOCHS):
        with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as null, contextlib.redirect_stderr(null):
            recipe_now = how.model_copy(update={"epochs": epochs})
            run = Run(training, recipe_now, examples, preprocess, references, 0, Resumable(Path(folder), ""), method)
            begin = time.perf_counter()
            fit(classifier, run)
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - begin)
    return (times[1] - times[0]) / (EPOCHS - 1)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512, help="training images")
    parser.add_argument("--rounds", type=int, default=3, help="rounds over all methods")
    given = parser.parse_args()
    config = parse_config(yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8")))
    pick_device()
    task = build_task("emoji-style", config.tasks["emoji-style"])
    head = zero_shot_head(MODEL, task.prompt_names, task.templates)
    examples = random_examples(given.images, len(task.classes))
    methods = [
        m for m in config.run.methods if config.methods[m].train and config.resolve(m, "emoji")[1].optimizer != "lbfgs"
    ]
    work = [(m, "emoji") for m in methods] + [(m, "target") for m in config.surgical.methods if m in ARMS]
    found: dict[str, list[float]] = {method: [] for method, _ in work}
    for _ in range(given.rounds):
        for method, recipe in work:
            found[method].append(seconds_per_epoch(config, method, recipe, examples, head, task))
    for title, names, one in (("Methods", methods, "ft"), ("Arms", [m for m, r in work if r == "target"], "tune-all")):
        base = statistics.median(found[one])
        print(f"\n{title}, {given.images} images, median of {given.rounds} rounds\n")
        print(f"| method | s per epoch | relative to {one} |\n| --- | --- | --- |")
        for name in names:
            seconds = statistics.median(found[name])
            print(f"| {name} | {seconds:.3f} | {seconds / base:.2f} |")


if __name__ == "__main__":
    main()
