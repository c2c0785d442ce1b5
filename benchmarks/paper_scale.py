"""Models of the papers' sizes without their data: random weights on fabricated JPEG files of 500 x 375 pixels.

Usage: python benchmarks/paper_scale.py [--model ViT-B-16] [--images 64] [--batch 8] [--steps 2] [--alphas 21]

Fine-tunes by `ft` with streamed images and random crops, evaluates a line of alphas on prepared images, and does the
inner steps of one AutoFT trial. Prints images per second of each, peak memory, and from them the hours of every
experiment on published data, whose FLOPs the library counts. A batch that does not fit into the memory of the GPU is
halved until it does. On a CPU the defaults take a few minutes; on a GPU raise --batch and --steps (256 and 20).
"""

import argparse
import json
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pandas as pd
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from surefoot.budget import Size, estimate, flops_per_image, size_of, told  # noqa: E402
from surefoot.clip import CONFIG, WEIGHTS, Preprocess, zero_shot_classifier  # noqa: E402
from surefoot.config import Config, parse_config  # noqa: E402
from surefoot.data import Data  # noqa: E402
from surefoot.device import pick_device  # noqa: E402
from surefoot.evaluate import Line, score  # noqa: E402
from surefoot.experiments_page import plans  # noqa: E402
from surefoot.flow_search import Searches  # noqa: E402
from surefoot.gradients import NoMemory  # noqa: E402
from surefoot.images import Crops  # noqa: E402
from surefoot.method_entries import Recipe, Training  # noqa: E402
from surefoot.prepare import prepare_files  # noqa: E402
from surefoot.references import References  # noqa: E402
from surefoot.run_entries import Model  # noqa: E402
from surefoot.tasks import EvalSet, Part, Task  # noqa: E402
from surefoot.tasks.benchmarks import Prepared, selector  # noqa: E402
from surefoot.train import Run, fit  # noqa: E402
from surefoot.zeroshot import zero_shot_head  # noqa: E402

CLASSES = tuple(f"thing {number}" for number in range(100))


def fabricate(folder: Path, images: int) -> pd.DataFrame:
    """JPEG files of 500 x 375 pixels with the spectrum of photographs, and their rows."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for number in range(images):
        coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).resize(
            (500, 375), Image.Resampling.BICUBIC
        )
        fine = np.asarray(coarse).astype(int) + rng.normal(0, 12, (375, 500, 3))
        Image.fromarray(fine.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.jpg", quality=90)
    rows = pd.DataFrame({"file": [f"{number}.jpg" for number in range(images)]})
    return rows.assign(label=rng.integers(0, len(CLASSES), images), cluster=rows["file"], group="", fold="")


def random_model(name: str, folder: Path) -> int:
    """A model folder of an open_clip architecture with random weights; its input size."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    model = open_clip.create_model(name, pretrained=None, precision="fp32", device="cpu")
    written = {"model_cfg": open_clip.get_model_config(name), "preprocess_cfg": {}}
    (folder / CONFIG).write_text(json.dumps(written))
    save_file({key: tensor.contiguous() for key, tensor in model.state_dict().items()}, folder / WEIGHTS)
    return written["model_cfg"]["vision_cfg"]["image_size"]


