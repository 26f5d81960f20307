"""The dashboard's server: optuna-dashboard on the study's storage, behind login, checks and caches."""

from __future__ import annotations

import gzip
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.headers import Headers
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.errors import StorageError, TunerError
from tuner.paths import Home
from tuner.report.trial_files import open_artifacts
from tuner.study import database, queries
from tuner.web.api_requests import ApiMiddleware
from tuner.web.artifacts import ArtifactMiddleware
from tuner.web.auth import FILE_VARIABLE, require_login
from tuner.web.base_path import BasePathMiddleware, PageMiddleware, check_base_path
from tuner.web.dashboard_compat import dashboard_app
from tuner.web.proxies import Network
from tuner.web.security import LOOPBACK, RequestFilter, with_database_errors, with_safe_headers
from tuner.web.study_api import StudyApi
from tuner.web.study_deletion import StudyDeletion
from tuner.web.wsgi import App, Environ, StartResponse, accepts_gzip, request_path
from tuner.wording import start_hint

COMPRESSIBLE = ("application/json", "text/", "application/javascript")
LARGE = 100_000  # bytes from which on an answer is compressed
IDLE_SECONDS = 60  # after which a silent connection is closed


@dataclass(frozen=True)
class ServerOptions:
    """Where the dashboard listens and who may use it; without a password, this machine alone."""

    host: str = "127.0.0.1"
    port: int = 8080
    password: str | None = None
    hours: float = 12.0  # until a login expires
    read_only: bool = False
    base: str = ""  # the path at which a proxy has it, such as /tuner
    names: tuple[str, ...] = ()  # host names that browsers may use for it, besides the address
    proxies: tuple[Network, ...] = ()  # whose X-Forwarded-For is believed

    @property
    def is_loopback(self) -> bool:
        return self.host in LOOPBACK


class Server(ThreadingMixIn, WSGIServer):
    """A server with a thread for each request: a page loads many files at once."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        # OSError: the client closed the connection, or was silent for too long
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class ServerIPv6(Server):
    address_family = socket.AF_INET6


class QuietHandler(WSGIRequestHandler):
    """A handler that does not log requests."""

    timeout = IDLE_SECONDS

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve(
    url: str, home: Home, artifacts: str | None, options: ServerOptions, ready: Callable[[str], None]
) -> None:
    """Serve until interrupted. `ready` is called with the address; port 0 picks a free one."""
    check_options(options)
    if database.is_absent(url):
        raise StorageError(f"no study yet in {database.hide_password(url)}. {start_hint()}")
    from tuner.report.dashboard import watch_figures
    from tuner.study.storage import open_storage

    storage, engine = open_storage(url)
    pictures = open_artifacts(engine, home.make(), artifacts)
    studies = StudyApi(dashboard_app(storage, pictures), storage, engine)
    app = build_app(studies, pictures, options)
    with open_server(app, options) as server, database.convert_errors(url):
        preload(studies)
        if not options.read_only:  # keep the plots and notes of whole studies up to date
            watched = storage, engine, threading.Event(), pictures
            threading.Thread(target=watch_figures, args=watched, daemon=True).start()
        host = f"[{options.host}]" if ":" in options.host else options.host
        ready(f"http://{host}:{server.server_port}{options.base}/dashboard/")
        server.serve_forever()


def check_options(options: ServerOptions) -> None:
    """Raise TunerError if other hosts could use it without a password, or if --base-path cannot be used."""
    if not options.is_loopback and options.password is None:
        raise TunerError(
            f"the dashboard can delete studies, so at {options.host} it needs a password: --password-file FILE or "
            f"{FILE_VARIABLE}. Or reach it from elsewhere through: ssh -L 8080:127.0.0.1:8080 THIS_HOST"
        )
    check_base_path(options.base)


def build_app(studies: StudyApi, pictures: TrialArtifacts, options: ServerOptions) -> App:
    """Wrap the studies in everything a request passes through, from the inside out."""
    studies = replace(studies, app=StudyDeletion(studies.app, studies.engine, pictures))
    app = with_compression(ApiMiddleware(studies))
    app = with_database_errors(ArtifactMiddleware(app, studies.engine, pictures))
    app = PageMiddleware(app, options.base, options.password is not None, options.read_only)
    if options.password is not None:
        app = require_login(app, options.password, options.hours, options.base, options.proxies)
    hosts = LOOPBACK if options.is_loopback else options.names and (*LOOPBACK, options.host)
    app = RequestFilter(app, hosts, options.names, options.read_only)
    return with_safe_headers(BasePathMiddleware(app, options.base) if options.base else app)


def open_server(app: App, options: ServerOptions) -> WSGIServer:
    server_class = ServerIPv6 if ":" in options.host else Server
    try:
        return make_server(options.host, options.port, app, server_class, QuietHandler)
    except OSError as error:  # also if the host name cannot be resolved
        raise TunerError(
            f"port {options.port} of {options.host} cannot be used ({error.strerror}). Choose another with --port."
        ) from error


def preload(studies: StudyApi) -> None:
    """Read the trials of the newest study now, and those of all others in a thread: the first read takes long."""
    ids = [info.id for info in queries.read_studies(studies.engine)]
    if not ids:
        return
    newest, *others = ids
    studies.storage.get_all_trials(newest, deepcopy=False)

    def preload_rest() -> None:
        try:
            studies.prepare(newest)
            for study in others:
                studies.storage.get_all_trials(study, deepcopy=False)
        except Exception:  # deleted meanwhile, or the database is away: the page will report it
            return

    threading.Thread(target=preload_rest, daemon=True).start()


def with_compression(app: App) -> App:
    """Wrap an app so that large texts are compressed: a table of thousands of trials has tens of megabytes.

    The page asks every few seconds: an answer like the last one at its path is not compressed again.
    """
    last: dict[str, tuple[bytes, bytes]] = {}  # by path: the last large answer, plain and compressed

    def wrapped(environ: Environ, start: StartResponse) -> Iterable[bytes]:
        started: list[Any] = []
        body = app(environ, lambda *response: started.append(response))
        status, pairs, *more = started[0]
        headers = Headers(pairs)
        if (
            (headers["Content-Type"] or "").startswith(COMPRESSIBLE)
            and "Content-Encoding" not in headers
            and accepts_gzip(environ)
            and status.startswith("200")
        ):
            whole = b"".join(body)
            if close := getattr(body, "close", None):
                close()
            if len(whole) >= LARGE:
                path = request_path(environ)
                if (known := last.get(path, (b"", b"")))[0] != whole:
                    known = last[path] = whole, gzip.compress(whole, compresslevel=1)
                whole = known[1]
                del headers["Accept-Ranges"]
                headers["Content-Encoding"], headers["Content-Length"] = "gzip", str(len(whole))
                headers.add_header("Vary", "Accept-Encoding")
            body = [whole]
        start(status, headers.items(), *more)
        return body

    return wrapped
