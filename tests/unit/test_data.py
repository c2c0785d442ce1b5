"""The images of a task under a seed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from surefoot.data import Data, split_folders
from surefoot.files import UserError, read_json
from surefoot.tasks import Part
from tests.tiny import TASK, Bench, select, tiny_data


def test_examples_join_parts_in_order(data: Data) -> None:
    parts = (Part("noisy", "val"), Part("plain", "val"))
    joined = data.examples(parts, 0)
    pieces = [data.examples((part,), 0) for part in parts]
    everything = np.arange(len(joined))
    assert len(joined) == sum(map(len, pieces))
    expected = np.concatenate([piece.images(np.arange(len(piece))).numpy() for piece in pieces])
    assert np.array_equal(joined.images(everything).numpy(), expected)
    assert list(joined.labels) == [label for piece in pieces for label in piece.labels]


def test_images_come_in_the_asked_order(data: Data) -> None:
    joined = data.examples((Part("noisy", "val"), Part("plain", "val")), 0)
    order = np.random.default_rng(0).permutation(len(joined))
    whole = joined.images(np.arange(len(joined)))
    assert np.array_equal(joined.images(order).numpy(), whole.numpy()[order])


def test_examples_are_the_rows_that_the_task_selects(data: Data) -> None:
    examples = data.examples((Part("plain", "test"),), 2)
    chosen = select(Part("plain", "test"), data.splits["plain"].rows, 2)
    assert np.array_equal(examples.images(np.arange(len(examples))).numpy(), data.splits["plain"].images[chosen.rows])


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own(data: Data) -> None:
    examples = data.training(0)
    epochs = [
        np.concatenate(list(examples.shuffled(7, seed, epoch))) for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert all(sorted(order) == list(range(len(examples))) for order in epochs)
    assert np.array_equal(epochs[0], epochs[3])
    assert not np.array_equal(epochs[0], epochs[1]) and not np.array_equal(epochs[0], epochs[2])


def test_batches_cover_every_image_once_in_order(data: Data) -> None:
    examples = data.training(0)
    batches = list(examples.batches(7))
    assert list(np.concatenate(batches)) == list(range(len(examples)))
    assert {len(batch) for batch in batches[:-1]} == {7}


def test_a_class_without_training_images_is_named(data: Data) -> None:
    def without_sun(part: Part, rows, seed: int):
        return select(part, rows[rows["class"] != "sun"], seed)

    broken = Data.__new__(Data)
    broken.task, broken.splits = replace(TASK, select=without_sun), data.splits
    with pytest.raises(UserError, match=r"tiny, seed 0: no training image of class sun;"):
        broken.training(0)


def test_digests_name_the_splits(tmp_path: Path) -> None:
    first = tiny_data(tmp_path)
    assert set(first.digests) == {"plain", "noisy"} and len(set(first.digests.values())) == 2


def test_split_folders_of_files() -> None:
    files = [
        f"results/data/emoji/{split}/{name}" for split in ("line", "glyph") for name in ("images.npy", "split.json")
    ]
    assert split_folders(files) == {s: Path(f"results/data/emoji/{s}") for s in ("line", "glyph")}


@pytest.mark.parametrize("own", [{"resize_mode": "squash"}, {"interpolation": "bilinear"}])
def test_a_model_that_wants_its_images_resized_otherwise_is_refused_on_published_data(
    own: dict[str, str], bench: Bench, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    written = read_json(bench.model / "open_clip_config.json")
    written["preprocess_cfg"] |= own
    (folder / "open_clip_config.json").write_text(json.dumps(written))
    exact = Data.__new__(Data)
    exact.task, exact.splits = replace(bench.data.task, exact=True), {}
    with pytest.raises(UserError, match=next(iter(own.values()))):
        exact.check_transform(24, folder)
    bench.data.check_transform(24, folder)  # generated images have no transform of their makers
