"""optuna-dashboard on the study's storage and artifacts, on loopback."""

from __future__ import annotations

import os
from collections.abc import Callable
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from tuner import database
from tuner.errors import StorageError, TunerError
from tuner.runs import Home

LOOPBACK = ("127.0.0.1", "localhost")  # in a container, whoever publishes its port decides who reaches it


class Server(ThreadingMixIn, WSGIServer):
    """A page loads many things at once: a thread for each request."""

    daemon_threads = True


class Quiet(WSGIRequestHandler):
    """No line for each request."""

    def log_message(self, format: str, *args: object) -> None:
        pass


def serve(url: str, home: Home, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve until interrupted. `ready` gets the address; port 0 takes a free one."""
    if host not in LOOPBACK and not ("TUNER_IN_CONTAINER" in os.environ and host == "0.0.0.0"):
        raise TunerError(
            "the dashboard has no login and can delete studies, so it listens on this machine only; "
            f"{host} is not allowed. Reach it from elsewhere through: ssh -L 8080:127.0.0.1:8080 THIS_HOST"
        )
    if database.is_absent(url):
        raise StorageError(f"no database at {database.shown(url)} yet. Begin with: tuner run --space unet_k")
    from optuna.artifacts import FileSystemArtifactStore
    from optuna_dashboard import wsgi

    from tuner.storage import open_storage

    storage, _ = open_storage(url)
    home.make()
    app = wsgi(storage, artifact_store=FileSystemArtifactStore(home.artifacts))
    try:
        server = make_server(host, port, app, server_class=Server, handler_class=Quiet)
    except OSError as error:
        raise TunerError(
            f"port {port} of {host} cannot be used ({error.strerror}). Choose another with --port."
        ) from error
    with server:
        ready(f"http://{host}:{server.server_port}/dashboard/")
        server.serve_forever()
