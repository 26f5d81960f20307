"""The storm on paused trials: kill workers, fleets and hosts while at least 30 trials rest, then compare.

Real fleets on a real PostgreSQL search a grid with `pruning="promote"`. First one fleet trains undisturbed until
enough trials rest. Then three fleets go on while processes are killed, connections cut and the database stopped.
After the last fault, the budget of epochs is set to a little more than what is used, and the fleets spend it; then
it is raised, and one fleet trains to the end of the search. At last each trial is trained anew in one stretch.

    python -m benchmarks.paused_storm --kills 200 --seed 0
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.aftermath import TRIGGER, look, number
from benchmarks.measure import Row, Section, Setting
from benchmarks.paused_aftermath import CLAIMS, RESTING, PausedLeft, judged
from benchmarks.paused_study import NAME, write_study
from benchmarks.server import Server, postgres
from benchmarks.storm import (
    KILLS,
    MOST_DEATHS,
    Fleet,
    Place,
    Plan,
    befallen,
    fleet_of,
    machines_can_be_made,
    run_alone,
)
from tests.helpers.tcp_proxy import Proxy

UNLIMITED = 1_000_000  # epochs
STUDY = ("--space", f"{NAME}.py")
MOST_SECONDS = 3600.0


@dataclass(frozen=True)
class PausedPlan(Plan):
    """Size of the study, and number of faults of each kind."""

    pauses: int = 0
    cuts: int = 4
    stops: int = 1
    trials: int = 500  # points of the grid: more than are started until the last fault
    epochs: int = 9
    pace: float = 1.0
    first: int = 120  # epochs of all trials that are trained before the first fault
    span: int = 200  # of all trials, during the faults
    rest: int = 20  # of the budget of epochs after the last one
    more: int = 5  # trials to start after that
    resting: int = 30  # trials that rest at each kill, at least

    def blows(self) -> list[tuple[int, str]]:
        """Return (number of trained epochs of the study, fault), in order."""
        rng = random.Random(self.seed)
        kinds = [*KILLS, *rng.choices(KILLS, weights=(94, 3, 3), k=max(0, self.kills - len(KILLS)))][: self.kills]
        kinds += ["pause"] * self.pauses + ["cut"] * self.cuts + ["stop"] * self.stops
        rng.shuffle(kinds)
        return list(zip(sorted(self.first + rng.randrange(self.span) for _ in kinds), kinds, strict=True))


@dataclass
class PausedPlace(Place):
    """The disturbed study. It ends when its budget of epochs is spent."""

    resting: list[int] = field(default_factory=list)  # paused trials at each kill
    began: float = field(default_factory=time.monotonic)

    def trained(self) -> int:
        return number(self.url, "SELECT count(*) FROM tuner_epoch")

    def is_done(self) -> bool:
        return number(self.url, "SELECT count(*) FROM tuner_study WHERE epochs_granted >= epochs") > 0

    def hangs_by_a_thread(self) -> bool:
        """Return whether a trial that crashed twice without progress is trained now; a waiting one may wait."""
        held = "SELECT count(*) FROM tuner_claim WHERE worker IS NOT NULL AND paused_at IS NULL"
        return number(self.url, f"{held} AND deaths >= {MOST_DEATHS}") > 0

    def strike(self, kind: str) -> bool:
        if kind in KILLS and self.hangs_by_a_thread():  # since it was due
            return False
        resting = number(self.url, RESTING)
        struck = super().strike(kind)
        if struck and kind in KILLS:
            self.resting.append(resting)
        return struck

    def tend(self) -> bool:
        if time.monotonic() > self.began + MOST_SECONDS:
            raise RuntimeError("the study does not get on; see the logs")
        return super().tend()

    def rage(self) -> None:
        """Inject all faults, then let the fleets spend what is left of the budget of epochs."""
        for after, kind in self.plan.blows():
            if not self.falls(after, kind):
                raise RuntimeError("the study ended before the last fault; see the logs")
            self.done[kind] += 1
            if self.done.total() % 10 == 0:
                self.say(f"{self.done.total()} blows, {self.trained()} epochs trained")
        granted = number(self.url, "SELECT epochs_granted FROM tuner_study")
        assert isinstance(self.plan, PausedPlan)
        set_budget(self.url, epochs=granted + self.plan.rest)
        while self.tend():
            pass


def set_budget(url: str, epochs: int, trials: int = 0) -> None:
    given = ["--trials", str(trials)] if trials else []
    tuner("budget", "--epoch-budget", str(epochs), *given, "--storage", url)


def tuner(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "tuner.cli", *words], check=True, stdout=subprocess.DEVNULL)


def train(fleet: Fleet) -> None:
    """Let a fleet train undisturbed until its study or budget ends."""
    fleet.start()
    assert fleet.process
    try:
        if fleet.process.wait() != 0:
            raise RuntimeError(f"an undisturbed run failed; see {fleet.folder}")
    finally:
        fleet.kill()


def storm(plan: PausedPlan, folder: Path, server: Server, say: Callable[[str], None]) -> PausedPlace:
    """Run the storm on a new study; return the study when its search has ended."""
    write_study(folder, plan.trials, plan.epochs)
    url = server.fresh()
    tuner("init", "--storage", url)
    look(url, TRIGGER)
    look(url, CLAIMS)
    with Proxy(server.server.pgdata) as proxy:
        place = PausedPlace(plan, folder, server, url, proxy, say, random.Random(plan.seed + 1))
        train(fleet_of(folder, url, 0, plan.workers, study=(*STUDY, "--epoch-budget", str(plan.first))))
        say(f"before the storm, {number(url, RESTING)} trials rest")
        set_budget(url, UNLIMITED)
        apart = min(plan.apart, plan.fleets) if machines_can_be_made() else 0
        place.fleets = [
            fleet_of(folder, proxy.through(url), at, plan.workers, plan.pace, at >= plan.fleets - apart, STUDY)
            for at in range(plan.fleets)
        ]
        try:
            place.rage()
        finally:
            for fleet in place.fleets:
                fleet.kill()
    return place


def finish(place: PausedPlace, more: int) -> int:
    """Raise the budget of epochs, set that of trials, and train to the end; return the number of trials."""
    trials = number(place.url, "SELECT count(*) FROM tuner_claim") + more
    set_budget(place.url, UNLIMITED, trials)
    train(fleet_of(place.folder, place.url, 9, 2, study=(*STUDY, "--trials", str(trials))))
    return trials


def unbroken(plan: PausedPlan, calm: PausedLeft, lengths: dict[int, int]) -> None:
    """Train each trial of the study anew in one stretch, for as many epochs and one more."""
    write_study(calm.folder, plan.trials, plan.epochs, {at: epochs + 1 for at, epochs in lengths.items()})
    train(fleet_of(calm.folder, calm.url, 0, 2, study=(*STUDY, "--trials", str(calm.trials))))


@contextmanager
def weathered(
    plan: PausedPlan, folder: Path, say: Callable[[str], None]
) -> Iterator[tuple[PausedLeft, PausedLeft, list[Row]]]:
    """Return the comparison of both studies, read while their database runs, and the counted faults."""
    with postgres(folder / "pg") as server:
        began = time.monotonic()
        place = storm(plan, folder / "storm", server, say)
        say(f"in the storm: {(seconds := time.monotonic() - began):.0f} s")
        budget = PausedLeft(place.url, place.folder, 0, plan.epochs).budget_rows(place.done)
        trials = finish(place, plan.more)
        left = PausedLeft(place.url, place.folder, trials, plan.epochs)
        calm = PausedLeft(server.fresh(), folder / "calm", trials, plan.epochs)
        unbroken(plan, calm, left.lengths())
        say(f"each trial in one stretch: {time.monotonic() - began - seconds:.0f} s")
        rested = min(place.resting, default=0)
        resting = Row("trials that rest at a kill, at least", str(rested), "", target=f"at least {plan.resting}",
                      met=rested >= plan.resting)  # fmt: skip
        yield left, calm, [*befallen(place), resting, *budget, Row("seconds in the storm", f"{seconds:.0f}", "")]


def run(plan: PausedPlan, folder: Path, say: Callable[[str], None]) -> list[Row]:
    """Return all rows of the table."""
    with weathered(plan, folder, say) as (left, calm, facts):
        return [*facts, *judged(left, calm)]


READING = [
    'Real fleets on a real PostgreSQL search a grid of learning rates with pruning="promote", rungs after 1 and '
    "3 of 9 epochs: a U-Net of width 4 at 32 px with dropout and flips, on processors, in fp32, one thread each.",
    "One fleet trains first, until enough trials rest. Then all faults are drawn from a seed, as in the storm. "
    "After the last fault the budget of epochs is set to a little more than what is used, and spent by all "
    "fleets; then it is raised, that of trials set to five more than there are, and one fleet ends the search.",
    "The model logs its weights before every step, with a mark of the attempt; triggers in the database log each "
    "change of a trial's state and of a claim. At the end each trial is trained anew in one stretch.",
]
QUICK = PausedPlan(
    kills=4, cuts=1, stops=0, fleets=2, apart=0, workers=1, trials=30, pace=0.1, first=8, span=6, rest=3, more=1,
    resting=2,
)  # fmt: skip


def measure(setting: Setting) -> Section:
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        rows = run(QUICK if setting.quick else PausedPlan(), Path(folder), setting.log)
    return as_section(rows)


def as_section(rows: list[Row]) -> Section:
    return Section("paused_storm", "A storm on paused trials", ("", "found", ""), rows, READING)


if __name__ == "__main__":
    sys.exit(run_alone(__doc__, as_section, PausedPlan, run))
