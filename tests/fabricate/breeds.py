"""The classes of ImageNet of which Living-17 is made."""

from pathlib import Path

from surefoot.tasks import breeds
from surefoot.tasks.imagenet import tables
from tests.fabricate import imagenet


def fabricate(root: Path, images_per_class: int = 6) -> None:
    """Write their folders below a root, as `data_root.imagenet` would name it."""
    wnids, superclasses = tables()["wnids"], breeds.tables()["living17"].values()
    used = [wnids[column] for entry in superclasses for column in (*entry["source"], *entry["target"])]
    imagenet.fabricate(root, images_per_class, wnids=used, shifts=(), corruptions=())
