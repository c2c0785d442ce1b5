"""The images of a task under a seed. N images, B batch."""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from surefoot.files import UserError, read_json
from surefoot.images import Crops, Files, ahead, as_rgb, views
from surefoot.names import CONFIG
from surefoot.seeds import numpy_stream, unit
from surefoot.splits import Split, read_split
from surefoot.tasks import Part, Task

if TYPE_CHECKING:
    import torch  # a second that jobs which only look at data need not wait

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examples:
    """Selected rows of several splits as one sequence: labels [N], clusters [N], groups [N], also [N] (the other right
    labels of each, as text between blanks)."""

    pieces: tuple[tuple[Split, np.ndarray], ...]
    labels: np.ndarray
    clusters: np.ndarray
    groups: np.ndarray
    also: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def slow(self) -> bool:
        """Whether images are decoded whenever they are asked for."""
        return any(isinstance(split.images, Files) for split, _ in self.pieces)

    def images(self, indices: np.ndarray, crops: Crops | None = None) -> "torch.Tensor":
        """uint8 [B, H, W, 3] of the given positions: whole as prepared, or random crops of the stored images."""
        import torch

        bounds = np.cumsum([0, *(len(rows) for _, rows in self.pieces)])
        first = self.pieces[0][0].images
        out = np.empty((len(indices), *first.shape[1:]), np.uint8)
        for (split, rows), low, high in zip(self.pieces, bounds, bounds[1:], strict=False):
            here = np.flatnonzero((indices >= low) & (indices < high))
            chosen = rows[indices[here] - low]
            if crops is None:
                out[here] = split.images[chosen]
            elif len(here):
                row = dict(zip(here, chosen, strict=True))
                stored = split.images
                load = stored.load if isinstance(stored, Files) else lambda r, s=stored: as_rgb(np.asarray(s[r]))
                out[here] = views(lambda position, r=row, f=load: f(r[position]), here, first.shape[1], crops)
        return torch.from_numpy(out)

    def loaded(self, size: int) -> "Iterator[tuple[np.ndarray, torch.Tensor]]":
        """Positions in order, batch by batch, with their images; what must be decoded is loaded ahead."""
        return ahead(self.batches(size), self.images, self.slow)

    def subset(self, positions: np.ndarray) -> "Examples":
        """The images at some positions, in increasing order of position."""
        positions = np.sort(positions)
        bounds = np.cumsum([0, *(len(rows) for _, rows in self.pieces)])
        pieces = tuple(
            (split, rows[positions[(positions >= low) & (positions < high)] - low])
            for (split, rows), low, high in zip(self.pieces, bounds, bounds[1:], strict=False)
        )
        columns = (self.labels, self.clusters, self.groups, self.also)
        return Examples(pieces, *(column[positions] for column in columns))

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """Positions in order."""
        for start in range(0, len(self), size):
            yield np.arange(start, min(start + size, len(self)))

    def shuffled(self, size: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
        """Positions of one epoch in an order that is fixed by seed and epoch; the last batch may be smaller."""
        order = numpy_stream(seed, "order", epoch).permutation(len(self))
        for start in range(0, len(self), size):
            yield order[start : start + size]


class Data:
    """The prepared splits of a task, opened once."""

    def __init__(self, task: Task, folders: dict[str, Path]) -> None:
        self.task = task
        self.splits = {name: read_split(folders[name]) for name in folders}

    @property
    def digests(self) -> dict[str, str]:
        """Split -> digest, for records."""
        return {name: split.digest for name, split in sorted(self.splits.items())}

    def examples(self, parts: tuple[Part, ...], seed: int) -> Examples:
        """The images of some parts under a seed."""
        chosen = [(self.splits[p.split], self.task.select(p, self.splits[p.split].rows, seed)) for p in parts]
        return Examples(
            pieces=tuple((split, selection.rows) for split, selection in chosen),
            labels=np.concatenate([selection.labels for _, selection in chosen]),
            clusters=np.concatenate([selection.clusters for _, selection in chosen]),
            groups=np.concatenate([selection.groups for _, selection in chosen]),
            also=np.concatenate([np.full(len(s.rows), "") if s.also is None else s.also for _, s in chosen]),
        )

    def check_transform(self, size: int, model: Path) -> None:
        """Raises UserError for a model whose transform is not that of images that were prepared for one."""
        read = read_json(model / CONFIG).get("preprocess_cfg", {})
        how = (read.get("interpolation", "bicubic"), read.get("resize_mode", "shortest"))
        if self.task.exact and how != ("bicubic", "shortest"):
            raise UserError(
                f"model {model.name} wants images resized by {how[0]} interpolation and {how[1]}; prepared splits are "
                "made by bicubic interpolation of the shortest side and a centre crop, so choose another model"
            )
        for name, split in self.splits.items():
            if self.task.exact and split.images.shape[1] != size:
                raise UserError(
                    f"model {model.name} takes images of {size} pixels, but the split {name} was prepared with "
                    f"{split.images.shape[1]}; set image_size of its family to {size}"
                )

    def training(self, seed: int, share: float = 1) -> Examples:
        """The training images, or the first clusters of each class in an order fixed by their names.

        Larger shares hold the smaller ones. Raises UserError for a class that has no image.
        """
        examples = self.examples(self.task.train, seed)
        if share < 1:
            examples = examples.subset(_first_clusters(examples, share))
        counts = np.bincount(examples.labels, minlength=len(self.task.classes))
        empty = [name for name, count in zip(self.task.classes, counts, strict=True) if not count]
        if empty and self.task.may_lack_classes:
            logger.warning("task %s: no training image of %d of %d classes", self.task.name, len(empty), len(counts))
        elif empty:
            raise UserError(
                f"task {self.task.name}, seed {seed}: no training image of class {', '.join(empty)}; "
                f"remove the class from tasks.{self.task.name}.classes or add images"
            )
        return examples


def _first_clusters(examples: Examples, share: float) -> np.ndarray:
    """Positions of the first ceil(share * K) of the K clusters of each class."""
    kept = []
    for label in np.unique(examples.labels):
        here = np.flatnonzero(examples.labels == label)
        names = sorted(set(examples.clusters[here]), key=lambda name: unit("share", name))
        chosen = names[: math.ceil(share * len(names))]
        kept.append(here[np.isin(examples.clusters[here], chosen)])
    return np.concatenate(kept)


def split_folders(files: list[str]) -> dict[str, Path]:
    """Split name -> folder, from the files of prepared splits."""
    return {Path(file).parent.name: Path(file).parent for file in files}
