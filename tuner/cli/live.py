"""The views of `tuner run` and `tuner status --watch`: a live screen on a terminal, lines elsewhere, JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from shlex import quote
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from tuner.cli.sparklines import Curve
from tuner.console import StudyView
from tuner.errors import StorageError, StudyError
from tuner.paths import format_json
from tuner.study import database, epoch_queries, queries, trial_queries
from tuner.study.budget import spent_to_json
from tuner.study.format import format_outcome, format_steps
from tuner.study.info import StudyInfo
from tuner.study.queries import StudySummary, WorkerInfo
from tuner.study.stats import StatsReader, StudyStats
from tuner.wording import pluralize

if TYPE_CHECKING:
    from rich.console import Console

    from tuner.cli.following import StudyFollower
    from tuner.cli.screen import ScreenData

REPORT_SECONDS = 20.0  # longest time between two lines about a running trial
MAX_CURVES = 40  # of running trials, read for the screen
VOLATILE_FIELDS = ("beats", "peak_memory", "batch", "batches")  # fields of a worker whose changes cause no line


@dataclass
class PlainView:
    """One line per finished trial and new best value, and regular lines about running trials."""

    engine: Engine
    info: StudyInfo
    out: Callable[[str], None] = field(default=lambda line: print(line, file=sys.stderr, flush=True))
    seen: dict[int, int] = field(default_factory=dict)  # trial id -> last epoch met
    ended: dict[int, int | None] = field(default_factory=dict)  # trial id -> where it rests, if it is paused
    last_report: dict[int, float] = field(default_factory=dict)
    last_step_report: dict[int, float] = field(default_factory=dict)  # by number of the trial
    planned: dict[int, int] = field(default_factory=dict)  # trial id -> epochs of its recipe, 0 without one
    best: float | None = None
    states: dict[str, str] = field(default_factory=dict)
    mentioned: set[str] = field(default_factory=set)  # other studies with workers

    def __enter__(self) -> PlainView:
        with self.engine.connect() as db:
            self.ended = trial_queries.read_ends(db, self.info.id)
            rows = epoch_queries.read_open_epochs(db, self.info.id)
        found = queries.read_summary(self.engine, self.info).best
        self.best = found.value if found else None
        for trial_id, _, epoch, value in rows:
            self.seen[trial_id] = epoch
            self.best = value if self.info.goal.is_better(value, self.best) else self.best
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(SQLAlchemyError):  # the supervisor reports an unreachable database
            self()

    def __call__(self) -> None:
        now = queries.read_summary(self.engine, self.info)
        for worker in now.workers:
            self.report_state(worker)
        self.report_epochs(now)
        if now.num_finished != len(self.ended) or self.info.pauses:  # one may end while another one is resumed
            self.report_ended(now)

    def away(self, notice: str) -> None:
        self.out(notice or "the database is reachable again")

    def mention(self, others: Sequence[str]) -> None:
        """Report other studies that are worked on, once each."""
        for name in others:
            if name not in self.mentioned:
                self.mentioned.add(name)
                self.out(f"workers run on '{name}' too; to watch that: --study {quote(name)}")

    def report_state(self, worker: WorkerInfo) -> None:
        """Report long work before training: reading and caching data."""
        busy = worker.state if worker.state.startswith(("reading", "caching")) else ""
        before = self.states.get(worker.worker)
        self.states[worker.worker] = busy  # before out(): Ctrl-C calls this again
        if busy and before != busy:
            self.out(f"worker on {worker.host}: {busy}, {pluralize(worker.steps, 'image')}")

    def report_epochs(self, now: StudySummary) -> None:
        """Report epochs with a new best value of the study, and each running trial regularly."""
        with self.engine.connect() as db:
            rows = epoch_queries.read_open_epochs(db, self.info.id, ["RUNNING"])
            self.read_planned(db, {trial_id for trial_id, *_ in rows} - self.planned.keys())
        for trial_id, number, epoch, value in rows:
            if epoch <= self.seen.get(trial_id, 0):
                continue
            self.seen[trial_id] = epoch
            better = self.info.goal.is_better(value, self.best)
            if better or time.monotonic() - self.last_report.get(trial_id, 0) > REPORT_SECONDS:
                self.last_report[trial_id] = time.monotonic()
                self.best = value if better else self.best
                of = f"/{self.planned[trial_id]}" if self.planned[trial_id] else ""
                mark = " (best so far)" if better else ""
                self.last_step_report[number] = time.monotonic()
                self.out(f"trial {number} epoch {epoch}{of}: {self.info.goal.metric} {value:.4f}{mark}")
        self.report_steps(now)

    def read_planned(self, db: Connection, new: set[int]) -> None:
        """Read how many epochs these trials have; the row of a worker may be older than an epoch of its trial."""
        for trial in trial_queries.read_trials_by_id(db, sorted(new)) if new else []:
            self.planned[trial.id] = int((trial.attrs.get("recipe") or {}).get("epochs") or 0)

    def report_steps(self, now: StudySummary) -> None:
        """Report regularly how far the current epoch of a running trial is, if epochs take long."""
        at = time.monotonic()
        for worker in now.workers:
            if worker.number is None or worker.state != "training" or not worker.batches:
                continue
            if at - self.last_step_report.setdefault(worker.number, at) > REPORT_SECONDS:
                self.last_step_report[worker.number] = at
                self.out(f"trial {worker.number} {format_steps(worker)}")

    def report_ended(self, now: StudySummary) -> None:
        with self.engine.connect() as db:
            ended = trial_queries.read_ends(db, self.info.id)
            fresh = {trial for trial, _ in ended.items() - self.ended.items()}
            rows = trial_queries.read_trials_by_id(db, sorted(fresh)) if fresh else []
        of = f" of {now.num_trials}" if now.num_trials else ""
        first = len(ended) - len(fresh) + 1
        self.ended = ended  # before out(): Ctrl-C calls this again; a resumed trial is told of again when it ends
        self.seen |= {trial.id: trial.paused_at for trial in rows if trial.paused_at is not None}
        for place, trial in enumerate(rows, start=first):
            self.out(f"[{place}{of}] trial {trial.number} {format_outcome(trial, self.info)}")


@dataclass
class LiveView:
    """A live screen on a terminal. With `page` it fills the terminal and prints its last state when it ends."""

    engine: Engine
    info: StudyInfo
    console: Console | None = None
    page: bool = False
    mark: str = ""
    also: str = ""  # other studies that are worked on
    best: Curve = ()
    best_of: int | None = None  # number of the trial of that curve
    seen: ScreenData | None = None
    notice: str = ""

    def __enter__(self) -> LiveView:
        from rich.live import Live as Screen

        from tuner.console import open_terminal

        self.ledger = StatsReader(self.engine, self.info)
        self.console = self.console or open_terminal(sys.stderr)
        self.size = self.console.size
        self.screen = Screen(console=self.console, refresh_per_second=4, screen=self.page)
        self.screen.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.screen.stop()
        if self.page and self.seen and self.console:
            self.console.print(self.picture())

    def __call__(self) -> None:
        try:
            self.seen = self.look()
        except SQLAlchemyError:
            self.away(self.notice or away_notice())
            raise
        self.notice = ""
        self.draw()

    def away(self, notice: str) -> None:
        """Show the notice above the last state."""
        self.notice = notice
        self.draw()

    def mention(self, others: Sequence[str]) -> None:
        """Show in the title which other studies are worked on."""
        self.also = f"also running: {', '.join(others)}" if others else ""

    def draw(self) -> None:
        assert self.console
        if self.console.size != self.size and not self.page:  # rewrapped lines cannot be overwritten
            self.size = self.console.size
            self.console.clear()
        self.screen.update(self.picture() if self.seen else self.notice)

    def picture(self) -> Any:
        from tuner.cli.screen import StudyScreen

        assert self.seen
        return StudyScreen(
            replace(self.seen, notice=self.notice), spare=not self.page, mark=self.also or self.mark
        )

    def look(self) -> ScreenData:
        """Read the current state of the study. The curve of the best trial is read once."""
        from tuner.cli.screen import ScreenData

        now = queries.read_summary(self.engine, self.info)
        running = [worker.number for worker in now.workers if worker.number is not None][:MAX_CURVES]
        number = now.best.number if now.best else None
        wanted = [*running, number] if number is not None and number != self.best_of else running
        with self.engine.connect() as db:
            curves = epoch_queries.read_curves(db, self.info.id, wanted) if wanted else {}
        if number != self.best_of:
            self.best, self.best_of = () if number is None else curves.pop(number, ()), number
        return ScreenData(now, self.ledger.read(now), dict(curves), self.best)


@dataclass
class JsonView:
    """One line of JSON per change."""

    engine: Engine
    info: StudyInfo
    out: Callable[[str], None]
    last_line: str = ""

    def __enter__(self) -> JsonView:
        self.ledger = StatsReader(self.engine, self.info)
        return self

    def __exit__(self, *_: object) -> None: ...

    def __call__(self) -> None:
        now = queries.read_summary(self.engine, self.info)
        found = study_to_json(now, self.ledger.read(now))
        lasting = {name: value for name, value in found.items() if name not in ("time_left", "spent")}
        workers = [{k: v for k, v in worker.items() if k not in VOLATILE_FIELDS} for worker in found["workers"]]
        if (line := format_json(lasting | {"workers": workers})) != self.last_line:
            self.last_line = line
            self.out(format_json(found))

    def away(self, notice: str) -> None:
        """Print a line that explains why no others follow."""
        self.out(format_json({"study": self.info.name, "notice": notice or "the database is reachable again"}))


def study_to_json(now: StudySummary, tally: StudyStats) -> dict[str, Any]:
    """Return the state of a study as plain JSON."""
    best = now.best and {"trial": now.best.number, "value": now.best.value, "params": now.best.params}
    cost = tally.cost
    return {
        "study": now.study.name,
        "space": now.study.space,
        "data": now.study.data,
        "goal": vars(now.study.goal),
        "rehearsal": now.study.rehearsal,
        "trials": now.num_trials,
        "ended": now.num_finished,
        "states": now.states,
        "paused": tally.paused,
        "best": best,
        "cost": {
            "epochs": cost.epochs,
            "hours": cost.hours,
            "unit": tally.unit,
            "epochs_saved": cost.saved,
            "epochs_planned_of_pruned": cost.planned,
        },
        "failures": {
            "kinds": tally.kinds,
            "last": [{"number": f.number, "kind": f.label, "reason": f.reason} for f in tally.failures[-3:]],
        },
        "time_left": {"seconds": tally.left.seconds, "by": tally.left.by},
        "budget": vars(tally.budget),
        "spent": spent_to_json(tally.spent, tally.device),
        "workers": [vars(worker) for worker in now.workers],
    }


def away_notice() -> str:
    return f"database unreachable since {time.strftime('%H:%M:%S')}"


def make_view(engine: Engine, info: StudyInfo) -> LiveView | PlainView:
    """Return a live screen if stderr is a terminal, else plain lines."""
    return LiveView(engine, info) if sys.stderr.isatty() else PlainView(engine, info)


def watch_until_interrupted(
    show: StudyView, engine: Engine, info: StudyInfo, url: str, every: float, follower: StudyFollower | None = None
) -> StudyInfo:
    """Update the view until interrupted; wait for a database that is unreachable.

    Return the study to watch next, if there is a follower and it finds one. StudyError if the study was deleted.
    """
    away = False
    with show:
        while True:
            try:
                check_present(engine, info, url)
                if away:
                    show.away("")
                    away = False
                show()
                if follower:
                    following, others = follower.find_next(info)
                    if following.id != info.id:
                        return following
                    if isinstance(show, PlainView | LiveView):
                        show.mention(others)
            except (SQLAlchemyError, StorageError) as error:
                if not database.is_transient(error):
                    raise
                if not away:
                    show.away(away_notice())
                away = True
                engine.dispose()  # open connections may belong to a deleted file or a stopped server
            time.sleep(every)


def check_present(engine: Engine, info: StudyInfo, url: str) -> None:
    """Raise StorageError if the database does not exist now, StudyError if only the study does not."""
    if database.is_absent(url):  # opening it would create it
        error = StorageError(f"{database.hide_password(url)} does not exist")
        error.passes = True
        raise error
    if not queries.study_exists(engine, info):
        raise StudyError(f"study '{info.name}' was deleted.")
