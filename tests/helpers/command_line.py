"""A search so small that a whole run takes seconds, and the processes that run it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from helpers.fork_server import NAME, start_python
from tuner.cli import main
from tuner.study import database, queries
from tuner.study.queries import StudySummary

SPACE = '''"""Tiny: a U-Net of width 4 on 32 pixels."""

from tuner import Recipe, maximize, search, use

GOAL = maximize("iou")
SEARCH = search(pruning="stop")  # the first trial is always trained to its end

def suggest(trial):
    lr = trial.suggest_float("lr", {low}, {high}, log=True)
    loss = trial.suggest_categorical("loss", ["bce", "dice"])
{extra}    return Recipe(
        task="binary",
        data=use("shapes", image_size=32),
        model={model},
        loss=use(loss),
        optimizer=use("adam", lr=lr),
        epochs={epochs},
        batch_size={batch},
        precision="fp32",
    )
'''


def write_space(
    folder: Path, epochs: int | str = 3, name: str = "tiny", model: str = 'use("unet", k=4)',
    low: float = 1e-4, high: float = 1e-2, batch: int = 32, extra: str = "",
) -> Path:  # fmt: skip
    """A space file; `extra` is further lines of suggest()."""
    path = folder / f"{name}.py"
    path.write_text(
        SPACE.format(epochs=epochs, model=model, low=low, high=high, batch=batch, extra=extra),
        encoding="utf-8",
    )
    return path


def environment(folder: Path, **env: str) -> dict[str, str]:
    """As a user has it, with one thread: many run at once here. `folder` holds modules of the user's own."""
    clean = {k: v for k, v in os.environ.items() if k not in ("TUNER_STORAGE", "TUNER_DATA")}
    return {**clean, "HOME": str(folder), "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", **env}


def start(folder: Path, *args: str | Path, max_bytes: int = -1, **env: str) -> subprocess.Popen[str]:
    """The command line in a process and a session of its own; its output goes to its pipes.

    No file may grow beyond `max_bytes`: as near to a full disk as any user can come.
    """
    process: subprocess.Popen[str] = start_python(
        "tuner.cli",
        *args,
        cwd=folder,
        env=environment(folder, **env),
        max_bytes=max_bytes,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    return process


def call(folder: Path, *args: str) -> Result:
    """The command line in this process, as it is typed in a folder; its workers are processes of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("TUNER_STORAGE", raising=False)
        return CliRunner().invoke(main, list(args))


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for its end; what it said and how it ended."""
    out, err = process.communicate(timeout=200)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def run(folder: Path, *args: str | Path, max_bytes: int = -1, **env: str) -> subprocess.CompletedProcess[str]:
    return finish(start(folder, *args, max_bytes=max_bytes, **env))


@contextmanager
def running(folder: Path, *args: str | Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    """A command that is surely gone afterwards, with its workers."""
    process = start(folder, *args, **env)
    try:
        yield process
    finally:
        for child in children(process.pid):
            child.kill()
        process.kill()
        process.communicate()


def children(pid: int) -> list[psutil.Process]:
    """The processes below one: its workers, and theirs."""
    try:
        return [child for child in psutil.Process(pid).children(recursive=True) if child.name() != NAME]
    except psutil.NoSuchProcess:
        return []


def wait_for(what: Callable[[], Any], process: subprocess.Popen[str] | None = None, seconds: float = 120) -> Any:
    """The first true answer of `what`; fails when the time is over or the process ended before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if answer := what():
            return answer
        if process is not None and process.poll() is not None:
            out, err = process.communicate()
            raise AssertionError(f"it ended with {process.returncode}\n{out}\n{err}")
        time.sleep(0.02)
    raise AssertionError("waited too long")


def home_url(home: Path) -> str:
    return f"sqlite:///{home / 'tuner.db'}"


@contextmanager
def opened(url: str) -> Iterator[sa.Engine]:
    """An engine to look with, closed afterwards."""
    engine = database.connect(url)
    try:
        yield engine
    finally:
        engine.dispose()


def rows(url: str, query: str, **values: object) -> list[Any]:
    """What a query gives now; nothing while the tables are not there yet."""
    if database.is_absent(url):
        return []
    with opened(url) as engine, engine.connect() as db:
        try:
            return list(db.execute(sa.text(query), values))
        except (sa.exc.OperationalError, sa.exc.ProgrammingError):
            return []


def alter(url: str, statement: str, **values: object) -> None:
    """Change the database by hand, as another program would."""
    with opened(url) as engine, engine.begin() as db:
        db.execute(sa.text(statement), values)


def glance(url: str, study: str = "tiny") -> StudySummary:
    with opened(url) as engine:
        return queries.read_summary(engine, queries.find_study(engine, study))


def epochs_of(url: str, number: int) -> list[int]:
    """The epochs recorded of a trial, as they stand in the table, in order."""
    query = (
        "SELECT e.epoch FROM tuner_epoch e JOIN trials t ON t.trial_id = e.trial_id "
        "WHERE t.number = :number ORDER BY e.epoch"
    )
    return [row.epoch for row in rows(url, query, number=number)]


def worker_pids(url: str) -> list[int]:
    return [row.pid for row in rows(url, "SELECT pid FROM tuner_worker ORDER BY born")]


def states(url: str) -> dict[int, str]:
    return {row.number: row.state for row in rows(url, "SELECT number, state FROM trials ORDER BY number")}


def claims(url: str) -> list[tuple[int, str | None, int]]:
    """(slot, worker, deaths) of every claim."""
    return [tuple(row) for row in rows(url, "SELECT slot, worker, deaths FROM tuner_claim ORDER BY slot")]
