"""Archives: safely extracted, whole or not at all."""

import base64
import gzip
import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from surefoot import unpack
from surefoot.download import fetch
from surefoot.files import UserError
from surefoot.sources import File
from surefoot.unpack import Limit, extract
from tests.download.hosting import Host, digest, packed, source, zipped


def test_archives_are_unpacked(host: Host, tmp_path: Path) -> None:
    members = {"top/a/1.txt": b"one", "top/b/2.txt": b"two"}
    for name, content in (("x.tar.gz", packed(members)), ("x.tar", packed(members, "w")), ("x.zip", zipped(members))):
        host.files[f"/{name}"] = content
        found = fetch(source(host, name, ("in/a/1.txt",), to="in", strip=1), tmp_path / name, None)
        assert Path(found["root"], "in/b/2.txt").read_bytes() == b"two"
    host.files["/y.csv.gz"] = gzip.compress(b"a,b\n")
    found = fetch(source(host, "y.csv.gz", ("y.csv",)), tmp_path / "y", None)
    assert Path(found["root"], "y.csv").read_bytes() == b"a,b\n"
    host.files["/z.zip"] = zipped({"n01.tar": packed({"1.txt": b"in"}, "w")})
    for inner, place in (("beside", "1.txt"), ("folder", "n01/1.txt")):
        found = fetch(source(host, "z.zip", (place,), inner=inner), tmp_path / inner, None)
        assert Path(found["root"], place).read_bytes() == b"in" and not Path(found["root"], "n01.tar").exists()


@pytest.mark.fault(
    "data set",
    "an archive holds paths that lead out of its folder",
    "refused; nothing is written outside",
)
@pytest.mark.parametrize("name", ["../out.txt", "{absolute}/out.txt", "a/../../out.txt"])
def test_members_that_leave_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    name = name.format(absolute=tmp_path)
    for suffix, content in (("tar", packed({name: b"x"}, "w")), ("zip", zipped({name: b"x"}))):
        path = tmp_path / f"bad.{suffix}"
        path.write_bytes(content)
        to = tmp_path / suffix / "files"
        with pytest.raises(UserError, match="would be written elsewhere"):
            extract(path, to, File(path.name))
    assert not list(tmp_path.rglob("out.txt"))


def with_link(path: Path, kind: bytes, name: str, target: str) -> Path:
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("top/real.txt")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"real"))
        link = tarfile.TarInfo(name)
        link.type, link.linkname = kind, target
        archive.addfile(link)
    return path


@pytest.mark.parametrize("target", ["../../secret", "/etc/hostname", "later.txt"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_links_to_what_an_archive_does_not_hold_are_refused(kind: bytes, target: str, tmp_path: Path) -> None:
    path = with_link(tmp_path / "bad.tar", kind, "top/link", target)
    with pytest.raises(UserError, match="which it does not hold" if target == "later.txt" else "written elsewhere"):
        extract(path, tmp_path / "files", File("bad.tar"))


@pytest.mark.parametrize(("kind", "target"), [(tarfile.SYMTYPE, "real.txt"), (tarfile.LNKTYPE, "top/real.txt")])
def test_links_within_an_archive_become_files(kind: bytes, target: str, tmp_path: Path) -> None:
    path = with_link(tmp_path / "good.tar", kind, "top/link.txt", target)
    extract(path, tmp_path / "files", File("good.tar", strip=1))
    link = tmp_path / "files/link.txt"
    assert link.read_bytes() == b"real" and not link.is_symlink()


@pytest.mark.fault(
    "data set",
    "an archive holds links out of it, or devices",
    "refused",
)
def test_links_and_devices_in_archives_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr(link, "/etc/hostname")
    device = tarfile.TarInfo("pipe")
    device.type = tarfile.FIFOTYPE
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        archive.addfile(device)
    for name in ("bad.zip", "bad.tar"):
        with pytest.raises(UserError, match="neither file nor folder"):
            extract(tmp_path / name, tmp_path / "files", File(name))


@pytest.mark.fault(
    "data set",
    "an archive unpacks to more than it says (zip bomb)",
    "stopped",
)
@pytest.mark.parametrize("name", ["bomb.tar.gz", "bomb.zip", "bomb.bin.gz"])
def test_an_archive_that_swells_is_stopped(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "LEAST", 2**20)
    path, zeros = tmp_path / name, bytes(8 * 2**20)
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros", zeros)
    else:
        path.write_bytes(packed({"zeros": zeros}) if "tar" in name else gzip.compress(zeros))
    with pytest.raises(UserError, match="many times larger"):
        extract(path, tmp_path / "files", File(name))
    assert sum(p.stat().st_size for p in (tmp_path / "files").rglob("*") if p.is_file()) <= 2**20
    extract(path, tmp_path / "again", File(name), Limit.of(path, size=len(zeros)))  # so large is the data set


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "x.zip", "x.csv.gz", "x.tar"])
def test_damage_is_told(name: str, tmp_path: Path) -> None:
    noise = bytes(i * i * 7 % 251 for i in range(60_000))
    content = {"zip": lambda: zipped_small(noise), "csv": lambda: gzip.compress(noise)}
    whole = content.get(name.split(".")[1], lambda: packed({"a.txt": noise}, "w" if name == "x.tar" else "w:gz"))()
    middle = len(whole) // 2
    broken = (
        (whole[:middle], whole[:middle] + bytes(64) + whole[middle + 64 :]) if name != "x.tar" else (whole[:middle],)
    )
    for content in (*broken, b"<html>no archive</html>"):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be unpacked"):
            extract(path, tmp_path / "files", File(name))