def timed(call: Callable[[], object]) -> float:
    """Wall seconds of a call, with the device idle at both ends."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    begin = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def main(given: argparse.Namespace, folder: Path) -> None:
    """Measure and print."""
    device, config = pick_device(), parse_config(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
    size = random_model(given.model, folder / "model")
    rows = fabricate(folder / "images", given.images)
    for split, stream in (("train", True), ("test", False)):
        how = Prepared(source="", index=lambda root: rows, stream=stream)
        state = folder / "state" / split
        prepare_files(how, folder / "images", size, folder / split, state, {"by": "benchmark"}, split, True)
    sets = tuple(
        EvalSet(role, role, role, (Part("test", ""),)) for role in ("id_val", "ood_val", "id_test", "ood_test")
    )
    task = Task(
        name="fabricated",
        dataset="fabricated",
        title="fabricated",
        classes=CLASSES,
        prompt_names=CLASSES,
        templates=("a photo of a {}.",),
        cluster="image",
        train=(Part("train", ""),),
        eval_sets=sets,
        licences="none",
        select=selector(len(CLASSES)),
        exact=True,
        may_lack_classes=True,
    )
    data = Data(task, {split: folder / split for split in ("train", "test")})
    head = zero_shot_head(folder / "model", CLASSES, task.templates)
    report(given, folder, config, data, head, device)


def report(
    given: argparse.Namespace, folder: Path, config: Config, data: Data, head: dict, device: torch.device
) -> None:
    """Measure on prepared data."""
    model, examples = folder / "model", data.training(0)
    positions = np.arange(len(examples))
    decoding = len(examples) / timed(lambda: examples.images(positions, Crops((0.9, 1.0), 0, 0)))
    training, recipe = config.resolve("ft", "clip")
    crop = recipe.augmentation.model_copy(update={"crop": (0.9, 1.0)})
    changes = {"batch_size": given.batch, "warmup": 0, "augmentation": crop, "precision": given.precision}

    def train(training: Training, recipe: Recipe) -> Callable[[], object]:
        classifier = zero_shot_classifier(model, head, recipe.head).to(device)
        references = References(model, head, data.task, training.options, 0, device)
        run = Run(training, recipe, examples, Preprocess.of(model), references, 0, None, "ft", quiet=True)
        return lambda: fit(classifier, run)

    def speed(what: str, training: Training, recipe: Recipe, batch: int = given.batch) -> float:
        here = {**changes, "batch_size": batch}
        runs = [recipe.model_copy(update={**here, "steps": steps}) for steps in (1, 1 + given.steps)]
        seconds: list[float] = []
        try:
            seconds += [timed(train(training, run)) for run in runs]
        except (torch.OutOfMemoryError, NoMemory):
            if batch == 1:
                raise
        if not seconds:
            torch.cuda.empty_cache()  # here the failed attempt's tensors are gone
            return speed(what, training, recipe, batch // 2)
        short, longer = seconds
        # Where few steps on a busy machine are too short to tell apart, start-up counts too.
        steps, elapsed = (given.steps, longer - short) if longer > short else (1 + given.steps, longer)
        found = steps * batch / elapsed
        print(f"{what:25} {found:9.1f} images/s at batch {batch}, {given.precision}", flush=True)
        return found

    where = torch.cuda.get_device_name() if device.type == "cuda" else "CPU, one thread"
    print(f"{given.model} on {where}")
    print(f"decoding and cropping     {decoding:9.1f} images/s with {len(os.sched_getaffinity(0))} threads", flush=True)
    trained = speed("training", training, recipe)
    base, settings = config.spaces["autoft"].method, config.dimensions("autoft", "clip")
    terms = {key.removeprefix("objective."): 0.1 for key in settings if key.startswith("objective.")}
    trial, trial_recipe = config.resolve(base, "clip", {"objective": terms})
    searched = speed("inner steps of AutoFT", trial, trial_recipe)
    convention = recipe.head
    classifier = zero_shot_classifier(model, head, convention).to(device).eval()
    start = {key: tensor.clone() for key, tensor in classifier.state_dict().items()}
    end = {key: tensor * 1.01 if tensor.is_floating_point() else tensor for key, tensor in start.items()}
    alphas = [round(step / (given.alphas - 1), 6) for step in range(given.alphas)]
    line, tests = Line(classifier, start, end, alphas), data.examples(data.task.parts_of("id_test"), 0)
    tests = tests.subset(np.arange(min(len(tests), given.batch)))
    evaluated = (
        len(tests) * len(alphas) / timed(lambda: score(line, tests, Preprocess.of(model), given.batch, 1, "line"))
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"evaluation                {evaluated:9.1f} images/s, counted at each of {len(alphas)} alphas")
    print(f"bound by                  {'decoding' if decoding < trained else 'the model'}")
    print(f"trained                   {sum(t.numel() for t in start.values()) / 1e6:9.0f} M parameters")
    print(f"peak memory               {peak:9.1f} GB" + _gpu())
    if (size := size_of(Model(architecture=given.model, pretrained="openai"))) is None:
        print(f"no hours: the FLOPs of {given.model} are not known (surefoot/budget.py)")
        return
    print(f"hours of each experiment on one {where}, other models at the same FLOP/s, with nothing trained before:")
    for name, hours in projected(speeds(size, training, trial, trained, searched, evaluated, decoding)).items():
        print(f"  {name:24} {hours}")


def speeds(
    size: Size,
    training: Training,
    trial: Training,
    trained: float,
    searched: float,
    evaluated: float,
    decoding: float = math.inf,
) -> dict[str, float]:
    """FLOP/s by kind of work, as `surefoot.budget` counts it, from images per second of one model.

    Args: size: of that model; training, trial: what was timed as fine-tuning, and as inner steps of a search; trained,
    searched, evaluated, decoding: images per second. Runs and trials train no faster than images are decoded;
    adaptations see prepared images.
    """
    step = flops_per_image(size, training, augmented=True)
    return {
        "training": min(trained, decoding) * step,
        "evaluation": evaluated * size.image_flops,
        "search": min(searched, decoding) * flops_per_image(size, trial, augmented=True),
        "adaptation": trained * step,
    }


def projected(flops_per_second: dict[str, float]) -> dict[str, str]:
    """Hours of every experiment on published data at the `speeds`; "and more" where some work is not known."""
    found = {}
    for name, plan in plans().items():
        if budget := estimate(Searches(plan)):
            hours = sum(flops / flops_per_second[kind] for kind, flops in budget.flops.items()) / 3600
            found[name] = told(hours) + (" and more" if budget.uncounted else "")
    return found


def _gpu() -> str:
    return f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GB of the GPU" if torch.cuda.is_available() else ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-16", help="open_clip's name of the architecture")
    parser.add_argument("--images", type=int, default=64, help="fabricated images")
    parser.add_argument("--batch", type=int, default=8, help="images per step")
    parser.add_argument("--steps", type=int, default=2, help="training steps that are timed")
    parser.add_argument("--precision", default="float32", help="of the towers in training: float32 or bfloat16")
    parser.add_argument("--alphas", type=int, default=21, help="models on the line")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        main(chosen, Path(place))
