"""Wall time of a whole search until a recipe is near the best: `tuner run` against a plain script of Optuna."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, Section, Setting, child, spread
from benchmarks.photos import write_photos

TARGET = 8.0
NEAR = 0.01  # of IoU
LEARNING_RATES, LOSSES = [2e-4, 1e-3, 5e-3], ["bce", "dice", "focal"]
TUNER = Path(sys.executable).parent / "tuner"
SPACE = '''"""{number} U-Nets: learning rate x width x loss."""

from tuner import Recipe, maximize, use

GOAL = maximize("iou")


def suggest(trial):
    lr = trial.suggest_categorical("lr", {rates})
    k = trial.suggest_categorical("k", {widths})
    loss = trial.suggest_categorical("loss", {losses})
    return Recipe(
        task="binary",
        data=use({photos!r}, image_size={size}),
        model=use("unet", k=k, dropout=0.1),
        loss=use(loss),
        optimizer=use("adam", lr=lr),
        schedule=use("plateau"),
        augment=use("flip"),
        epochs={epochs},
        batch_size=8,
    )
'''


def measure(setting: Setting) -> Section:
    photos = setting.data or write_photos(setting.folder / "photos300", setting.pick(300, 16))
    config: dict[str, Any] = {
        "rates": LEARNING_RATES if not setting.quick else LEARNING_RATES[1:],
        "widths": [8, 16, 32] if not setting.quick else [4],
        "losses": LOSSES[: setting.pick(3, 2)],
        "size": setting.pick(96, 32),
        "epochs": setting.pick(27, 2),
        "photos": str(photos),
    }
    number = len(config["rates"]) * len(config["widths"]) * len(config["losses"])
    place = setting.folder / "live"
    place.mkdir(parents=True, exist_ok=True)
    space = place / "live.py"
    space.write_text(SPACE.format(**config, number=number))
    near = train_all(setting, space, number) - NEAR
    config |= {"near": near, "cap": number * config["epochs"]}
    ours, theirs = [], []
    for seed in range(setting.pick(3, 1)):
        ours.append(search_ours(space, seed, config))
        setting.log(f"live: tuner {ours[-1]['seconds']:.0f} s, {ours[-1]['epochs']} epochs")
        theirs.append(child("live_plain", config | {"seed": seed}))
        setting.log(f"live: plain script {theirs[-1]['seconds']:.0f} s, {theirs[-1]['epochs']} epochs")
    ratio = statistics.median(their["seconds"] / our["seconds"] for our, their in zip(ours, theirs, strict=True))
    rows = [
        Row("seconds to a near-best recipe", shown(ours, "seconds"), shown(theirs, "seconds"), f"{ratio:.1f}",
            f"at least {TARGET:g}", ratio >= TARGET),
        Row("epochs", shown(ours, "epochs"), shown(theirs, "epochs")),
    ]  # fmt: skip
    reading = [
        f"{number} recipes (learning rate x width x loss) at {config['size']} px, {config['epochs']} epochs each; "
        f"near the best is a validation IoU of {near:.3f}, {NEAR} below the best of all, each trained to its end.",
        "Whole processes, start included, in turns: tuner run with the defaults, and a script of Optuna's TPE and "
        "SuccessiveHalvingPruner that trains the same U-Nets in fp32 from the image files.",
    ]
    return Section("live", "A whole search", ("", "tuner", "Optuna script"), rows, reading)


def shown(runs: list[dict[str, Any]], name: str) -> str:
    return spread([float(run[name]) for run in runs], 0)


def train_all(setting: Setting, space: Path, number: int) -> float:
    """Return the best value of all recipes, each trained to its end; done once, then read from the folder."""
    home = space.parent / ("all-quick" if setting.quick else "all")
    call([*command(space, home, 0), "--sampler", "grid", "--pruning", "none"])
    return read_progress(home)[0]


def search_ours(space: Path, seed: int, config: dict[str, Any]) -> dict[str, Any]:
    """Return the seconds and epochs until a value is near the best; then the search is interrupted."""
    home = space.parent / f"home-{seed}"
    shutil.rmtree(home, ignore_errors=True)
    began = time.perf_counter()
    arguments = [*command(space, home, seed), "--trials", str(config["cap"])]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen(arguments, env=environment(), **quiet)  # type: ignore[call-overload]
    best, epochs = 0.0, 0
    while best < config["near"] and epochs < config["cap"] and running.poll() is None:
        time.sleep(0.1)
        best, epochs = read_progress(home)
    seconds = time.perf_counter() - began
    if running.poll() is None:
        running.send_signal(signal.SIGINT)
    running.wait()
    return {"seconds": seconds, "epochs": epochs, "best": best}


def command(space: Path, home: Path, seed: int) -> list[str]:
    return [str(TUNER), "run", "--space", str(space), "--home", str(home), "--seed", str(seed)]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("TUNER_STORAGE", "TUNER_DATA")}


def call(arguments: list[str]) -> None:
    subprocess.run(arguments, env=environment(), check=True, stdout=subprocess.DEVNULL)


def read_progress(home: Path) -> tuple[float, int]:
    """Return the best value of any epoch and the number of epochs so far; zeros before there is a database."""
    found = sorted(home.glob("*.db"))
    if found:
        with (
            contextlib.suppress(sqlite3.OperationalError),
            contextlib.closing(sqlite3.connect(f"file:{found[0]}?mode=ro", uri=True, timeout=5)) as db,
        ):
            best, epochs = db.execute("SELECT max(value), count(*) FROM tuner_epoch").fetchone()
            return float(best or 0.0), int(epochs)
    return 0.0, 0
