"""Downloads against a local server: resumed, verified, safely extracted; and a user's own copies."""

import base64
import gzip
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from surefoot import unpack, web
from surefoot.download import fetch
from surefoot.files import UserError
from surefoot.fingerprint import ROOT
from surefoot.sources import File, Source
from surefoot.unpack import Limit, extract

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


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    state = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            span = self.headers.get("Range")
            state.asked.append((self.path, span, self.headers.get("Authorization")))
            if self.path in state.moved:
                self.send_response(302)
                self.send_header("Location", state.moved[self.path])
                self.end_headers()
                return
            content = state.files.get(self.path)
            if content is None or state.codes:
                self.send_error(state.codes.pop(0) if state.codes else 404)
                return
            same = self.headers.get("If-Range", state.version) == state.version
            start = int(span.removeprefix("bytes=").rstrip("-")) if span and state.ranges and same else 0
            if start and start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Type", state.kind)
            if start:
                self.send_header("Content-Range", f"bytes {start + state.astray}-{len(content) - 1}/{len(content)}")
            if state.sized:
                self.send_header("Content-Length", str(len(content) - start))
            if state.version:
                self.send_header("ETag", state.version)
            self.end_headers()
            behind = start + state.cut.pop(0) if state.cut else len(content)
            self.wfile.write(content[start:behind])
            self.close_connection = True

        def log_message(self, *ignored: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.setattr(web, "WAIT", 0.0)
    monkeypatch.setattr(web, "TIMEOUT", 10)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield state
    server.shutdown()
    server.server_close()
    thread.join(timeout=10)


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


def test_a_plain_file_is_fetched_once(host: Host, tmp_path: Path) -> None:
    host.files["/data.bin"] = CONTENT
    found = fetch(source(host), tmp_path / "toy", None)
    assert Path(found["root"], "data.bin").read_bytes() == CONTENT
    assert found["files"] == {"data.bin": digest(CONTENT)} and found["how"] == "download"
    assert fetch(source(host), tmp_path / "toy", None) == found and len(host.asked) == 1


@pytest.mark.fault(
    "data set",
    "a connection is cut in a download",
    "it is continued where it stopped; a host that cannot do so is asked anew",
)
@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_connection_is_continued(host: Host, tmp_path: Path, ranges: bool) -> None:
    host.files["/data.bin"], host.cut, host.ranges = CONTENT, [300_000, 200_000], ranges
    found = fetch(source(host), tmp_path / "toy", None)
    assert Path(found["root"], "data.bin").read_bytes() == CONTENT
    spans = [span for _, span, _ in host.asked]
    assert spans[0] is None and all(span for span in spans[1:]) and len(spans) == 3
    if ranges:
        assert spans[1:] == ["bytes=300000-", "bytes=500000-"]


@pytest.mark.fault(
    "data set",
    "a download is killed",
    "the next one goes on where it stopped",
)
def test_a_killed_download_goes_on(host: Host, tmp_path: Path) -> None:
    host.files["/data.bin"] = CONTENT
    partial = tmp_path / "toy/archives/data.bin.part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT[:1000])
    fetch(source(host), tmp_path / "toy", None)
    assert host.asked[0][1] == "bytes=1000-" and (tmp_path / "toy/files/data.bin").read_bytes() == CONTENT


@pytest.mark.fault(
    "data set",
    "a host sends other bytes than the published digest names",
    "refused and thrown away; the next try starts anew",
)
def test_wrong_bytes_are_refused_and_the_next_try_starts_anew(host: Host, tmp_path: Path) -> None:
    host.files["/data.bin"] = CONTENT
    wanted = source(host)
    host.files["/data.bin"] = b"something else"
    with pytest.raises(UserError, match=rf"data\.bin has sha256 {digest(b'something else')}, not {digest(CONTENT)}"):
        fetch(wanted, tmp_path / "toy", None)
    assert not (tmp_path / "toy/files").exists()
    host.files["/data.bin"] = CONTENT
    assert fetch(wanted, tmp_path / "toy", None)["files"] == {"data.bin": digest(CONTENT)}


def test_every_kind_of_digest_is_checked(host: Host, tmp_path: Path) -> None:
    host.files["/data.bin"] = b"hello\n"
    for kind, value in (
        ("md5", "b1946ac92492d2347c6235b4d2611184"),
        ("git_blob", "ce013625030ba8dba906f756967f9e9ca394464a"),  # git hash-object of hello
    ):
        file = File("data.bin", (f"{host.url}/data.bin",), **{kind: value})
        right = Source("toy", (file,), ("data.bin",), (".",), "none")
        fetch(right, tmp_path / kind, None)
        wrong = File("data.bin", file.urls, **{kind: value[:-1] + "0"})
        with pytest.raises(UserError, match=f"has {kind}"):
            fetch(Source("toy", (wrong,), ("data.bin",), (".",), "none"), tmp_path / f"{kind}-wrong", None)


@pytest.mark.fault(
    "data set",
    "a host without TLS, and no digest is known",
    "refused",
)
def test_without_tls_a_digest_is_needed(host: Host, tmp_path: Path) -> None:
    plain = Source("toy", (File("data.bin", ("http://data.invalid/data.bin",)),), ("data.bin",), (".",), "none")
    with pytest.raises(UserError, match="without TLS and has no published digest"):
        fetch(plain, tmp_path / "toy", None)
    host.files["/data.bin"], host.moved["/moved"] = CONTENT, "http://data.invalid/data.bin"
    moved = Source("toy", (File("data.bin", (f"{host.url}/moved",)),), ("data.bin",), (".",), "none")
    with pytest.raises(UserError, match="without TLS and has no published digest"):
        fetch(moved, tmp_path / "moved", None)


def test_a_digest_that_nobody_publishes_is_noted_and_checked_later(host: Host, tmp_path: Path) -> None:
    unknown = Source("toy", (File("data.bin"),), ("data.bin",), (".",), "none")
    path = tmp_path / "toy/archives/data.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert fetch(unknown, tmp_path / "toy", None)["files"] == {"data.bin": digest(CONTENT)}
    (tmp_path / "toy/extracted").unlink()
    path.unlink()
    path.write_bytes(CONTENT + b"x")
    with pytest.raises(UserError, match="is not what was first fetched"):
        fetch(unknown, tmp_path / "toy", None)


def test_missing_files_are_named(host: Host, tmp_path: Path) -> None:
    gated = Source("toy", (File("data.tar"),), ("train",), (".",), "none", by_hand="Ask its makers for an account.")
    with pytest.raises(UserError, match=r"Ask its makers .* Put data\.tar into .*toy/archives/"):
        fetch(gated, tmp_path / "toy", None)
    host.files["/data.bin"] = CONTENT
    gone = source(host)
    del host.files["/data.bin"]
    with pytest.raises(UserError, match=r"data\.bin cannot be downloaded \(http://127.*Not Found"):
        fetch(gone, tmp_path / "toy", None)
    assert len(host.asked) == 1, "what is not there is not asked for again"


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


@pytest.mark.fault(
    "disk",
    "not enough room for a download",
    "told before it starts, with the sizes",
)
def test_the_disk_must_have_room(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.files["/data.bin"] = CONTENT
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(0, 0, 10**9))
    with pytest.raises(UserError, match=r"toy needs 6\.0 GB below .*, where 1\.0 GB are free"):
        fetch(source(host, size=3 * 10**9), tmp_path / "toy", None)
    assert not host.asked


def test_a_users_copy_is_used_where_it_is(host: Host, tmp_path: Path) -> None:
    host.files["/data.bin"] = CONTENT
    wanted = source(host, needs=("train", "val"))
    own = tmp_path / "own"
    (own / "toy/train").mkdir(parents=True)
    (own / "toy/val").mkdir()
    found = fetch(wanted, tmp_path / "raw", own)
    assert found == {"root": str(own / "toy"), "how": "own copy", "files": {}} and not host.asked
    (own / "toy/val").rmdir()
    with pytest.raises(UserError, match=r"own/toy is incomplete, val is missing"):
        fetch(wanted, tmp_path / "raw", own)
    with pytest.raises(UserError, match="there is no folder"):
        fetch(wanted, tmp_path / "raw", tmp_path / "nowhere")


def test_a_token_goes_to_its_host_alone(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    host.files["/data.bin"] = CONTENT
    fetch(source(host), tmp_path / "toy", None)
    assert host.asked[0][2] is None
    file = File("data.bin", sha256=digest(CONTENT))
    asked = web._request("https://huggingface.co/old/data.bin", file)
    assert asked.get_header("Authorization") == "Bearer hf_secret"
    for place, token in (
        ("https://huggingface.co/new/data.bin", "Bearer hf_secret"),
        ("http://huggingface.co/new/data.bin", None),
        ("https://huggingface.co.elsewhere.org/data.bin", None),
        ("https://cdn.elsewhere.org/data.bin", None),
    ):
        moved = web._Redirects(file).redirect_request(asked, io.BytesIO(), 302, "Found", {}, place)
        assert moved.full_url == place and moved.get_header("Authorization") == token


@pytest.mark.fault(
    "data set",
    "a download that needs a token fails",
    "no token in any message, log or record",
)
def test_no_credential_is_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert web._shown("https://me:secret@host.org/file?token=secret") == "https://host.org/file"
    urls = ("https://me:secret@127.0.0.1:9/x", "https://127.0.0.1:9/a b?token=secret", "http://127.0.0.1:x/?secret")
    with pytest.raises(UserError, match="cannot be downloaded") as told:
        fetch(Source("toy", (File("x", urls),), ("x",), (".",), "none"), tmp_path / "toy", None)
    assert "secret" not in str(told.value) + caplog.text and "127.0.0.1" in caplog.text


def test_mirrors_are_tried_and_a_wrong_one_is_left(host: Host, tmp_path: Path) -> None:
    host.files["/good"], host.files["/bad"] = CONTENT, CONTENT[::-1]
    urls = tuple(f"{host.url}/{name}" for name in ("missing", "bad", "good"))
    file = File("data.bin", urls, sha256=digest(CONTENT))
    found = fetch(Source("toy", (file,), ("data.bin",), (".",), "none"), tmp_path / "toy", None)
    assert Path(found["root"], "data.bin").read_bytes() == CONTENT
    assert (tmp_path / "toy/archives/data.bin.wrong").read_bytes() == CONTENT[::-1]
    assert [path for path, _, _ in host.asked] == ["/missing", "/bad", "/good"]


def test_a_partial_file_of_other_bytes_is_thrown_away(host: Host, tmp_path: Path) -> None:
    host.files["/data.bin"] = CONTENT
    partial = tmp_path / "toy/archives/data.bin.part"
    partial.parent.mkdir(parents=True)
    for content in (b"other" * 100, CONTENT + b"more"):
        partial.write_bytes(content)
        fetch(source(host), tmp_path / "toy", None)
        assert (tmp_path / "toy/files/data.bin").read_bytes() == CONTENT and not partial.exists()
        (tmp_path / "toy/archives/data.bin").unlink()
        (tmp_path / "toy/extracted").unlink()


def test_a_whole_partial_file_is_not_fetched_again(host: Host, tmp_path: Path) -> None:
    host.files["/data.bin"] = CONTENT
    partial = tmp_path / "toy/archives/data.bin.part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT)
    fetch(source(host), tmp_path / "toy", None)
    assert [span for _, span, _ in host.asked] == [f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("changed", [False, True])
def test_without_a_digest_only_the_same_version_is_continued(host: Host, tmp_path: Path, changed: bool) -> None:
    host.files["/data.bin"], host.version, host.cut = CONTENT, '"one"', [1000] + [0] * web.TRIES
    unknown = source(host, sha256="")
    with pytest.raises(UserError, match="the connection ended"):
        fetch(unknown, tmp_path / "toy", None)
    host.cut = []
    if changed:
        host.files["/data.bin"], host.version = CONTENT[::-1], '"two"'
    fetch(unknown, tmp_path / "toy", None)
    assert (tmp_path / "toy/files/data.bin").read_bytes() == host.files["/data.bin"]
    assert host.asked[-1][1] == "bytes=1000-"


def test_many_cuts_are_no_reason_to_give_up_while_bytes_arrive(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "PROGRESS", 50_000)
    host.files["/data.bin"], host.cut = CONTENT, [60_000] * (3 * web.TRIES)
    fetch(source(host), tmp_path / "toy", None)
    assert (tmp_path / "toy/files/data.bin").read_bytes() == CONTENT and len(host.asked) > 3 * web.TRIES


def test_a_busy_server_is_asked_again_and_a_broken_one_not_for_ever(host: Host, tmp_path: Path) -> None:
    host.files["/data.bin"], host.codes = CONTENT, [503, 429]
    fetch(source(host), tmp_path / "toy", None)
    assert len(host.asked) == 3
    host.codes = [500] * 100
    with pytest.raises(UserError, match="500"):
        fetch(source(host), tmp_path / "other", None)
    assert len(host.asked) == 3 + web.TRIES


def test_redirects_are_followed_but_not_in_circles(host: Host, tmp_path: Path) -> None:
    host.files["/data.bin"], host.cut = CONTENT, [1000]
    host.moved = {"/a": f"{host.url}/data.bin?signature=secret", "/b": "/b"}
    host.files["/data.bin?signature=secret"] = CONTENT
    file = File("data.bin", (f"{host.url}/a",), sha256=digest(CONTENT))
    fetch(Source("toy", (file,), ("data.bin",), (".",), "none"), tmp_path / "toy", None)
    assert host.asked[-1][1] == "bytes=1000-"
    circle = File("data.bin", (f"{host.url}/b",), sha256=digest(CONTENT))
    with pytest.raises(UserError, match="cannot be downloaded") as told:
        fetch(Source("toy", (circle,), ("data.bin",), (".",), "none"), tmp_path / "circle", None)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("scheme", ["file:///etc/hostname", "ftp://data.invalid/x"])
def test_only_the_web_is_asked(host: Host, scheme: str, tmp_path: Path) -> None:
    host.moved["/x"] = scheme
    for url in (scheme, f"{host.url}/x"):
        file = File("data.bin", (url,), sha256=digest(CONTENT))
        with pytest.raises(UserError, match="cannot be downloaded"):
            fetch(Source("toy", (file,), ("data.bin",), (".",), "none"), tmp_path / "toy", None)
    assert not list(tmp_path.rglob("data.bin*"))


def test_a_web_page_or_another_size_is_not_the_file(host: Host, tmp_path: Path) -> None:
    host.files["/data.bin"], host.kind = b"<html>log in</html>", "text/html; charset=utf-8"
    with pytest.raises(UserError, match="a web page came"):
        fetch(source(host, sha256=""), tmp_path / "toy", None)
    host.kind = "application/octet-stream"
    with pytest.raises(UserError, match="it offers 19 bytes, published are 20"):
        fetch(source(host, size=20), tmp_path / "toy", None)
    host.sized = False
    with pytest.raises(UserError, match="its size is not told"):
        fetch(source(host, sha256=""), tmp_path / "toy", None)
    fetch(source(host), tmp_path / "toy", None)


def test_the_disk_is_asked_again_when_a_size_becomes_known(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.files["/data.bin"] = CONTENT
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(0, 0, web.SPARE + len(CONTENT) - 1))
    with pytest.raises(UserError, match=r"data\.bin needs 0\.0 GB"):
        fetch(source(host), tmp_path / "toy", None)
    assert not list((tmp_path / "toy/archives").glob("*.part"))


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


def test_a_killed_job_goes_on(host: Host, tmp_path: Path) -> None:
    """A process killed in the middle of a download, and one in the middle of unpacking."""
    host.files["/x.tar"] = packed({f"{i:03}.txt": bytes([i]) * 20_000 for i in range(100)}, "w")
    wanted = source(host, "x.tar", ("099.txt",))
    code = f"""
import os
from pathlib import Path
from surefoot import unpack, web
from surefoot.download import fetch
from surefoot.sources import File, Source
count = 0
def die(function, after):
    def dying(*given):
        global count
        count += 1
        return os._exit(9) if count > after else function(*given)
    return dying
{{patch}}
fetch(Source("toy", ({wanted.files[0]!r},), ("099.txt",), (".",), "none"), Path({str(tmp_path / "toy")!r}), None)
"""
    host.cut = [700_000]
    for patch in (
        "web._reason = die(str, 0)",
        "unpack._write = die(unpack._write, 50)",
    ):
        done = subprocess.run(
            [sys.executable, "-c", code.format(patch=patch)], cwd=ROOT, capture_output=True, timeout=60
        )
        assert done.returncode == 9, done.stderr.decode()
        assert not (tmp_path / "toy/files").exists()
    assert [span for _, span, _ in host.asked] == [None, "bytes=700000-"]
    found = fetch(wanted, tmp_path / "toy", None)
    assert len(list(Path(found["root"]).iterdir())) == 100 and len(host.asked) == 2
    assert not (tmp_path / "toy/.files.part").exists()


def test_every_file_that_only_the_user_can_get_is_named_with_where_copies_were_looked_for(tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "train").mkdir(parents=True)
    gated = Source("toy", (File("a.tar"), File("b.tar")), ("train", "val"), (".", "toy"), "none")
    with pytest.raises(UserError) as told:
        fetch(gated, tmp_path / "raw", own)
    for words in (
        f"Put a.tar and b.tar into {tmp_path / 'raw/archives'}/",
        f"{own}: no val.",
        f"{own / 'toy'}: no such folder.",
    ):
        assert words in str(told.value)


def test_a_server_that_goes_on_elsewhere_is_not_followed(host: Host, tmp_path: Path) -> None:
    host.files["/data.bin"], host.cut, host.astray = CONTENT, [1000], 1
    fetch(source(host), tmp_path / "toy", None)
    assert [span for _, span, _ in host.asked] == [None, "bytes=1000-", None]


def test_an_array_file_that_is_a_zip_inside_stays_a_file(host: Host, tmp_path: Path) -> None:
    packed = io.BytesIO()
    np.savez(packed, labels=np.arange(3))
    host.files["/a.npz"] = packed.getvalue()
    found = Path(fetch(source(host, "a.npz", ("a.npz",)), tmp_path, None)["root"])
    assert np.array_equal(np.load(found / "a.npz")["labels"], np.arange(3))


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_another_published_digest_fetches_anew(host: Host, tmp_path: Path, kind: str) -> None:
    def version(content: bytes) -> Source:
        host.files["/x.txt"] = content
        return source(host, "x.txt", ("x.txt",), **{kind: hashlib.new(kind, content).hexdigest()})

    fetch(version(b"old"), tmp_path, None)
    new = version(b"new")
    with pytest.raises(UserError, match="another version"):
        fetch(new, tmp_path, None)
    found = fetch(new, tmp_path, None)
    assert (Path(found["root"]) / "x.txt").read_bytes() == b"new"
    assert found["files"] == {"x.txt": hashlib.sha256(b"new").hexdigest()}
