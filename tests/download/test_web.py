"""What a server may answer, and what is made of it."""

from pathlib import Path

import pytest

from surefoot import web
from surefoot.download import fetch
from surefoot.files import UserError
from surefoot.sources import File, Source
from tests.download.hosting import CONTENT, Host, digest, source


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


def test_a_server_that_goes_on_elsewhere_is_not_followed(host: Host, tmp_path: Path) -> None:
    host.files["/data.bin"], host.cut, host.astray = CONTENT, [1000], 1
    fetch(source(host), tmp_path / "toy", None)
    assert [span for _, span, _ in host.asked] == [None, "bytes=1000-", None]
