"""docker-compose.yml as Compose would read it, and its services started by hand.

No Docker engine is here. What it would do is done by hand: variables are filled in, folders stand for volumes, and
the address of the database for its name. Commands, health checks and passwords are as written.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from helpers.command_line import environment, wait_for
from helpers.postgres import Postgres

ROOT = Path(__file__).parents[2]
SLURM = ROOT / "docs" / "cluster" / "slurm.sh"
KUBERNETES = ROOT / "docs" / "cluster" / "kubernetes.yaml"
ONE_GPU = ROOT / "docs" / "cluster" / "one-gpu.sh"
PASSWORD = "correct horse"
LOOK_PASSWORD = "battery staple"  # of the dashboard
PASSWORDS = {"TUNER_DB_PASSWORD": PASSWORD, "TUNER_DASHBOARD_PASSWORD": LOOK_PASSWORD}
VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:?[-?])([^}]*))?\})")


class Missing(Exception):
    """A variable that must be given."""


def interpolate(value: Any, variables: dict[str, str]) -> Any:
    """Fill in variables as the Compose specification says."""

    def fill(match: re.Match[str]) -> str:
        dollar, name, operator, word = match.groups()
        if dollar:
            return "$"
        given = variables.get(name)
        if given is not None and (given or not (operator or "").startswith(":")):
            return given
        if operator in ("?", ":?"):
            raise Missing(f"{name}: {word}")
        return word or ""

    if isinstance(value, dict):
        return {key: interpolate(inner, variables) for key, inner in value.items()}
    if isinstance(value, list):
        return [interpolate(inner, variables) for inner in value]
    return VARIABLE.sub(fill, value) if isinstance(value, str) else value


def compose(**variables: str) -> dict[str, Any]:
    return interpolate(yaml.safe_load((ROOT / "docker-compose.yml").read_text()), variables)


def services(**variables: str) -> dict[str, Any]:
    return compose(**{**PASSWORDS, **variables})["services"]


def kubernetes() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(KUBERNETES.read_text()))


def dockerfile() -> list[tuple[str, str]]:
    """The instructions and what stands after them."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]  # type: ignore[misc]


def of(instruction: str) -> list[str]:
    return [rest.strip() for name, rest in dockerfile() if name == instruction]


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Stack:
    """What Compose would start, by hand in a folder; `port` is the database's."""

    folder: Path
    bin: Path
    user: str | None
    port: int
    services: dict[str, Any]

    def running(self, options: str) -> Stack:
        """The same with another TUNER_RUN."""
        return replace(self, services=services(TUNER_RUN=options, TUNER_FOLDER="work"))

    @property
    def url(self) -> str:
        return f"postgresql://tuner:correct%20horse@127.0.0.1:{self.port}/tuner"

    def place(self, word: str) -> str:
        """A path in a container -> the folder that stands for its volume, or for its secrets."""
        return re.sub(r"^/(runs|work|run/secrets)\b", rf"{self.folder}/\1", word)

    def environment(self, name: str) -> dict[str, str]:
        image = dict(pair.split("=", 1) for line in of("ENV") for pair in shlex.split(line))
        given = {**image, **self.services[name]["environment"]}
        network = {"PGHOSTADDR": "127.0.0.1", "PGPORT": str(self.port)}  # where the name `db` leads
        path = f"{Path(sys.executable).parent}:{self.bin}:{os.environ['PATH']}"
        placed = {key: self.place(value) for key, value in given.items()}
        return environment(self.folder, **placed, **network, PATH=path, TUNER_LOCKS=f"{self.folder}/runs/gpus")

    def words(self, name: str) -> list[str]:
        """Entrypoint and command; tini, which only passes signals on, is not here."""
        service = self.services[name]
        entry = service.get("entrypoint", json.loads(of("ENTRYPOINT")[0]))
        assert entry[:2] == ["tini", "--"]
        command = [self.place(word) for word in shlex.split(service["command"])]
        return [str(ONE_GPU) if word == "one-gpu" else word for word in entry[2:]] + command

    def start(self, name: str, words: list[str] | None = None, **options: Any) -> subprocess.Popen[str]:
        options = {"env": self.environment(name), "cwd": self.folder / "work", **options}
        return subprocess.Popen(
            words or self.words(name), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True, **options,
        )  # fmt: skip

    def run(self, name: str) -> tuple[int, str]:
        return ended(self.start(name))

    def is_healthy(self, name: str) -> bool:
        kind, *test = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        return subprocess.run(test, env=self.environment(name), capture_output=True, timeout=30).returncode == 0


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, _ = process.communicate(timeout=200)
    return process.returncode, out


@contextmanager
def gone_afterwards(*processes: subprocess.Popen[str]) -> Iterator[None]:
    """Whatever happens, they and all that they started are gone."""
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.communicate(timeout=60)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def stack(tmp_path: Path, postgres: Postgres) -> Iterator[Stack]:
    """The database of docker-compose.yml, started as its image would; the folders of the volumes."""
    for name in ("runs", "work/search_spaces", "run/secrets"):
        (tmp_path / name).mkdir(parents=True)
    secret = tmp_path / "run/secrets/dashboard_password"
    secret.write_text(LOOK_PASSWORD)
    secret.chmod(0o400)
    variables = {"TUNER_RUN": "--space tiny --trials 4", "TUNER_PORT": str(free_port()), "TUNER_FOLDER": "work"}
    made = Stack(
        tmp_path, postgres.server.bin_path, postgres.server.system_user, free_port(), services(**variables)
    )
    data = postgres.folder / f"compose-{made.port}"  # where the server's user may write
    password = Path(f"{data}.password")
    password.write_text(made.services["db"]["environment"]["POSTGRES_PASSWORD"])
    password.chmod(0o644)
    how = ["--username=tuner", "--auth=scram-sha-256", f"--pwfile={password}", f"--pgdata={data}"]
    subprocess.run([made.bin / "initdb", *how], user=made.user, check=True, capture_output=True)
    with (data / "postgresql.conf").open("a") as conf:
        conf.write(f"port = {made.port}\nunix_socket_directories = ''\nfsync = off\n")
    assert not made.is_healthy("db")
    env = {**made.environment("db"), "PGDATA": str(data)}
    words = shlex.split(made.services["db"]["command"])
    server = made.start("db", [str(made.bin / words[0]), *words[1:]], env=env, cwd=data, user=made.user)
    with gone_afterwards(server):
        wait_for(lambda: made.is_healthy("db"), server)
        with psycopg.connect(made.url.removesuffix("tuner") + "postgres", autocommit=True) as db:
            db.execute("CREATE DATABASE tuner")  # POSTGRES_DB
        yield made
