"""A study on a terminal of any size: less important parts are left out first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from textwrap import shorten, wrap
from typing import Any, Literal

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from tuner.cli.sparklines import Curve, PlotCell, PlotFrame, finite, fit_frame, plot, value_at
from tuner.goal import Goal
from tuner.study.failures import last_line
from tuner.study.format import (
    format_failures,
    format_params,
    format_saved,
    format_spent,
    format_time_left,
    format_value,
)
from tuner.study.queries import StudySummary, WorkerInfo
from tuner.study.stats import StudyStats
from tuner.wording import count_of, format_time_of, pluralize

MIN_FRAMED = 60, 16  # columns and lines from which a frame is drawn
MAX_REASONS = 3  # of failures, shown with their trials
MAX_PLOT_LINES = 3  # lines of a plot
GAP = "   "  # between parts of a line
MORE = "…"  # where a line is cut
ASCII = str.maketrans({MORE: ".", "±": "~"})
WHOLE_WORDS: Any = {"break_long_words": False, "break_on_hyphens": False}
LinePart = tuple[int, str, str]  # priority (0 stays, the highest goes first), text, style


@dataclass(frozen=True)
class ScreenData:
    """The data of one screen. `curves`: of the running trials, by number; `best`: the curve of the best trial."""

    now: StudySummary
    tally: StudyStats
    curves: dict[int, Curve] = field(default_factory=dict)
    best: Curve = ()
    notice: str = ""  # such as that the database is unreachable

    @property
    def goal(self) -> Goal:
        return self.now.study.goal


@dataclass(frozen=True)
class StudyScreen:
    """The screen as a rich renderable. `spare`: lines of the terminal to leave free; `mark`: text in the title."""

    data: ScreenData
    spare: int = 0
    mark: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, height = options.max_width, max(1, options.size.height - self.spare)
        framed = width >= MIN_FRAMED[0] and height >= MIN_FRAMED[1]
        inner, room = (width - 4, height - 2) if framed else (width, height - 1)
        lines = draw_lines(self.data, inner, room, options.ascii_only)
        title = title_line(self.data, inner - 2 if framed else inner, self.mark)
        drawn: RenderableType = Group(title, *lines)
        if framed:
            drawn = Panel(Group(*lines), title=title, title_align="left", border_style="blue", width=width)
        for segment in console.render(drawn, options):
            yield segment._replace(text=segment.text.translate(ASCII)) if options.ascii_only else segment


def title_line(data: ScreenData, width: int, mark: str) -> Text:
    """Return for example 'unet_k (rehearsal): maximize iou on photos   paused'."""
    study = data.now.study
    size = f" ({study.size})" if study.size else ""
    parts: list[LinePart] = [(0, f"{study.name}{size}: {study.goal_text} on {study.data}", "bold")]
    if data.tally.paused:
        parts.append((1, "paused", "bold yellow"))
    return fit_parts([*parts, (2, mark, "dim")], width)


def draw_lines(data: ScreenData, width: int, room: int, ascii_only: bool = False) -> list[RenderableType]:
    """Return at most `room` lines: progress, best trial, workers, cost, failures."""
    head = [progress_parts(data, width), best_parts(data, width)]
    foot = [cost_parts(data)]
    if data.notice:
        head.insert(0, [(0, data.notice, "bold red")])
    if data.tally.failures:
        foot.append([(0, f"failed: {format_failures(data.tally)}", "red")])
    left = room - len(head) - len(foot)
    workers = max(1, len(data.now.workers))
    blank = left >= workers + 4  # an empty line above and below the table
    left -= 2 * blank
    most = max(0, min(MAX_REASONS, left - workers - 1))
    failures = data.tally.failures[-most:] if most else ()
    foot += [[(0, f"trial {failure.number}: {failure.reason}", "dim")] for failure in failures]
    left -= len(failures)
    table = [worker_table(data, width, left, ascii_only)] if left > 0 else []
    air = [Text("")] if blank else []
    above, below = ([fit_parts(parts, width) for parts in lines] for lines in (head, foot))
    return [*above, *air, *table, *air, *below][: max(1, room)]


def fit_parts(parts: Sequence[LinePart], width: int, gap: str = GAP) -> Text:
    """Return the parts that fit into the width, in their order; the highest priority number is left out first."""
    kept: set[int] = set()
    used = -len(gap)
    for at in sorted((at for at, part in enumerate(parts) if part[1]), key=lambda at: (parts[at][0], at)):
        size = len(gap) + Text(parts[at][1]).cell_len
        if used + size > width and kept:
            break
        kept.add(at)
        used += size
    line = Text(no_wrap=True, overflow="crop")
    for at in sorted(kept):
        line.append(gap if line else "").append(last_line(parts[at][1]), parts[at][2])
    return cut_text(line, width)


def cut_text(text: Text, width: int) -> Text:
    """Return a line as it is if it fits into the width, else its begin and a sign that something is missing."""
    if text.cell_len > width:
        text.truncate(max(0, width - 1), overflow="crop")
        text.rstrip()
        text.append(MORE[:width])
    return text


def progress_parts(data: ScreenData, width: int) -> list[LinePart]:
    now, states = data.now, data.now.states
    left = format_time_left(data.tally.left)
    pruned, failed = states.get("PRUNED", 0), states.get("FAIL", 0)
    return [
        (0, count_of(now.num_finished, now.num_trials, "trial"), "bold"),
        (4, f"{states.get('COMPLETE', 0)} finished", "green"),
        (3, f"{pruned} pruned", "yellow"),
        (3, f"{now.num_paused} paused" if now.num_paused else "", "yellow"),
        (3, f"{now.num_over_limit} over a limit" if now.num_over_limit else "", "yellow"),
        (2, f"{failed} failed", "red" if failed else "dim"),
        (5, f"{now.num_put_back} waiting" if now.num_put_back else "", ""),
        (1, f"time left: {left}" if width >= 60 else f"left: {left}", ""),
    ]


def best_parts(data: ScreenData, width: int) -> list[LinePart]:
    found = data.now.best
    if not found:
        return [(0, "best so far: -", "dim")]
    value, number = f"best so far: {data.goal.metric} {format_value(found.value)}", f"trial {found.number}"
    room = width - len(value) - len(number) - 2 * len(GAP)
    params = shorten(format_params(found.params), room, placeholder=f" {MORE}", **WHOLE_WORDS) if room > 10 else ""
    return [(0, value, "bold green"), (1, number, ""), (2, params, "dim")]


def cost_parts(data: ScreenData) -> list[LinePart]:
    tally = data.tally
    hours = tally.budget.hours
    return [
        (0, f"spent: {pluralize(tally.cost.epochs, 'epoch')}", ""),
        (1, format_spent(tally), ""),
        (3, f"wall time {format_time_of(3600 * tally.spent.hours, 3600 * hours)}" if hours else "", ""),
        (2, format_saved(tally.cost), "green"),
    ]


# The workers

TRIAL, EPOCH, VALUE, WORKER, PARAMETERS = 5, 12, 7, 16, 22  # widths of columns
NARROW_EPOCH = 9


@dataclass(frozen=True)
class WorkerRow:
    """The row of a worker, `height` lines high; each method returns the cell of a column, given its width."""

    data: ScreenData
    worker: WorkerInfo
    frame: PlotFrame
    height: int
    ascii_only: bool

    @property
    def curve(self) -> list[tuple[int, float]]:
        number = self.worker.number
        return [] if number is None else finite(self.data.curves.get(number, ()))

    def where(self, width: int) -> Text:
        where = f"{self.worker.host.split('.')[0][:9]}:{self.worker.pid}"
        return Text(where + (f"\n{self.worker.device}" if self.height > 1 else ""))

    def trial(self, width: int) -> Text:
        return Text("" if self.worker.number is None else str(self.worker.number))

    def parameters(self, width: int) -> Text:
        lines = wrap(
            format_params(self.worker.params), width, max_lines=self.height, placeholder=f" {MORE}", **WHOLE_WORDS
        )
        return Text("\n").join(cut_text(Text(line), width) for line in lines)

    def plot(self, width: int) -> Text:
        """Return a coloured plot, or what a worker does before its trial has a curve.

        The mark of the plot shows whether the trial is better than the best one at that epoch.
        """
        worker = self.worker
        if self.curve:
            styles = {"": "", "curve": "cyan", "reference": "bright_black", "mark": self.mark_style()}
            lines = plot(self.curve, self.data.best, self.frame, width, self.height, self.ascii_only)
            return Text("\n").join(styled_text(line, styles) for line in lines)
        if worker.state == "training":
            steps = f", step {worker.batch}/{worker.batches}" if worker.batches else ""
        else:
            steps = f" {worker.step}/{worker.steps}" if worker.steps else ""
        return cut_text(Text(worker.state + steps, style="dim"), width)

    def epoch(self, width: int) -> Text:
        worker = self.worker
        if worker.state != "training":
            return Text(worker.state.split(" ")[0][:width])
        if not worker.batches:
            return Text(f"{worker.step}/{worker.steps}")
        epoch, part = f"{worker.step + 1}/{worker.steps}", f"{worker.batch / worker.batches:.0%}"
        if self.height == 1:
            return Text(f"{epoch} {part}" if len(epoch) + len(part) < width else epoch)
        steps = f"{worker.batch}/{worker.batches}"
        fitting = (text for text in (f"step {steps}", steps, part) if len(text) <= width)
        return Text(epoch).append(f"\n{next(fitting)}", "dim")

    def value(self, width: int) -> Text:
        return Text(fit_value(self.curve[-1][1] if self.curve else self.worker.value, width))

    def best(self, width: int) -> Text:
        pick = max if self.data.goal.direction == "maximize" else min
        value = pick((value for _, value in self.curve), default=None)
        return Text(fit_value(value, width), style="bold")

    def difference(self, width: int) -> Text:
        by = self.difference_to_best()
        return Text("" if by is None else fit_value(by, width, "+"), style=self.mark_style())

    def difference_to_best(self) -> float | None:
        """Return the difference between the trial and the best one at the same epoch."""
        if not self.curve:
            return None
        epoch, value = self.curve[-1]
        there = value_at(self.data.best, epoch)
        return None if there is None else value - there

    def mark_style(self) -> str:
        by = self.difference_to_best()
        if not by:
            return "bold"
        return "bold green" if (by > 0) == (self.data.goal.direction == "maximize") else "bold yellow"


def fit_value(value: float | None, width: int, sign: str = "") -> str:
    """Return a number with as many digits as fit into the width."""
    if value is None:
        return "-"
    texts = (f"{value:{sign}{digits}}" for digits in (".4f", ".4g", ".3g", ".2g", ".0g"))
    return next((text for text in texts if len(text) <= width), MORE)


Column = tuple[str, int, Literal["left", "right"], Callable[[WorkerRow, int], Text]]  # title, width, side, cell


def fit_columns(data: ScreenData, width: int) -> list[Column]:
    """Return the columns that fit: numbers first, then less important ones; the plot gets the rest."""
    worker = WORKER if width >= 86 else 0
    parameters = PARAMETERS + (width - 104) // 2 if width >= 104 else 0
    best = VALUE if width >= 56 else 0
    difference = VALUE + 1 if width >= 70 else 0
    epoch = EPOCH if width >= 70 else NARROW_EPOCH
    fixed = [TRIAL, epoch, VALUE, worker, parameters, best, difference]
    plot = max(4, width - sum(size + 1 for size in fixed if size))
    rival = "vs best" if data.now.best else ""
    columns: list[Column] = [
        ("worker", worker, "left", WorkerRow.where),
        ("trial", TRIAL, "right", WorkerRow.trial),
        ("parameters", parameters, "left", WorkerRow.parameters),
        (cut_text(Text(f"{data.goal.metric} by epoch"), plot).plain, plot, "left", WorkerRow.plot),
        ("epoch", epoch, "right", WorkerRow.epoch),
        ("now", VALUE, "right", WorkerRow.value),
        ("best", best, "right", WorkerRow.best),
        (rival, difference, "right", WorkerRow.difference),
    ]
    return [column for column in columns if column[1]]


def worker_table(data: ScreenData, width: int, room: int, ascii_only: bool) -> RenderableType:
    """Return the table of workers, as many lines per row as fit."""
    workers = data.now.workers
    if not workers:
        return Text("no workers are running", style="dim", no_wrap=True, overflow="crop")
    titled = room > len(workers)
    room -= titled
    shown = workers if len(workers) <= room else workers[: max(0, room - 1)]
    height = max(1, min(MAX_PLOT_LINES, room // len(workers)))
    frame = shared_frame(data, shown)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", show_header=titled)
    columns = fit_columns(data, width)
    for title, size, side, _ in columns:
        table.add_column(title, width=size, justify=side, no_wrap=title != "parameters", overflow="crop")
    for worker in shown:
        row = WorkerRow(data, worker, frame, height, ascii_only)
        table.add_row(*(cell(row, size) for _, size, _, cell in columns))
    if len(shown) == len(workers):
        return table
    more = Text(
        f"and {pluralize(len(workers) - len(shown), 'more worker')}", style="dim", no_wrap=True, overflow="crop"
    )
    return Group(table, more) if shown else more


def shared_frame(data: ScreenData, workers: Sequence[WorkerInfo]) -> PlotFrame:
    """Return one frame for all plots, so that they can be compared."""
    curves = [data.curves[worker.number] for worker in workers if worker.number in data.curves]
    last = max((worker.steps for worker in workers if worker.state == "training"), default=1)
    return fit_frame([*curves, data.best], last, data.goal.direction == "maximize")


def styled_text(line: list[PlotCell], styles: dict[str, str]) -> Text:
    text = Text(no_wrap=True, overflow="crop")
    for kind, cells in groupby(line, key=lambda cell: cell[1]):
        text.append("".join(character for character, _ in cells), styles[kind])
    return text
