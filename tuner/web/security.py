"""Checks of every request to the dashboard, and the security headers of every answer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit
from wsgiref.headers import Headers

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from tuner.errors import TunerError, first_line
from tuner.web import wsgi
from tuner.web.wsgi import App, Environ, Header, StartResponse

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LOGIN_PATHS = ("/login", "/logout")  # change no study
HOST_NAME = re.compile(r"(?![^:]+:\d+$)([A-Za-z0-9._-]+|[0-9a-fA-F:]*:[0-9a-fA-F:]*)")
SAFE_HEADERS = [
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),  # not less: without a referrer, browsers send forms without their origin
    ("Cross-Origin-Resource-Policy", "same-origin"),
]


def with_safe_headers(app: App) -> App:
    """Wrap an app so that browsers neither guess types of its answers, nor frame them, nor send referrers."""

    def wrapped(environ: Environ, start: StartResponse) -> Iterable[bytes]:
        def start_safely(status: str, headers: list[Header], *more: object) -> object:
            headers = headers + SAFE_HEADERS
            Headers(headers).setdefault("Content-Security-Policy", "frame-ancestors 'none'")
            return start(status, headers, *more)

        return app(environ, start_safely)

    return wrapped


def with_database_errors(app: App) -> App:
    """Wrap an app so that the page shows one line, not a traceback, while the database cannot be read."""

    def wrapped(environ: Environ, start: StartResponse) -> Iterable[bytes]:
        try:
            return app(environ, start)
        except (SQLAlchemyError, StorageInternalError, TunerError) as error:
            reason = first_line(error) if isinstance(error, TunerError) else "it does not answer"
            reason = f"the database cannot be read now: {reason}"
            return wsgi.respond_error(environ, start, wsgi.UNAVAILABLE, reason)

    return wrapped


@dataclass(frozen=True)
class RequestFilter:
    """Refuses requests under other host names, changes requested by other sites, and all changes if read-only.

    The check of host names stops a site whose own name resolves to 127.0.0.1 (DNS rebinding).
    """

    app: App
    hosts: tuple[str, ...]  # host names under which requests may come; empty for any
    names: tuple[str, ...] = ()  # further names, of proxies: what browsers show in their address bar
    read_only: bool = False

    def __call__(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        reason = self.refusal(environ)
        return wsgi.respond_error(environ, start, wsgi.FORBIDDEN, reason) if reason else self.app(environ, start)

    def refusal(self, environ: Environ) -> str:
        """Return why a request is refused, or ""."""
        host = host_name(wsgi.request_header(environ, "Host"))
        if self.hosts and host not in (*self.hosts, *self.names):
            return "the dashboard is not known by this name; tuner dashboard --allow-host NAME adds one"
        if wsgi.is_read_request(environ):
            return ""
        if not is_same_site(environ, self.names):
            return "refused: the request does not come from the dashboard's own page"
        if self.read_only and wsgi.request_path(environ) not in LOGIN_PATHS:
            return "this dashboard is read-only: nothing was changed"
        return ""


def host_name(host: str) -> str:
    """Return the name in a Host header or an origin, without its port; "" if it cannot be parsed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def parse_host_names(given: Iterable[str]) -> tuple[str, ...]:
    """Return host names as browsers send them; raise TunerError for a URL or a port."""
    for name in given:
        if not HOST_NAME.fullmatch(name):
            raise TunerError(
                f"--allow-host '{name}': give a host name without scheme, port or path, such as tuner.example.org"
            )
    return tuple(name.lower() for name in given)


def is_same_site(environ: Environ, names: tuple[str, ...]) -> bool:
    """Return whether a change comes from a page of this server; without any sign of its origin, it does not."""
    origin = wsgi.request_header(environ, "Origin")
    if not origin:
        return wsgi.request_header(environ, "Sec-Fetch-Site") in ("same-origin", "none")
    scheme, _, place = origin.lower().partition("://")
    if scheme not in ("http", "https") or not place:
        return False
    return place == wsgi.request_header(environ, "Host").lower() or host_name(place) in names
