"""A study on a terminal of any size: less important parts are left out first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from textwrap import shorten, wrap
from typing import Any

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
    format_seconds,
    format_spent,
    format_time_left,
    format_value,
)
from tuner.study.queries import StudySummary, WorkerInfo
from tuner.study.stats import StudyStats

MIN_FRAMED = 60, 16  # columns and lines from which a frame is drawn
MAX_REASONS = 3  # of failures, shown with their trials
MAX_PLOT_LINES = 3  # lines of a plot
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
        if framed:
            yield Panel(Group(*lines), title=title, title_align="left", border_style="blue", width=width)
        else:
            yield Group(title, *lines)


def title_line(data: ScreenData, width: int, mark: str) -> Text:
    """Return for example 'unet_k (rehearsal): maximize iou on photos   paused'."""
    study = data.now.study
    size = f" ({study.size})" if study.size else ""
    parts: list[LinePart] = [(0, f"{study.name}{size}: {study.goal} on {study.data}", "bold")]
    if data.tally.paused:
        parts.append((1, "paused", "bold yellow"))
    return fit_parts([*parts, (2, mark, "dim")], width)


def draw_lines(data: ScreenData, width: int, room: int, ascii_only: bool = False) -> list[RenderableType]:
    """Return at most `room` lines: progress, best trial, workers, cost, failures."""
    head = [progress_line(data, width), best_line(data, width)]
    foot = [cost_line(data, width)]
    if data.notice:
        head.insert(0, fit_parts([(0, data.notice, "bold red")], width))
    if data.tally.failures:
        foot.append(fit_parts([(0, f"failed: {format_failures(data.tally)}", "red")], width))
    left = room - len(head) - len(foot)
    workers = max(1, len(data.now.workers))
    blank = left >= workers + 4  # an empty line above and below the table
    left -= 2 * blank
    reasons = failure_lines(data, width, max(0, min(MAX_REASONS, left - workers - 1)))
    left -= len(reasons)
    table = [worker_table(data, width, left, ascii_only)] if left > 0 else []
    air = [Text("")] if blank else []
    return [*head, *air, *table, *air, *foot, *reasons][: max(1, room)]


def fit_parts(parts: Sequence[LinePart], width: int, gap: str = "   ") -> Text:
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
    line.truncate(width, overflow="crop")
    return line


def progress_line(data: ScreenData, width: int) -> Text:
    now, states = data.now, data.now.states
    of = "" if now.num_trials is None else f" of {now.num_trials}"
    left = format_time_left(data.tally.left)
    pruned, failed = states.get("PRUNED", 0), states.get("FAIL", 0)
    return fit_parts(
        [
            (0, f"{now.num_finished}{of} trials", "bold"),
            (4, f"{states.get('COMPLETE', 0)} finished", "green"),
            (3, f"{pruned} pruned", "yellow"),
            (2, f"{failed} failed", "red" if failed else "dim"),
            (5, f"{now.num_put_back} waiting" if now.num_put_back else "", ""),
            (1, f"time left: {left}" if width >= 60 else f"left: {left}", ""),
        ],
        width,
    )


def best_line(data: ScreenData, width: int) -> Text:
    found = data.now.best
    if not found:
        return Text("best so far: -", style="dim")
    return fit_parts(
        [
            (0, f"best so far: {data.goal.metric} {format_value(found.value)}", "bold green"),
            (1, f"trial {found.number}", ""),
            (2, shorten(format_params(found.params), max(1, width - 45), placeholder="", **WHOLE_WORDS), "dim"),
        ],
        width,
    )


def cost_line(data: ScreenData, width: int) -> Text:
    tally = data.tally
    hours = tally.budget.hours
    return fit_parts(
        [
            (0, f"spent: {tally.cost.epochs} epochs", ""),
            (1, format_spent(tally), ""),
            (3, f"{format_seconds(3600 * tally.spent.hours)} of {hours:g} h by the clock" if hours else "", ""),
            (2, format_saved(tally.cost), "green"),
        ],
        width,
    )


def failure_lines(data: ScreenData, width: int, most: int) -> list[Text]:
    """Return the last failures, each with the last line of its reason."""
    shown = data.tally.failures[-most:] if most else ()
    return [fit_parts([(0, f"trial {failure.number}: {failure.reason}", "dim")], width) for failure in shown]


# The workers


@dataclass(frozen=True)
class ColumnWidths:
    """The width of each column; columns of width 0 are left out."""

    worker: int
    parameters: int
    plot: int
    best: int
    difference: int


TRIAL, EPOCH, VALUE, WORKER, PARAMETERS = 5, 9, 7, 16, 22


def column_widths(width: int) -> ColumnWidths:
    """Return the widths: numbers first, then less important columns; the plot gets the rest."""
    best_line = VALUE if width >= 56 else 0
    difference_text = VALUE + 1 if width >= 70 else 0
    worker = WORKER if width >= 86 else 0
    wrap_params = max(PARAMETERS, (width - 104) // 2 + PARAMETERS) if width >= 104 else 0
    fixed = [TRIAL, EPOCH, VALUE, best_line, difference_text, worker, wrap_params]
    left = width - sum(size + 1 for size in fixed if size)
    return ColumnWidths(worker, wrap_params, max(4, left), best_line, difference_text)


def worker_table(data: ScreenData, width: int, room: int, ascii_only: bool) -> RenderableType:
    """Return the table of workers, as many lines per row as fit."""
    workers = data.now.workers
    if not workers:
        return Text("no workers are running", style="dim", no_wrap=True, overflow="crop")
    columns = column_widths(width)
    titled = room > len(workers)
    room -= titled
    shown = workers if len(workers) <= room else workers[: max(0, room - 1)]
    height = max(1, min(MAX_PLOT_LINES, room // len(workers)))
    frame = shared_frame(data, shown)
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="dim", show_header=titled)
    for title, size, side in column_titles(data, columns):
        table.add_column(title, width=size, justify=side, no_wrap=title != "parameters", overflow="crop")
    for worker in shown:
        table.add_row(*worker_row(data, worker, columns, frame, height, ascii_only))
    if len(shown) == len(workers):
        return table
    more = Text(f"and {len(workers) - len(shown)} more workers", style="dim", no_wrap=True, overflow="crop")
    return Group(table, more) if shown else more


def column_titles(data: ScreenData, columns: ColumnWidths) -> list[tuple[str, int, Any]]:
    every = [
        ("worker", columns.worker, "left"),
        ("trial", TRIAL, "right"),
        ("parameters", columns.parameters, "left"),
        (f"{data.goal.metric} by epoch"[: columns.plot], columns.plot, "left"),
        ("epoch", EPOCH, "right"),
        ("now", VALUE, "right"),
        ("best", columns.best, "right"),
        (f"vs #{data.now.best.number}" if data.now.best else "", columns.difference, "right"),
    ]
    return [column for column in every if column[1]]


def shared_frame(data: ScreenData, workers: Sequence[WorkerInfo]) -> PlotFrame:
    """Return one frame for all plots, so that they can be compared."""
    curves = [data.curves[worker.number] for worker in workers if worker.number in data.curves]
    last = max((worker.steps for worker in workers if worker.state == "training"), default=1)
    return fit_frame([*curves, data.best], last, data.goal.direction == "maximize")


def worker_row(
    data: ScreenData, worker: WorkerInfo, columns: ColumnWidths, frame: PlotFrame, height: int, ascii_only: bool
) -> list[RenderableType]:
    curve = data.curves.get(worker.number, ()) if worker.number is not None else ()
    known = finite(curve)
    training = worker.state == "training"
    where = f"{worker.host.split('.')[0][:9]}:{worker.pid}" + (f"\n{worker.device}" if height > 1 else "")
    cells: list[tuple[int, RenderableType]] = [
        (columns.worker, Text(where)),
        (TRIAL, Text("" if worker.number is None else str(worker.number))),
        (columns.parameters, wrap_params(worker, columns.parameters, height)),
        (
            columns.plot,
            draw_plot(data, curve, frame, columns.plot, height, ascii_only) if known else describe_state(worker),
        ),
        (EPOCH, Text(f"{worker.step}/{worker.steps}" if training else worker.state.split(" ")[0][:EPOCH])),
        (VALUE, Text(format_value(known[-1][1] if known else worker.value)[:VALUE])),
        (columns.best, Text(format_value(best_of_curve(data, curve))[:VALUE], style="bold")),
        (columns.difference, difference_text(data, curve)),
    ]
    return [cell for size, cell in cells if size]


def wrap_params(worker: WorkerInfo, width: int, height: int) -> Text:
    """Return the parameters in at most `height` lines."""
    lines = wrap(format_params(worker.params), max(1, width), **WHOLE_WORDS)
    return Text("\n".join(lines[:height]), no_wrap=True, overflow="crop")


def describe_state(worker: WorkerInfo) -> Text:
    """Return what a worker does before its trial has a curve."""
    if worker.state == "training" or not worker.steps:
        return Text(worker.state, style="dim")
    return Text(f"{worker.state} {worker.step}/{worker.steps}", style="dim")


def draw_plot(data: ScreenData, curve: Curve, frame: PlotFrame, width: int, height: int, ascii_only: bool) -> Text:
    """Return a coloured plot; the mark shows whether the trial is better than the best one at that epoch."""
    styles = {"": "", "curve": "cyan", "reference": "bright_black", "mark": mark_style(data, curve)}
    lines = plot(curve, data.best, frame, width, height, ascii_only)
    return Text("\n").join(styled_text(line, styles) for line in lines)


def styled_text(line: list[PlotCell], styles: dict[str, str]) -> Text:
    text = Text(no_wrap=True, overflow="crop")
    for kind, cells in groupby(line, key=lambda cell: cell[1]):
        text.append("".join(character for character, _ in cells), styles[kind])
    return text


def difference_to_best(data: ScreenData, curve: Curve) -> float | None:
    """Return the difference between a trial and the best one at the same epoch."""
    known = finite(curve)
    there = value_at(data.best, known[-1][0]) if known else None
    return None if there is None else known[-1][1] - there


def mark_style(data: ScreenData, curve: Curve) -> str:
    by = difference_to_best(data, curve)
    if not by:
        return "bold"
    return "bold green" if (by > 0) == (data.goal.direction == "maximize") else "bold yellow"


def difference_text(data: ScreenData, curve: Curve) -> Text:
    by = difference_to_best(data, curve)
    return Text("" if by is None else f"{by:+.4f}"[: VALUE + 1], style=mark_style(data, curve))


def best_of_curve(data: ScreenData, curve: Curve) -> float | None:
    """Return the best value of a curve; None without values."""
    values = [value for _, value in finite(curve)]
    pick = max if data.goal.direction == "maximize" else min
    return pick(values, default=None)
