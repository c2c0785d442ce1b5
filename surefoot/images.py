"""Images as files: decoding, the evaluation view, and random crops. B images, S side in pixels.

The evaluation view is open_clip's evaluation transform up to the scaling of pixels: RGB, shorter side to S by bicubic
resampling, centre crop; so prepared arrays and images decoded on the fly give the same scores bit for bit.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from surefoot.files import UserError
from surefoot.seeds import numpy_stream

BICUBIC = Image.Resampling.BICUBIC
ENDS = (b"\xff\xd9", b"IEND\xaeB`\x82")  # of a JPEG and of a PNG file
RATIOS = (3 / 4, 4 / 3)  # of width to height in a random crop


@cache
def pool() -> ThreadPoolExecutor:
    """Threads that decode, one per core that the process may use (Pillow releases the interpreter while it decodes)."""
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)), "decode")


def load_rgb(path: Path) -> Image.Image:
    """An image file as RGB. Images of 16 bits a channel are scaled to 8.

    Raises UserError that names a file which is missing, empty, cut off or no image.
    """
    try:
        with Image.open(path) as image:
            return as_rgb(image)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; restore it, or prepare the split again if the data set moved") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        size = path.stat().st_size if path.is_file() else 0
        raise UserError(
            f"{path} ({size} bytes) cannot be read as an image: {error}; replace the file or leave it out"
        ) from None


def check_whole(path: Path) -> UserError | None:
    """The error of `load_rgb` for a file that is missing, empty or cut off.

    A few bytes are read; only a file that does not end as JPEG and PNG do is decoded.
    """
    with suppress(OSError), path.open("rb") as file:  # load_rgb says it better
        file.seek(max(0, path.stat().st_size - 16))
        if file.read().endswith(ENDS):
            return None
    try:
        load_rgb(path)
    except UserError as error:
        return error
    return None


def as_rgb(image: Image.Image | np.ndarray) -> Image.Image:
    """An image as RGB; uint8 arrays are [h, w, 3]."""
    if isinstance(image, np.ndarray):
        return Image.fromarray(image)
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image).astype(np.int64)
        wide = image.mode != "I" or values.max() > 255  # mode I holds numbers of any size
        return Image.fromarray((values // (257 if wide else 1)).clip(0, 255).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def evaluation_view(image: Image.Image, size: int, border: int = 0) -> np.ndarray:
    """uint8 [S, S, 3]: `border` pixels cut off every side, shorter side resized to S, centre crop."""
    if border:
        image = image.crop((border, border, image.width - border, image.height - border))
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if short != size:
        scaled = int(size * long / short)
        image = image.resize((size, scaled) if width <= height else (scaled, size), BICUBIC)
    left, top = (round((side - size) / 2.0) for side in image.size)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def random_view(image: Image.Image, size: int, share: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """uint8 [S, S, 3]: a random part with a share of the area and a ratio of 3/4 to 4/3, resized by bicubic resampling.

    As torchvision's RandomResizedCrop: ten tries, then the largest centred part with an allowed ratio.
    """
    width, height = image.size
    for _ in range(10):
        area = width * height * rng.uniform(*share)
        ratio = math.exp(rng.uniform(math.log(RATIOS[0]), math.log(RATIOS[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
            break
    else:
        ratio = min(max(width / height, RATIOS[0]), RATIOS[1])
        w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
        left, top = (width - w) // 2, (height - h) // 2
    return np.asarray(image.resize((size, size), BICUBIC, box=(left, top, left + w, top + h)))


@dataclass(frozen=True)
class Crops:
    """Random crops of one batch: the shares of the area, and what the random numbers are derived from."""

    share: tuple[float, float]
    seed: int
    step: int

    def view(self, image: Image.Image, size: int, position: int) -> np.ndarray:
        """The crop of the image at a position of the batch."""
        return random_view(image, size, self.share, numpy_stream(self.seed, "crop", self.step, position))


def views(load: Callable[[int], Image.Image], positions: Iterable[int], size: int, crops: Crops) -> list[np.ndarray]:
    """Random crops of the images at some positions of a batch, made in threads; they do not depend on their number."""
    return list(pool().map(lambda position: crops.view(load(position), size, position), positions))


class Files:
    """Images that stay files, seen like an array [N, S, S, 3] of their evaluation views."""

    def __init__(self, root: Path, names: np.ndarray, size: int, border: int = 0) -> None:
        self.root, self.names, self.size, self.border = root, names, size, border
        self.shape = (len(names), size, size, 3)

    def load(self, row: int) -> Image.Image:
        """The image of a row, RGB, at its own size."""
        return load_rgb(self.root / self.names[row])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """uint8 [B, S, S, 3]."""
        one = np.ndim(rows) == 0
        found = list(
            pool().map(lambda row: evaluation_view(self.load(row), self.size, self.border), np.atleast_1d(rows))
        )
        return found[0] if one else np.stack(found) if found else np.empty((0, *self.shape[1:]), np.uint8)


def ahead(items: Iterable[Any], load: Callable[[Any], Any], slow: bool) -> Iterator[tuple[Any, Any]]:
    """Items with what `load` makes of them; where that is slow, the next two are loaded while one is used."""
    if not slow:
        yield from ((item, load(item)) for item in items)
        return
    with ThreadPoolExecutor(2, "ahead") as loaders:
        waiting: list[tuple[Any, Any]] = []
        for item in items:
            waiting.append((item, loaders.submit(load, item)))
            if len(waiting) > 2:
                first, found = waiting.pop(0)
                yield first, found.result()
        yield from ((item, found.result()) for item, found in waiting)
