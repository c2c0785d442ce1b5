"""What the alpha sweep costs: `surefoot.evaluate` against doing everything again for each alpha.

Run `python benchmarks/alpha_sweep.py` in the root of the repository; README.md in this folder says what it prints.
A alphas, B batch, C classes, N images.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import open_clip
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from surefoot.clip import Classifier, Preprocess, State, load_state, zero_shot_classifier  # noqa: E402
from surefoot.data import Data, Examples  # noqa: E402
from surefoot.evaluate import Line, evaluate_line, prediction_column  # noqa: E402
from surefoot.files import UserError  # noqa: E402
from surefoot.interpolate import interpolate  # noqa: E402
from surefoot.seeds import derive, numpy_stream  # noqa: E402
from surefoot.task_entries import EmojiTask  # noqa: E402
from surefoot.tasks import EvalSet, Part, Task, build_task  # noqa: E402

BOUND = 1.1
CLASSES = 1000
SIDE = 224


@dataclass(frozen=True)
class CountedExamples(Examples):
    """Examples that count how many images are read."""

    count: list[int]

    def images(self, indices: np.ndarray) -> torch.Tensor:
        """uint8 [B, H, W, 3] of the given positions."""
        self.count[0] += len(indices)
        return super().images(indices)


@dataclass(frozen=True)
class JpegExamples(CountedExamples):
    """Examples whose images are JPEG files, decoded with PIL at every call."""

    files: tuple[Path, ...]

    def images(self, indices: np.ndarray) -> torch.Tensor:
        """uint8 [B, SIDE, SIDE, 3]: each file opened, decoded, its short side resized and its centre cut out."""
        self.count[0] += len(indices)
        return torch.from_numpy(np.stack([_decode(self.files[index]) for index in indices]))


def _decode(file: Path) -> np.ndarray:
    with Image.open(file) as stored:
        image = stored.convert("RGB")
    if min(image.size) != SIDE:
        scale = SIDE / min(image.size)
        image = image.resize([round(side * scale) for side in image.size], Image.Resampling.BICUBIC)
    left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
    return np.asarray(image.crop((left, top, left + SIDE, top + SIDE)))


@dataclass(frozen=True)
class CountedData:
    """What `evaluate_line` reads of a task, with counted images."""

    task: Task
    select: Callable[[tuple[Part, ...], int], Examples]

    def examples(self, parts: tuple[Part, ...], seed: int) -> Examples:
        """The images of some parts under a seed."""
        return self.select(parts, seed)


@dataclass(frozen=True)
class Setting:
    """What is swept. `build` makes the model from its files, as a new process would."""

    title: str
    build: Callable[[], Classifier]
    ends: tuple[Path, Path]
    data: CountedData
    preprocess: Preprocess
    batch: int
    count: list[int]

    def batches(self) -> Iterator[torch.Tensor]:
        """Every image of every eval set once, ready for the model."""
        for eval_set in self.data.task.eval_sets:
            examples = self.data.examples(eval_set.parts, 0)
            for indices in examples.batches(self.batch):
                yield self.preprocess(examples.images(indices))


def jpeg_setting(folder: Path, images: int, short_side: int) -> Setting:
    """ViT-B/32 with random weights; the fine-tuned end is the zero-shot one plus a little noise."""
    files = tuple(_write_jpegs(folder, images, short_side))

    def build() -> Classifier:
        with torch.random.fork_rng():
            torch.manual_seed(derive(0, "benchmark", "weights") % 2**32)
            tower = open_clip.create_model("ViT-B-32", precision="fp32", device="cpu").visual
            rows = torch.nn.functional.normalize(torch.randn(CLASSES, tower.output_dim), dim=-1)
        return Classifier(tower, {"weight": rows, "logit_scale": torch.tensor(100.0).log()}).eval()

    theta0 = build().state_dict()
    stream = torch.Generator().manual_seed(derive(0, "benchmark", "noise"))
    theta1 = {key: t + 1e-3 * torch.randn(t.shape, generator=stream) for key, t in theta0.items()}
    ends = (folder / "zero-shot.safetensors", folder / "fine-tuned.safetensors")
    for path, theta in zip(ends, (theta0, theta1), strict=True):
        save_file({key: tensor.contiguous() for key, tensor in theta.items()}, path)
    count = [0]
    names = np.array([f"image {i}" for i in range(images)])
    labels = numpy_stream(0, "benchmark", "labels").integers(0, CLASSES, images)
    examples = JpegExamples((), labels, names, np.full(images, "all"), np.full(images, ""), count, files)
    task = replace(_task(), eval_sets=(EvalSet("jpeg", "JPEG files", "ood_test", ()),))
    return Setting(
        title=f"{images} JPEG files with short side {short_side}, ViT-B/32",
        build=build,
        ends=ends,
        data=CountedData(task, lambda parts, seed: examples),
        preprocess=Preprocess(SIDE, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD),
        batch=256,
        count=count,
    )


def _write_jpegs(folder: Path, images: int, short_side: int) -> Iterator[Path]:
    """Photo-like files: smooth shapes under noise, 4:3, or square where they have the model's own size."""
    width = short_side if short_side == SIDE else round(short_side * 4 / 3)
    for index in range(images):
        rng = numpy_stream(0, "benchmark", "image", index)
        image = Image.new("RGB", (width, short_side), tuple(map(int, rng.integers(0, 256, 3))))
        draw = ImageDraw.Draw(image)
        for _ in range(12):
            x, y, radius = rng.uniform(0, width), rng.uniform(0, short_side), rng.uniform(0.05, 0.3) * short_side
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), tuple(map(int, rng.integers(0, 256, 3))))
        noisy = np.asarray(image) + rng.normal(0, 12, (short_side, width, 3))
        file = folder / f"{index}.jpg"
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, quality=90)
        yield file


