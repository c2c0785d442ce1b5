"""Prepared splits on disk."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from surefoot.files import UserError
from surefoot.splits import read_split, write_split
from tests.tiny import tiny_images, tiny_rows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A written split."""
    write_split(tmp_path / "split", tiny_images(0.5), tiny_rows(), {"package": "1.0"})
    return tmp_path / "split"


def test_round_trip(folder: Path) -> None:
    split = read_split(folder)
    assert np.array_equal(split.images, tiny_images(0.5)) and split.images.dtype == np.uint8
    assert isinstance(split.images, np.memmap)
    pd.testing.assert_frame_equal(split.rows, tiny_rows(), check_dtype=False)


def test_digest_follows_content_and_source_only(folder: Path, tmp_path: Path) -> None:
    def digest(images: np.ndarray, rows: pd.DataFrame, version: str) -> str:
        write_split(tmp_path / "other", images, rows, {"package": version})
        return read_split(tmp_path / "other").digest

    images, rows = tiny_images(0.5), tiny_rows()
    changed = images.copy()
    changed[0, 0, 0, 0] ^= 1
    assert digest(images, rows, "1.0") == read_split(folder).digest
    assert digest(changed, rows, "1.0") != read_split(folder).digest
    assert digest(images, rows.assign(group="x"), "1.0") != read_split(folder).digest
    assert digest(images, rows, "1.1") != read_split(folder).digest


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [_cut, _flip, Path.unlink])
@pytest.mark.parametrize("name", ["images.npy", "rows.parquet"])
def test_a_damaged_file_is_named_with_what_to_do(folder: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(folder / name)
    with pytest.raises(UserError) as caught:
        read_split(folder)
    assert str(folder / name) in str(caught.value)
    assert f"elete the folder {folder}" in str(caught.value)


@pytest.mark.parametrize("damage", [_cut, Path.unlink])
def test_a_damaged_manifest_is_named(folder: Path, damage: Callable[[Path], None]) -> None:
    (folder / "split.json").write_text('{"sha256": {}')
    damage(folder / "split.json")
    with pytest.raises(UserError, match=r"split\.json"):
        read_split(folder)


def test_changed_rows_are_not_read_though_they_are_valid(folder: Path) -> None:
    tiny_rows().assign(rank=0).to_parquet(folder / "rows.parquet", index=False)
    with pytest.raises(UserError, match=r"rows\.parquet does not match"):
        read_split(folder)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((72, 4, 4, 3), np.float32),
        np.zeros((72, 4, 4), np.uint8),
        np.zeros((72, 4, 4, 4), np.uint8),
        np.zeros((71, 4, 4, 3), np.uint8),
    ],
)
def test_other_forms_are_refused(tmp_path: Path, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="want uint8"):
        write_split(tmp_path / "bad", images, tiny_rows(), {})
    assert not (tmp_path / "bad").exists()
