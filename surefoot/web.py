"""One file from the web: resumed where it was cut, over several addresses, and verified before it gets its name.

Standard library and tqdm only. No credential comes into a message: addresses are shown without user and query.
"""

import errno
import hashlib
import http.client
import json
import logging
import os
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from tqdm import tqdm

from surefoot.files import UserError
from surefoot.sources import File

logger = logging.getLogger(__name__)

BLOCK = 2**20
TRIES, WAIT, LONGEST = 5, 2.0, 120.0  # rounds without progress; seconds after the first, doubled each time; at most
PROGRESS = 2**20  # bytes after which a round has made progress
TIMEOUT = 60
SPARE = 2**28  # bytes that must stay free
TOKEN_HOST, TOKEN = "huggingface.co", "HF_TOKEN"
HERE = ("127.0.0.1", "localhost", "::1")  # needs no TLS
LASTING = (400, 401, 403, 404, 405, 410, 451)


class Refused(Exception):
    """An address that will not give the file, however often it is asked."""


def digests(path: Path, file: File) -> dict[str, str]:
    """SHA-256 of a file on disk, and every other kind of digest that is published for it."""
    found = {"sha256": hashlib.sha256()}
    if file.md5:
        found["md5"] = hashlib.md5(usedforsecurity=False)
    if file.git_blob:
        found["git_blob"] = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with (
        path.open("rb") as stream,
        tqdm(total=path.stat().st_size, unit="B", unit_scale=True, desc=f"verify {file.name}", disable=None) as bar,
    ):
        while block := stream.read(BLOCK):
            for digest in found.values():
                digest.update(block)
            bar.update(len(block))
    return {kind: digest.hexdigest() for kind, digest in found.items()}


def difference(file: File, found: dict[str, str]) -> str:
    """How digests differ from the published ones; '' where they do not."""
    wrong = [kind for kind in found if getattr(file, kind) not in ("", found[kind])]
    return f"has {wrong[0]} {found[wrong[0]]}, not {getattr(file, wrong[0])}" if wrong else ""


def is_published(file: File) -> bool:
    """Whether any digest is."""
    return bool(file.sha256 or file.md5 or file.git_blob)


