"""A small HTTP server on the loopback, as obliging or as difficult as a test wants it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread


@dataclass
class Mirror:
    """What it serves by path; each number of `cuts` ends one answer after so many bytes."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    cuts: list[int] = field(default_factory=list)
    claims: int = 0  # bytes it says it would send, instead of the truth
    moved: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)  # method, path, Range
    url: str = ""

    def put(self, folder: Path) -> None:
        """Serve the files of a folder by their paths in it."""
        self.files |= {f"/{p.relative_to(folder)}": p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@contextmanager
def mirror(**how: object) -> Iterator[Mirror]:
    """A server that runs meanwhile."""
    served = Mirror(**how)  # type: ignore[arg-type]

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            served.asked.append((self.command, self.path, wanted))
            if self.path in served.moved:
                return self.say(302, 0, Location=served.moved[self.path])
            if self.path not in served.files:
                return self.say(404, 0)
            whole = served.files[self.path]
            start = int(wanted[6:-1]) if wanted and served.ranges else 0
            if wanted and start >= len(whole):
                return self.say(416, 0, **{"Content-Range": f"bytes */{len(whole)}"})
            rest = whole[start:]
            span = {"Content-Range": f"bytes {start}-{len(whole) - 1}/{len(whole)}"} if start else {}
            self.say(206 if start else 200, served.claims or len(rest), **span)
            if self.command == "GET":
                self.send(rest)

        do_HEAD = do_GET  # noqa: N815 - the name is the library's

        def send(self, body: bytes) -> None:
            if served.cuts:
                body = body[: served.cuts.pop(0)]
                self.close_connection = True
            self.wfile.write(body)

        def say(self, code: int, length: int, **headers: str) -> None:
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(length)}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
