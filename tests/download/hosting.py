"""A server of files, and what it serves."""

import gzip
import hashlib
import io
import tarfile
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path

from surefoot.sources import File, Source

CONTENT = bytes(range(256)) * 4000


@dataclass
class Host:
    """A server of files; `cut` ends the first answers after so many bytes, `ranges` says whether it can go on, `codes`
    come first, `moved` redirects paths, `version` is an ETag."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)
    ranges: bool = True
    codes: list[int] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)
    version: str = ""
    kind: str = "application/octet-stream"
    sized: bool = True
    astray: int = 0
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    url: str = ""


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def source(host: Host, name: str = "data.bin", needs: tuple[str, ...] = ("data.bin",), **how: object) -> Source:
    sha = {} if "sha256" in how or "md5" in how else {"sha256": digest(host.files[f"/{name}"])}
    return Source("toy", (File(name, (f"{host.url}/{name}",), **sha, **how),), needs, ("toy", "."), "none")


def packed(members: dict[str, bytes], mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def distributed(known: Source, root: Path, host: Host) -> Source:
    """A data set as its makers distribute it, but with the files of a folder, packed and put on the host."""
    own = [root / file.to for file in known.files if file.to != "."]
    files = []
    for file in known.files:
        content = _content(file, root / file.to, [folder for folder in own if folder != root / file.to])
        host.files[f"/{known.name}/{file.name}"] = content
        url = f"{host.url}/{known.name}/{file.name}"
        files.append(replace(file, urls=(url,), sha256=digest(content), md5="", git_blob="", size=len(content)))
    return replace(known, files=tuple(files), size=0)


def _content(file: File, folder: Path, others: list[Path]) -> bytes:
    """A file that holds a folder, but for the folders that other files hold."""
    if not file.name.endswith((".zip", ".tgz", ".tar.gz")):
        content = (folder / file.name.removesuffix(".gz")).read_bytes()
        return gzip.compress(content, mtime=0) if file.name.endswith(".gz") else content
    top = "top/" * file.strip
    members = {
        f"{top}{path.relative_to(folder)}": path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(path.is_relative_to(other) for other in others)
    }
    return zipped(members) if file.name.endswith(".zip") else packed(members)
