"""CLIP through open_clip, and the image classifier that every method tunes.

A model folder holds `open_clip_config.json` and `open_clip_model.safetensors`, as open_clip's own `local-dir:` schema
wants them, and `merges.txt.gz` where the model has a vocabulary of its own. The same two files hold an image tower
without text tower (surefoot/resnet.py); its config names it under `tower`.

B batch, C classes, D embedding, H x W pixels.
"""

import math
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from surefoot.files import UserError, atomic, digest_of, read_json
from surefoot.method_entries import TEXT_TERMS, Head
from surefoot.mistakes import suggestion
from surefoot.names import CONFIG, MERGES, SOURCE, WEIGHTS
from surefoot.resnet import TOWERS
from surefoot.seeds import derive

# Evaluation must compute what training computes: PyTorch's fast path for attention without gradients rounds otherwise
# (a regulariser that compares with the zero-shot model would not start at zero), and it is no faster here.
torch.backends.mha.set_fastpath_enabled(False)

# Images of a forward pass without gradients on a CPU: what the layers of a small tower hand on then stays in its cache.
PART = 64

Tokenizer = Callable[[list[str]], torch.Tensor]
State = dict[str, torch.Tensor]


def _check_files(folder: Path) -> None:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"{folder / name} is missing; rerun snakemake to fetch or make the model")
    source = folder / SOURCE
    if source.is_file() and digest_of(folder / WEIGHTS) != read_json(source).get("sha256"):
        raise UserError(
            f"{folder / WEIGHTS} does not match {source}: it was cut off or changed; delete {folder} and rerun"
        )


def tower_of(folder: Path) -> str | None:
    """Which image tower a model folder holds; None for a CLIP. Raises UserError for an unknown one."""
    tower = read_json(folder / CONFIG).get("tower")
    if tower is not None and tower not in TOWERS:
        raise UserError(f"{folder / CONFIG}: unknown tower {tower!r}{suggestion(tower, TOWERS)}")
    return tower


def load_clip(folder: Path) -> open_clip.CLIP:
    """Build the model of a folder with its weights, in fp32 on the CPU.

    Raises UserError when a file is missing, the weights do not fit the architecture, or there is no text tower.
    """
    _check_files(folder)
    if tower := tower_of(folder):
        raise UserError(
            f"model {folder.name} is the image tower {tower} and has no text tower; what needs one "
            f"({', '.join(TEXT_TERMS)}, train: [text], export) works with CLIP models only"
        )
    try:
        return open_clip.create_model(f"local-dir:{folder}", precision="fp32", device="cpu").eval()
    except Exception as error:
        raise UserError(f"cannot load the CLIP model in {folder}: {error}; delete the folder and rerun") from error


