"""The command that runs a search: run; and what run and extend print at the end."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.common import open_engine, to_home
from tuner.cli.continuing import typed_command, view_and_store
from tuner.cli.options import (
    COUNT,
    SPACE,
    STUDY_SEED,
    data_option,
    layout_option,
    search_options,
    size_options,
    space_timeout_option,
    storage_options,
    study_option,
    table_option,
    worker_options,
)
from tuner.wording import count_of, format_seconds, free_folder, pluralize, write_command

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from tuner.search.run import RunResult
    from tuner.study.queries import StudySummary


@click.command()
@click.option("--space", type=SPACE, metavar="NAME|PATH", help="Search space, see tuner spaces.")
@table_option
@data_option
@layout_option
@click.option("--seeds", type=COUNT, help="With --table: how many times to train each row.  [default: 1]")
@click.option("--trials", type=COUNT, help="Total number of trials, over all workers and restarts.  [default: 50]")
@click.option("--each", metavar="PARAMETER", help="With --trials: as many for each of its choices.")
@search_options
@storage_options
@study_option("the space's")
@click.option("--seed", type=STUDY_SEED, default=0, help="Seed of the study.")
@size_options
@click.option(
    "--mix", is_flag=True, help="Go on in a study whose trials have other recipes than the space makes now."
)
@space_timeout_option
@worker_options
def run(home: str, storage: str | None, **options: Any) -> None:
    """Search a space, or train the rows of a published table; create the study or resume it.

    Run the same command again to resume. Run it in a second terminal, or on another host with the same
    --storage, to add workers to the study. Ctrl-C saves and stops; a second Ctrl-C stops immediately.

    A study whose space makes other recipes now, such as with more epochs, is not continued: the changes are
    listed; --study NAME begins a new one, --mix goes on in the same one.

    \b
    Examples:
      tuner run --space unet_k --data ~/photos --trials 100
      tuner run --space my_space.py --hours 8 --workers 2
      tuner run --space pet_lr --trials 50 --each model --no-pruning
      tuner run --table weizmann_unet --seeds 3
      tuner run --table weizmann_unet --shrink 8 --shorten 5
    """
    from tuner.data.locate import check_exists
    from tuner.space.space import find_space

    place = to_home(home)
    if options["space"] and not options["table"]:
        find_space(options["space"])
    check_exists(options["data"])

    from tuner.search.spent import find_spent  # what is imported from here on takes longer and longer

    if now := find_spent(storage or place.database, options):
        return print_result(now, home, storage)

    from tuner.search.run import RunRequest
    from tuner.search.run import run as launch

    request = RunRequest.from_options(storage or place.database, place, options)
    report_and_exit(launch(request, view_and_store), home, storage)


def report_and_exit(done: RunResult, home: str, storage: str | None) -> None:
    if done.error:
        click.echo(f"tuner: {done.error}", err=True)
    if done.now:
        print_result(done.now, home, storage)
    sys.exit(done.code)


def print_result(now: StudySummary, home: str, storage: str | None) -> None:
    """Print progress, the best trial, and the next commands."""
    from tuner.study import queries
    from tuner.study.commands import find_source, read_command
    from tuner.study.format import format_params, format_value
    from tuner.study.verdict import judge_stored

    name = now.study.name
    click.echo(f"study '{name}': {count_of(now.num_finished, now.num_trials, 'trial', 'ended')}")
    if now.best:
        best = f"{format_value(now.best.value)}, trial {now.best.number}, {format_params(now.best.params)}"
        click.echo(f"best: {now.study.goal.metric} {best}")
        verdict = judge_stored(now.study.goal, now.best)
        if verdict.sentence:
            click.echo(f"{verdict.sentence}; {verdict.remedy}")
        export = write_command("best", study=name, export=free_folder("best"))
        click.echo(f"next: {export if verdict.is_usable else write_command('report', study=name)}")
    engine = open_engine(storage, home)
    if none_meets := queries.explain_limits(engine, now):
        click.echo(none_meets)
    if table := find_source(now.study, read_command(engine, now.study.id)).get("table"):
        named = None if name == now.study.table else name
        click.echo(f"next: {write_command('table', table, study=named)}")
    if now.study.has_given_trials and (failed := now.states.get("FAIL", 0)):
        click.echo(f"{failed} failed; retry with: {typed_command() or 'the same command'}")
    if now.num_paused:
        click.echo(describe_paused(engine, now))
    spent = list(describe_spent(engine, now))
    engine.dispose()
    for line in spent:
        click.echo(line)
    if not spent and now.num_finished < (now.num_trials or math.inf) and (command := typed_command()):
        click.echo(f"continue with: {command}")


def describe_paused(engine: Engine, now: StudySummary) -> str:
    """Return how many trials are paused, and whether a larger budget may let them go on."""
    from tuner.study.claims import may_resume

    is_over = is_grid_spent(now) and may_resume(engine, now.study.id)
    outlook = (
        "lost at their rungs, and no point is left to start" if is_over else "may go on when the budget is raised"
    )
    return f"{now.num_paused} paused; they {outlook}"


def is_grid_spent(now: StudySummary) -> bool:
    """Return whether all points of a grid are trials, so that their number cannot be raised."""
    points = now.study.search.num_points
    return bool(points) and (now.num_trials or 0) >= points


def describe_spent(engine: Engine, now: StudySummary) -> Iterator[str]:
    """Yield which limits are spent, with one command that raises all of them."""
    from tuner.study import budget
    from tuner.study.claims import MIN_GPU_SECONDS
    from tuner.study.format import kind_of_time
    from tuner.study.stats import find_device

    told: list[str] = []
    raised: dict[str, float] = {}
    if not now.study.has_given_trials and now.num_trials and now.num_finished >= now.num_trials:
        points, number = now.study.search.num_points, now.num_trials
        if is_grid_spent(now):
            yield f"all {pluralize(points, 'point')} of the grid are trained"
        else:
            told.append(f"{pluralize(number, 'trial')} trained")
            raised["trials"] = min(2 * number, points or 2 * number) // max(1, len(now.study.choices))
    status = budget.read_budget(engine, now.study.id)
    limits, taken, kind = status.budget, status.spent, kind_of_time(find_device(now))
    for name, limit, spent, words in (
        ("hours", limits.hours, taken.hours, format_seconds(3600 * (limits.hours or 0))),
        ("gpu_hours", limits.gpu_hours, taken.gpu_hours + MIN_GPU_SECONDS / 3600,
         f"{format_seconds(3600 * (limits.gpu_hours or 0))} of {kind} time"),
        ("epoch_budget", limits.epochs, taken.epochs, pluralize(limits.epochs or 0, "epoch")),
    ):  # fmt: skip
        if limit is not None and spent >= limit:
            enough = max(2 * limit, float(f"{spent + limit:.4g}"))  # hours before the limit count too
            told.append(f"the budget of {words} is spent")
            raised[name] = 2 * limit if name == "epoch_budget" else enough
    if told:
        yield f"{' and '.join(told)}; to continue: {raise_command(now, raised)}"


def raise_command(now: StudySummary, limits: Mapping[str, float]) -> str:
    """Return the command that trains on with higher limits; outside the command line, the one that sets them."""
    values = {name: value if isinstance(value, int) else f"{value:g}" for name, value in limits.items()}
    return typed_command(**values) or write_command("budget", study=now.study.name, **values)
