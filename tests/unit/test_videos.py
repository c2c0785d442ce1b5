"""ImageNet-Vid-Robust and YTBB-Robust: which frames count, their labels, and pm-0 and pm-10 as their makers score."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from surefoot.evaluate import project, right_labels
from surefoot.files import UserError
from surefoot.metrics import all_frames, top1
from surefoot.task_entries import BenchmarkTask
from surefoot.tasks import EvalSet
from surefoot.tasks.imagenet import SPLITS, build, tables
from surefoot.tasks.imagenet_videos import NOTES, VID, YTBB
from tests.fabricate.imagenet import pictures_of
from tests.fabricate.videos import fabricate

CAR = 22


@pytest.fixture
def root(tmp_path: Path) -> Path:
    fabricate(tmp_path, pictures_of(np.random.default_rng(0)))
    return tmp_path


def eval_sets(name: str) -> list[EvalSet]:
    entry = BenchmarkTask(family="imagenet", data="imagenet", recipe="clip", ood_val=[], test_sets=[name])
    return build("in", entry).eval_sets[2:]


def score(name: str, rows: pd.DataFrame, logits: torch.Tensor) -> list[float]:
    """pm-0 and pm-10 in percent, by the task's eval sets."""
    found = []
    for eval_set in eval_sets(name):
        (part,) = eval_set.parts
        chosen = np.flatnonzero((rows["fold"] == part.fold) | (part.fold == ""))
        table = rows.iloc[chosen]
        labels = table["label"].to_numpy("int64", copy=True)
        guess = project(logits[chosen], eval_set.columns).argmax(1)
        right = right_labels(labels, table["also"].to_numpy(str), len(eval_set.columns))
        predicted = np.where(right[torch.arange(len(guess)), guess], labels, guess)
        metric = all_frames if eval_set.metric == "all_frames" else lambda p, y, _: top1(p, y)
        found.append(metric(predicted, labels, table["cluster"].to_numpy(str)))
    return found


def theirs(logits: np.ndarray, groups: list[list[int]]) -> int:
    """The largest of the classes that mean a label; one that no class means has 0 (WiSE-FT's project_logits)."""
    return int(np.argmax([logits[ids].max() if ids else 0 for ids in groups]))


def guesses(rows: pd.DataFrame, groups: list[list[int]], luck: float) -> torch.Tensor:
    """Random logits, mostly of a right label; a file has the same wherever it stands."""
    rng, by_file = np.random.default_rng(1), {}
    for row in rows.itertuples():
        logits = rng.normal(20, 1, 1000)
        label = int(rng.choice([row.label, *map(int, row.also.split())]))
        if groups[label] and rng.random() < luck:
            logits[rng.choice(groups[label])] = 40
        by_file.setdefault(row.file, logits)
    return torch.tensor(np.stack([by_file[file] for file in rows["file"]]), dtype=torch.float32)


@pytest.mark.parametrize("luck", [0.0, 0.97, 1.0])
def test_vid_robust_is_scored_as_by_its_makers(root: Path, luck: float) -> None:
    """Their scorer: an anchor counts where it and all frames of its set are among their own labels."""
    rows, groups = SPLITS["vid_robust"].index(root), tables()["vid"]
    logits = guesses(rows, groups, luck)
    predicted = {f.split(f"{VID}/")[1]: theirs(z.numpy(), groups) for f, z in zip(rows["file"], logits, strict=True)}
    labels, sets = (json.loads((root / VID / "metadata" / n).read_text()) for n in ("labels.json", "pmsets.json"))
    anchors = [predicted[anchor] in labels[anchor] for anchor in sets]
    whole = [all(predicted[f] in labels[f] for f in [anchor, *frames]) for anchor, frames in sets.items()]
    assert len(rows) == 21 + 11 + 21 and set(rows["also"]) == {"", "5", "6"}
    found = score("vid_robust", rows, logits)
    assert found == pytest.approx([100 * np.mean(anchors), 100 * np.mean(whole)])
    assert found == [100, 100] if luck == 1 else found != [100, 100]


