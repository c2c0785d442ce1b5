"""The server of files that downloads are tested with."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from surefoot import web
from tests.download.hosting import Host


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
