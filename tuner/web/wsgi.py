"""The WSGI helpers that the modules here share: what a request asks for, and plain answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

Environ = dict[str, Any]
Header = tuple[str, str]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]

UNAUTHORIZED, FORBIDDEN, NOT_FOUND = "401 Unauthorized", "403 Forbidden", "404 Not Found"
UNAVAILABLE = "503 Service Unavailable"
NO_STORE = ("Cache-Control", "no-store")


def request_path(environ: Environ) -> str:
    return str(environ.get("PATH_INFO") or "/")


def is_read_request(environ: Environ) -> bool:
    return environ["REQUEST_METHOD"] in ("GET", "HEAD")


def request_header(environ: Environ, name: str) -> str:
    """Return a header of the request, or ""."""
    return str(environ.get("HTTP_" + name.upper().replace("-", "_"), ""))


def accepts_gzip(environ: Environ) -> bool:
    return "gzip" in request_header(environ, "Accept-Encoding")


def respond(
    environ: Environ,
    start: StartResponse,
    body: bytes,
    content_type: str,
    status: str = "200 OK",
    headers: Iterable[Header] = (),
) -> list[bytes]:
    start(status, [("Content-Type", content_type), ("Content-Length", str(len(body))), *headers])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def respond_json(environ: Environ, start: StartResponse, body: bytes, status: str = "200 OK") -> list[bytes]:
    return respond(environ, start, body, "application/json", status, [NO_STORE])


def respond_error(environ: Environ, start: StartResponse, status: str, reason: str) -> list[bytes]:
    """Answer with the JSON object from which the dashboard's page shows `reason`."""
    return respond_json(environ, start, json.dumps({"reason": reason}).encode(), status)


def redirect(environ: Environ, start: StartResponse, path: str, headers: Iterable[Header] = ()) -> list[bytes]:
    return respond(environ, start, b"", "text/plain", "303 See Other", [("Location", path), NO_STORE, *headers])
