"""A data set of your own: image folders, or tables of files, with roles in the config and no code.

N rows. No pandas at import: the Snakefile imports this module.
"""

import hashlib
import os
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from surefoot.files import UserError
from surefoot.mistakes import suggestion
from surefoot.task_entries import FolderSplit, FolderTask
from surefoot.tasks import EvalSet, Part, Task
from surefoot.tasks.benchmarks import Prepared, hold_out, selector

if TYPE_CHECKING:
    import pandas as pd

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
HELD_OUT = "id_val"


def build(name: str, entry: FolderTask) -> Task:
    """The task of a config entry. Raises UserError for roles that are missing or a class that no image can have."""
    where, by_role = f"tasks.{name}.splits", {}
    for split, how in entry.splits.items():
        if (how.folder is None) == (how.table is None):
            raise UserError(f"{where}.{split}: give either folder or table")
        by_role.setdefault(how.role, []).append(split)
        twice = [other for other, rest in entry.splits.items() if (rest.folder, rest.table) == (how.folder, how.table)]
        if len(twice) > 1:
            raise UserError(f"{where}: {' and '.join(twice)} are the same images; an image set has one role")
    for role in ("train", "id_test"):
        if role not in by_role:
            raise UserError(f"{where}: no image set has the role {role}; name one (role: {role})")
    for role in ("train", "id_val", "ood_val", "id_test"):
        if len(by_role.get(role, [])) > 1:
            raise UserError(
                f"{where}: {' and '.join(by_role[role])} both have the role {role}; only ood_test may repeat"
            )
    classes, words = _classes(name, entry, by_role["train"][0])
    train = by_role["train"][0]
    held_out = HELD_OUT not in by_role
    sets = []
    if held_out:
        if HELD_OUT in entry.splits:
            raise UserError(f"{where}.{HELD_OUT}: this name is kept for the images held out of {train}; choose another")
        title = f"{entry.splits[train].title or train} (held out)"
        sets.append(EvalSet(HELD_OUT, title, "id_val", (Part(train, "val"),)))
    for split, how in entry.splits.items():
        if how.role != "train":
            # Selection and tables find the validation sets by these names.
            known = how.role if how.role in ("id_val", "ood_val") else split
            sets.append(EvalSet(known, how.title or split, how.role, (Part(split, ""),)))
    return Task(
        name=name,
        dataset=f"folder-{name}",
        title=f"{name}, {len(classes)} classes",
        classes=classes,
        prompt_names=words,
        templates=tuple(entry.templates),
        cluster="image, or the column cluster of a table",
        train=(Part(train, "train" if held_out or entry.shots else ""),),
        eval_sets=tuple(sets),
        licences=entry.licence or "not said in the config (key licence of the task)",
        select=selector(len(classes), entry.shots),
        exact=True,
        grouped=bool(entry.groups) or any(how.table for how in entry.splits.values() if how.role != "train"),
    )


