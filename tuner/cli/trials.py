"""The commands about single trials: trials, show."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.common import TrialCommand, echo_json, open_engine, print_table
from tuner.cli.options import TRIAL, json_option, storage_options, study_option

if TYPE_CHECKING:
    from tuner.study.info import StudyInfo
    from tuner.study.trial_rows import TrialRow

STATES = {  # as they are shown, and as they are stored
    "complete": "COMPLETE",
    "paused": "PAUSED",
    "pruned": "PRUNED",
    "over limit": "OVER_LIMIT",
    "failed": "FAIL",
    "running": "RUNNING",
    "waiting": "WAITING",
}
SHOWN = {stored: shown for shown, stored in STATES.items()}
ORDERS = ("number", "value", "epochs", "seconds")


@click.command("trials")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(list(STATES)),
    help="Only trials in this state; repeatable.",
)
@click.option(
    "--sort",
    default="number",
    metavar="NAME",
    help=f"By {', '.join(ORDERS)} or a parameter; the best value first, otherwise the least.",
)
@click.option("--reverse", is_flag=True, help="In the opposite order.")
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="As CSV, with a column for each parameter.")
@study_option()
@storage_options
def trials_command(
    states: tuple[str, ...], sort: str, reverse: bool, as_json: bool, as_csv: bool,
    study: str | None, home: str, storage: str | None,
) -> None:  # fmt: skip
    """List the trials of a study: state, value at the best epoch, epochs, time and parameters.

    \b
    Examples:
      tuner trials --sort value
      tuner trials --state paused --state pruned --sort lr
      tuner trials --csv > trials.csv
    """
    from tuner.study import queries
    from tuner.study.trial_rows import read_rows

    if as_json and as_csv:
        raise click.UsageError("give --json or --csv, not both.")
    engine = open_engine(storage, home)
    info = queries.find_study(engine, study)
    every = read_rows(engine, info)
    rows = [row for row in every if not states or SHOWN[row.state] in states]
    rows = sort_rows(
        rows, sort, reverse, info, list(dict.fromkeys(name for row in every for name in row.trial.params))
    )
    if as_json:
        return echo_json([row.to_json() for row in rows])
    if as_csv:
        return print_csv(rows)
    if not rows:
        of = f" {' or '.join(states)}" if states else ""
        return click.echo(f"{info.name}: no{of} trials")
    print_rows(rows, info, len(every))


def sort_rows(
    rows: Sequence[TrialRow], name: str, reverse: bool, info: StudyInfo, params: Sequence[str]
) -> list[TrialRow]:
    """Return the rows in an order; those without what is sorted by come last. StudyError for an unknown name."""
    from tuner.errors import StudyError, did_you_mean, printable

    sign = -1 if info.is_maximized else 1
    keys: dict[str, Callable[[TrialRow], Any]] = {
        "number": lambda row: row.number,
        "value": lambda row: None if row.value is None else sign * row.value,
        "epochs": lambda row: len(row.epochs),
        "seconds": lambda row: row.seconds,
    }
    known = [*keys, *(param for param in params if param not in keys)]
    if name not in known:
        hint = did_you_mean(name, known)
        raise StudyError(f"--sort '{printable(name, 80)}' is not possible.{hint} Known: {', '.join(known)}.")

    def key(row: TrialRow) -> tuple[bool, bool, Any]:
        value = keys[name](row) if name in keys else row.trial.params.get(name)
        is_text = not isinstance(value, int | float)
        return is_text, value is None, str(value) if is_text else value

    found = sorted(rows, key=key)
    missing = [row for row in found if key(row)[1]]
    there = [row for row in found if not key(row)[1]]
    return [*(reversed(there) if reverse else there), *missing]


def print_rows(rows: Sequence[TrialRow], info: StudyInfo, number: int) -> None:
    from tuner.study.format import format_params, format_value
    from tuner.wording import count_of, format_seconds, pluralize

    columns = [
        ("trial", "right"),
        ("state", "left"),
        (info.goal.metric, "right"),
        ("at", "right"),
        ("epochs", "right"),
    ]
    cells = (
        [
            str(row.number),
            SHOWN[row.state],
            format_value(row.value),
            str(row.best_epoch) if row.best_epoch else "-",
            f"{len(row.epochs)}/{row.planned}" if row.planned else str(len(row.epochs)),
            format_seconds(row.seconds),
            row.failure if row.failure else format_params(row.trial.params),
        ]
        for row in rows
    )
    shown = count_of(len(rows), number, "trial") if len(rows) < number else pluralize(number, "trial")
    title = f"{info.name}: {info.goal_text} on {info.data}, {shown}"
    print_table([*columns, ("time", "right"), ("parameters", "left")], cells, title=title)


def print_csv(rows: Sequence[TrialRow]) -> None:
    """Print a line for each trial; a parameter that has the name of another column is `params_NAME`."""
    import csv

    plain = [row.to_json() for row in rows]
    for each in plain:
        params = each.pop("params")
        each |= {f"params_{name}" if name in each else name: value for name, value in params.items()}
    fields = list(dict.fromkeys(name for each in plain for name in each))
    writer = csv.DictWriter(sys.stdout, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain)


@click.command(cls=TrialCommand)
@click.argument("trial", type=TRIAL)
@json_option
@study_option()
@storage_options
def show(trial: int, as_json: bool, study: str | None, home: str, storage: str | None) -> None:
    """Show a trial, also one that is paused, pruned, failed or running, as far as it came.

    It prints what became of it, its parameters, and the metrics of its best epoch.

    \b
    Examples:
      tuner show 12
      tuner show 12 --json
    """
    from tuner.study import queries
    from tuner.study.trial_rows import find_row

    engine = open_engine(storage, home)
    info = queries.find_study(engine, study)
    row = find_row(engine, info, trial)
    if as_json:
        more = {"study": info.name, "metrics": row.metrics, "recipe": row.trial.attrs.get("recipe")}
        return echo_json(row.to_json() | more)
    print_trial(row, info)


def print_trial(row: TrialRow, info: StudyInfo) -> None:
    from tuner.study.format import format_value
    from tuner.study.trial_rows import describe_state
    from tuner.wording import format_seconds

    value = f", {info.goal.metric} {format_value(row.value)}" if row.value is not None else ""
    click.echo(f"{click.style(info.name, bold=True)}: trial {row.number}{value}")
    time = f", {format_seconds(row.seconds)} of training" if row.epochs else ""
    click.echo(f"  {describe_state(row)}{time}")
    print_numbers(row.trial.params, row.best_epoch, row.metrics)


def print_numbers(params: dict[str, Any], epoch: int, metrics: dict[str, float]) -> None:
    """Print the parameters of a trial, and the metrics of its best epoch if there is one."""
    for name, value in params.items():
        click.echo(f"  {name:<14} {value:.4g}" if isinstance(value, float) else f"  {name:<14} {value}")
    if metrics:
        click.echo(f"  at epoch {epoch}:")
    for name, value in metrics.items():
        click.echo(f"    {name:<16} {value:.4f}")
