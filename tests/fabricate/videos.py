"""The two sets of videos as they lie on disk: frames around anchors, labels, and what annotators said of them."""

import json
from collections.abc import Iterator
from pathlib import Path

from surefoot.tasks.imagenet import tables
from surefoot.tasks.imagenet_videos import NOTES, VID, YTBB

GOOD = ["good", "bad", "unsure", "person", "car", "none"]
SIMILAR = ["similar", "dissimilar", "occlusion-increased", "bad-anchor", "correct"]
# Anchor -> its label in the table of anchors (22 is car and 23 none), and what annotators said of it.
ANCHORS = {
    "aaa_100/frame-20.jpg": (22, ["good"]),
    "bbb_100/frame-8.jpg": (1, ["good", "person", "car"]),
    "ccc_200/frame-30.jpg": (2, ["bad"]),
    "ddd_200/frame-30.jpg": (2, ["good", "unsure"]),
    "eee_300/frame-40.jpg": (23, ["good"]),
    "fff_300/frame-40.jpg": (6, ["good", "none"]),
    "ggg_300/frame-40.jpg": (3, ["good"]),
}


def fabricate(root: Path, pictures: Iterator[bytes]) -> None:
    """Write both sets below a root, as their archive and WiSE-FT's repository hold them."""
    _vid(root / VID, pictures)
    _ytbb(root, pictures)


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(json.dumps(content))


def _vid(folder: Path, pictures: Iterator[bytes]) -> None:
    """Three anchors; the second stands at the start of its video, the third lists itself among its frames."""
    known = tables()
    names = [f"n9{number:07d}" for number in range(len(known["vid"]))]
    meant = {names[label]: [known["wnids"][i] for i in ids] for label, ids in enumerate(known["vid"])}
    _write(folder / "misc/imagenet_vid_class_index.json", {str(i): [name, f"c{i}"] for i, name in enumerate(names)})
    _write(folder / "misc/rev_wnid_map.json", meant)
    labels, sets = {}, {}
    for number, (middle, own) in enumerate(((12, [0]), (0, [5, 6]), (30, [29]))):
        at = [f"val/ILSVRC2015_val_{number:08d}/{frame:06d}.JPEG" for frame in range(max(0, middle - 10), middle + 11)]
        anchor = f"val/ILSVRC2015_val_{number:08d}/{middle:06d}.JPEG"
        sets[anchor] = [frame for frame in at if frame != anchor or number == 2]
        for place, frame in enumerate(at):
            labels[frame] = own if place % 4 else own[::-1]
            _write(folder / frame, next(pictures))
    _write(folder / "metadata/labels.json", labels)
    _write(folder / "metadata/pmsets.json", sets)


def _ytbb(root: Path, pictures: Iterator[bytes]) -> None:
    """Frames of each anchor from 12 before it to 12 behind; some pairs are too different, some were not looked at."""
    pairs = []
    for anchor in ANCHORS:
        video, name = anchor.split("/")
        middle = int(name[len("frame-") : -len(".jpg")])
        for frame in range(max(0, middle - 12), middle + 13):
            _write(root / YTBB / "ytbb_videos" / video / f"frame-{frame}.jpg", next(pictures))
            key = f"{anchor},{video}/frame-{frame}.jpg"
            said = ["dissimilar"] if frame == middle - 3 else ["similar", "correct"]
            said = ["similar", "occlusion-increased"] if frame == middle + 4 else said
            said = ["bad-anchor"] if video == "ggg_300" and frame == middle + 1 else said
            if frame % 5 and frame != middle:
                pairs.append({"key": key, "labels": [SIMILAR.index(word) for word in said]})
        # Their code looks for keys without folders, so this frame does not count.
        pairs.append({"key": f"a/{anchor},a/{video}/frame-{middle + 5}.jpg", "labels": [SIMILAR.index("similar")]})
    anchors = [
        {"key": f"some/folder/{key}" if place % 2 else key, "labels": [GOOD.index(word) for word in said]}
        for place, (key, (_, said)) in enumerate(ANCHORS.items())
    ]
    _write(root / NOTES / "anchor_labels.json", {"annotations": anchors, "labels": GOOD})
    _write(root / NOTES / "pmk_labels.json", {"annotations": pairs, "labels": SIMILAR})
    lines = [f"{key.split('/')[0].replace('_', ',')},{label}\n" for key, (label, _) in ANCHORS.items()]
    _write(root / NOTES / "ytbb_robustness_test_anchors_full.csv", "".join(["ytid,time_ms,label\n", *lines]).encode())