def test_ytbb_keeps_what_its_makers_found_good(root: Path) -> None:
    rows = SPLITS["ytbb_robust"].index(root).assign(frame=lambda t: t["file"].str.extract(r"-(\d+)\.jpg").astype(int))
    anchors = rows[rows["fold"] == "anchor"].set_index("cluster")
    # Bad, unsure and spoilt anchors are out, and the one that shows nothing; annotators add labels to the first one.
    assert list(anchors.index) == ["aaa_100/frame-20.jpg", "bbb_100/frame-8.jpg", "fff_300/frame-40.jpg"]
    assert list(anchors["label"]) == [CAR, 1, 6] and list(anchors["also"]) == ["", f"0 {CAR}", ""]
    frames = rows[(rows["fold"] == "frame") & (rows["cluster"] == "bbb_100/frame-8.jpg")]
    # Within 10 steps, looked at (not 0, 5, 10, 15), similar (not 5), without occlusion (not 12).
    assert list(frames["frame"]) == [1, 2, 3, 4, 6, 7, 9, 11, 13, 14, 16, 17, 18]
    assert set(frames["also"]) == {f"0 {CAR}"} and list(tables()["ytbb"])[CAR] == "car"


@pytest.mark.parametrize("luck", [0.0, 0.9, 1.0])
def test_ytbb_is_scored_by_the_labels_of_the_anchor(root: Path, luck: float) -> None:
    """From the raw tables: a pair counts under exactly the key that WiSE-FT's code looks for."""
    rows, groups = SPLITS["ytbb_robust"].index(root), list(tables()["ytbb"].values())
    logits = guesses(rows, groups, luck)
    said = {f.split("ytbb_videos/")[1]: theirs(z.numpy(), groups) for f, z in zip(rows["file"], logits, strict=True)}
    table = json.loads((root / NOTES / "pmk_labels.json").read_text())
    bad = {table["labels"].index(word) for word in ("dissimilar", "occlusion-increased", "bad-anchor")}
    pairs = {row["key"] for row in table["annotations"] if not bad & set(row["labels"])}
    anchors, whole = [], []
    for anchor, labels in {"aaa_100/frame-20": {CAR}, "bbb_100/frame-8": {0, 1, CAR}, "fff_300/frame-40": {6}}.items():
        stem, _, middle = anchor.rpartition("-")
        near = [f"{stem}-{int(middle) + step}.jpg" for step in range(-10, 11) if step]
        frames = [frame for frame in near if f"{anchor}.jpg,{frame}" in pairs]
        anchors.append(said[f"{anchor}.jpg"] in labels)
        whole.append(anchors[-1] and all(said[frame] in labels for frame in frames))
    assert score("ytbb_robust", rows, logits) == pytest.approx([100 * np.mean(anchors), 100 * np.mean(whole)])
    assert not whole[-1], "cows are no class of ImageNet, so that anchor is always wrong"


def test_any_right_label_is_recorded_as_the_label() -> None:
    right = right_labels(np.array([2, 0]), np.array(["0 1", ""]), 4)
    assert right.tolist() == [[True, True, True, False], [True, False, False, False]]


def test_missing_and_foreign_frames_are_named(root: Path) -> None:
    (root / VID / "val/ILSVRC2015_val_00000000/000003.JPEG").unlink()
    with pytest.raises(UserError, match=r"1 frames are missing, such as .*val_00000000/000003.JPEG"):
        SPLITS["vid_robust"].index(root)
    path = root / VID / "metadata/labels.json"
    path.write_text(path.read_text().replace("[29]", "[30]"))
    with pytest.raises(UserError, match=r"has the labels \[30\], not of 30 classes"):
        SPLITS["vid_robust"].index(root)
    meant = root / VID / "misc/rev_wnid_map.json"
    meant.write_text(meant.read_text().replace(tables()["wnids"][404], tables()["wnids"][405]))
    with pytest.raises(UserError, match="the classes are not the 30 known ones"):
        SPLITS["vid_robust"].index(root)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("pmk_labels.json", "version https://git-lfs.github.com/spec/v1", "cannot be read"),
        ("anchor_labels.json", "[1, 2]", "is not a table of annotations"),
        ("ytbb_robustness_test_anchors_full.csv", "ytid,time_ms,label\n", "anchor .* is missing"),
        ("ytbb_robustness_test_anchors_full.csv", "version https://git-lfs\noid 1\n", "is not the table of anchors"),
    ],
)
def test_broken_tables_are_named(root: Path, name: str, text: str, message: str) -> None:
    (root / NOTES / name).write_text(text)
    with pytest.raises(UserError, match=rf"{name}.* {message}|{name} {message}"):
        SPLITS["ytbb_robust"].index(root)


def test_frames_of_ytbb_lie_in_the_folders_of_their_anchors(root: Path) -> None:
    rows = SPLITS["ytbb_robust"].index(root)
    assert all((root / file).is_file() and file.startswith(f"{YTBB}/ytbb_videos/") for file in rows["file"])
    assert all(file.split("/")[-2] == cluster.split("/")[0] for file, cluster in rows[["file", "cluster"]].to_numpy())
