"""ImageNet-Vid-Robust and YTBB-Robust: frames of videos around an anchor (Shankar et al. 2021), as WiSE-FT's code reads
them.

pm-0 is the accuracy on anchors; pm-k counts an anchor only where all similar frames within k steps are right too. So
there is a row for each pair of anchor and frame: `cluster` is the anchor, `fold` says what the frame is. A frame may
have several right labels: the first is `label`, the others are in `also`. No pandas at import.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surefoot.files import UserError
from surefoot.sources import File, Source

if TYPE_CHECKING:
    import pandas as pd

STEPS = 10
ANCHOR, FRAME = "anchor", "frame"
VID, YTBB, NOTES = "imagenet-vid-robust", "ytbb-robust", "ytbb-robust_metadata"
# Of a pair of anchor and frame: what makes them too different to count (WiSE-FT's ytbb_robust.py).
UNLIKE = {
    "dissimilar",
    "problematic",
    "incorrect",
    "dont know",
    "deformation",
    "background-change",
    "occlusion-increased",
    "blur-increase",
    "bad-anchor",
}
_WISE_FT = "https://raw.githubusercontent.com/mlfoundations/wise-ft/4639a3919b51b20beae5814bc6722b962d93ae47"
_TABLES = ("anchor_labels.json", "pmk_labels.json", "ytbb_robustness_test_anchors_full.csv")

SOURCE = Source(
    name="imagenet-videos",
    files=(
        File(
            "imagenet_vid_ytbb_robust.tar.gz",
            (
                "https://do-imagenet-classifiers-generalize-across-time.s3-us-west-2.amazonaws.com/"
                "imagenet_vid_ytbb_robust.tar.gz",
            ),
            strip=1,
        ),
        *(File(name, (f"{_WISE_FT}/src/datasets/{NOTES}/{name}",), to=NOTES) for name in _TABLES),
    ),
    needs=(
        f"{VID}/val",
        f"{VID}/metadata/labels.json",
        f"{VID}/metadata/pmsets.json",
        f"{VID}/misc",
        f"{YTBB}/ytbb_videos",
        *(f"{NOTES}/{name}" for name in _TABLES),
    ),
    folders=("imagenet_vid_ytbb_robust", "."),
    licence="open; the frames belong to their owners (not verified)",
    by_hand=(
        "If a host fails, get the videos from https://modestyachts.github.io/natural-perturbations-website and the "
        f"tables from src/datasets/{NOTES} of https://github.com/mlfoundations/wise-ft."
    ),
)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); get the data set again") from None


def _rows(
    root: Path, at: str, sets: dict[str, list[str]], labels: dict[str, list[int]], classes: int
) -> "pd.DataFrame":
    """A row per anchor and frame. Raises UserError for frames that are not there, and labels that are no class."""
    import pandas as pd

    found = []
    for anchor in sorted(sets):
        frames = [(anchor, ANCHOR), *((frame, FRAME) for frame in sets[anchor] if frame != anchor)]
        for frame, kind in frames:
            if not (right := labels.get(frame)) or not all(0 <= label < classes for label in right):
                raise UserError(f"{root / at}: frame {frame} has the labels {right}, not of {classes} classes")
            first, *others = right
            found.append((f"{at}/{frame}", first, anchor, "all", kind, " ".join(map(str, others))))
    rows = pd.DataFrame(found, columns=["file", "label", "cluster", "group", "fold", "also"])
    if missing := [file for file in dict.fromkeys(rows["file"]) if not (root / file).is_file()]:
        raise UserError(f"{root}: {len(missing)} frames are missing, such as {missing[0]}; complete the data set")
    return rows


def vid_rows(wnids: Sequence[str], classes: Sequence[Sequence[int]], root: Path) -> "pd.DataFrame":
    """ImageNet-Vid-Robust: every frame has labels of its own.

    Args:
        wnids: of ImageNet's classes.
        classes: per label the classes of ImageNet that mean it; what the data set says of that must agree.

    Raises UserError for what is missing or another version.
    """
    folder = root / VID
    labels, sets = (_read(folder / "metadata" / name) for name in ("labels.json", "pmsets.json"))
    index, meant = (_read(folder / "misc" / name) for name in ("imagenet_vid_class_index.json", "rev_wnid_map.json"))
    try:
        said = [sorted(wnids.index(wnid) for wnid in meant[index[str(label)][0]]) for label in range(len(index))]
    except (KeyError, ValueError, TypeError, IndexError):
        said = None
    if said != [sorted(ids) for ids in classes]:
        raise UserError(f"{folder / 'misc'}: the classes are not the {len(classes)} known ones; another version?")
    return _rows(root, VID, sets, labels, len(classes))


def ytbb_rows(classes: Sequence[str], root: Path) -> "pd.DataFrame":
    """YTBB-Robust: frames have the labels of their anchor; only anchors and frames that its makers found good.

    Args:
        classes: names in the order of the labels; the data set's 'none', which no model may say, is not one, so that
            anchors which show nothing else are left out (WiSE-FT's code counts them as wrong; the real table has none).

    Raises UserError for what is missing.
    """
    tables = root / NOTES
    place = {name: number for number, name in enumerate(classes)}
    try:
        with (tables / _TABLES[2]).open(encoding="utf-8", newline="") as file:
            first = {f"{row['ytid']}_{row['time_ms']}": int(row["label"]) for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{tables / _TABLES[2]} is not the table of anchors ({error!r}); get it again") from None
    anchors, pairs = (_annotations(tables / name) for name in _TABLES[:2])
    spoilt = {_key(key.partition(",")[0]) for key, said in pairs.items() if "bad-anchor" in said}
    similar = {key for key, said in pairs.items() if "similar" in said and not said & UNLIKE}
    sets: dict[str, list[str]] = {}
    labels: dict[str, list[int]] = {}
    for anchor, said in ((_key(path), said) for path, said in anchors.items()):
        if "good" not in said or said & {"bad", "unsure"} or anchor in spoilt:
            continue
        video, _, name = anchor.partition("/")
        if video not in first:
            raise UserError(f"{tables / _TABLES[2]}: anchor {anchor} is missing; get the data set again")
        own = [first[video], *sorted(place[name] for name in said if name in place)]
        if not (own := list(dict.fromkeys(label for label in own if label < len(classes)))):
            continue
        here = int(name.removeprefix("frame-").partition(".")[0])
        near = (f"{video}/frame-{here + step}.jpg" for step in range(-STEPS, STEPS + 1) if step)
        sets[anchor] = [frame for frame in near if f"{anchor},{frame}" in similar]
        labels |= dict.fromkeys([anchor, *sets[anchor]], own)
    return _rows(root, f"{YTBB}/ytbb_videos", sets, labels, len(classes))


def _annotations(path: Path) -> dict[str, set[str]]:
    """Key -> words that were said of it, the last time where it was annotated twice."""
    found = _read(path)
    try:
        return {row["key"]: {found["labels"][number] for number in row["labels"]} for row in found["annotations"]}
    except (KeyError, IndexError, TypeError) as error:
        raise UserError(f"{path} is not a table of annotations ({error!r}); get the data set again") from None


def _key(path: str) -> str:
    """Folder and name of a frame."""
    return "/".join(path.split("/")[-2:])
