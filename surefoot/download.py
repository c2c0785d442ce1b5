"""Getting published data sets: a user's copy where it is, or the makers' files, verified and safely extracted.

Standard library and tqdm only. A killed download goes on where it stopped; a killed extraction starts again; what is
complete is never fetched twice.
"""

import gzip
import hashlib
import json
import logging
import os
import shutil
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from surefoot.files import UserError, atomic
from surefoot.sources import File, Source

logger = logging.getLogger(__name__)

BLOCK = 2**20
TRIES, WAIT = 5, 2.0  # per address; seconds before the second try, doubled each time
TIMEOUT = 60
SPARE = 2**28  # bytes that must stay free
TOKEN_HOST, TOKEN = "huggingface.co", "HF_TOKEN"


def fetch(source: Source, folder: Path, data_root: Path | None) -> dict[str, Any]:
    """Make a data set complete and say where it is: {root, how, files: name -> sha256}.

    Args:
        source: what is distributed, and what must exist afterwards.
        folder: results/raw/{source}; archives that a user put there are verified and used.
        data_root: folder with a user's own copies; a copy found there is used where it is.

    Raises UserError that says which file is missing or wrong, and what to do.
    """
    if data_root and (found := _own_copy(source, data_root)):
        logger.info("%s: using the copy in %s", source.name, found)
        return {"root": str(found), "how": "own copy", "files": {}}
    extracted = folder / "files"
    mark = folder / "extracted"
    archives = folder / "archives"
    wanted = _wanted(source.files)
    if not (mark.is_file() and mark.read_text() == wanted and not _missing(source, extracted)):
        _room(source, folder)
        shutil.rmtree(extracted.with_name(".files.part"), ignore_errors=True)
        fetched = {file.name: (_obtain(source, file, archives), file) for file in source.files}
        partial = extracted.with_name(".files.part")
        partial.mkdir(parents=True)
        for path, file in fetched.values():
            extract(path, partial / file.to, file)
            if file.inner:
                _extract_inner(partial / file.to, file.inner == "folder")
        if missing := _missing(source, partial):
            raise UserError(
                f"{source.name}: its files do not hold {missing[0]}; this is another version of the data set"
            )
        shutil.rmtree(extracted, ignore_errors=True)
        partial.replace(extracted)
        with atomic(mark) as part:
            part.write_text(wanted)
    digests = {file.name: _noted(archives / file.name) for file in source.files}
    return {"root": str(extracted.resolve()), "how": "download", "files": digests}


def _wanted(files: tuple[File, ...]) -> str:
    """What decides the bytes of files and where they are put: what was made for another one is made again."""
    return json.dumps([{**asdict(file), "urls": ()} for file in files], sort_keys=True) + "\n"


def _own_copy(source: Source, data_root: Path) -> Path | None:
    """A user's complete copy; None where there is none. Raises UserError for one that is incomplete."""
    if not data_root.is_dir():
        raise UserError(f"data_root: there is no folder {data_root}")
    looked = [data_root / name for name in source.folders]
    for place in looked:
        if place.is_dir() and not _missing(source, place):
            return place.resolve()
    for place in looked:
        missing = _missing(source, place)
        if place != data_root and place.is_dir() and any(place.iterdir()) and len(missing) < len(source.needs):
            raise UserError(f"{source.name}: {place} is incomplete, {missing[0]} is missing; complete it or remove it")
    logger.info("%s: no copy in %s", source.name, ", ".join(map(str, looked)))
    return None


def _missing(source: Source, place: Path) -> list[str]:
    return [path for path in source.needs if not (place / path).exists()]


def _obtain(source: Source, file: File, archives: Path) -> Path:
    """A verified file in the folder of archives, downloaded where it is not there."""
    path = archives / file.name
    if not path.is_file():
        if not file.urls:
            raise UserError(
                f"{source.name} cannot be downloaded without you. {source.by_hand} Put {file.name} at {path}, or name "
                f"the folder of your own copy under data_root (it must hold {', '.join(source.needs)})"
            )
        _download(source, file, path)
    _verify(source, file, path)
    return path


