"""optuna-dashboard on the study's storage and artifacts, behind what makes it fit to be shown to others."""

from __future__ import annotations

import gzip
import socket
import sys
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.artifacts.store import open_store
from tuner.errors import StorageError, TunerError
from tuner.paths import Home
from tuner.study import database, queries
from tuner.web.artifacts import Artifacts
from tuner.web.auth import FILE_VARIABLE, gate
from tuner.web.base_path import Below, Shell, refuse_base
from tuner.web.security import LOOPBACK, Guard, with_faults_told, with_safe_headers
from tuner.web.study_api import LARGE, Studies
from tuner.web.wsgi import App, Environ, Header, Start

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from sqlalchemy.engine import Engine

PLAIN = ("application/json", "text/", "application/javascript")  # what gets much smaller
PATIENCE = 60  # seconds without a word until a connection is closed


@dataclass(frozen=True)
class Door:
    """Who may come in, and how. Without a password, this machine alone."""

    host: str = "127.0.0.1"
    port: int = 8080
    password: str | None = None
    hours: float = 12.0  # until one must log in again
    read_only: bool = False
    base: str = ""  # the path at which a proxy has it, such as /tuner
    names: tuple[str, ...] = ()  # under which browsers know it, besides the address

    @property
    def is_loopback(self) -> bool:
        return self.host in LOOPBACK

    @property
    def shown(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


class Server(ThreadingMixIn, WSGIServer):
    """A page loads many things at once: a thread for each request."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # whoever asked has gone away, or said nothing for long
            super().handle_error(request, client_address)


class Server6(Server):
    """The same at an address of IPv6."""

    address_family = socket.AF_INET6


class Quiet(WSGIRequestHandler):
    """No line for each request."""

    timeout = PATIENCE

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve(url: str, home: Home, artifacts: str | None, door: Door, ready: Callable[[str], None]) -> None:
    """Serve until interrupted. `ready` gets the address; port 0 takes a free one."""
    refuse_unguarded(door)
    if database.is_absent(url):
        raise StorageError(f"no database at {database.shown(url)} yet. Begin with: tuner run --space unet_k")
    from optuna_dashboard import wsgi

    from tuner.study.storage import open_storage

    storage, engine = open_storage(url)
    pictures = open_artifacts(engine, home.make(), artifacts)
    studies = Studies(smaller(wsgi(storage, artifact_store=pictures)), storage, engine)
    with opened(guarded(studies, pictures, door), door) as server, database.told(url):
        warm(studies)
        if not door.read_only:
            follow(storage, engine, pictures)
        ready(f"http://{door.shown}:{server.server_port}{door.base}/dashboard/")
        server.serve_forever()


def refuse_unguarded(door: Door) -> None:
    """It can delete studies: no password, no other address than this machine's."""
    if not door.is_loopback and door.password is None:
        raise TunerError(
            f"the dashboard can delete studies, so at {door.host} it needs a password: --password-file FILE or "
            f"{FILE_VARIABLE}. Or reach it from elsewhere through: ssh -L 8080:127.0.0.1:8080 THIS_HOST"
        )
    refuse_base(door.base)


def guarded(studies: Studies, pictures: TrialArtifacts, door: Door) -> App:
    """Everything between a browser and the studies, from the inside out."""
    app = with_faults_told(Artifacts(studies, studies.engine, pictures))
    app = Shell(app, door.base, door.password is not None, door.read_only)
    if door.password is not None:
        app = gate(app, door.password, door.hours, door.base)
    hosts = LOOPBACK if door.is_loopback else door.names and (*LOOPBACK, door.host)
    app = Guard(app, hosts, door.names, door.read_only)
    return with_safe_headers(Below(app, door.base) if door.base else app)


def opened(app: App, door: Door) -> WSGIServer:
    kind = Server6 if ":" in door.host else Server
    try:
        return make_server(door.host, door.port, app, server_class=kind, handler_class=Quiet)
    except OSError as error:  # a name that leads nowhere is one too
        raise TunerError(
            f"port {door.port} of {door.host} cannot be used ({error.strerror}). Choose another with --port."
        ) from error


def open_artifacts(engine: Engine, home: Home, artifacts: str | None) -> TrialArtifacts:
    """The pictures of every study: in the home, in the store that was named, and in those noted on the studies."""
    noted = [info.artifacts for info in queries.read_studies(engine)]
    return TrialArtifacts(home, [open_store(url) for url in dict.fromkeys([artifacts, *noted]) if url])


def warm(studies: Studies) -> None:
    """Load what takes long at first: the study worked on last now, the others while the first is looked at."""
    ids = [info.id for info in queries.read_studies(studies.engine)]
    for newest in ids[:1]:
        studies.storage.get_all_trials(newest, deepcopy=False)
    threading.Thread(target=load_all, args=(studies, ids), daemon=True).start()


def follow(storage: BaseStorage, engine: Engine, pictures: TrialArtifacts) -> None:
    """Keep the plots and notes of whole studies up to date, beside the server's own threads."""
    from tuner.report.dashboard import watch_figures

    threading.Thread(
        target=watch_figures, args=(storage, engine, threading.Event(), pictures), daemon=True
    ).start()


def load_all(studies: Studies, ids: list[int]) -> None:
    try:
        for newest in ids[:1]:
            studies.prepare(newest)
        for study in ids[1:]:
            studies.storage.get_all_trials(study, deepcopy=False)
    except Exception:  # deleted meanwhile, or the database is away: whoever opens it will see
        return


def smaller(app: App) -> App:
    """The same, with large texts compressed: a table of thousands of trials is tens of megabytes."""

    def answer(environ: Environ, start: Start) -> Iterable[bytes]:
        began: list[Any] = []
        body = app(environ, lambda *how: began.append(how))
        status, headers, *more = began[0]
        named = {name.lower(): value for name, value in headers}
        if (
            named.get("content-type", "").startswith(PLAIN)
            and "content-encoding" not in named
            and "gzip" in environ.get("HTTP_ACCEPT_ENCODING", "")
            and status.startswith("200")
        ):
            body, headers = compressed(body, headers)
        start(status, headers, *more)
        return body

    return answer


def compressed(body: Iterable[bytes], headers: list[Header]) -> tuple[Iterable[bytes], list[Header]]:
    whole = b"".join(body)
    if close := getattr(body, "close", None):
        close()
    if len(whole) < LARGE:
        return [whole], headers
    packed = gzip.compress(whole, compresslevel=1)
    kept = [(name, value) for name, value in headers if name.lower() not in ("content-length", "accept-ranges")]
    return [packed], [
        *kept,
        ("Content-Encoding", "gzip"),
        ("Content-Length", str(len(packed))),
        ("Vary", "Accept-Encoding"),
    ]
