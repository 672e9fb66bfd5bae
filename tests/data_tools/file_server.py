"""A local web server with the faults of real ones."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from data_tools.download import Source


@dataclass
class FileServer:
    """Serves `content` under every path; `requests` holds the headers of what was asked."""

    content: bytes
    etag: str | None = '"v1"'
    last_modified: str | None = None
    ranges: bool = True
    status: int | None = None
    failing_status: list[int] = field(default_factory=list)  # for the first requests
    break_after: list[int] = field(default_factory=list)  # bytes sent by the first requests before they break off
    announce_length: bool = True
    wrong_start: int = 0  # how far the range that is sent is off the one asked for
    requests: list[dict[str, str]] = field(default_factory=list)
    address: str = ""

    def source(self, *, sha256: str | None = None, size: int | None = None, name: str = "file.bin") -> Source:
        return Source(f"{self.address}/{name}", sha256 or hashlib.sha256(self.content).hexdigest(), size)


@contextmanager
def serving(server: FileServer) -> Iterator[FileServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.requests.append(dict(self.headers))
            _answer(self, server)

        def log_message(self, format: str, *args: object) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    server.address = f"http://127.0.0.1:{http.server_port}"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


def _answer(handler: BaseHTTPRequestHandler, server: FileServer) -> None:
    failing = server.failing_status.pop(0) if server.failing_status else server.status
    if failing:
        handler.send_response(failing)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    start, size = _start(handler, server), len(server.content)
    if start >= size > 0:
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{size}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    start += server.wrong_start if start else 0
    body = server.content[start:]
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
    for name, value in (("ETag", server.etag), ("Last-Modified", server.last_modified)):
        if value:
            handler.send_header(name, value)
    if server.announce_length:
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: server.break_after.pop(0)] if server.break_after else body)


def _start(handler: BaseHTTPRequestHandler, server: FileServer) -> int:
    wanted, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
    if not server.ranges or not wanted or condition not in (None, server.etag, server.last_modified):
        return 0
    return int(wanted.removeprefix("bytes=").rstrip("-"))
