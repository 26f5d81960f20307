"""The command `tuner status`: the state of all studies, once or continuously."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from tuner.cli.common import echo_json, open_engine, to_home
from tuner.cli.control import format_worker
from tuner.cli.options import FiniteFloat, storage_options, study_option
from tuner.wording import count_of, pluralize, start_hint

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from tuner.console import StudyView
    from tuner.study.info import StudyInfo
    from tuner.study.queries import StudySummary
    from tuner.study.stats import StudyStats


@click.command()
@storage_options
@study_option("all; with --watch the one that is worked on")
@click.option("--watch", is_flag=True, help="Keep updating until Ctrl-C.")
@click.option(
    "--every",
    type=FiniteFloat(min=0.1),
    default=2.0,
    metavar="SECONDS",
    help="With --watch: seconds between updates.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON; with --watch one line per change.")
def status(home: str, storage: str | None, study: str | None, watch: bool, every: float, as_json: bool) -> None:
    """Show the studies: trials by state, best trial, cost, failures, workers.

    With --watch, on any host that reaches the database: curves of running trials, each with that of the best
    trial (grey; the mark shows where they are compared), the cost and the remaining budget. Into a pipe, one
    line per event. Of several studies, it follows the one with workers, or else with the newest activity; when
    that has no workers and another one starts, it shows that. --study keeps to one.

    \b
    Examples:
      tuner status
      tuner status --watch --storage postgresql://tuner@db.example.org/tuner
      tuner status --watch --json --every 10 | my_alerts
    """
    from tuner.cli.live import study_to_json as plain
    from tuner.study import queries
    from tuner.study.stats import StatsReader

    engine = open_engine(storage, home)
    if watch:
        return watch_study(engine, storage or to_home(home).database, study, every, as_json)
    infos = [queries.find_study(engine, study)] if study else queries.read_studies(engine)
    views = [queries.read_summary(engine, info) for info in infos]
    all_stats = [StatsReader(engine, now.study).read(now) for now in views]
    if as_json:
        return echo_json([plain(now, stats) for now, stats in zip(views, all_stats, strict=True)])
    if not views:
        click.echo(f"no study yet. {start_hint()}")
    for now, stats in zip(views, all_stats, strict=True):
        print_study(now, stats, queries.explain_limits(engine, now), queries.read_learned(engine, now.study))


def print_study(now: StudySummary, stats: StudyStats, none_meets: str = "", learned: Sequence[str] = ()) -> None:
    """Print a study; `none_meets` says that no trial meets the limits, `learned` what it has from earlier ones."""
    from tuner.study.format import (
        format_budget,
        format_failures,
        format_params,
        format_saved,
        format_spent,
        format_time_left,
        format_value,
    )
    from tuner.study.verdict import judge_stored

    mark = f" ({now.study.size})" if now.study.size else ""
    states = ", ".join(f"{n} {s.lower().replace('_', ' ')}" for s, n in sorted(now.states.items())) or "no trials"
    click.echo(f"{click.style(now.study.name, bold=True)}{mark}: {now.study.goal_text} on {now.study.data}")
    for source in learned:
        click.echo(f"  learns from {source}")
    paused = ", paused" if stats.paused else ""
    click.echo(f"  {count_of(now.num_finished, now.num_trials, 'trial', 'ended')} ({states}){paused}")
    if stats.budget.hours or stats.budget.gpu_hours or stats.budget.epochs:
        click.echo(f"  budget: {format_budget(stats.budget, stats.spent, stats.device)}")
    if now.best:
        best = f"{format_value(now.best.value)}, trial {now.best.number}, {format_params(now.best.params)}"
        click.echo(f"  best {now.study.goal.metric} {best}")
        verdict = judge_stored(now.study.goal, now.best)
        if verdict.sentence:
            click.echo(f"  {verdict.sentence}")
    if none_meets:
        click.echo(f"  {none_meets}")
    if stats.cost.epochs:
        left = f"time left: {format_time_left(stats.left)}" if now.workers else ""
        spent = [pluralize(stats.cost.epochs, "epoch"), format_spent(stats), format_saved(stats.cost), left]
        click.echo(f"  spent: {', '.join(filter(None, spent))}")
    if stats.failures:
        last = stats.failures[-1]
        click.echo(f"  failed: {format_failures(stats)}; last trial {last.number}: {last.reason}")
    for worker in now.workers:
        click.echo(f"  worker {format_worker(worker)}")


def watch_study(engine: Engine, url: str, study: str | None, every: float, as_json: bool) -> None:
    """Watch until Ctrl-C or SIGTERM, and restore the terminal."""
    import signal

    from tuner.cli.following import StudyFollower
    from tuner.cli.live import watch_until_interrupted
    from tuner.study import queries

    follower = None if study else StudyFollower(engine)
    info = follower.find_first() if follower else queries.find_study(engine, study)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while True:
            number = 1 if study else len(queries.read_studies(engine))
            info = watch_until_interrupted(
                choose_view(engine, info, as_json, number), engine, info, url, every, follower
            )
    except KeyboardInterrupt:
        return


def choose_view(engine: Engine, info: StudyInfo, as_json: bool, number: int) -> StudyView:
    """Return the view for the output; `number` is the number of studies in the database."""
    from tuner.cli.live import JsonView, LiveView, PlainView
    from tuner.console import open_terminal
    from tuner.study import queries
    from tuner.study.stats import read_stats

    mark = f"one of {number} studies" if number > 1 else ""
    if as_json:
        return JsonView(engine, info, click.echo)
    if sys.stdout.isatty():
        return LiveView(engine, info, open_terminal(sys.stdout), page=True, mark=mark)
    if mark:
        click.echo(f"watching '{info.name}', {mark}", err=True)
    now = queries.read_summary(engine, info)
    learned = queries.read_learned(engine, info)
    print_study(now, read_stats(engine, info), queries.explain_limits(engine, now), learned)
    return PlainView(engine, info, click.echo)