def _verify(source: Source, file: File, path: Path) -> None:
    """Check a file against its published digests, or against the one noted when it was first seen."""
    noted = path.with_name(f"{path.name}.sha256")
    known, *against = noted.read_text().splitlines() if noted.is_file() else [""]
    published = file.sha256 or file.md5 or file.git_blob
    wanted = f"# {file.sha256} {file.md5} {file.git_blob}"
    if against == [wanted] and noted.stat().st_mtime_ns >= path.stat().st_mtime_ns:
        return  # verified before, and not changed since
    digests = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    digests["git_blob"] = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with (
        path.open("rb") as stream,
        tqdm(total=path.stat().st_size, unit="B", unit_scale=True, desc=f"verify {file.name}") as bar,
    ):
        while block := stream.read(BLOCK):
            for digest in digests.values():
                digest.update(block)
            bar.update(len(block))
    for kind, digest in digests.items():
        wanted = getattr(file, kind)
        if wanted and digest.hexdigest() != wanted:
            bad = path.with_name(f"{path.name}.wrong")
            path.replace(bad)
            noted.unlink(missing_ok=True)
            raise UserError(
                f"{source.name}: {file.name} has {kind} {digest.hexdigest()}, not {wanted}: it was cut off or is "
                f"another version. It was moved to {bad}; rerun to fetch it again"
            )
    found = digests["sha256"].hexdigest()
    if known and known.split()[0] != found and not published:
        raise UserError(
            f"{source.name}: {path} has changed since it was first fetched (sha256 {found}); delete it and its digest "
            f"{noted.name} to fetch it again"
        )
    if not published:
        logger.warning("%s: nobody publishes a digest of %s; noted sha256 %s", source.name, file.name, found)
    with atomic(noted) as partial:
        partial.write_text(f"{found}  {path.name}\n{wanted}\n")


def _noted(path: Path) -> str:
    noted = path.with_name(f"{path.name}.sha256")
    return noted.read_text().split()[0] if noted.is_file() else ""


def _download(source: Source, file: File, path: Path) -> None:
    """Fetch a file from the first of its addresses that works, going on with what an earlier try left."""
    for url in file.urls:
        if url.startswith("http://") and not (file.sha256 or file.md5 or file.git_blob):
            raise UserError(
                f"{source.name}: {file.name} comes without TLS and has no published digest; fetch it by hand"
            )
    problems = []
    for url in file.urls:
        for number in range(TRIES):
            try:
                _receive(url, path, file.size)
                return
            except UserError:
                raise
            except (OSError, ValueError, urllib.error.URLError) as error:
                if getattr(error, "errno", None) in (28, 30, 122):  # disk full, read-only, quota
                    raise UserError(f"cannot write {path}: {error}; free space, then rerun") from None
                reason = getattr(error, "reason", error)
                problems.append(f"{_shown(url)}: {reason}")
                logger.warning("try %d of %s failed: %s", number + 1, _shown(url), reason)
                if getattr(error, "code", 0) in (401, 403, 404, 410):
                    break
                time.sleep(WAIT * 2**number)
    raise UserError(
        f"{source.name}: {file.name} cannot be downloaded ({problems[-1]}). Check the network and rerun, which goes on "
        f"where it stopped, or put the file at {path} by other means. {source.by_hand}"
    )


