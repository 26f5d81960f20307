"""Time of commands that are typed often, from start to exit, as ratios to `import torch`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.between import SPACE
from benchmarks.measure import ROOT, Row, Section, Setting, in_turns, median, seconds, spread
from benchmarks.studies import fill, open_study
from tuner.paths import Home
from tuner.study import budget

TRIALS = 50
BUNDLE = ROOT / "tests" / "golden" / "v0_1" / "bundle"
TARGETS = {  # the most that a command may take, in units of `import torch`
    "predict of an image": 1.5,
    "run, budget spent": 0.6,
    "run, no such folder": 0.3,
    "predict, no such image": 0.3,
}


def measure(setting: Setting) -> Section:
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        place = Path(folder)
        home = Home(place / "home").make()
        space = place / "tiny.py"
        space.write_text(SPACE.format(size=32, k=4, epochs=5))
        joined = open_study(home.database, space, "tiny")
        fill(joined, TRIALS, 5)
        budget.set_budget(joined.engine, joined.id, num_trials=TRIALS)
        joined.engine.dispose()
        picture = np.random.default_rng(0).integers(0, 255, (480, 640, 3)).astype(np.uint8)
        Image.fromarray(picture).save(place / "photo.png")
        times = run_all(setting, place)
    torch = median(times["import torch"])
    rows = [make_row(name, times, torch) for name in times if name != "import torch"]
    reading = [
        f"Wall time of whole processes, in turns with `python -c 'import torch'`, on a study of {TRIALS} trials "
        "in SQLite and a small bundle. A run of a spent study, and a path that does not exist, are told without "
        "importing torch."
    ]
    return Section("startup", "Start of what is typed every day", ("", "tuner", "import torch"), rows, reading)


def make_row(name: str, times: dict[str, list[float]], torch: float) -> Row:
    ratio, target = median(times[name]) / torch, TARGETS.get(name)
    most, met = (f"at most {target:g}", ratio <= target) if target else ("", None)
    return Row(
        f"tuner {name}, s", spread(times[name], 2), spread(times["import torch"], 2), f"{ratio:.2f}", most, met
    )


def run_all(setting: Setting, place: Path) -> dict[str, list[float]]:
    home = ["--home", str(place / "home")]
    tuner, space = [sys.executable, "-m", "tuner.cli"], ["--space", str(place / "tiny.py")]
    predict = [*tuner, "predict", str(BUNDLE), "--out", str(place / "out")]
    commands = {
        "import torch": [sys.executable, "-c", "import torch"],
        "predict of an image": [*predict, str(place / "photo.png")],
        "run, budget spent": [*tuner, "run", *space, *home],
        "run, no such folder": [*tuner, "run", *space, *home, "--data", str(place / "absent")],
        "predict, no such image": [*predict, str(place / "absent.png")],
        "--help": [*tuner, "--help"],
        "status": [*tuner, "status", *home],
        "best": [*tuner, "best", *home],
        "trials": [*tuner, "trials", *home],
    }
    ways = {name: lambda command=command: seconds(lambda: call(command)) for name, command in commands.items()}
    in_turns(1, **ways)  # the first reads the files from disk
    return in_turns(setting.pick(7, 2), **ways)


def call(command: list[str]) -> None:
    """Run a command, which ends with 2 where it is to fail."""
    env = {name: value for name, value in os.environ.items() if name != "TUNER_STORAGE"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode != (2 if any("absent" in part for part in command) else 0):
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    if "run" in command and done.returncode == 0 and "trials trained; to continue" not in done.stdout:
        raise RuntimeError(f"the study is not spent: {done.stdout}")
