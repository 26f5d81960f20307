"""A real MariaDB for the tests, where the Debian package `mariadb-server` is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pymysql
import pytest

from helpers.command_line import wait_for

QUICK = [  # a test's database need not outlive a power failure
    *("--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--skip-log-bin"),
    *("--innodb-buffer-pool-size=32M", "--innodb-log-file-size=16M", "--max-connections=200"),
]


def program(name: str) -> str:
    """Where a program of the server is: Debian puts some where only the administrator looks."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin") or ""


@dataclass(frozen=True)
class MariaDB:
    """A running server. It listens on a socket in its own folder only."""

    folder: Path

    @property
    def socket(self) -> Path:
        return self.folder / "socket"

    def run(self, statement: str) -> None:
        with (
            pymysql.connect(unix_socket=str(self.socket), user="root", connect_timeout=10) as db,
            db.cursor() as cursor,
        ):
            cursor.execute(statement)

    def fresh(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self.run(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, name: str, user: str = "root") -> str:
        return f"mysql://{user}@localhost/{name}?unix_socket={self.socket}"

    def answers(self) -> bool:
        """Asked without the driver: where nobody listens, it would leave a socket open."""
        with closing(socket.socket(socket.AF_UNIX)) as probe:
            return probe.connect_ex(str(self.socket)) == 0


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """A server of this process's own, as a user without rights, gone with its folder afterwards."""
    if not program("mariadbd"):
        pytest.skip("no MariaDB on this machine (Debian: apt-get install mariadb-server)")
    with tempfile.TemporaryDirectory(prefix="tuner-mariadb-") as name:
        found = MariaDB(Path(name))
        user = "mysql" if os.geteuid() == 0 else None  # it does not run as root
        if user:
            os.chown(name, pwd.getpwnam(user).pw_uid, -1)
        data, aside = f"--datadir={name}/data", f"--tmpdir={name}"  # in /tmp, two that begin together collide
        make = [
            program("mariadb-install-db"),
            "--no-defaults",
            data,
            aside,
            "--auth-root-authentication-method=normal",
        ]
        subprocess.run([*make, "--skip-test-db"], user=user, check=True, capture_output=True)
        places = [data, aside, f"--socket={found.socket}", f"--pid-file={name}/pid", "--skip-networking"]
        with (found.folder / "log").open("wb") as log:
            command = [program("mariadbd"), "--no-defaults", *places, *QUICK]
            process = subprocess.Popen(command, user=user, stdout=log, stderr=log)
        try:
            wait_for(found.answers)
            yield found
        finally:
            process.terminate()
            process.wait(60)
