"""Throughput of real fleets: one worker on one core, one on two, two on one each."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from benchmarks.between import SPACE
from benchmarks.measure import ROOT, Row, Section, Setting, in_turns, median, spread

TARGET = 1.8


def measure(setting: Setting) -> Section:
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        return Section("workers", "Workers", ("", "", ""), [], ["Needs two cores; this machine has one."])
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        place = Path(folder)
        space = place / "steady.py"
        space.write_text(SPACE.format(size=setting.pick(128, 32), k=setting.pick(16, 4), epochs=1))
        number = iter(range(1000))

        def fleet(workers: int, on: list[int]) -> float:
            rate = per_hour(place / f"home{next(number)}", space, workers, on, setting.pick(16, 4))
            setting.log(f"workers: {workers} on {len(on)} cores, {rate:.0f} trials/h")
            return rate

        rates = in_turns(
            setting.pick(3, 1),
            one=lambda: fleet(1, cores[:1]),
            both=lambda: fleet(1, cores),
            two=lambda: fleet(2, cores),
        )
    two, one, both = (median(rates[name]) for name in ("two", "one", "both"))
    rows = [
        Row("two workers of one thread / one, trials/h", spread(rates["two"], 0), spread(rates["one"], 0),
            f"{two / one:.2f}", f"at least {TARGET}", two >= TARGET * one),
        Row("two workers of one thread / one with both cores, trials/h", spread(rates["two"], 0),
            spread(rates["both"], 0), f"{two / both:.2f}", "at least 1", two >= both),
    ]  # fmt: skip
    reading = [
        "Real `tuner run --workers` fleets on SQLite, each a new study of equal trials of one epoch. Measured"
        " from the start of the first trial to the end of the last, so process start-up is not included.",
    ]
    return Section("workers", "Workers", ("", "two workers", "one worker"), rows, reading)


def per_hour(home: Path, space: Path, workers: int, cores: list[int], trials: int) -> float:
    """Return the trials per hour of one fleet on these cores."""
    subprocess.run(
        [sys.executable, "-m", "tuner.cli", "run", "--space", str(space), "--home", str(home),
         "--workers", str(workers), "--trials", str(trials)],
        cwd=ROOT, env={**os.environ, "TUNER_STORAGE": ""}, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )  # fmt: skip
    trials_done, seconds = span(home)
    return 3600 * trials_done / seconds


def span(home: Path) -> tuple[int, float]:
    """Return the number of trials and the seconds from the first start to the last end."""
    with sqlite3.connect(home / "tuner.db") as db:
        rows = db.execute(
            "SELECT datetime_start, datetime_complete FROM trials WHERE state = 'COMPLETE'"
        ).fetchall()
    began, ended = ([datetime.fromisoformat(row[at]).timestamp() for row in rows] for at in (0, 1))
    return len(rows), max(ended) - min(began)
