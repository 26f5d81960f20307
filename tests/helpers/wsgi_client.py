"""Send requests to WSGI apps as a server does, checked by wsgiref's validator."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from json import dumps
from typing import Any
from urllib.parse import unquote, urlencode
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

HERE = "127.0.0.1:8080"


@dataclass(frozen=True)
class Answer:
    code: int
    headers: dict[str, str]
    body: bytes

    @property
    def cookie(self) -> str:
        """The cookie as a browser sends it back."""
        return self.headers["Set-Cookie"].split(";")[0]


def ask(
    app: Any, target: str, method: str = "GET", form: dict[str, str] | None = None, json: Any = None,
    raw: bytes | None = None, **given: str,
) -> Answer:  # fmt: skip
    """Return the answer to a request. `given`: headers, with underscores; forms have the page's own origin.

    `raw` is a body that may be malformed, with the headers of a JSON object from the page.
    """
    path, _, query = target.partition("?")
    body = urlencode(form or {}).encode() if json is None else dumps(json).encode()
    body = body if raw is None else raw
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST" if form is not None else method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(path, "latin-1"),
        "QUERY_STRING": query,
        "SERVER_PORT": "8080",
        "REMOTE_ADDR": given.pop("address", "127.0.0.1"),
        "HTTP_HOST": HERE,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    if json is not None or raw is not None:
        environ["CONTENT_TYPE"] = "application/json"
    if form is not None or raw is not None:
        environ["HTTP_ORIGIN"] = f"http://{HERE}"
    environ |= {f"HTTP_{name.upper()}": value for name, value in given.items()}
    setup_testing_defaults(environ)
    told: list[Any] = []

    def start(status: str, headers: list[tuple[str, str]], *_: object) -> Any:
        told.append((int(status.split()[0]), dict(headers)))
        return lambda data: None

    found: Iterable[bytes] = validator(app)(environ, start)
    body = b"".join(found)
    found.close()  # type: ignore[attr-defined]
    return Answer(*told[0], body)


def nothing_behind(environ: dict[str, Any], start: Any) -> list[bytes]:
    """An inner app that answers with the requested path."""
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"behind " + environ["PATH_INFO"].encode("latin-1")]
