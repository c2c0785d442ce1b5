"""Downloads against a local server: resumed, verified; and a user's own copies."""

import hashlib
import io
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from surefoot import web
from surefoot.download import fetch
from surefoot.files import UserError
from surefoot.fingerprint import ROOT
from surefoot.sources import File, Source
from tests.download.hosting import CONTENT, Host, digest, packed, source


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


def test_a_size_that_is_roughly_known_asks_for_room_but_refuses_nothing(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.files["/data.bin"] = CONTENT
    roughly = source(host, about=len(CONTENT) + 4096)
    fetch(roughly, tmp_path / "toy", None)
    full = namedtuple("Usage", "total used free")(10**12, 10**12, web.SPARE + 2 * len(CONTENT))
    monkeypatch.setattr("surefoot.web.shutil.disk_usage", lambda path: full)
    with pytest.raises(UserError, match="needs"):
        fetch(roughly, tmp_path / "again", None)


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


@pytest.mark.fault(
    "data set",
    "a table in your own copy is another version, or cut off",
    "refused, with its digest; `check_sizes: false` accepts it",
)
def test_files_of_a_users_copy_have_their_published_digests(tmp_path: Path) -> None:
    """Plain files of the source, and what is known of the inside of its archives; absent ones are not asked for."""
    table = File("table.csv", md5="b1946ac92492d2347c6235b4d2611184")  # of hello
    plain = File("list.txt", ("https://data.invalid/list.txt",), sha256=digest(CONTENT), to="lists")
    wanted = Source(
        "toy", (File("data.tar"), plain), ("train",), (".",), "none", inside=(table, File("gone.txt", md5=table.md5))
    )
    (tmp_path / "train").mkdir()
    (tmp_path / "lists").mkdir()
    for name, right in (("table.csv", b"hello\n"), ("lists/list.txt", CONTENT)):
        (tmp_path / name).write_bytes(right[:-1])
        with pytest.raises(UserError, match=rf"toy: .*{name} has sha256|toy: .*{name} has md5"):
            fetch(wanted, tmp_path / "raw", tmp_path)
        noted = fetch(wanted, tmp_path / "raw", tmp_path, check=False)["files"]
        assert noted[Path(name).name] == digest(right[:-1]), "so that another file is other data"
        (tmp_path / name).write_bytes(right)
    found = fetch(wanted, tmp_path / "raw", tmp_path)
    assert found["files"] == {"table.csv": digest(b"hello\n"), "list.txt": digest(CONTENT)}


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


def test_the_disk_is_asked_again_when_a_size_becomes_known(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.files["/data.bin"] = CONTENT
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage(0, 0, web.SPARE + len(CONTENT) - 1))
    with pytest.raises(UserError, match=r"data\.bin needs 0\.0 GB"):
        fetch(source(host), tmp_path / "toy", None)
    assert not list((tmp_path / "toy/archives").glob("*.part"))


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
