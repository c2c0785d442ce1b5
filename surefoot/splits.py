"""Prepared splits on disk: one array of images, one table of rows, one manifest with digests.

Images of a large training set stay files: then the array is empty and the manifest names their folder.
N images, H x W pixels. Tasks share prepared splits and select and relabel their rows.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from surefoot.files import UserError, atomic, digest_of, read_json, write_json, write_parquet
from surefoot.images import Files

FILES = ("images.npy", "rows.parquet")
MANIFEST = "split.json"


@dataclass(frozen=True)
class Split:
    """uint8 images [N, H, W, 3] as a memory map or as files, one table row each, and the digest of the manifest."""

    images: np.ndarray | Files
    rows: pd.DataFrame
    digest: str


def write_split(folder: Path, images: np.ndarray, rows: pd.DataFrame, source: dict[str, str]) -> None:
    """Write a split. `source` says where the images come from (packages with versions, archives with digests).

    Raises ValueError unless images are uint8 [N, H, W, 3] with one table row each.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or len(images) != len(rows):
        raise ValueError(f"want uint8 [N, H, W, 3] and N rows, got {images.dtype} {images.shape} and {len(rows)} rows")
    with atomic(folder / "images.npy") as partial, partial.open("wb") as file:
        np.save(file, images)
    finish_split(folder, rows, source)


def finish_split(folder: Path, rows: pd.DataFrame, source: dict[str, str], **more: Any) -> None:
    """Write table and manifest beside an array of images that is there; `more` goes into the manifest."""
    write_parquet(folder / "rows.parquet", rows)
    digests = {name: digest_of(folder / name) for name in FILES}
    write_json(folder / MANIFEST, {"images": len(rows), "sha256": digests, "source": source, **more})


def read_split(folder: Path) -> Split:
    """Open a split and check it against its manifest.

    Raises UserError when a file is missing, cut off or changed.
    """
    manifest = read_json(folder / MANIFEST)
    digests = manifest.get("sha256", {})
    for name in FILES:
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing; delete the folder {folder} and rerun to prepare it again")
        if digest_of(path) != digests.get(name):
            raise UserError(
                f"{path} does not match the digest in {folder / MANIFEST}: it was cut off or changed. "
                f"Delete the folder {folder} and rerun to prepare it again"
            )
    images = np.load(folder / "images.npy", mmap_mode="r")
    rows = pd.read_parquet(folder / "rows.parquet")
    if root := manifest.get("root"):
        images = Files(Path(root), rows["file"].to_numpy(str), images.shape[1], manifest["border"])
    return Split(images, rows, digest_of(folder / MANIFEST))