def _classes(name: str, entry: FolderTask, train: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Class names as on disk, and the words that prompts use."""
    if isinstance(entry.classes, dict):
        known = tuple(entry.classes), tuple(entry.classes.values())
    elif entry.classes:
        known = tuple(entry.classes), tuple(_words(folder) for folder in entry.classes)
    else:
        how = entry.splits[train]
        if how.folder is None:
            raise UserError(f"tasks.{name}.classes: missing; the training set is a table, so name its classes in order")
        folder = Path(entry.root, how.folder)
        if not folder.is_dir():
            raise UserError(f"tasks.{name}.splits.{train}.folder: there is no folder {folder}; check tasks.{name}.root")
        found = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        known = tuple(found), tuple(map(_words, found))
    if len(known[0]) < 2 or len(set(known[0])) < len(known[0]):
        raise UserError(
            f"tasks.{name}.classes: {len(known[0])} classes ({', '.join(known[0])}); two different are needed"
        )
    if wrong := [template for template in entry.templates if "{}" not in template]:
        raise UserError(f"tasks.{name}.templates: {wrong[0]!r} has no {{}} where the class stands")
    return known


def check_places(name: str, entry: FolderTask) -> None:
    """Raises UserError for a folder or table that is not there, before anything runs."""
    for split, how in entry.splits.items():
        key, place = ("folder", how.folder) if how.folder else ("table", how.table)
        if not (path := Path(entry.root).expanduser() / place).exists():
            raise UserError(f"tasks.{name}.splits.{split}.{key}: there is no {path}; correct it or the task's root")


def _words(folder: str) -> str:
    return folder.replace("_", " ")


def prepared(name: str, entry: FolderTask, split: str) -> Prepared:
    """How a split is read. Raises UserError for an unknown one."""
    if split not in entry.splits:
        raise UserError(f"tasks.{name}: no split {split!r}{suggestion(split, entry.splits)}")
    how, task = entry.splits[split], build(name, entry)
    cut = how.role == "train" and any(part.fold == "val" for s in task.eval_sets for part in s.parts)
    share = entry.hold_out if cut else 0.0
    index = partial(_index, task.classes, entry.groups or {}, how, f"tasks.{name}.splits.{split}", share)
    return Prepared(source="", index=index, stream=entry.stream and how.role == "train")


def _index(
    classes: tuple[str, ...], groups: dict[str, str], how: FolderSplit, where: str, share: float, root: Path
) -> "pd.DataFrame":
    """Rows of one image set. Raises UserError for what is missing, has a class that the training set lacks, or is
    tested and in no group though there are groups."""
    if not root.is_dir():
        raise UserError(f"{where}: there is no folder {root}; check the task's root")
    rows = _from_table(how, where, root) if how.table else _from_folder(how, where, root)
    label = {name: number for number, name in enumerate(classes)}
    if unknown := sorted(set(rows["class"]) - set(label)):
        near = suggestion(unknown[0], classes)
        raise UserError(
            f"{where}: class {unknown[0]!r} is not among the classes of the task{near}; correct `classes` or the images"
        )
    rows["label"] = rows["class"].map(label).astype("int64")
    # An image without a cluster is one of its own; one without a group is in none.
    rows["cluster"] = rows["cluster"].fillna(rows["file"]) if "cluster" in rows else rows["file"]
    if "group" not in rows:
        rows["group"] = [_group(file, groups) for file in rows["file"]] if groups else "all"
        if how.role != "train" and not rows["group"].any():
            raise UserError(
                f"{where}: no image is in a group; the patterns of `groups` ({', '.join(groups.values())}) must fit "
                f"paths such as {rows['file'][0]}. If these images are one group, give it a pattern of its own, such "
                f'as plain: "{Path(rows["file"][0]).parts[0]}/*"'
            )
    rows["group"] = rows["group"].fillna("")
    rows["fold"] = "train" if how.role == "train" else ""
    return hold_out(rows, share) if share else rows


def _group(file: str, groups: dict[str, str]) -> str:
    return next((name for name, pattern in groups.items() if fnmatchcase(file, pattern)), "")


def _from_folder(how: FolderSplit, where: str, root: Path) -> "pd.DataFrame":
    import pandas as pd

    top = root / how.folder
    if not top.is_dir():
        raise UserError(f"{where}.folder: there is no folder {top}")
    found = []
    for folder in sorted(path for path in top.iterdir() if path.is_dir() and not path.name.startswith(".")):
        files = sorted(Path(at, file) for at, _, names in os.walk(folder, followlinks=True) for file in names)
        images = [file for file in files if file.suffix.lower() in IMAGES and not file.name.startswith(".")]
        if not images:
            raise UserError(f"{where}: {folder} holds no image ({', '.join(IMAGES)}); remove it or add images")
        found += [(str(file.relative_to(root)), folder.name) for file in images]
    if not found:
        raise UserError(f"{where}: {top} holds no class folders; put each class's images into a folder of its name")
    return pd.DataFrame(found, columns=["file", "class"])


def _from_table(how: FolderSplit, where: str, root: Path) -> "pd.DataFrame":
    import pandas as pd

    path = root / how.table
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""])  # a class may be called NA
    except (OSError, ValueError) as error:
        raise UserError(f"{where}.table: cannot read {path}: {error}") from None
    for column in ("file", "label"):
        if column not in rows:
            raise UserError(f"{where}.table: {path} has no column {column!r}; it has {', '.join(rows.columns)}")
        if rows[column].isna().any():
            line = int(rows[column].isna().to_numpy().argmax()) + 2
            raise UserError(f"{where}.table: {path}, line {line}: no {column}")
    known = [column for column in ("file", "label", "cluster", "group") if column in rows]
    rows = rows[known].rename(columns={"label": "class"})
    beside = Path(how.table).parent
    rows["file"] = [str(beside / file) for file in rows["file"]]
    if missing := next((file for file in rows["file"] if not (root / file).is_file()), None):
        raise UserError(f"{where}.table: {path} names {missing}, but {root} has no such file")
    return rows


def listing(entry: FolderTask, split: str) -> str:
    """Digest of when the folders of a split last gained or lost a file, so that new images are prepared."""
    how = entry.splits[split]
    at = Path(entry.root, how.folder or how.table)
    places = sorted(Path(place) for place, _, _ in os.walk(at, followlinks=True)) if at.is_dir() else [at]
    times = [(os.path.relpath(path, at), path.stat().st_mtime_ns) for path in places if path.exists()]
    return hashlib.sha256(repr(times).encode()).hexdigest()[:16]
