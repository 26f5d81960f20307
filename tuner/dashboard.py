"""optuna-dashboard on the study's storage and artifacts, on loopback."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from tuner import database, overview
from tuner.errors import StorageError, TunerError
from tuner.gallery import Gallery
from tuner.runs import Home
from tuner.store import find_store

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from sqlalchemy.engine import Engine

LOOPBACK = ("127.0.0.1", "localhost")
ANYWHERE = "0.0.0.0"
IN_CONTAINER = "TUNER_IN_CONTAINER"  # set to 1 in the image
PLAIN = ("application/json", "text/", "application/javascript")  # what gets much smaller
LARGE = 100_000  # bytes from which on it is worth it


class Server(ThreadingMixIn, WSGIServer):
    """A page loads many things at once: a thread for each request."""

    daemon_threads = True


class Quiet(WSGIRequestHandler):
    """No line for each request."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve(url: str, home: Home, artifacts: str | None, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until interrupted. `ready` gets the address; port 0 takes a free one.

    It listens on this machine alone: it has no login and can delete studies. In a container, loopback would be the
    container's own, which nobody reaches; there it may listen everywhere, since whoever starts the container says
    with the port that is published who reaches it. So this takes the image's own variable, and no option.
    """
    if host not in LOOPBACK and not (host == ANYWHERE and os.environ.get(IN_CONTAINER) == "1"):
        raise TunerError(
            "the dashboard has no login and can delete studies, so it listens on this machine only; "
            f"{host} is not allowed. Reach it from elsewhere through: ssh -L 8080:127.0.0.1:8080 THIS_HOST"
        )
    if database.is_absent(url):
        raise StorageError(f"no database at {database.shown(url)} yet. Begin with: tuner run --space unet_k")
    from optuna_dashboard import wsgi

    from tuner.storage import open_storage

    storage, engine = open_storage(url)
    app = wsgi(storage, artifact_store=gallery(engine, home.make(), artifacts))
    try:
        server = make_server(host, port, smaller(app), server_class=Server, handler_class=Quiet)
    except OSError as error:
        raise TunerError(
            f"port {port} of {host} cannot be used ({error.strerror}). Choose another with --port."
        ) from error
    with server, database.told(url):
        warm(storage, engine)
        ready(f"http://{host}:{server.server_port}/dashboard/")
        server.serve_forever()


def gallery(engine: Engine, home: Home, artifacts: str | None) -> Gallery:
    """The pictures of every study: in the home, in the store that was named, and in those noted on the studies."""
    noted = [info.artifacts for info in overview.all_studies(engine)]
    return Gallery(home, [find_store(url) for url in dict.fromkeys([artifacts, *noted]) if url])


def warm(storage: BaseStorage, engine: Engine) -> None:
    """Load what takes long at first: the study worked on last now, the others while the first is looked at."""
    studies = [info.id for info in overview.all_studies(engine)]
    for first in studies[:1]:
        storage.get_all_trials(first, deepcopy=False)
    threading.Thread(target=load_all, args=(storage, studies[1:]), daemon=True).start()


def load_all(storage: BaseStorage, studies: Iterable[int]) -> None:
    for study in studies:
        try:
            storage.get_all_trials(study, deepcopy=False)
        except Exception:  # deleted meanwhile, or the database is away: whoever opens it will see
            return


def smaller(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """The same, with large texts compressed: a study of thousands of trials is tens of megabytes of JSON."""

    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        began: list[Any] = []
        body = app(environ, lambda *how: began.append(how))
        status, headers, *more = began[0]
        kind = dict(headers).get("Content-Type", "")
        if (
            kind.startswith(PLAIN)
            and "gzip" in environ.get("HTTP_ACCEPT_ENCODING", "")
            and status.startswith("200")
        ):
            body, headers = compressed(body, headers)
        start(status, headers, *more)
        return body

    return answer


def compressed(
    body: Iterable[bytes], headers: list[tuple[str, str]]
) -> tuple[Iterable[bytes], list[tuple[str, str]]]:
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
