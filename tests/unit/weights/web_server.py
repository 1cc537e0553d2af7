"""A web server on this machine, with the faults of real ones."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class WebServer:
    """Serves files by path.

    Attributes:
        url: of the server.
        files: path → content.
        break_after: bytes after which an answer breaks off; None sends all.
        ranges: whether it sends parts of files.
        md5: what it says of every file, as Google's storage does; None says nothing.
        asked: the Range header of each request.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    break_after: int | None = None
    ranges: bool = True
    md5: bytes | None = None
    asked: list[str | None] = field(default_factory=list)


@contextmanager
def web_server() -> Iterator[WebServer]:
    """A server that runs meanwhile."""
    state = WebServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = state.files.get(self.path)
            state.asked.append(self.headers["Range"])
            if content is None:
                self.send_error(404)
                return
            tag = f'"{hashlib.sha256(content).hexdigest()}"'
            begin = 0
            if state.ranges and self.headers["Range"] and self.headers["If-Range"] == tag:
                begin = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(content) - begin))
            self.send_header("ETag", tag)
            if state.md5 is not None:
                self.send_header("x-goog-hash", f"crc32c=AAAAAA==,md5={_base64(state.md5)}")
            self.end_headers()
            self.wfile.write(content[begin:][: state.break_after])

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
