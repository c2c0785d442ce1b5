"""Task cards: numbers of images, chance levels of masked and other sets, and where the images come from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from surefoot.cards import task_card
from surefoot.files import UserError
from surefoot.task_entries import BenchmarkTask, EmojiTask
from surefoot.tasks import Task, build_task, family
from surefoot.tasks.emoji_names import concept_ranks, emoji_class, inventory
from tests.fabricate import imagenet, wilds
from tests.tiny import TASK as TINY
from tests.tiny import tiny_rows

EMOJI = {"family": "emoji"}


def cells(card: str) -> dict[str, list[str]]:
    """First cell -> the others, of all rows of all tables of a card; of two rows the first."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in card.splitlines() if line[:1] == "|"]
    return {line[0]: line[1:] for line in reversed(lines)}


def tiny_card(task: Task = TINY, metric: str = "top1", seed: int = 0, entry: dict[str, Any] = EMOJI) -> str:
    return task_card(task, metric, {split: tiny_rows() for split in task.splits}, seed, entry)


def published(task: Task, root: Path, kind: str, metric: str, **rows: pd.DataFrame) -> str:
    """The card of a task on fabricated files; `rows` in place of those of some splits."""
    found = {}
    for split in task.splits:
        how = family(kind).SPLITS[split]
        source = family(kind).SOURCES[how.source]
        whole = [root / at for at in source.folders if all((root / at / need).exists() for need in source.needs)]
        found[split] = rows[split] if split in rows else how.index(whole[0])
    return task_card(task, metric, found, 0, {"family": kind})


def test_images_are_counted_under_a_seed() -> None:
    card = tiny_card()
    assert cells(card)["ood_val"][2] == str(2 * int(cells(card)["id_val"][2].replace(",", "")))
    train = TINY.select(TINY.train[0], tiny_rows(), 0)
    assert f"Trained on: plain, {len(train.rows)} images. Numbers of images are\nthose under seed 0" in card


@pytest.mark.parametrize("metric", ["macro_f1", "worst_group"])
def test_chance_stands_only_beside_metrics_that_guessing_has_a_score_in(metric: str) -> None:
    shown = "worst_group (of 2)" if metric == "worst_group" else metric
    assert cells(tiny_card(metric=metric))["noisy"][3:5] == [shown, ""]
    assert cells(tiny_card(metric="top1"))["noisy"][3:5] == ["top1", f"{100 / len(TINY.classes):.2g}"]
    sets = (replace(TINY.eval_sets[0], metric="all_frames"), *TINY.eval_sets[1:])
    card = tiny_card(replace(TINY, eval_sets=sets), "mean_per_class")
    assert cells(card)["id_val"][3:5] == ["all_frames", ""]
    assert cells(card)["id_test"][3:5] == ["mean_per_class", f"{100 / len(TINY.classes):.2g}"]


def test_a_worst_group_of_one_is_refused() -> None:
    """Also where only the prepared images tell; an image in no group makes none. Beside sets of several it is right."""
    lone = {split: tiny_rows().assign(group="day") for split in TINY.splits}
    with pytest.raises(UserError, match=r"tasks\.tiny\.metric: metric worst_group needs .*; choose top1"):
        task_card(TINY, "worst_group", lone, 0, EMOJI)
    lone["plain"].loc[::2, "group"] = ""
    with pytest.raises(UserError, match="worst_group needs"):
        task_card(TINY, "worst_group", lone, 0, EMOJI)
    assert task_card(TINY, "top1", lone, 0, EMOJI)
    lone["noisy"].loc[::2, "group"] = "night"
    found = cells(task_card(TINY, "worst_group", lone, 0, EMOJI))
    assert found["noisy"][3] == "worst_group (of 2)" and found["id_test"][3].startswith("worst_group (of 1; ")
    lone["plain"]["group"] = ""
    assert (
        cells(task_card(TINY, "worst_group", lone, 0, EMOJI))["id_test"][3] == "worst_group (no groups: top-1 of all)"
    )


def test_a_group_of_your_own_that_no_image_is_in_is_named() -> None:
    rows = {split: tiny_rows().assign(group="day", file="a/day/1.png") for split in TINY.splits}
    mine = {"family": "folder", "root": "/images", "groups": {"day": "*/day/*", "night": "*/nite/*"}}
    with pytest.raises(
        UserError, match=r"tasks\.tiny\.groups\.night: no image has a path that fits '\*/nite/\*'; .*a/day/1"
    ):
        task_card(TINY, "top1", rows, 0, mine)
    rows["noisy"].loc[::2, "group"] = "night"
    assert task_card(TINY, "top1", rows, 0, mine)


