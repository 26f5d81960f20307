"""What `tuner run` shows: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from tuner import control, overview
from tuner.overview import Overview, StudyInfo, Worker

if TYPE_CHECKING:
    from rich.console import RenderableType

TELL_SECONDS = 20.0  # a trial says where it is at least this often on plain output


def show_value(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def show_params(params: dict[str, Any] | None) -> str:
    """'lr=0.00031 k=64 loss=bce'."""
    items = (params or {}).items()
    return " ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in items)


def show_seconds(seconds: float) -> str:
    """'45 s', '12 min', '3.4 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def time_left(now: Overview, spent: float, before: int) -> str:
    """From the pace of this run: what remains of the budget, at the trials an hour so far."""
    done = now.finished - before
    if now.num_trials is None or not done:
        return "unknown" if now.num_trials else "until stopped"
    return show_seconds((now.num_trials - now.finished) * spent / done)


@dataclass
class Plain:
    """A line for each trial that ends, each new best, and now and then for a trial under way."""

    engine: Engine
    info: StudyInfo
    out: Callable[[str], None] = field(default=lambda line: print(line, file=sys.stderr, flush=True))
    seen: dict[int, int] = field(default_factory=dict)  # trial id -> last epoch met
    ended: set[int] | None = None
    told: dict[int, float] = field(default_factory=dict)
    best: float | None = None
    states: dict[str, str] = field(default_factory=dict)
    number: int = 0

    def __enter__(self) -> Plain:
        with self.engine.connect() as db:
            self.ended = overview.finished_ids(db, self.info.id)
            rows = overview.open_epochs(db, self.info.id)
        self.number = len(self.ended)
        found = overview.overview(self.engine, self.info).best
        self.best = found.value if found else None
        for trial_id, epoch, value in rows:
            self.seen[trial_id] = epoch
            self.best = value if self.info.goal.better(value, self.best) else self.best
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(SQLAlchemyError):  # a database that is away is told by whoever works on it
            self()

    def __call__(self) -> None:
        now = overview.overview(self.engine, self.info)
        for worker in now.workers:
            self.tell_state(worker)
        self.tell_epochs(now)
        if now.finished != self.number:
            self.tell_ended(now)

    def tell_state(self, worker: Worker) -> None:
        """Long work before the training: reading and caching data."""
        busy = worker.state if worker.state.startswith(("reading", "caching")) else ""
        if busy and self.states.get(worker.worker) != busy:
            self.out(f"worker on {worker.host}: {busy}, {worker.steps} images")
        self.states[worker.worker] = busy

    def tell_epochs(self, now: Overview) -> None:
        """Epochs worth telling: a new best of the study, or a sign of life."""
        steps = {worker.number: worker.steps for worker in now.workers}
        with self.engine.connect() as db:
            rows = overview.new_epochs(db, self.info.id, self.seen)
        for trial_id, number, epoch, value in rows:
            self.seen[trial_id] = epoch
            better = self.info.goal.better(value, self.best)
            if better or time.monotonic() - self.told.get(trial_id, 0) > TELL_SECONDS:
                self.told[trial_id] = time.monotonic()
                self.best = value if better else self.best
                of = f"/{steps[number]}" if steps.get(number) else ""
                mark = " (best so far)" if better else ""
                self.out(f"trial {number} epoch {epoch}{of}: {self.info.goal.metric} {value:.4f}{mark}")

    def tell_ended(self, now: Overview) -> None:
        assert self.ended is not None
        with self.engine.connect() as db:
            fresh = overview.finished_ids(db, self.info.id) - self.ended
            rows = list(overview.read_trials(db, sorted(fresh)))
        of = f" of {now.num_trials}" if now.num_trials else ""
        for trial in rows:
            self.number += 1
            self.out(f"[{self.number}{of}] trial {trial.number} {describe_end(trial, self.info)}")
        self.ended |= fresh
        self.number = len(self.ended)


def describe_end(trial: overview.Trial, info: StudyInfo) -> str:
    """How a trial ended, in words."""
    params = show_params(trial.params)
    result = trial.notes.get("result", {})
    best = f"{info.goal.metric} {show_value(result.get('best_value'))} at epoch {result.get('best_epoch')}"
    if trial.state == "FAIL":
        reason = str(trial.notes.get("failure", "unknown reason")).strip().splitlines()
        return f"failed: {reason[-1] if reason else 'unknown reason'}; {params}"
    if trial.state == "PRUNED":
        return f"pruned after epoch {result.get('epochs')}, best {best}; {params}"
    return f"finished: {best}; {params}"


@dataclass
class Live:
    """The view on a terminal, redrawn in place."""

    engine: Engine
    info: StudyInfo
    before: int = 0

    def __enter__(self) -> Live:
        from rich.console import Console
        from rich.live import Live as Screen

        self.before = overview.overview(self.engine, self.info).finished
        self.began = time.monotonic()
        self.screen = Screen(console=Console(stderr=True), refresh_per_second=4)
        self.screen.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.screen.stop()

    def __call__(self) -> None:
        now = overview.overview(self.engine, self.info)
        paused = control.standing(self.engine, self.info.id).paused
        left = time_left(now, time.monotonic() - self.began, self.before)
        self.screen.update(draw(now, left, paused))


def draw(now: Overview, left: str, paused: bool = False) -> RenderableType:
    """The study above, a row for each worker below."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    states = now.states
    line = Text.assemble(
        (f"{now.finished}", "bold"), f" of {now.num_trials or '∞'} trials",
        "   ", (f"{states.get('COMPLETE', 0)} finished", "green"),
        "   ", (f"{states.get('PRUNED', 0)} pruned", "yellow"),
        "   ", (f"{states.get('FAIL', 0)} failed", "red"),
        f"   {now.put_back} waiting" if now.put_back else "", f"   time left: {left}",
    )  # fmt: skip
    best = Text("best so far: -", style="dim")
    if now.best:
        best = Text.assemble(
            "best so far: ", (f"{now.study.goal.metric} {show_value(now.best.value)}", "bold green"),
            f"   trial {now.best.number}   {show_params(now.best.params)}",
        )  # fmt: skip
    table = Table(box=None, expand=True, header_style="dim", padding=(0, 1))
    for title, width in (("worker", 16), ("trial", 5), ("parameters", None), ("", 18), ("epoch", 9)):
        table.add_column(title, width=width, no_wrap=title != "parameters", overflow="ellipsis")
    table.add_column(now.study.goal.metric, justify="right", width=7)
    for worker in now.workers:
        training = worker.state == "training"
        table.add_row(
            f"{worker.host.split('.')[0][:9]}:{worker.pid}",
            "" if worker.number is None else str(worker.number),
            show_params(worker.params) if worker.params else worker.state,
            ProgressBar(total=worker.steps or 1, completed=worker.step, width=18),
            f"{worker.step}/{worker.steps}" if training else worker.state[:9],
            show_value(worker.value),
        )
    mark = f" ({now.study.size})" if now.study.size else ""
    heading = Text.assemble((now.study.name, "bold"), f"{mark}: {now.study.goal} on {now.study.data}")
    if paused:
        heading.append("   paused", "bold yellow")
    return Panel(Group(line, best, "", table), title=heading, title_align="left", border_style="blue")


def view(engine: Engine, info: StudyInfo) -> Live | Plain:
    """The live view where a person watches, plain lines in a log or a pipe."""
    return Live(engine, info) if sys.stderr.isatty() else Plain(engine, info)
