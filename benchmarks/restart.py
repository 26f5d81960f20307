"""Time until a worker trains: from the start of the command, and from the moment that it is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.between import SPACE
from benchmarks.measure import ROOT, Row, Section, Setting, in_turns, median, spread

COMMAND = "from tuner.cli import main; main()"
WITHOUT = f"from tuner.fleet import fork_server; fork_server.AVAILABLE = False; {COMMAND}"
EPOCHS = "(SELECT count(*) FROM tuner_epoch)"
TARGET = 1.5


def measure(setting: Setting) -> Section:
    starts: dict[str, list[float]] = {"forked": [], "interpreter": []}

    def restart(name: str, code: str) -> float:
        with tempfile.TemporaryDirectory(dir=setting.folder) as place:
            started, restarted = run_and_kill(Path(place), code)
        starts[name].append(started)
        return restarted

    rounds = setting.pick(5, 1)
    restarts = in_turns(
        rounds, forked=lambda: restart("forked", COMMAND), interpreter=lambda: restart("interpreter", WITHOUT)
    )
    rows = [
        compare("from kill -9 to the next epoch, s", restarts, TARGET),
        compare("from the command to the first epoch, s", starts, None),
    ]
    reading = [
        "A worker of `tuner run` (U-Net of width 4 at 32 px, an epoch takes less than a second) is killed after "
        "its first epoch; its successor resumes the trial.",
        "Left: workers fork from a server that has imported torch. Right: each starts an interpreter.",
    ]
    return Section("restart", "Start and restart of a worker", ("", "forked", "interpreter"), rows, reading)


def compare(what: str, times: dict[str, list[float]], target: float | None) -> Row:
    ratio = median(times["interpreter"]) / median(times["forked"])
    wanted, met = ("", None) if target is None else (f"at least {target:g}", ratio >= target)
    return Row(what, spread(times["forked"]), spread(times["interpreter"]), f"{ratio:.2f}", wanted, met)


def run_and_kill(folder: Path, code: str) -> tuple[float, float]:
    """Run a search, kill its worker after an epoch, and return the seconds to the first and to the next epoch."""
    space = folder / "tiny.py"
    space.write_text(SPACE.format(size=32, k=4, epochs=2000))
    command = [sys.executable, "-c", code, "run", "--space", str(space), "--home", str(folder / "home")]
    env = {name: value for name, value in os.environ.items() if name != "TUNER_STORAGE"}
    database = folder / "home" / "tuner.db"
    began = time.perf_counter()
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=quiet, stderr=quiet, start_new_session=True) as fleet:
        try:
            ((pid,),) = wait_for_rows(database, f"SELECT pid FROM tuner_worker WHERE {EPOCHS} >= 1", fleet)
            started = time.perf_counter() - began
            os.kill(pid, signal.SIGKILL)
            began = time.perf_counter()
            ((epochs,),) = wait_for_rows(database, f"SELECT {EPOCHS}", fleet)
            wait_for_rows(database, f"SELECT 1 WHERE {EPOCHS} > {epochs}", fleet)
            return started, time.perf_counter() - began
        finally:
            fleet.kill()


def wait_for_rows(
    database: Path, query: str, fleet: subprocess.Popen[bytes], seconds: float = 120
) -> list[tuple[int, ...]]:
    end = time.monotonic() + seconds
    while time.monotonic() < end and fleet.poll() is None:
        with suppress(sqlite3.OperationalError):
            db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
            try:
                if rows := db.execute(query).fetchall():
                    return rows
            finally:
                db.close()
        time.sleep(0.05)
    raise RuntimeError(f"no row came: {query}")