def download(file: File, path: Path, spare: int = 0, hint: str = "") -> dict[str, str]:
    """Fetch a file to `path` from the first of its addresses that gives the right bytes, and return its digests.

    Each address is asked in turn until one has delivered or TRIES rounds in a row brought nothing new. A `.part` is
    gone on with: over any address where a digest is published, else only if its server says that the file is still the
    same. A file with other digests is kept as `.wrong`.

    Args:
        spare: bytes that must stay free besides the file.
        hint: how to get the file by hand.

    Raises UserError when no address delivers, with each one's reason, or when the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, open_urls, reasons, idle = path.with_name(f"{path.name}.part"), list(file.urls), {}, 0
    while open_urls and idle < TRIES:
        before, wait = _size(partial), WAIT * 2**idle
        for url in list(open_urls):
            try:
                return _receive(url, file, path, spare)
            except Refused as error:
                open_urls.remove(url)
                reasons[url] = str(error)
            except urllib.error.HTTPError as error:
                reasons[url] = f"{error.code} {error.reason}"
                asked = error.headers.get("Retry-After", "")
                wait = max(wait, float(asked)) if asked.isdigit() else wait
                if error.code in LASTING:
                    open_urls.remove(url)
                    if error.code in (401, 403) and urllib.parse.urlsplit(url).hostname == TOKEN_HOST:
                        reasons[url] += f"; accept its terms there and set {TOKEN}"
            except (OSError, http.client.HTTPException, ValueError) as error:
                reasons[url] = _reason(error)
                if isinstance(error, http.client.InvalidURL | ValueError):
                    open_urls.remove(url)
            logger.warning("%s: %s", _shown(url), reasons[url])
        idle = 0 if _size(partial) >= before + PROGRESS else idle + 1
        if open_urls and idle < TRIES:
            time.sleep(min(wait, LONGEST))
    told = "; ".join(f"{_shown(url)}: {reason}" for url, reason in reasons.items())
    raise UserError(
        f"{file.name} cannot be downloaded ({told}). Check the network and rerun, which goes on where it stopped, or "
        f"put the file at {path} by other means. {hint}"
    )


def _receive(url: str, file: File, path: Path, spare: int) -> dict[str, str]:
    """One try: append what is missing to the partial file, verify it, and rename it when it is whole."""
    partial, note = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json")
    have, known = _size(partial), _read(note)
    same = known.get("url") == _shown(url) and known.get("version")
    if have and (not (is_published(file) or same) or (file.size and have > file.size)):
        partial.unlink()
        have = 0
    if not (file.size and have == file.size):
        request = _request(url, file)
        if have:
            request.add_header("Range", f"bytes={have}-")
            if same:
                request.add_header("If-Range", known["version"])
        try:
            answer = urllib.request.build_opener(_Redirects(file)).open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code != 416:
                raise
            if error.headers.get("Content-Range", "").partition("/")[2] != str(have):
                partial.unlink()  # it is no part of what is there
                raise ConnectionError("the partial file does not fit; starting again") from None
        else:
            with answer:
                _save(answer, url, file, path, have, spare)
    found = digests(partial, file)
    if wrong := difference(file, found):
        note.unlink(missing_ok=True)
        if have:
            partial.unlink()
            raise ConnectionError(f"{file.name} {wrong}, put together from several connections; starting again")
        bad = path.with_name(f"{path.name}.wrong")
        partial.replace(bad)
        raise Refused(f"{file.name} {wrong}; kept as {bad}")
    partial.replace(path)
    note.unlink(missing_ok=True)
    return found


def _save(answer: http.client.HTTPResponse, url: str, file: File, path: Path, have: int, spare: int) -> None:
    """Write an answer to the partial file. Raises ConnectionError when it ends early, Refused for another file."""
    partial = path.with_name(f"{path.name}.part")
    if answer.status == 206:
        first, _, whole = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        if first.partition("-")[0] != str(have):
            partial.unlink()
            raise ConnectionError("the server goes on at another place; starting again")
        total = int(whole) if whole.isdigit() else None
    else:
        have, length = 0, answer.headers.get("Content-Length", "")
        total = int(length) if length.isdigit() else None
    # Logins, quotas and lost files are often told by a page in place of the file.
    if answer.headers.get_content_type() == "text/html" and not file.name.endswith((".html", ".htm")):
        raise Refused("a web page came in place of the file")
    if total is None and not (file.size or is_published(file)):
        raise Refused("its size is not told, so that nobody knows when it is whole")
    if total and file.size and total != file.size:
        raise Refused(f"it offers {total} bytes, published are {file.size}")
    total = total or file.size or None
    if total:
        room(path.parent, total - have + spare, file.name)
    tag = answer.headers.get("ETag", "")
    version = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
    try:
        path.with_name(f"{path.name}.part.json").write_text(json.dumps({"url": _shown(url), "version": version}))
        out = partial.open("ab" if have else "wb")
    except OSError as error:
        raise _unwritable(partial, error) from None
    with out, tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=file.name, disable=None) as bar:
        while block := answer.read(BLOCK):
            try:
                out.write(block)
                out.flush()
            except OSError as error:
                raise _unwritable(partial, error) from None
            bar.update(len(block))
    if total and _size(partial) < total:
        raise ConnectionError(f"the connection ended after {_size(partial)} of {total} bytes")


def _request(url: str, file: File) -> urllib.request.Request:
    """A request with the hub's token where it goes to the hub. Raises Refused where the bytes could be anybody's."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or "@" in parts.netloc:
        raise Refused("no plain web address")
    if parts.scheme == "http" and parts.hostname not in HERE and not is_published(file):
        raise Refused("it comes without TLS and has no published digest; fetch it by hand")
    request = urllib.request.Request(url, headers={"User-Agent": "surefoot"})
    token = os.environ.get(TOKEN, "").strip()
    if token and parts.scheme == "https" and parts.netloc == TOKEN_HOST:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    return request


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects to addresses that could have been asked for themselves; each gets only what is meant for it."""

    def __init__(self, file: File) -> None:
        self.file = file

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None:
            allowed = _request(new.full_url, self.file)
            new.unredirected_hdrs.update(allowed.unredirected_hdrs)
        return new


def room(folder: Path, needed: int, name: str) -> None:
    """Raises UserError unless so many bytes, and SPARE, are free where a folder is."""
    free = shutil.disk_usage(folder).free
    if needed + SPARE > free:
        raise UserError(
            f"{name} needs {needed / 1e9:.1f} GB below {folder}, where {free / 1e9:.1f} GB are free; free space, or "
            "name the folder of your own copy under data_root"
        )


def _unwritable(path: Path, error: OSError) -> UserError:
    hint = "free space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "mend it"
    return UserError(f"cannot write {path}: {error}; {hint}, then rerun, which goes on where it stopped")


def _reason(error: Exception) -> str:
    """Why a try failed, in words that hold no address."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({reason.verify_message})"
    told = isinstance(reason, OSError) or isinstance(error, urllib.error.URLError)
    return str(reason) if told and str(reason) else type(reason).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _read(note: Path) -> dict[str, str]:
    try:
        return json.loads(note.read_text())
    except (OSError, ValueError):
        return {}


def _shown(url: str) -> str:
    """An address without credentials, for messages."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
