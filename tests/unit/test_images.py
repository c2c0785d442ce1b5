"""Decoding: the evaluation view is the model's own, crops do not depend on threads, broken files are named."""

from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip import image_transform
from PIL import Image

from surefoot.clip import Preprocess
from surefoot.files import UserError
from surefoot.images import Crops, Files, ahead, as_rgb, evaluation_view, load_rgb, random_view, views
from tests.fabricate.folder import MODES, picture, write

SIDE = 32


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (90, 41), (20, 31), (500, 32), (64, 65)])
def test_view_is_the_evaluation_transform_of_open_clip_bit_for_bit(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
    mean, std = (0.48, 0.45, 0.40), (0.26, 0.26, 0.27)
    expected = image_transform(SIDE, is_train=False, mean=mean, std=std)(image)
    ours = Preprocess(SIDE, mean, std)(torch.from_numpy(evaluation_view(image, SIDE).copy())[None])[0]
    assert torch.equal(ours, expected)


def test_border_is_cut_first() -> None:
    image = np.zeros((36, 36, 3), np.uint8)
    image[2:-2, 2:-2] = 200
    assert (evaluation_view(Image.fromarray(image), SIDE, border=2) == 200).all()
    assert (evaluation_view(Image.fromarray(image), SIDE) != 200).any()


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_is_read_as_rgb(mode: str, tmp_path: Path) -> None:
    image = picture((180, 90, 40), 0.0, np.random.default_rng(0))
    found = np.asarray(load_rgb(write(image, mode, tmp_path / "image"))).astype(int)
    expected = np.asarray(image.convert("L").convert("RGB") if mode in ("L", "I;16") else image).astype(int)
    assert found.shape == expected.shape
    # A GIF's palette has steps of 51; JPEG loses a little.
    assert np.abs(found - expected).max() <= {"P": 51, "CMYK": 20, "RGB": 20}.get(mode, 0)


def test_a_dark_image_of_16_bits_stays_dark(tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 40), 250, np.uint16)).save(tmp_path / "dark.png")
    assert np.asarray(load_rgb(tmp_path / "dark.png")).max() == 0


@pytest.mark.parametrize("content", [b"", b"no image", "truncated"])
def test_broken_files_are_named(content: bytes | str, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    if content == "truncated":
        picture((1, 2, 3), 0.5, np.random.default_rng(0)).save(path)
        content = path.read_bytes()[:-200]
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"image\.png .* cannot be read as an image"):
        load_rgb(path)
    with pytest.raises(UserError, match="is missing"):
        load_rgb(tmp_path / "gone.png")


def test_random_view_of_everything_is_the_image() -> None:
    square = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    found = [random_view(square, SIDE, (0.2, 1.0), np.random.default_rng(seed)) for seed in range(50)]
    assert len({view.tobytes() for view in found}) == 50
    wide = Image.new("RGB", (600, 20), (9, 9, 9))
    assert (random_view(wide, SIDE, (1.0, 1.0), np.random.default_rng(0)) == 9).all()


def test_areas_and_ratios_of_crops_are_in_range(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = []
    image = Image.new("RGB", (200, 150))
    monkeypatch.setattr(Image.Image, "resize", lambda self, size, how, box: boxes.append(box) or Image.new("RGB", size))
    for seed in range(300):
        random_view(image, SIDE, (0.25, 0.5), np.random.default_rng(seed))
    width, height = (np.array([b[i + 2] - b[i] for b in boxes]) for i in (0, 1))
    area = width * height / (200 * 150)
    assert area.min() > 0.24 and area.max() < 0.51 and 0.36 < area.mean() < 0.39
    assert (width / height).min() > 0.73 and (width / height).max() < 1.36
    assert min(b[0] for b in boxes) >= 0 and max(b[2] for b in boxes) <= 200 and max(b[3] for b in boxes) <= 150


def test_crops_depend_on_seed_step_and_position_alone() -> None:
    images = [picture((100, 150, 50), 0.5, np.random.default_rng(i)) for i in range(6)]
    whole = views(images.__getitem__, range(6), SIDE, Crops((0.5, 1.0), 1, 2))
    part = views(images.__getitem__, [3, 4], SIDE, Crops((0.5, 1.0), 1, 2))
    assert np.array_equal(whole[3], part[0]) and np.array_equal(whole[4], part[1])
    assert not np.array_equal(whole[3], views(images.__getitem__, [3], SIDE, Crops((0.5, 1.0), 1, 3))[0])
    assert not np.array_equal(whole[3], views(images.__getitem__, [3], SIDE, Crops((0.5, 1.0), 2, 2))[0])


def test_files_are_seen_like_an_array(tmp_path: Path) -> None:
    names = [
        write(picture((9 * i, 5, 80), 0.4, np.random.default_rng(i)), "L", tmp_path / f"{i}").name for i in range(7)
    ]
    files = Files(tmp_path, np.array(names), SIDE)
    assert files.shape == (7, SIDE, SIDE, 3)
    expected = [evaluation_view(load_rgb(tmp_path / name), SIDE) for name in names]
    assert np.array_equal(files[np.array([4, 0, 4])], np.stack([expected[i] for i in (4, 0, 4)]))
    assert np.array_equal(files[2], expected[2])
    assert files[np.array([], int)].shape == (0, SIDE, SIDE, 3)


@pytest.mark.fault(
    "data set",
    "a worker that decodes images ahead of training dies",
    "its error ends the job at once, as if there were no worker; nothing hangs",
)
@pytest.mark.parametrize("slow", [False, True])
def test_ahead_keeps_the_order_and_passes_errors_on(slow: bool) -> None:
    assert list(ahead(range(9), lambda i: i * i, slow)) == [(i, i * i) for i in range(9)]

    def load(i: int) -> int:
        if i == 4:
            raise UserError("four")
        return i

    seen = []
    with pytest.raises(UserError, match="four"):
        seen.extend(item for item, _ in ahead(range(9), load, slow))
    assert isinstance(as_rgb(np.zeros((2, 2, 3), np.uint8)), Image.Image)
