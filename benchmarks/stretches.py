"""What pausing and resuming costs: trials in four stretches and trials in one, in turns, on one warm worker.

A real worker trains the trials of one search. A scheduler of its own lets every second trial pause after 1, 3 and
9 of its 27 epochs, and resumes it at once. Functions of the worker are timed from outside, as in `between`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import between
from benchmarks.measure import Row, Section, Setting, child, median, spread
from tuner.search.scheduler import Curve, Scheduler
from tuner.study.decisions import Decision

TARGET = 1.03
RUNGS, EPOCHS = (1, 3, 9), 27
SPACE = between.SPACE.replace('trial.suggest_int("batch_size", 8, 9)', "8")  # all trials cost the same


@dataclass(frozen=True)
class InStretches(Scheduler):
    """Pause trials with an odd number at each rung, and resume them at once."""

    def rungs(self, length: int) -> list[int]:
        return [rung for rung in RUNGS if rung < length]

    def judge(self, curves: Sequence[Curve], number: int, rung: int) -> Decision:
        return Decision("pause" if number % 2 else "continue", number, rung)

    def choose(self, curves: Sequence[Curve], can_start: bool) -> Decision | None:
        for curve in curves:
            if curve.state == "paused":
                return Decision("resume", curve.number, curve.epoch)
        return Decision("start", None, 0) if can_start else None


def measure(setting: Setting) -> Section:
    size, k = setting.pick(96, 32), setting.pick(16, 4)
    found = child("stretches", {"pairs": setting.pick(7, 1), "size": size, "k": k})
    one, four = found["one"], found["four"]
    pieces = {name: found["pieces"]["four"].get(name, 0.0) - found["pieces"]["one"].get(name, 0.0)
              for name in found["pieces"]["four"]}  # fmt: skip
    rows = [
        compare("a trial, s", four["wall"], one["wall"], TARGET),
        compare("- of it on the processor, s of all cores", four["cpu"], one["cpu"], TARGET),
        *(Row(f"- more for {name}", f"{1000 * seconds:.0f} ms", "", "")
          for name, seconds in sorted(pieces.items(), key=lambda piece: -piece[1]) if seconds > 0.002),
    ]  # fmt: skip
    reading = [
        f"U-Net of width {k} at {size} px, {EPOCHS} epochs of generated shapes, one warm worker on SQLite. Left: "
        f"paused after {', '.join(map(str, RUNGS))} epochs and resumed at once. The ratio is the median of those "
        "of the pairs, which follow each other.",
        "A pause writes predictions, a checkpoint and the database; resuming claims the trial, builds the model "
        "and reads the checkpoint.",
    ]
    return Section("stretches", "A trial in four stretches", ("", "in four", "in one"), rows, reading)


def compare(what: str, four: list[float], one: list[float], target: float) -> Row:
    ratio = median([ours / theirs for ours, theirs in zip(four, one, strict=True)])
    return Row(what, spread(four, 2), spread(one, 2), f"{ratio:.3f}", f"at most {target:g}", ratio <= target)


def main(orders: dict[str, Any]) -> dict[str, Any]:
    import tempfile
    import threading

    import optuna

    from benchmarks.between import Clock, watch_all
    from tuner.fleet.config import WorkerConfig
    from tuner.paths import Home
    from tuner.search import worker
    from tuner.search.session import Session
    from tuner.space.search_settings import SearchSettings
    from tuner.space.space import draw_recipes, load_space
    from tuner.study import budget
    from tuner.study.info import StudyInfo
    from tuner.study.study import join_study

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    clock = Clock()
    watch_all(clock)
    spent: dict[int, dict[str, float]] = defaultdict(dict)
    with tempfile.TemporaryDirectory() as place:
        file, home = Path(place) / "long.py", Home(Path(place) / "home").make()
        file.write_text(SPACE.format(size=orders["size"], k=orders["k"], epochs=EPOCHS))
        space = load_space(str(file))
        info = StudyInfo("long", "long", space.goal, "shapes", parameters=draw_recipes(space).parameters)
        joined = join_study(home.database, replace(info, search=SearchSettings(pruning="promote")))
        budget.set_budget(joined.engine, joined.id, num_trials=2 * orders["pairs"] + 2)
        joined.engine.dispose()
        config = WorkerConfig(home.database, "long", str(file), str(home.folder))
        worker.set_up_process(config)
        works = worker.Worker(config, threading.Event())
        works.session.sync.scheduler = InStretches()
        inner, last = Session.take_trial, [time.perf_counter(), time.process_time()]

        def take_trial(self: Session) -> Any:
            now, before = [time.perf_counter(), time.process_time()], last[:]
            if self.number is not None:  # type: ignore[attr-defined]
                times = {"wall": now[0] - before[0], "cpu": now[1] - before[1], **clock.lap()}
                sums = spent[self.number]  # type: ignore[attr-defined]
                sums.update({name: sums.get(name, 0.0) + seconds for name, seconds in times.items()})
            last[:] = now
            active = inner(self)
            self.number = active and active.number  # type: ignore[attr-defined]
            return active

        Session.number = None  # type: ignore[attr-defined]
        Session.take_trial = take_trial  # type: ignore[method-assign]
        works.work()
    kinds = {name: [spent[at] for at in sorted(spent) if at > 1 and at % 2 == odd] for name, odd in KINDS.items()}
    return {
        **{
            name: {each: [one[each] for one in found] for each in ("wall", "cpu")} for name, found in kinds.items()
        },
        "pieces": {name: typical(found) for name, found in kinds.items()},
    }


KINDS = {"one": 0, "four": 1}


def typical(found: list[dict[str, float]]) -> dict[str, float]:
    """Return the median seconds of each function over these trials."""
    names = {name for one in found for name in one} - {"wall", "cpu"}
    return {name: median([one.get(name, 0.0) for one in found]) for name in names}


if __name__ == "__main__":
    import json
    import sys

    print(json.dumps(main(json.loads(sys.argv[1]))))
