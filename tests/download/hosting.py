"""A server of files, and what it serves."""

import hashlib
import io
import tarfile
import zipfile
from dataclasses import dataclass, field

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
