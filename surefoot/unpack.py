"""Archives into folders, safely: nothing is written outside, no link is made, and no archive may fill the disk.

Only regular files are written, by this module itself: tarfile's own `data` filter follows links that an archive made
before, which several of its published flaws go back to. Standard library and tqdm only.
"""

import gzip
import lzma
import os
import posixpath
import shutil
import stat
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from surefoot.files import UNWRITABLE, UserError
from surefoot.sources import File

BLOCK = 2**20
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
# An archive may unpack to so many times its own or its data set's size; real ones stay below 2, bombs reach 1000.
SWELL, LEAST = 10, 2**30
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


@dataclass
class Limit:
    """Bytes that may still be written."""

    left: int

    @classmethod
    def of(cls, archive: Path, size: int = 0) -> "Limit":
        """What an archive of a data set of `size` bytes (0: not known) may take."""
        return cls(max(LEAST, SWELL * max(size, archive.stat().st_size)))

    def take(self, count: int) -> None:
        """Raises RuntimeError when more is asked for than is left."""
        self.left -= count
        if self.left < 0:
            raise RuntimeError("it would become many times larger than its data set is")


def is_archive(name: str) -> bool:
    """Whether a file is unpacked: told by its name, as an .npz is a zip and any file may look like a tar."""
    return name.lower().endswith((*TARS, ".zip", ".gz"))


def extract(path: Path, to: Path, file: File, limit: Limit | None = None) -> None:
    """Unpack an archive (tar of any kind, zip, or one gzipped file) into a folder, or link a plain file there.

    Raises UserError for members that would leave the folder, links to what is not in the archive, encrypted members
    without the right password, an archive that swells beyond `limit`, a damaged one, and a full disk.
    """
    name, limit = file.name.lower(), limit or Limit.of(path)
    try:
        to.mkdir(parents=True, exist_ok=True)
        if name.endswith(TARS):
            _untar(path, to, file.strip, limit)
        elif name.endswith(".zip"):
            _unzip(path, to, file, limit)
        elif name.endswith(".gz"):
            with gzip.open(path) as packed:
                _write(packed, to / path.stem, limit)
        else:
            _link(path, to / path.name)
        if file.inner:
            _extract_inner(to, file.inner == "folder", limit)
    except DAMAGE as error:
        raise UserError(
            f"{path} cannot be unpacked: {error}. If it is damaged, delete it and rerun; else unpack it yourself and "
            "name the folder under data_root"
        ) from None
    except OSError as error:
        if error.errno in UNWRITABLE:
            raise UserError(f"cannot write below {to}: {error}; free space or mend permissions, then rerun") from None
        raise UserError(f"{path} cannot be unpacked: {error}; delete it and rerun to fetch it again") from None


def _write(packed: IO[bytes], target: Path, limit: Limit) -> None:
    with target.open("wb") as out:
        while block := packed.read(BLOCK):
            limit.take(len(block))
            out.write(block)


def _place(name: str, strip: int) -> PurePosixPath | None:
    """Where a member goes, without its leading folders; None: nowhere. Raises RuntimeError if it would leave."""
    whole = PurePosixPath(name)
    if whole.is_absolute() or ".." in whole.parts or "\0" in name:
        raise RuntimeError(f"its member {name!r} would be written elsewhere")
    # What macOS adds is no data, and would be counted as images.
    if "__MACOSX" in whole.parts or whole.name == ".DS_Store" or whole.name.startswith("._"):
        return None
    return PurePosixPath(*whole.parts[strip:]) if len(whole.parts) > strip else None


def _untar(path: Path, to: Path, strip: int, limit: Limit) -> None:
    with tarfile.open(path) as archive:
        for member in tqdm(archive, desc=f"unpack {path.name}", unit="files", disable=None):
            place = _place(member.name, strip)
            if place is None:
                continue
            target = to / place
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # as tar does with a repeated member; and its hard links keep their content
            if member.isreg():
                with archive.extractfile(member) as packed:
                    _write(packed, target, limit)
            elif member.islnk() or member.issym():
                beside = posixpath.dirname(member.name) if member.issym() else ""
                origin = _place(posixpath.normpath(posixpath.join(beside, member.linkname)), strip)
                if origin is None or not (to / origin).is_file():
                    raise RuntimeError(
                        f"its member {member.name!r} links to {member.linkname!r}, which it does not hold"
                    )
                _link(to / origin, target)
            else:
                raise RuntimeError(f"its member {member.name!r} is neither file nor folder")


def _unzip(path: Path, to: Path, file: File, limit: Limit) -> None:
    with zipfile.ZipFile(path) as archive:
        members = list(_files_of_zip(archive, file))
        if any(member.flag_bits & 1 for member, _ in members):
            if not file.password:
                raise RuntimeError("it is encrypted and its password is not known")
            # Python decrypts about a megabyte a second: a day and more for ObjectNet.
            if shutil.which("unzip") and not file.strip:
                limit.take(sum(member.file_size for member, _ in members))
                return _unzip_encrypted(path, to, file.password)
        for member, place in tqdm(members, desc=f"unpack {path.name}", unit="files", disable=None):
            (to / place).parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member, pwd=file.password.encode() or None) as packed:
                _write(packed, to / place, limit)
    return None


def _files_of_zip(archive: zipfile.ZipFile, file: File) -> Iterator[tuple[zipfile.ZipInfo, PurePosixPath]]:
    for member in archive.infolist():
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise RuntimeError(f"its member {member.filename!r} is neither file nor folder")
        place = _place(member.filename.replace("\\", "/"), file.strip)
        if place is not None and not member.is_dir():
            yield member, place


def _unzip_encrypted(path: Path, to: Path, password: str) -> None:
    """By Info-ZIP's unzip, once the members have been checked; the password is one that its makers publish."""
    command = ["unzip", "-q", "-o", "-P", password, str(path.resolve()), "-d", str(to.resolve())]
    # A data set of this size looks like a bomb to it.
    settings = {**os.environ, "UNZIP_DISABLE_ZIPBOMB_DETECTION": "TRUE"}
    done = subprocess.run(command, env=settings, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode > 1:  # 1: warnings
        said = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(f"unzip says {said[-1] if said else done.returncode}")


def _extract_inner(place: Path, own_folder: bool, limit: Limit) -> None:
    """Unpack and delete the archives that an archive held, beside themselves or each into a folder of its name."""
    for path in sorted(p for p in place.rglob("*") if p.is_file() and is_archive(p.name)):
        ending = next(end for end in (*TARS[::-1], ".zip", ".gz") if path.name.lower().endswith(end))
        own = path.with_name(path.name[: -len(ending)])
        extract(path, own if own_folder else path.parent, File(path.name), limit)
        path.unlink()


def _link(path: Path, target: Path) -> None:
    """A second name of a file's content."""
    try:
        target.hardlink_to(path.resolve())
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(path, target)