def task_setting(folder: Path) -> Setting:
    """The default task with the models that `make results` trained. Raises UserError when they are missing."""
    model = ROOT / "results/models/emoji-clip"
    head = ROOT / "results/zeroshot/emoji-style/emoji-clip/head.safetensors"
    end = ROOT / "results/finetune/emoji-style/emoji-clip/ft/seed-0/weights.safetensors"
    task = _task()
    splits = {split: ROOT / "results/data" / task.dataset / split for split in task.splits}
    needed = [model, head, end, *(path / "split.json" for path in splits.values())]
    if missing := [str(path.relative_to(ROOT)) for path in needed if not path.exists()]:
        raise UserError(f"{', '.join(missing)} missing; run `make results` first, or choose `--setting jpeg`")
    data, count = Data(task, splits), [0]
    start = folder / "zero-shot.safetensors"
    zero_shot = zero_shot_classifier(model, load_state(head))
    save_file({key: tensor.contiguous() for key, tensor in zero_shot.state_dict().items()}, start)

    def select(parts: tuple[Part, ...], seed: int) -> Examples:
        return CountedExamples(**vars(data.examples(parts, seed)), count=count)

    images = sum(len(data.examples(eval_set.parts, 0)) for eval_set in task.eval_sets)
    return Setting(
        title=f"task {task.name}, {images} prepared images in {len(task.eval_sets)} eval sets, emoji-clip",
        build=lambda: zero_shot_classifier(model, load_state(head)),
        ends=(start, end),
        data=CountedData(task, select),
        preprocess=Preprocess.of(model),
        batch=256,
        count=count,
    )


def _task() -> Task:
    return build_task("emoji-style", EmojiTask(family="emoji", recipe="emoji"))


Predictions = dict[float, np.ndarray]


@torch.no_grad()
def _predict(setting: Setting, classifier: Classifier) -> np.ndarray:
    """Arg-max [N] of one model, with every image read for it."""
    return np.concatenate([classifier(x).argmax(-1).numpy() for x in setting.batches()])


Start = tuple[Classifier, State, State]


def start_up(setting: Setting) -> Start:
    """A model and both ends, from their files."""
    return setting.build(), *map(load_state, setting.ends)


def ours(setting: Setting, start: Start, alphas: list[float]) -> Predictions:
    """`surefoot.evaluate` as the workflow calls it, metrics included."""
    line = Line(*start, alphas)
    _, table = evaluate_line(line, setting.data, setting.preprocess, 0, setting.batch, 1, "sweep")
    return {alpha: table[prediction_column("weights", alpha)].to_numpy() for alpha in alphas}


def official(setting: Setting, start: Start, alphas: list[float], folder: Path) -> Predictions:
    """WiSE-FT's `wise_ft.py`: one model object; per alpha merge, load, save the whole model, read every image again."""
    (classifier, theta0, theta1), found = start, {}
    for alpha in alphas:
        classifier.load_state_dict(interpolate(theta0, theta1, alpha))
        torch.save(classifier, folder / f"wise_ft_alpha={alpha:.3f}.pt")
        found[alpha] = _predict(setting, classifier)
        (folder / f"wise_ft_alpha={alpha:.3f}.pt").unlink()
    return found


def reload(setting: Setting, alphas: list[float]) -> Predictions:
    """Per alpha start up, merge the ends and read every image again: a job for each alpha, without its imports."""
    found = {}
    for alpha in alphas:
        classifier, theta0, theta1 = start_up(setting)
        classifier.load_state_dict(interpolate(theta0, theta1, alpha))
        found[alpha] = _predict(setting, classifier)
    return found


@dataclass(frozen=True)
class Seconds:
    """Time of one call."""

    wall: float
    cpu: float