def zipped_small(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", content)
    return out.getvalue()


def test_only_archives_are_unpacked(host: Host, tmp_path: Path) -> None:
    """An .npz is a zip, and a file of zeros looks like an empty tar; both are data."""
    for name, content in (("test.npz", zipped({"x.npy": b"1"})), ("zeros.bin", bytes(4096))):
        host.files[f"/{name}"] = content
        found = fetch(source(host, name, (name,)), tmp_path / name, None)
        assert Path(found["root"], name).read_bytes() == content


def test_what_macos_adds_is_left_out(tmp_path: Path) -> None:
    members = {"a/1.jpg": b"1", "a/._1.jpg": b"x", "a/.DS_Store": b"x", "__MACOSX/a/1.jpg": b"x"}
    for name, content in (("x.zip", zipped(members)), ("x.tar", packed(members, "w"))):
        (tmp_path / name).write_bytes(content)
        extract(tmp_path / name, tmp_path / f"{name}.out", File(name))
        found = [p for p in (tmp_path / f"{name}.out").rglob("*") if p.is_file()]
        assert found == [tmp_path / f"{name}.out/a/1.jpg"]


# A zip of one file `a/secret.txt` (b"hello encrypted\n"), encrypted by Info-ZIP with the password "open sesame".
ENCRYPTED = (
    "UEsDBAoACQAAAKkRel3ZlW0hHAAAABAAAAAMAAAAYS9zZWNyZXQudHh0aXYTNLCE+S6B54wEj/hAQtfQ4zv0ARIBgiAkY1BLBwjZ"
    "lW0hHAAAABAAAABQSwECHgMKAAkAAACpEXpd2ZVtIRwAAAAQAAAADAAAAAAAAAABAAAApIEAAAAAYS9zZWNyZXQudHh0UEsFBgAA"
    "AAABAAEAOgAAAFYAAAAAAA=="
)


@pytest.mark.parametrize("tool", [True, False])
def test_encrypted_zips_need_their_password(tool: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if tool and not shutil.which("unzip"):
        pytest.skip("no unzip here")
    if not tool:
        monkeypatch.setattr(unpack.shutil, "which", lambda name: None)
    path = tmp_path / "x.zip"
    path.write_bytes(base64.b64decode(ENCRYPTED))
    extract(path, tmp_path / "files", File("x.zip", password="open sesame"))
    assert (tmp_path / "files/a/secret.txt").read_bytes() == b"hello encrypted\n"
    for password, match in (("", "its password is not known"), ("wrong", "cannot be unpacked: .*")):
        with pytest.raises(UserError, match=match):
            extract(path, tmp_path / "other", File("x.zip", password=password))


@pytest.mark.fault(
    "data set",
    "an archive is damaged",
    "told; no half-unpacked folder is taken for a data set",
)
def test_a_damaged_archive_leaves_nothing_half_done(host: Host, tmp_path: Path) -> None:
    whole = packed({f"{i}.txt": bytes(1000) for i in range(50)}, "w")
    host.files["/x.tar"] = whole[:-30_000]
    with pytest.raises(UserError, match=r"cannot be unpacked|do not hold"):
        fetch(source(host, "x.tar", ("49.txt",)), tmp_path / "toy", None)
    assert not (tmp_path / "toy/files").exists()


def test_another_digest_or_place_extracts_anew(host: Host, tmp_path: Path) -> None:
    host.files["/x.tar"] = packed({"top/a.txt": b"a"}, "w")
    fetch(source(host, "x.tar", ("top/a.txt",)), tmp_path / "toy", None)
    fetch(source(host, "x.tar", ("a.txt",), strip=1), tmp_path / "toy", None)
    assert not (tmp_path / "toy/files/top").exists() and len(host.asked) == 1
    with pytest.raises(UserError, match=r"x\.tar has sha256 .*rerun to fetch it"):
        fetch(source(host, "x.tar", ("a.txt",), strip=1, sha256=digest(b"new")), tmp_path / "toy", None)
    assert (tmp_path / "toy/files/a.txt").exists(), "the old one stays until the new one is complete"


def test_an_archive_may_be_deleted_once_it_is_unpacked(host: Host, tmp_path: Path) -> None:
    host.files["/x.tar"] = packed({"a.txt": b"a"}, "w")
    first = fetch(source(host, "x.tar", ("a.txt",)), tmp_path / "toy", None)
    (tmp_path / "toy/archives/x.tar").unlink()
    assert fetch(source(host, "x.tar", ("a.txt",)), tmp_path / "toy", None) == first and len(host.asked) == 1


def test_an_array_file_that_is_a_zip_inside_stays_a_file(host: Host, tmp_path: Path) -> None:
    packed = io.BytesIO()
    np.savez(packed, labels=np.arange(3))
    host.files["/a.npz"] = packed.getvalue()
    found = Path(fetch(source(host, "a.npz", ("a.npz",)), tmp_path, None)["root"])
    assert np.array_equal(np.load(found / "a.npz")["labels"], np.arange(3))
