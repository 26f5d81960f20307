"""Time of light commands, from start to exit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.between import SPACE
from benchmarks.measure import ROOT, Row, Section, Setting, in_turns, median, seconds, spread
from benchmarks.studies import fill, open_study
from tuner.paths import Home

HELP_TARGET = 3.0
BIN = Path(sys.executable).parent


def measure(setting: Setting) -> Section:
    with tempfile.TemporaryDirectory(dir=setting.folder) as place:
        home = Home(Path(place) / "home").make()
        space = Path(place) / "tiny.py"
        space.write_text(SPACE.format(size=32, k=4, epochs=5))
        joined = open_study(home.database, space, "tiny")
        fill(joined, setting.pick(200, 10), 5)
        joined.engine.dispose()
        times = run_all(setting, home)
    num = setting.pick(200, 10)
    click, optuna = median(times["click"]), median(times["optuna"])
    ratio = median(times["help"]) / click
    rows = [
        Row("tuner --help, ms", shown(times["help"]), f"import click: {shown(times['click'])}", f"{ratio:.2f}",
            f"at most {HELP_TARGET:g}", ratio <= HELP_TARGET)
    ]  # fmt: skip
    for name in ("status", "best", "spaces"):
        share = median(times[name]) / optuna
        other = f"optuna trials: {shown(times['optuna'])}"
        rows.append(Row(f"tuner {name}, ms", shown(times[name]), other, f"{share:.2f}", "at most 1", share <= 1))
    reading = [f"Whole processes, from the shell's view, on a study of {num} trials of 5 epochs in SQLite."]
    return Section("start", "Start of the command line", ("", "tuner", "other"), rows, reading)


def run_all(setting: Setting, home: Home) -> dict[str, list[float]]:
    tuner = [str(BIN / "tuner")]
    asked = ["trials", "--storage", home.database, "--study-name", "tiny", "--format", "json"]
    commands = {
        "click": [sys.executable, "-c", "import click"],
        "help": [*tuner, "--help"],
        "status": [*tuner, "status", "--home", str(home.folder)],
        "best": [*tuner, "best", "--home", str(home.folder)],
        "spaces": [*tuner, "spaces"],
        "optuna": [shutil.which("optuna", path=str(BIN)) or "optuna", *asked],
    }
    ways = {name: lambda command=command: seconds(lambda: call(command)) for name, command in commands.items()}
    in_turns(1, **ways)  # the first reads the files from disk
    return in_turns(setting.pick(15, 3), **ways)


def call(command: list[str]) -> None:
    env = {name: value for name, value in os.environ.items() if name != "TUNER_STORAGE"}
    subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def shown(values: list[float]) -> str:
    return spread([value * 1000 for value in values], 0)