def timed(call: Callable[[], object]) -> tuple[object, Seconds]:
    """The result of a call, and what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def measure(setting: Setting, alphas: list[float], rounds: int, folder: Path) -> dict[str, list[Seconds]]:
    """Time every way in turn, `rounds` times, so that a slow moment of the machine hits all of them.

    Raises RuntimeError unless all ways predict the same and the sweep reads each image once.
    """
    inputs = list(setting.batches())
    start, images = start_up(setting), sum(map(len, inputs))
    classifier = start[0]

    @torch.no_grad()
    def forwards() -> None:
        for _ in alphas:
            for x in inputs:
                classifier(x)

    ways: dict[str, Callable[[], object]] = {
        "one decoding pass": lambda: [x.sum() for x in setting.batches()],
        "A forward passes": forwards,
        "start-up": lambda: start_up(setting),
        "ours": lambda: ours(setting, start, alphas),
        "official": lambda: official(setting, start, alphas, folder),
        "reload": lambda: reload(setting, alphas),
    }
    seconds: dict[str, list[Seconds]] = {name: [] for name in ways}
    reads: dict[str, int] = {}
    classifier(inputs[0])
    for _ in tqdm(range(rounds), desc=setting.title, leave=False):
        predictions = {}
        for name, call in ways.items():
            setting.count[0] = 0
            predictions[name], taken = timed(call)
            seconds[name].append(taken)
            reads[name] = setting.count[0]
        for name in ("official", "reload"):
            if not all(np.array_equal(predictions["ours"][alpha], predictions[name][alpha]) for alpha in alphas):
                raise RuntimeError(f"{name} and ours predict different classes")
        if reads["ours"] != images:
            raise RuntimeError(f"the sweep read {reads['ours']} images of {images}")
    print_table(setting, alphas, seconds, reads)
    return seconds


def print_table(
    setting: Setting, alphas: list[float], seconds: dict[str, list[Seconds]], reads: dict[str, int]
) -> None:
    """Medians over the rounds; ratios are medians of the ratios within a round."""
    rounds = len(seconds["ours"])
    print(f"\n{setting.title}; A = {len(alphas)} alphas, batch {setting.batch}, 1 thread, median of {rounds} rounds\n")
    print(f"| {'':44} | wall s | CPU s  | images read |\n| {'-' * 44} | ------ | ------ | ----------- |")

    def line(name: str, times: list[Seconds], read: int | str, part: int = 1) -> None:
        wall, cpu = (median(getattr(t, clock) for t in times) / part for clock in ("wall", "cpu"))
        print(f"| {name:44} | {wall:6.2f} | {cpu:6.2f} | {read:>11} |")

    line("one decoding pass", seconds["one decoding pass"], reads["one decoding pass"])
    line("one forward pass", seconds["A forward passes"], "", part=len(alphas))
    line("A forward passes", seconds["A forward passes"], "")
    line("start-up: build the model, load both ends", seconds["start-up"], "")
    line("ours: all alphas in one pass", seconds["ours"], reads["ours"])
    line("official script: save and decode per alpha", seconds["official"], reads["official"])
    line("a job per alpha: start up and decode", seconds["reload"], reads["reload"])

    def ratio(name: str, above: str, below: list[str], note: str = "") -> None:
        values = [
            median(
                getattr(seconds[above][r], clock) / sum(getattr(seconds[b][r], clock) for b in below)
                for r in range(rounds)
            )
            for clock in ("wall", "cpu")
        ]
        print(f"| {name:44} | {values[0]:6.3f} | {values[1]:6.3f} | {note:>11} |")

    ratio("ours / (A forwards + one decode)", "ours", ["A forward passes", "one decoding pass"], f"goal {BOUND}")
    ratio("official / ours", "official", ["ours"])
    ratio("job per alpha / ours", "reload", ["ours"])


def main() -> None:
    """Measure one setting or both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", choices=["jpeg", "task", "both"], default="both", help="what is swept")
    parser.add_argument("--images", type=int, default=64, help="number of JPEG files (64)")
    parser.add_argument("--short-side", type=int, default=SIDE, help="short side of the JPEG files in pixels (224)")
    parser.add_argument("--alpha-step", type=float, default=0.1, help="step of the alphas from 0 to 1 (0.1)")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured (3)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger().setLevel(logging.ERROR)  # open_clip warns that weights are random, which is the intention
    steps = round(1 / given.alpha_step)
    alphas = [round(step / steps, 6) for step in range(steps + 1)]
    try:
        for name in ("jpeg", "task") if given.setting == "both" else (given.setting,):
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary)
                made = jpeg_setting(folder, given.images, given.short_side) if name == "jpeg" else task_setting(folder)
                measure(made, alphas, given.rounds, folder)
    except UserError as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
