"""Downloads against a local server: resumed, verified, safely extracted; and a user's own copies."""

import gzip
import hashlib
import io
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

from surefoot import download
from surefoot.download import extract, fetch
from surefoot.files import UserError
from surefoot.sources import File, Source

CONTENT = bytes(range(256)) * 4000


@dataclass
class Host:
    """A server of files; `cut` ends the first answers after so many bytes, `ranges` says whether it can go on."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)
    ranges: bool = True
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    state = Host()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            span = self.headers.get("Range")
            state.asked.append((self.path, span, self.headers.get("Authorization")))
            content = state.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            start = int(span.removeprefix("bytes=").rstrip("-")) if span and state.ranges else 0
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            behind = start + state.cut.pop(0) if state.cut else len(content)
            self.wfile.write(content[start:behind])
            self.close_connection = True

        def log_message(self, *ignored: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(download, "WAIT", 0.0)
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


@pytest.mark.parametrize("ranges", [True, False])
def test_a_cut_connection_is_continued(host: Host, tmp_path: Path, ranges: bool) -> None:
    host.files["/data.bin"], host.cut, host.ranges = CONTENT, [300_000, 200_000], ranges
    found = fetch(source(host), tmp_path / "toy", None)
    assert Path(found["root"], "data.bin").read_bytes() == CONTENT
    spans = [span for _, span, _ in host.asked]
    assert spans[0] is None and all(span for span in spans[1:]) and len(spans) == 3
    if ranges:
        assert spans[1:] == ["bytes=300000-", "bytes=500000-"]


def test_a_killed_download_goes_on(host: Host, tmp_path: Path) -> None:
    host.files["/data.bin"] = CONTENT
    partial = tmp_path / "toy/archives/data.bin.part"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(CONTENT[:1000])
    fetch(source(host), tmp_path / "toy", None)
    assert host.asked[0][1] == "bytes=1000-" and (tmp_path / "toy/files/data.bin").read_bytes() == CONTENT


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


def test_without_tls_a_digest_is_needed(host: Host, tmp_path: Path) -> None:
    host.files["/data.bin"] = CONTENT
    with pytest.raises(UserError, match="without TLS and has no published digest"):
        fetch(source(host, sha256=""), tmp_path / "toy", None)
    assert not host.asked


def test_a_digest_that_nobody_publishes_is_noted_and_checked_later(host: Host, tmp_path: Path) -> None:
    unknown = Source("toy", (File("data.bin"),), ("data.bin",), (".",), "none")
    path = tmp_path / "toy/archives/data.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert fetch(unknown, tmp_path / "toy", None)["files"] == {"data.bin": digest(CONTENT)}
    (tmp_path / "toy/extracted").unlink()
    path.unlink()
    path.write_bytes(CONTENT + b"x")
    with pytest.raises(UserError, match="has changed since it was first fetched"):
        fetch(unknown, tmp_path / "toy", None)


def test_missing_files_are_named(host: Host, tmp_path: Path) -> None:
    gated = Source("toy", (File("data.tar"),), ("train",), (".",), "none", by_hand="Ask its makers for an account.")
    with pytest.raises(UserError, match=r"Ask its makers .* Put data\.tar at .*toy/archives/data\.tar"):
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


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt"])
def test_members_that_leave_the_folder_are_refused(name: str, tmp_path: Path) -> None:
    for suffix, content in (("tar", packed({name: b"x"}, "w")), ("zip", zipped({name: b"x"}))):
        path = tmp_path / f"bad.{suffix}"
        path.write_bytes(content)
        to = tmp_path / suffix / "files"
        if suffix == "tar" and name.startswith("/"):
            extract(path, to, File(path.name))  # tar's safe filter strips the leading slash
            assert (to / name[1:]).exists()
        else:
            with pytest.raises(UserError, match="cannot be unpacked"):
                extract(path, to, File(path.name))
    assert not (tmp_path / "out.txt").exists() and not list(tmp_path.glob("*/out.txt"))


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.tar"
    with tarfile.open(path, "w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "../../secret"
        archive.addfile(link)
    with pytest.raises(UserError, match="cannot be unpacked"):
        extract(path, tmp_path / "files", File("bad.tar"))


def test_a_damaged_archive_leaves_nothing_half_done(host: Host, tmp_path: Path) -> None:
    whole = packed({f"{i}.txt": bytes(1000) for i in range(50)}, "w")
    host.files["/x.tar"] = whole[:-30_000]
    with pytest.raises(UserError, match=r"cannot be unpacked|do not hold"):
        fetch(source(host, "x.tar", ("49.txt",)), tmp_path / "toy", None)
    assert not (tmp_path / "toy/files").exists()


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
    assert download._shown("https://me:secret@host.org/file?token=secret") == "https://host.org/file"


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
