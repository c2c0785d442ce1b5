"""Getting published data sets: a user's copy where it is, or the makers' files, verified and safely extracted.

Standard library and tqdm only. A killed download goes on where it stopped; a killed extraction starts again; what is
complete is never fetched twice.
"""

import hashlib
import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from surefoot import web
from surefoot.files import UserError, atomic
from surefoot.sources import File, Source
from surefoot.unpack import Limit, extract, is_archive

logger = logging.getLogger(__name__)

AROUND = ("urls", "about")  # of a File, what changes nothing that is extracted


def fetch(source: Source, folder: Path, data_root: Path | None, check: bool = True) -> dict[str, Any]:
    """Make a data set complete and say where it is: {root, how, files: name -> sha256}.

    Args:
        source: what is distributed, and what must exist afterwards.
        folder: results/raw/{source}; archives that a user put into its `archives/` are verified and used.
        data_root: folder with a user's own copies; a copy found there is used where it is.
        check: refuse an own copy in which a file has another digest than the published one.

    Raises UserError that says which file is missing or wrong, and what to do.
    """
    if data_root:
        if not data_root.is_dir():
            raise UserError(f"data_root: there is no folder {data_root}")
        if found := source.copy_in(data_root):
            logger.info("%s: using the copy in %s", source.name, found)
            return {"root": str(found), "how": "own copy", "files": _checked(source, found, check)}
        logger.warning("%s: no copy in %s", source.name, ", ".join(map(str, source.places(data_root))))
    extracted, partial, mark = folder / "files", folder / ".files.part", folder / "extracted"
    archives = folder / "archives"
    if not (mark.is_file() and mark.read_text().strip() == _content(source) and not source.missing(extracted)):
        _by_hand(source, archives, data_root)
        whole = all((archives / file.name).is_file() for file in source.files)
        if data_root and not whole and (told := source.pickled_copy(data_root)):
            raise UserError(told)
        _room(source, folder)
        shutil.rmtree(partial, ignore_errors=True)
        fetched = [(_obtain(source, file, archives), file) for file in source.files]
        partial.mkdir(parents=True)
        for path, file in fetched:
            logger.info("%s: unpacking %s", source.name, file.name)
            extract(path, partial / file.to, file, Limit.of(path, source.size))
        if missing := source.missing(partial):
            raise UserError(
                f"{source.name}: its files do not hold {missing[0]}; this is another version of the data set"
            )
        shutil.rmtree(extracted, ignore_errors=True)
        partial.replace(extracted)
        with atomic(mark) as part:
            part.write_text(f"{_content(source)}\n")
    digests = {file.name: _noted(archives / file.name) for file in source.files}
    return {"root": str(extracted.resolve()), "how": "download", "files": digests}


def _content(source: Source) -> str:
    """Digest of all that decides what is extracted: another one of a file, or another place, extracts anew."""
    kept = [{key: value for key, value in asdict(file).items() if key not in AROUND} for file in source.files]
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _checked(source: Source, place: Path, check: bool) -> dict[str, str]:
    """SHA-256 of the files in a user's copy whose digest is published: those that are no archives, so mostly tables.

    With `check` raises UserError for one that is another.
    """
    found = {}
    for file in (*source.inside, *(file for file in source.files if not is_archive(file.name))):
        path = place / file.to / file.name
        if path.is_file() and web.is_published(file):
            known = web.digests(path, file)
            if check and (wrong := web.difference(file, known)):
                raise UserError(
                    f"{source.name}: {path} {wrong}: it was changed, cut off or is another version; get it again, or "
                    "accept it with check_sizes: false"
                )
            found[file.name] = known["sha256"]
    return found


def _by_hand(source: Source, archives: Path, data_root: Path | None) -> None:
    """Raises UserError that names every file which only the user can get, and where copies were looked for."""
    files = [file for file in source.files if not file.urls and not (archives / file.name).is_file()]
    if not files:
        return
    looked = ""
    for place in source.places(data_root) if data_root else ():
        missing = source.missing(place)
        looked += f" {place}: {'no such folder' if not place.is_dir() else f'no {missing[0]}'}."
    put = " and ".join(file.name for file in files)
    raise UserError(
        f"{source.name} cannot be downloaded without you. {source.by_hand} Put {put} into {archives}/, or name the "
        f"folder of your own copy under data_root (it must hold {', '.join(source.needs)})."
        f"{f' Looked at{looked}' if looked else ''}"
    )


def _obtain(source: Source, file: File, archives: Path) -> Path:
    """A verified file in the folder of archives, downloaded where it is not there."""
    path = archives / file.name
    if path.is_file():
        noted = path.with_name(f"{path.name}.sha256")
        changed = max(path.stat().st_mtime_ns, path.stat().st_ctime_ns)  # a moved file keeps its mtime
        against = noted.read_text().splitlines()[1:] if noted.is_file() else []
        if against == [_published(file)] and noted.stat().st_mtime_ns >= changed:
            return path  # verified before, and not changed since
        found = web.digests(path, file)
        if wrong := web.difference(file, found):
            bad = path.with_name(f"{path.name}.wrong")
            path.replace(bad)
            noted.unlink(missing_ok=True)
            then = "rerun to fetch it" if file.urls else f"put the right one at {path}"
            raise UserError(
                f"{source.name}: {file.name} {wrong}: it was cut off or is another version. It was moved to {bad}; "
                f"{then}"
            )
    else:
        logger.info("%s: fetching %s", source.name, file.name)
        found = web.download(file, path, spare=source.size, hint=source.by_hand)
    _note(source, file, path, found["sha256"])
    return path


def _note(source: Source, file: File, path: Path, found: str) -> None:
    """Keep a file's digest beside it. Raises UserError when nobody publishes one and it was another one before."""
    if not web.is_published(file):
        if _noted(path) not in ("", found):
            raise UserError(
                f"{source.name}: {path} is not what was first fetched (sha256 {found}, noted is {_noted(path)}); "
                f"restore it, or delete it and its digest {path.name}.sha256 to take the new one"
            )
        logger.warning("%s: nobody publishes a digest of %s; noted sha256 %s", source.name, file.name, found)
    with atomic(path.with_name(f"{path.name}.sha256")) as partial:
        partial.write_text(f"{found}  {path.name}\n{_published(file)}\n")


def _published(file: File) -> str:
    """What a file was checked against, as a comment in the file of its digest."""
    return f"# {file.sha256} {file.md5} {file.git_blob}"


def _noted(path: Path) -> str:
    """SHA-256 of a file as it was last verified; '' where it never was."""
    noted = path.with_name(f"{path.name}.sha256")
    return (noted.read_text().split() or [""])[0] if noted.is_file() else ""


def _room(source: Source, folder: Path) -> None:
    """Raises UserError unless what is still to be fetched and extracted fits on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = [file.bytes - _have(folder / "archives" / file.name) for file in source.files]
    needed = sum(max(0, size) for size in sizes) + source.unpacked
    web.room(folder, needed, source.name)


def _have(path: Path) -> int:
    partial = path.with_name(f"{path.name}.part")
    return max((p.stat().st_size for p in (path, partial) if p.is_file()), default=0)