@pytest.mark.parametrize(
    ("kind", "data"), [("imagenet", "imagenet"), ("cifar", "cifar10"), ("domainnet", "real"), ("transfer", "cars")]
)
def test_data_sets_without_groups_have_no_worst_one(kind: str, data: str) -> None:
    with pytest.raises(
        UserError, match=r"tasks\.t\.metric: worst_group needs groups of images; these have none, so choose top1"
    ):
        build_task("t", BenchmarkTask(family=kind, data=data, recipe="r", metric="worst_group"))


def test_masked_sets_are_guessed_among_their_own_labels(tmp_path: Path) -> None:
    """200 classes of ImageNet-R, 113 folders of ObjectNet, 19 of YTBB-Robust's labels, of which some have several."""
    imagenet.fabricate(tmp_path, 2, shifts=("r", "objectnet"), corruptions=(), with_videos=True)
    entry = BenchmarkTask(
        family="imagenet",
        data="imagenet",
        recipe="r",
        test_sets=["r", "objectnet", "vid_robust", "ytbb_robust"],
        ood_val=[],
    )
    task = build_task("in", entry)
    found = cells(card := published(task, tmp_path, "imagenet", "top1"))
    assert found["id_test"][2:5] == ["2,000", "top1", "0.1"]
    assert found["r"][2:5] == ["400", "top1", "0.5"] and found["objectnet"][2:5] == ["226", "top1", "0.88"]
    (pm0,) = (s for s in task.eval_sets if s.name == "ytbb_robust")
    known = [k for k, columns in enumerate(pm0.columns) if columns]
    assert len(known) == 19 and found["ytbb_robust_pm10"][3:5] == ["all_frames", ""]
    root = tmp_path / "imagenet_vid_ytbb_robust"
    chosen = task.select(pm0.parts[0], family("imagenet").SPLITS["ytbb_robust"].index(root), 0)
    right = [
        len({label, *map(int, also.split())} & set(known))
        for label, also in zip(chosen.labels, chosen.also, strict=True)
    ]
    assert float(found["ytbb_robust"][4]) == pytest.approx(100 * sum(right) / len(right) / 19, rel=0.05)
    assert found["imagenet"] == ["by hand", "155", "155"]
    assert found["imagenet-r"] == ["download", "2.2", "2.2"] and "| objectnet | download | not known |" in card
    assert "- imagenet: Get ILSVRC2012_img_train.tar" in card and "data_root.imagenet" in card


def test_targets_are_counted_and_sizes_told(tmp_path: Path) -> None:
    wilds.fabricate(tmp_path)
    task = build_task("f", BenchmarkTask(family="wilds", data="fmow", shift="natural", recipe="r"))
    card = published(task, tmp_path, "wilds", "worst_group")
    found = cells(card)
    rows = family("wilds").SPLITS["fmow-ood_test"].index(tmp_path / "fmow_v1.1")
    assert found["shifted"][1:4] == [*(str((rows["fold"] == fold).sum()) for fold in ("val", "test")), ""]
    assert found["fmow"] == ["download", "54", "54"]
    assert "not known" in published(
        build_task("w", BenchmarkTask(family="wilds", data="waterbirds", shift="spurious", recipe="r")),
        tmp_path,
        "wilds",
        "worst_group",
    )


def test_other_families_say_where_images_come_from() -> None:
    assert "nothing is downloaded" in tiny_card()
    assert "Your own, below /data/mine." in tiny_card(entry={"family": "folder", "root": "/data/mine"})


def test_the_card_says_that_contexts_name_the_styles_of_the_test_sets() -> None:
    task = build_task("emoji-style", EmojiTask(family="emoji", recipe="r", shift="style"))
    rows = pd.DataFrame(
        {
            "concept": emoji.concept,
            "class": emoji_class(emoji) or "",
            "group": emoji.group,
            "subgroup": emoji.subgroup,
            "rank": concept_ranks()[emoji.concept] if emoji_class(emoji) else -1,
        }
        for emoji in inventory()
    )
    card = task_card(task, "mean_per_class", dict.fromkeys(task.splits, rows), 0, EMOJI)
    assert f"Contexts of CAR-FT ({len(task.contexts)})" in card and "- a black glyph of {class}" in card
    assert task.contexts_note in card and "test sets" in task.contexts_note
    assert cells(card)["glyph"][3:5] == ["mean_per_class", "3.3"]
    assert "CAR-FT" not in tiny_card(), "a task without contexts of its own has nothing to say"
