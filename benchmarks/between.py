"""Time that a warm worker spends between two trainings, by function.

A real worker draws tiny trials from a real database; functions of it are timed from outside. A second
inside one of them counts for the innermost only, so the pieces add up to the whole.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, Section, Setting, child, median, spread

TARGET_SECONDS, TARGET_SHARE, TRIAL_SECONDS = 0.3, 0.03, 10.0
TRAINING = "training"
SPACE = """\
from tuner import Recipe, maximize, search, use

GOAL = maximize("iou")
SEARCH = search(pruning="stop")


def suggest(trial):
    return Recipe(
        task="binary", data=use("shapes", image_size={size}), model=use("unet", k={k}), loss=use("bce"),
        optimizer=use("adam", lr=trial.suggest_float("lr", 1e-4, 1e-2, log=True)), augment=use("flip"),
        batch_size=trial.suggest_int("batch_size", 8, 9), epochs={epochs},
    )
"""


def measure(setting: Setting) -> Section:
    found = child("between", {"trials": setting.pick(30, 5), "epochs": 2})
    cycles: list[dict[str, float]] = found["cycles"]
    between = [sum(seconds for name, seconds in cycle.items() if name != TRAINING) for cycle in cycles]
    typical = median(between)
    share = typical / TRIAL_SECONDS
    rows = [
        Row("between two trainings, s", spread(between, 3), "", "",
            f"under {TARGET_SECONDS}", typical < TARGET_SECONDS),
        Row(f"of a trial of {TRIAL_SECONDS:g} s", f"{share:.1%}", "", "",
            f"under {TARGET_SHARE:.0%}", share < TARGET_SHARE),
    ]  # fmt: skip
    names = sorted({name for cycle in cycles for name in cycle} - {TRAINING})
    pieces = {name: median([cycle.get(name, 0.0) for cycle in cycles]) for name in names}
    rows += [
        Row(f"- {name}", f"{seconds * 1000:.0f} ms", "", "")
        for name, seconds in sorted(pieces.items(), key=lambda piece: -piece[1])
    ]
    reading = [
        f"The median over {len(cycles)} trials of a warm worker on SQLite, from one claim to the next, less "
        "the time in the epochs themselves. Records and checkpoints of its 2 epochs are included; the first "
        "trials are not.",
    ]
    return Section("between", "Between two trials of a warm worker", ("", "tuner", ""), rows, reading)


class Clock:
    """Self time by label: nested time counts for the inner function only."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self.labels = ["the rest"]
        self.since = time.perf_counter()

    def turn(self) -> None:
        now = time.perf_counter()
        self.spent[self.labels[-1]] += now - self.since
        self.since = now

    def lap(self) -> dict[str, float]:
        self.turn()
        spent, self.spent = dict(self.spent), defaultdict(float)
        return spent

    def watch(self, holder: Any, name: str, label: str) -> None:
        """Replace a function by a timed one."""
        inner: Callable[..., Any] = getattr(holder, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            self.turn()
            self.labels.append(label)
            try:
                return inner(*args, **kwargs)
            finally:
                self.turn()
                self.labels.pop()

        setattr(holder, name, timed)


def watch_all(clock: Clock) -> None:
    """Label the functions that a trial calls."""
    from tuner.artifacts import attempts
    from tuner.data import provider
    from tuner.search import objective, session, trial_attrs, trial_pictures, worker
    from tuner.train import checkpoint, loop, memory

    clock.watch(session.Session, "take_trial", "claiming a trial")
    clock.watch(objective, "choose_recipe", "sampling")
    clock.watch(provider.DataProvider, "get_data", "opening the data")
    clock.watch(trial_attrs, "write_recipe", "attributes at the start")
    clock.watch(loop, "Trainer", "building the model")
    clock.watch(loop.TrainingRun, "run_epoch", TRAINING)
    clock.watch(checkpoint, "save_weights", "best weights")
    clock.watch(checkpoint, "save", "checkpoints")
    clock.watch(session.Session, "record_epoch", "records of epochs, for the sync thread")
    clock.watch(attempts.AttemptFiles, "begin", "the attempt's folder")
    clock.watch(trial_pictures, "write_examples", "predictions")
    clock.watch(trial_pictures, "write_explanation", "explanation")
    clock.watch(trial_pictures.TrialPictures, "save", "artifacts")
    clock.watch(loop, "load_best_examples", "answers of the best weights")
    clock.watch(trial_attrs, "write_result", "attributes at the end")
    clock.watch(session.Session, "end_trial", "the result, for the sync thread")
    clock.watch(trial_attrs, "save_result_note", "note of the dashboard")
    clock.watch(worker, "release", "freeing memory: collecting cycles")
    clock.watch(memory, "return_pages", "freeing memory: returning pages")


def main(orders: dict[str, Any]) -> dict[str, Any]:
    import tempfile
    import threading

    import optuna

    from benchmarks.studies import begin
    from tuner.fleet.config import WorkerConfig
    from tuner.search import worker
    from tuner.search.session import Session

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    clock = Clock()
    watch_all(clock)
    cycles: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as place:
        space = Path(place) / "tiny.py"
        space.write_text(SPACE.format(size=32, k=4, epochs=orders["epochs"]))
        home, url = begin(Path(place), space, orders["trials"])
        config = WorkerConfig(url, "tiny", str(space), str(home.folder))
        worker.set_up_process(config)
        works = worker.Worker(config, threading.Event())
        inner = Session.take_trial

        def take_trial(self: Session) -> Any:
            cycles.append(clock.lap())  # the time since the last claim
            return inner(self)

        Session.take_trial = take_trial  # type: ignore[method-assign]
        works.work()
    warm = 2 if len(cycles) < 15 else 12  # beyond the random trials: the sampler learns from then on
    return {"cycles": [cycle for cycle in cycles[warm:] if TRAINING in cycle]}


if __name__ == "__main__":
    import json
    import sys

    print(json.dumps(main(json.loads(sys.argv[1]))))