def _receive(url: str, path: Path, size: int) -> None:
    """One try: append what is missing to the partial file, and rename it when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    have = partial.stat().st_size if partial.is_file() else 0
    if size and have >= size:
        partial.unlink() if have > size else partial.replace(path)
        have = 0 if have > size else size
        if have == size:
            return
    request = urllib.request.Request(url, headers={"User-Agent": "surefoot"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    if (token := os.environ.get(TOKEN)) and urllib.parse.urlsplit(url)[:2] == ("https", TOKEN_HOST):
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the partial file is no part of what is there
            raise
        partial.unlink()
        raise ConnectionError("the partial file does not fit; starting again") from None
    with answer:
        if url.startswith("https:") and not answer.url.startswith("https:"):
            raise UserError(f"{_shown(url)} leads to an address without TLS; fetch {path.name} by hand to {path}")
        if answer.status != 206:
            have = 0
        rest = int(answer.headers.get("Content-Length") or 0)
        total = have + rest if rest else size or None
        with (
            partial.open("ab" if have else "wb") as out,
            tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=path.name) as bar,
        ):
            while block := answer.read(BLOCK):
                out.write(block)
                bar.update(len(block))
    if total and partial.stat().st_size != total:
        raise ConnectionError(f"the connection ended after {partial.stat().st_size} of {total} bytes")
    partial.replace(path)


def _shown(url: str) -> str:
    """An address without credentials, for messages."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def extract(path: Path, to: Path, file: File) -> None:
    """Unpack an archive (tar of any kind, zip, or one gzipped file) into a folder, or copy a plain file there.

    Raises UserError for members that would leave the folder, and for a damaged archive.
    """
    to.mkdir(parents=True, exist_ok=True)
    try:
        if tarfile.is_tarfile(path):
            _untar(path, to, file.strip)
        elif zipfile.is_zipfile(path) and path.suffix != ".npz":  # arrays, which are read as they are
            _unzip(path, to, file)
        elif path.suffix == ".gz":
            with gzip.open(path) as packed, (to / path.stem).open("wb") as out:
                shutil.copyfileobj(packed, out, BLOCK)
        else:
            _link(path, to / path.name)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, gzip.BadGzipFile, RuntimeError) as error:
        raise UserError(f"{path} cannot be unpacked: {error}; delete it and rerun to fetch it again") from None


def _extract_inner(place: Path, own_folder: bool) -> None:
    """Unpack and delete the archives that an archive held, beside themselves or each into a folder of its name."""
    for path in sorted(place.rglob("*")):
        if path.is_file() and (tarfile.is_tarfile(path) or zipfile.is_zipfile(path)):
            extract(path, path.with_suffix("") if own_folder else path.parent, File(path.name))
            path.unlink()


def _link(path: Path, target: Path) -> None:
    try:
        target.hardlink_to(path)
    except OSError:  # not every file system has links
        shutil.copyfile(path, target)


def _untar(path: Path, to: Path, strip: int) -> None:
    def checked(member: tarfile.TarInfo, place: str) -> tarfile.TarInfo | None:
        name = "/".join(Path(member.name).parts[strip:]) if strip else member.name
        if not name or name == ".":
            return None
        if strip and (member.islnk() or member.issym()):
            raise tarfile.FilterError(member, "a link in an archive whose leading folders are dropped")
        return tarfile.data_filter(member.replace(name=name, deep=False), place)

    with tarfile.open(path) as archive:
        for member in tqdm(archive, desc=f"unpack {path.name}", unit="files"):
            archive.extract(member, to, filter=checked)


def _unzip(path: Path, to: Path, file: File) -> None:
    with zipfile.ZipFile(path) as archive:
        for member in tqdm(archive.infolist(), desc=f"unpack {path.name}", unit="files"):
            parts = Path(member.filename.replace("\\", "/")).parts
            if member.filename.startswith(("/", "\\")) or ".." in parts or (member.external_attr >> 28) == 0xA:
                raise zipfile.BadZipFile(f"its member {member.filename!r} would be written elsewhere")
            if member.is_dir() or not parts[file.strip :]:
                continue
            target = to.joinpath(*parts[file.strip :])
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member, pwd=file.password.encode() or None) as packed, target.open("wb") as out:
                shutil.copyfileobj(packed, out, BLOCK)


def _room(source: Source, folder: Path) -> None:
    """Raises UserError unless what is still to be fetched and extracted fits on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    archives = folder / "archives"
    sizes = [file.size - _have(archives / file.name) for file in source.files]
    needed = sum(max(0, size) for size in sizes) + (source.size or sum(file.size for file in source.files))
    free = shutil.disk_usage(folder).free
    if needed + SPARE > free:
        raise UserError(
            f"{source.name} needs {needed / 1e9:.1f} GB below {folder}, where {free / 1e9:.1f} GB are free; free "
            "space, or name the folder of your own copy under data_root"
        )


def _have(path: Path) -> int:
    partial = path.with_name(f"{path.name}.part")
    return max((p.stat().st_size for p in (path, partial) if p.is_file()), default=0)
