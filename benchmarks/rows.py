"""A table of 40 rows on one and two workers: results equal to the last bit, in about half the time."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.between import SPACE
from benchmarks.measure import ROOT, Row, Section, Setting, in_turns, median, spread
from benchmarks.workers import span

TARGET = 0.56
HEAD = 'about = "equal rows"\nspace = "{space}"\ndata = "shapes"\nmetric = "iou"\n'
ROW = "\n[[rows]]\nparams = {{ lr = {lr}, batch_size = {batch} }}\npublished = 0.5\n"


def measure(setting: Setting) -> Section:
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        return Section("rows", "Fixed rows", ("", "", ""), [], ["Needs two cores; this machine has one."])
    number = setting.pick(40, 6)
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        place = Path(folder)
        table = write_table(setting, place, number)
        homes = (place / f"home{at}" for at in range(1000))
        results: list[dict[str, str]] = []
        whole: dict[str, list[float]] = {"one": [], "two": []}

        def train(way: str) -> float:
            home = next(homes)
            whole[way].append(run(home, table, cores[: 1 + (way == "two")]))
            results.append(outcome(home))
            seconds = span(home)[1]
            setting.log(f"rows: {way}: {seconds:.1f} s, with the processes' start {whole[way][-1]:.1f} s")
            return seconds

        times = in_turns(setting.pick(3, 1), one=lambda: train("one"), two=lambda: train("two"))
    ratio = median(times["two"]) / median(times["one"])
    same = all(result == results[0] for result in results) and len(results[0]) == number
    rows = [
        Row(f"{number} rows, s", spread(times["two"]), spread(times["one"]), f"{ratio:.2f}",
            f"at most {TARGET}", ratio <= TARGET),
        Row("the whole command, s", spread(whole["two"]), spread(whole["one"]),
            f"{median(whole['two']) / median(whole['one']):.2f}"),
        Row("results", "every metric of every epoch, and the best weights", "the same to the last bit",
            "equal" if same else "DIFFERENT", "equal", same),
    ]  # fmt: skip
    reading = [
        f"`tuner run --table FILE --workers N` with a table of {number} rows, one thread and one core a worker, "
        "SQLite. From the start of the first trial to the end of the last; the second row has the start of the "
        "processes as well.",
    ]
    return Section("rows", f"{number} fixed rows", ("", "two workers", "one worker"), rows, reading)


def write_table(setting: Setting, place: Path, number: int) -> Path:
    """Write a table with this many different rows, and its space."""
    space = place / "steady.py"
    space.write_text(SPACE.format(size=setting.pick(128, 32), k=setting.pick(16, 4), epochs=2))
    rows = [ROW.format(lr=f"{1e-4 * (at // 2 + 1):.6f}", batch=8 + at % 2) for at in range(number)]
    table = place / "rows.toml"
    table.write_text(HEAD.format(space=space) + "".join(rows))
    return table


def run(home: Path, table: Path, cores: list[int]) -> float:
    """Run the command with one worker on each of these cores; return the seconds."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "tuner.cli", "run", "--table", str(table), "--home", str(home),
         "--workers", str(len(cores))],
        cwd=ROOT, env={**os.environ, "TUNER_STORAGE": "", "OMP_NUM_THREADS": "1"}, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )  # fmt: skip
    return time.perf_counter() - began


def outcome(home: Path) -> dict[str, str]:
    """Return for each row's key the stored metrics of all epochs and a hash of the best weights."""
    query = (
        "SELECT a.value_json, t.number, e.epoch, e.value, e.metrics FROM trials t "
        "JOIN trial_user_attributes a ON a.trial_id = t.trial_id AND a.key = 'listed_as' "
        "JOIN tuner_epoch e ON e.trial_id = t.trial_id WHERE t.state = 'COMPLETE' ORDER BY t.number, e.epoch"
    )
    found: dict[str, str] = {}
    with sqlite3.connect(home / "tuner.db") as db:
        for key, number, epoch, value, metrics in db.execute(query):
            told = json.dumps([epoch, value, json.loads(metrics)], sort_keys=True)
            found[key] = found.get(key, weights(home, number)) + told
    return found


def weights(home: Path, number: int) -> str:
    """Hash a trial's best weights."""
    (path,) = home.glob(f"trials/*/{number:05d}/attempt-1/best.safetensors")
    return hashlib.sha256(path.read_bytes()).hexdigest()
