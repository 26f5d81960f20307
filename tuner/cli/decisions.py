"""The command `tuner decisions`: what the search decided about its trials and why, and its replay."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING

import click

from tuner.cli.common import echo_json, open_engine, to_home
from tuner.cli.options import NUMBER, json_option, storage_options, study_option
from tuner.wording import pluralize

if TYPE_CHECKING:
    from tuner.search.replay import ReplayedDecision
    from tuner.study.decisions import StoredDecision
    from tuner.study.info import StudyInfo


@click.command()
@click.argument("trial", type=NUMBER, required=False)
@click.option("--replay", is_flag=True, help="Take each decision again from the recorded epochs, and compare.")
@json_option
@study_option()
@storage_options
def decisions(
    trial: int | None, replay: bool, as_json: bool, study: str | None, home: str, storage: str | None
) -> None:
    """Show what a search decided, in order: which trials started, paused, were resumed or stopped, and why.

    With --replay, the scheduler takes each decision again from the recorded epochs, and exit code 1 tells that one
    differs. Of a study with one worker all are the same; with several, what the others had trained at that moment
    is not known exactly.

    \b
    Examples:
      tuner decisions               all of the most recent study
      tuner decisions 12            those on trial 12
      tuner decisions --replay      whether they follow from the recorded epochs
    """
    from tuner.errors import StudyError
    from tuner.study import queries
    from tuner.study.decisions import read_decisions

    if replay and trial is not None:
        raise StudyError(
            f"--replay takes all decisions again, not those on trial {trial} alone. Leave {trial} out."
        )
    engine = open_engine(storage, home)
    info = queries.find_study(engine, study)
    if replay:
        return show_replay(storage or to_home(home).database, info, as_json)
    found = [each for each in read_decisions(engine, info.id) if trial is None or each.number == trial]
    if as_json:
        return echo_json([vars(each) for each in found])
    if not found:
        what = "" if trial is None else f" on trial {trial}"
        click.echo(f"{info.name}: no decisions{what}; pruning is {info.search.pruning!r}")
    for each in found:
        click.echo(format_line(each))


def format_line(decision: StoredDecision) -> str:
    """Return a decision with the local time at which it was written."""
    from tuner.study.format import format_decision

    return f"{datetime.fromtimestamp(decision.at):%Y-%m-%d %H:%M:%S}  {format_decision(decision)}"


def show_replay(url: str, info: StudyInfo, as_json: bool) -> None:
    """Print each decision that differs when it is taken again, and their numbers; exit with 1 if there is one."""
    from tuner.search.replay import replay_decisions
    from tuner.study.study import rejoin_study

    replayed = replay_decisions(rejoin_study(url, info.name))
    other = [each for each in replayed if not each.is_same]
    if as_json:
        echo_json([{**vars(each.stored), "same": each.is_same, "now": to_json(each)} for each in replayed])
    else:
        for each in other:
            click.echo(f"{format_line(each.stored)}; again: {format_again(each)}")
        workers = len({each.stored.worker for each in replayed})
        made_by = f"made by {pluralize(workers, 'worker')}"
        same = len(replayed) - len(other)
        click.echo(f"{info.name}: {same} of {pluralize(len(replayed), 'decision')}, {made_by}, are the same again")
    if other:
        sys.exit(1)


def to_json(replayed: ReplayedDecision) -> dict[str, object] | None:
    return vars(replayed.now) if replayed.now else None


def format_again(replayed: ReplayedDecision) -> str:
    """Return what is decided now, such as 'resume trial 3: rank 1 of 4, 1 may go on'."""
    from tuner.study.format import format_reason

    now = replayed.now
    if now is None:
        return "nothing"
    trial = "" if now.number is None else f" trial {now.number}"
    return f"{now.action}{trial}: {format_reason(now.reason)}"
