"""The little of WSGI that everything here shares: what was asked, and plain answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

Environ = dict[str, Any]
Header = tuple[str, str]
Start = Callable[..., Any]
App = Callable[[Environ, Start], Iterable[bytes]]

READS = ("GET", "HEAD")
FORBIDDEN, UNKNOWN, NOT_LOGGED_IN = "403 Forbidden", "404 Not Found", "401 Unauthorized"
UNAVAILABLE = "503 Service Unavailable"


def path_of(environ: Environ) -> str:
    return str(environ.get("PATH_INFO") or "/")


def is_read(environ: Environ) -> bool:
    return environ["REQUEST_METHOD"] in READS


def header_of(environ: Environ, name: str) -> str:
    """A header of the request, or nothing."""
    return str(environ.get("HTTP_" + name.upper().replace("-", "_"), ""))


def scheme_of(environ: Environ) -> str:
    """How the browser came: the proxy says so, where there is one."""
    return header_of(environ, "X-Forwarded-Proto") or str(environ.get("wsgi.url_scheme", "http"))


def answer(
    environ: Environ, start: Start, body: bytes, kind: str, status: str = "200 OK", headers: Iterable[Header] = ()
) -> list[bytes]:
    start(status, [("Content-Type", kind), ("Content-Length", str(len(body))), *headers])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]


def refuse(
    environ: Environ, start: Start, status: str, reason: str, headers: Iterable[Header] = ()
) -> list[bytes]:
    """One line of JSON, in the words that the dashboard's page shows."""
    body = json.dumps({"reason": reason}).encode()
    return answer(environ, start, body, "application/json", status, [("Cache-Control", "no-store"), *headers])


def go_to(environ: Environ, start: Start, path: str, headers: Iterable[Header] = ()) -> list[bytes]:
    more = [("Location", path), ("Cache-Control", "no-store"), *headers]
    return answer(environ, start, b"", "text/plain", "303 See Other", more)
