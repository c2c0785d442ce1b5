"""The smallest model and the smallest task on which everything still means something."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pandas as pd
import torch
import yaml
from safetensors.torch import save_file

from surefoot.clip import CONFIG, MERGES, WEIGHTS, Preprocess, State, load_tokenizer
from surefoot.data import Data, Examples
from surefoot.fingerprint import ROOT
from surefoot.method_entries import Recipe, Training
from surefoot.references import References
from surefoot.resume import Resumable
from surefoot.splits import write_split
from surefoot.tasks import EvalSet, Part, Selection, Task
from surefoot.tasks.emoji_captions import build_merges
from surefoot.tasks.emoji_names import fold_part
from surefoot.train import Run

CLASSES = ("cat", "sun", "tree")
TEMPLATES = ("a picture of a {}", "a drawing of a {}", "{}")
CONCEPTS, VARIANTS, SIDE = 12, 2, 16

# 30 training images in batches of 8: four steps an epoch.
RECIPE = Recipe(learning_rate=3e-3, batch_size=8, epochs=3, warmup=2)

ARCHITECTURE = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 16, "layers": 3, "head_width": 8},
        "text_cfg": {"context_length": 12, "vocab_size": 0, "width": 16, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.5, 0.6, 0.7]},
}


def write_tiny_model(folder: Path, seed: int = 0) -> Path:
    """A model folder with an open_clip architecture, a small vocabulary and random weights.

    Every tensor is jittered: biases start at zero, where a relative gradient norm is not defined.
    """
    folder.mkdir(parents=True)
    texts = [template.format(name) for template in TEMPLATES for name in CLASSES]
    (folder / MERGES).write_bytes(build_merges(texts))
    (folder / CONFIG).write_text(json.dumps(ARCHITECTURE))
    architecture = json.loads(json.dumps(ARCHITECTURE))
    architecture["model_cfg"]["text_cfg"]["vocab_size"] = load_tokenizer(folder).vocab_size
    (folder / CONFIG).write_text(json.dumps(architecture))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        clip = open_clip.CLIP(**architecture["model_cfg"])
        with torch.no_grad():
            for tensor in clip.parameters():
                tensor += 0.05 * torch.randn_like(tensor)
    save_file({key: tensor.contiguous() for key, tensor in clip.state_dict().items()}, folder / WEIGHTS)
    return folder


def select(part: Part, rows: pd.DataFrame, seed: int) -> Selection:
    """Rows of a part under the folds of a seed."""
    chosen = rows[[fold_part(rank, seed) == part.fold for rank in rows["rank"]]]
    labels = chosen["class"].map({name: label for label, name in enumerate(CLASSES)})
    return Selection(
        rows=chosen.index.to_numpy(),
        labels=labels.to_numpy("int64"),
        clusters=chosen["concept"].to_numpy(str),
        groups=chosen["group"].to_numpy(str),
    )


TASK = Task(
    name="tiny",
    dataset="tiny",
    title="tiny",
    classes=CLASSES,
    prompt_names=CLASSES,
    templates=TEMPLATES,
    cluster="concept",
    train=(Part("plain", "train"),),
    eval_sets=(
        EvalSet("id_val", "Plain (val)", "id_val", (Part("plain", "val"),)),
        EvalSet("ood_val", "Noisy (val)", "ood_val", (Part("noisy", "val"), Part("plain", "val"))),
        EvalSet("id_test", "Plain", "id_test", (Part("plain", "test"),)),
        EvalSet("noisy", "Noisy", "ood_test", (Part("noisy", "test"),)),
    ),
    licences="none",
    select=select,
)


def tiny_rows() -> pd.DataFrame:
    """One row per image: every class has 12 concepts of two variants."""
    return pd.DataFrame(
        {"class": name, "concept": f"{name} {rank}", "rank": rank, "group": "even" if rank % 2 == 0 else "odd"}
        for name in CLASSES
        for rank in range(CONCEPTS)
        for _ in range(VARIANTS)
    )


def tiny_images(noise: float, seed: int = 0) -> np.ndarray:
    """uint8 [N, 16, 16, 3]: a bright band whose place tells the class, under noise."""
    rng, labels = np.random.default_rng(seed), tiny_rows()["class"].map(CLASSES.index)
    images = rng.uniform(0, 255 * noise, (len(labels), SIDE, SIDE, 3))
    for image, label in zip(images, labels, strict=True):
        image[5 * label : 5 * label + 5] += 255 * (1 - noise)
    return images.astype(np.uint8)


def tiny_data(folder: Path) -> Data:
    """The tiny task with its two prepared splits written to a folder."""
    for number, (split, noise) in enumerate({"plain": 0.3, "noisy": 0.6}.items()):
        write_split(folder / split, tiny_images(noise, number), tiny_rows(), {"made by": "tests"})
    return Data(TASK, {split: folder / split for split in TASK.splits})


class Bench:
    """The tiny model on the tiny task, from which runs of any method are made.

    Attributes:
        folder: where saved states go, by the name of a run's progress.
    """

    def __init__(self, model: Path, head: State, data: Data, folder: Path) -> None:
        self.model, self.head, self.data, self.folder = model, head, data, folder
        self.preprocess = Preprocess.of(model)

    def references(self, training: Training | None = None, seed: int = 0) -> References:
        """New references, which have loaded nothing."""
        options = (training or Training()).options
        return References(self.model, self.head, self.data.task, options, seed, torch.device("cpu"))

    def run(
        self,
        training: Training | dict[str, Any],
        recipe: Recipe = RECIPE,
        seed: int = 0,
        progress: str = "progress",
        examples: Examples | None = None,
        watch: Callable | None = None,
        name: str = "mine seed 0",
    ) -> Run:
        """One training run; those with the same progress go on from each other's saved state."""
        training = Training.model_validate(training)
        examples = self.data.training(seed) if examples is None else examples
        references, kept = self.references(training, seed), Resumable(self.folder / progress, "same job")
        return Run(training, recipe, examples, self.preprocess, references, seed, kept, name, watch)


def clone(state: State) -> State:
    """A copy that shares no memory."""
    return {key: tensor.detach().clone() for key, tensor in state.items()}


def moved(state: State, prefixes: tuple[str, ...], seed: int = 1) -> State:
    """A copy in which the tensors with these prefixes are changed at random."""
    stream = torch.Generator().manual_seed(seed)
    return {
        key: tensor + 0.3 * torch.randn(tensor.shape, generator=stream) if key.startswith(prefixes) else tensor.clone()
        for key, tensor in state.items()
    }


def same_bytes(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors are equal bit for bit (so -0.0 is not 0.0, and a NaN equals itself)."""
    return one.dtype == other.dtype and one.shape == other.shape and one.numpy().tobytes() == other.numpy().tobytes()


def same_state(one: State, other: State) -> bool:
    """Whether two states are equal bit for bit."""
    return one.keys() == other.keys() and all(same_bytes(one[key], other[key]) for key in one)


def raw_config() -> dict[str, Any]:
    """config/config.yaml as YAML reads it."""
    return yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))


class Spy(torch.optim.SGD):
    """Notes the learning rate of every group at every step."""

    used: list[list[float]]

    def step(self, closure: None = None) -> None:
        self.used.append([group["lr"] for group in self.param_groups])
        super().step()
