"""Image folders as a user would have them: class folders, odd sizes and every mode that cameras and tools write."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = {"red_fox": (200, 60, 30), "blue_jay": (40, 80, 200), "green_frog": (40, 180, 60)}
MODES = ("RGB", "L", "RGBA", "P", "CMYK", "I;16")
SUFFIXES = {"RGB": "jpg", "L": "png", "RGBA": "png", "P": "gif", "CMYK": "jpg", "I;16": "png"}


def picture(colour: tuple[int, int, int], noise: float, rng: np.random.Generator) -> Image.Image:
    """A noisy picture of one colour, of an odd size."""
    height, width = rng.integers(40, 90, 2)
    values = np.array(colour) + rng.normal(0, 255 * noise, (height, width, 3))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def write(image: Image.Image, mode: str, stem: Path) -> Path:
    """Save an image in a mode, in a format that has it."""
    if mode == "I;16":
        grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
        image = Image.fromarray(grey)
    elif mode != "RGB":
        image = image.convert(mode)
    path = stem.with_suffix(f".{SUFFIXES[mode]}")
    image.save(path)
    return path


def fabricate(root: Path, images: int = 8, seed: int = 0) -> None:
    """Write the folders train, test and shifted (noisier) below a root, with `images` of each class."""
    rng = np.random.default_rng(seed)
    for split, noise in (("train", 0.1), ("test", 0.1), ("shifted", 0.4), ("shifted-val", 0.4)):
        for name, colour in CLASSES.items():
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(images):
                mode = MODES[number % len(MODES)] if split == "test" else "RGB"
                write(picture(colour, noise, rng), mode, folder / f"{number:03d}")
    (root / "train" / "notes.txt").write_text("a stray file beside the class folders")
