"""What may be asked of the dashboard, by whom, and what browsers are told about its answers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from tuner.errors import TunerError
from tuner.web.wsgi import (
    FORBIDDEN,
    UNAVAILABLE,
    App,
    Environ,
    Header,
    Start,
    header_of,
    is_read,
    path_of,
    refuse,
)

LOOPBACK = ("127.0.0.1", "localhost", "::1")
OURS = ("/login", "/logout")  # change no study
SAFE_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),  # not less: without a referrer, browsers send forms without their origin
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
NO_FRAMES = ("Content-Security-Policy", "frame-ancestors 'none'")


def with_safe_headers(app: App) -> App:
    """The same, and no browser guesses types, frames it, or tells others where it was."""

    def guarded(environ: Environ, start: Start) -> Iterable[bytes]:
        def begin(status: str, headers: list[Header], *more: object) -> object:
            named = {name.lower() for name, _ in headers}
            policy = [] if "content-security-policy" in named else [NO_FRAMES]
            return start(status, [*headers, *SAFE_HEADERS, *policy], *more)

        return app(environ, begin)

    return guarded


def with_faults_told(app: App) -> App:
    """The same, and a database that is away for a while is told in the page's words, not in a traceback."""

    def told(environ: Environ, start: Start) -> Iterable[bytes]:
        try:
            return app(environ, start)
        except (SQLAlchemyError, StorageInternalError, TunerError) as error:
            reason = str(error).splitlines()[0] if isinstance(error, TunerError) else "it does not answer"
            return refuse(environ, start, UNAVAILABLE, f"the database cannot be read now: {reason}")

    return told


@dataclass(frozen=True)
class Guard:
    """A WSGI app that refuses what another site had a browser ask, and every change where nothing may change.

    `hosts` are the names under which it may be asked for; none given, any. A site that lets its own name lead to
    127.0.0.1 gets no further than that.
    """

    app: App
    hosts: tuple[str, ...]
    names: tuple[str, ...] = ()  # of the proxies before it: what browsers see as the place they are at
    read_only: bool = False

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        reason = self.why_not(environ)
        return refuse(environ, start, FORBIDDEN, reason) if reason else self.app(environ, start)

    def why_not(self, environ: Environ) -> str:
        """Why a request is refused, or nothing."""
        host = name_of(header_of(environ, "Host"))
        if self.hosts and host not in (*self.hosts, *self.names):
            return "the dashboard is not known by this name; tuner dashboard --allow-host NAME adds one"
        if is_read(environ):
            return ""
        if not is_same_site(environ, self.names):
            return "refused: the request does not come from the dashboard's own page"
        if self.read_only and path_of(environ) not in OURS:
            return "this dashboard is read-only: nothing was changed"
        return ""


def name_of(host: str) -> str:
    """The name in a Host header or an origin, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def as_names(given: Iterable[str]) -> tuple[str, ...]:
    """Names as browsers send them; an address or a port among them is a mistake that would refuse everybody."""
    for name in given:
        if not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9a-fA-F:]*:[0-9a-fA-F:]*", name) or re.fullmatch(
            r"[^:]+:\d+", name
        ):
            raise TunerError(f"--allow-host '{name}' is no name. Give it alone, such as tuner.example.org")
    return tuple(name.lower() for name in given)


def is_same_site(environ: Environ, names: tuple[str, ...]) -> bool:
    """Whether a change comes from a page of this server, as the browser says; one that says nothing is refused."""
    origin = header_of(environ, "Origin")
    if not origin:
        return header_of(environ, "Sec-Fetch-Site") in ("same-origin", "none")
    scheme, _, place = origin.lower().partition("://")
    if scheme not in ("http", "https") or not place:
        return False
    return place == header_of(environ, "Host").lower() or name_of(place) in names
