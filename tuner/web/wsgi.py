"""The WSGI helpers that the modules here share: what a request asks for, and plain answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

Environ = dict[str, Any]
Header = tuple[str, str]
StartResponse = Callable[..., Any]
App = Callable[[Environ, StartResponse], Iterable[bytes]]

BAD_REQUEST, TOO_LARGE = "400 Bad Request", "413 Content Too Large"
UNAUTHORIZED, FORBIDDEN, NOT_FOUND = "401 Unauthorized", "403 Forbidden", "404 Not Found"
UNAVAILABLE = "503 Service Unavailable"
CONFLICT = "409 Conflict"
JSON = "application/json"
NO_STORE = ("Cache-Control", "no-store")


class RequestError(Exception):
    """A request that cannot be answered: the status and the reason of its refusal."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def request_path(environ: Environ) -> str:
    return str(environ.get("PATH_INFO") or "/")


def is_read_request(environ: Environ) -> bool:
    return environ["REQUEST_METHOD"] in ("GET", "HEAD")


def request_header(environ: Environ, name: str) -> str:
    """Return a header of the request, or ""."""
    return str(environ.get("HTTP_" + name.upper().replace("-", "_"), ""))


def read_body(environ: Environ, most: int) -> bytes:
    """Return the body of a request; raise RequestError if it has no valid length, or more bytes than `most`."""
    if request_header(environ, "Transfer-Encoding"):
        raise RequestError("411 Length Required", "the request has no Content-Length, which is needed")
    length = environ.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdecimal()):
        raise RequestError(BAD_REQUEST, f"Content-Length is {length[:80]!r}; a whole number is needed")
    if len(length) > 18 or int(length) > most:
        raise RequestError(TOO_LARGE, f"the body is too large: at most {most:,} bytes are read")
    try:
        body: bytes = environ["wsgi.input"].read(int(length)) if int(length) else b""
    except OSError as error:  # silent for too long, or gone
        raise RequestError("408 Request Timeout", "the body did not arrive") from error
    if len(body) < int(length):
        raise RequestError(BAD_REQUEST, f"the body ends after {len(body):,} of {int(length):,} bytes")
    return body


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
    return respond(environ, start, body, JSON, status, [NO_STORE])


def respond_error(environ: Environ, start: StartResponse, status: str, reason: str) -> list[bytes]:
    """Answer with the JSON object from which the dashboard's page shows `reason`."""
    return respond_json(environ, start, json.dumps({"reason": reason}).encode(), status)


def redirect(environ: Environ, start: StartResponse, path: str, headers: Iterable[Header] = ()) -> list[bytes]:
    return respond(environ, start, b"", "text/plain", "303 See Other", [("Location", path), NO_STORE, *headers])