def load_image_tower(folder: Path) -> nn.Module:
    """The image tower of a folder with its weights, in fp32 on the CPU: [B, 3, H, W] to [B, D].

    Raises UserError when a file is missing or the weights do not fit the architecture.
    """
    if not (tower := tower_of(folder)):
        return load_clip(folder).visual
    _check_files(folder)
    with torch.device("meta"):  # draws no random weights
        image = TOWERS[tower].make()
    try:
        image.load_state_dict(load_state(folder / WEIGHTS), assign=True)
    except RuntimeError as error:
        raise UserError(f"cannot load the {tower} in {folder}: {error}; delete the folder and rerun") from None
    return image.eval()


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder: texts -> token ids [len(texts), context length]."""
    own = {"bpe_path": str(folder / MERGES)} if (folder / MERGES).is_file() else {}
    return open_clip.get_tokenizer(f"local-dir:{folder}", **own)


def load_state(path: Path) -> State:
    """Tensors of a safetensors file. Raises UserError when it is missing or cut off."""
    with _readable(path):
        return load_file(path)


def tensor_names(path: Path) -> list[str]:
    """Names of the tensors of a safetensors file, from its header alone. Raises UserError as `load_state` does."""
    with _readable(path), safe_open(path, "pt") as file:
        return list(file.keys())


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise UserError(f"{path} cannot be read ({error}); delete it and rerun snakemake to make it again") from None


def save_state(path: Path, state: State) -> None:
    """Write tensors as safetensors, atomically."""
    with atomic(path) as partial:
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in state.items()}, partial)


@dataclass(frozen=True)
class Preprocess:
    """What a model expects of its images."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, folder: Path) -> "Preprocess":
        """Read input size and pixel statistics from a model folder's config."""
        written = read_json(folder / CONFIG)
        size, norm = written["model_cfg"]["vision_cfg"]["image_size"], written.get("preprocess_cfg", {})
        return cls(
            size=size if isinstance(size, int) else size[0],
            mean=tuple(norm.get("mean", open_clip.OPENAI_DATASET_MEAN)),
            std=tuple(norm.get("std", open_clip.OPENAI_DATASET_STD)),
        )

    def scale(self, images: torch.Tensor) -> torch.Tensor:
        """uint8 [B, H, W, 3] -> float [B, 3, size, size] in [0, 1]."""
        x = images.permute(0, 3, 1, 2).float().div_(255)
        if x.shape[-1] != self.size or x.shape[-2] != self.size:
            x = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True).clamp_(0, 1)
        return x

    def normalise(self, x: torch.Tensor) -> torch.Tensor:
        """Subtract the mean and divide by the standard deviation of each colour channel."""
        mean, std = (torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return (x - mean) / std

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """The evaluation transform: uint8 [B, H, W, 3] -> float [B, 3, size, size]."""
        return self.normalise(self.scale(images))


class Classifier(nn.Module):
    """Image tower and linear head: logits [B, C] = s * ((f / |f|) @ W.T (+ b)).

    By default the rows of W start with unit norm and s = exp(logit_scale) stays outside; where the head is *scaled*
    (WiSE-FT's code) s is part of W and the state has no `logit_scale`.
    """

    def __init__(self, image: nn.Module, head: State) -> None:
        """Args: image: tower, [B, 3, H, W] to [B, D]; head: 'weight' [C, D], maybe 'bias' [C] and 'logit_scale'."""
        super().__init__()
        self.image = image
        classes, width = head["weight"].shape
        self.head = nn.Linear(width, classes, bias="bias" in head)
        self.head.load_state_dict({name: head[name] for name in ("weight", "bias") if name in head})
        self.register_parameter(
            "logit_scale", nn.Parameter(head["logit_scale"].clone()) if "logit_scale" in head else None
        )

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Unit-norm image features [B, D] of preprocessed images."""
        return F.normalize(self.image(images).float(), dim=-1)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Logits [B, C] of unit-norm features."""
        logits = self.head(features)
        return logits if self.logit_scale is None else logits * self.logit_scale.exp()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits [B, C] of preprocessed images."""
        training = torch.is_grad_enabled() or any(module.training for module in self.image.modules())
        in_parts = images.device.type == "cpu" and not training
        parts = images.split(PART) if in_parts else [images]
        return torch.cat([self.classify(self.encode(part)) for part in parts])


def in_convention(head: State, convention: Head) -> State:
    """A zero-shot head ('weight' of unit rows, 'logit_scale') in another convention; the logits stay the same."""
    scale = head["logit_scale"]
    found = {"weight": head["weight"] * scale.exp()} if convention.scaled else dict(head)
    return found | ({"bias": torch.zeros(len(head["weight"]))} if convention.bias else {})


def convention_of(names: Container[str]) -> Head:
    """The convention in which a classifier was trained, from the names of its tensors (a state holds them too)."""
    return Head(scaled="logit_scale" not in names, bias="head.bias" in names)


def zero_shot_classifier(folder: Path, head: State, convention: Head | None = None) -> Classifier:
    """The classifier of a model folder with its zero-shot head, in evaluation mode: the start of every method."""
    return Classifier(load_image_tower(folder), in_convention(head, convention or Head())).eval()


def random_classifier(folder: Path, head: State, convention: Head, seed: int) -> Classifier:
    """The same architecture with random weights and a head of random unit rows."""
    model, tower = read_json(folder / CONFIG)["model_cfg"], tower_of(folder)
    with torch.random.fork_rng():  # the constructors know no other generator
        torch.manual_seed(derive(seed, "random start"))
        image = TOWERS[tower].make() if tower else open_clip.CLIP(**model).visual
        rows = F.normalize(torch.randn_like(head["weight"]), dim=-1)
    scale = torch.tensor(math.log(1 / 0.07))  # CLIP's own start; the given head's scale is a trained one
    return Classifier(image, in_convention({"weight": rows, "logit_scale": scale}, convention)).eval()
