"""The command that trains the best trials again with fresh seeds: confirm."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.common import echo_json, open_engine, to_home
from tuner.cli.continuing import view_and_store
from tuner.cli.options import (
    COUNT,
    NUMBER,
    SPACE,
    Whole,
    json_option,
    storage_options,
    study_option,
    worker_options,
)
from tuner.wording import free_folder, write_command

if TYPE_CHECKING:
    from tuner.report.confirmation import Confirmation

MOST_SEEDS = 100


@click.command()
@storage_options
@study_option()
@click.option("--top", type=COUNT, default=3, help="Confirm the best N trials of different parameters.")
@click.option("--trial", "numbers", type=NUMBER, multiple=True, metavar="N", help="Or this trial; repeatable.")
@click.option(
    "--seeds", type=Whole(2, MOST_SEEDS), default=3, help="How many fresh seeds the winner is trained with."
)
@click.option(
    "--space", type=SPACE, metavar="NAME|PATH", help="The space, for its default.  [default: the study's]"
)
@click.option("--no-default", is_flag=True, help="Do not train the default of the space.")
@json_option
@worker_options
def confirm(
    home: str, storage: str | None, study: str | None, top: int, numbers: tuple[int, ...], seeds: int,
    space: str | None, no_default: bool, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Train the best trials again with fresh seeds, and say which one is best, by how much, and how sure that is.

    The best value of a search is partly luck. Here the best trials, and the default of the space (the first point
    of START, else the middle of each range), are trained with the same fresh seeds. A candidate that can no longer
    win gets no further seed. The best run of the winner is scored on the test split, once.

    The runs are a study of their own, STUDY-confirmed. Run the same command again to resume, or on further hosts
    to add workers. tuner best then exports the confirmed model.

    \b
    Examples:
      tuner confirm
      tuner confirm --study pets --top 5 --seeds 5
      tuner confirm --trial 3 --trial 17 --no-default
    """
    from tuner.errors import StudyError
    from tuner.search import confirm as confirm_module
    from tuner.search.run import RunOptions

    source = click.get_current_context().get_parameter_source("top")
    if numbers and source is click.core.ParameterSource.COMMANDLINE:
        raise StudyError("give either --top N for the best trials, or --trial N for single ones.")
    place = to_home(home)
    given = RunOptions.from_options(storage or place.database, place, options)
    request = confirm_module.ConfirmRequest(study, top, numbers, seeds, given, space, not no_default)
    done = confirm_module.confirm(
        request, view_and_store, lambda notice: click.echo(f"notice: {notice}", err=True)
    )
    if done.error:
        click.echo(f"tuner: {done.error}", err=True)
    engine = open_engine(storage, home)
    from tuner.report.confirmation import read_confirmation
    from tuner.report.trial_files import open_artifacts
    from tuner.study import queries

    info = queries.find_study(engine, done.study)
    found = read_confirmation(engine, info, open_artifacts(engine, place, given.artifacts))
    engine.dispose()
    if as_json:
        echo_json(found.to_json() if found else {})
    else:
        for line in confirmation_lines(found):
            click.echo(line)
    sys.exit(done.code)


def confirmation_lines(found: Confirmation | None) -> Iterator[str]:
    """Yield the candidates, the answer and the next command."""
    if found is None:
        yield "no run has finished yet; the same command goes on"
        return
    from tuner.report.confirmation import describe_confirmation
    from tuner.study.format import format_params

    for one in found.candidates:
        yield f"  {one.name:<12} {found.metric} {one.spread}  {format_params(dict(one.params))}"
    yield from describe_confirmation(found)
    yield f"next: {write_command('best', study=found.study.subject, export=free_folder('best'))}"
