"""The command that trains finished trials for more epochs: extend."""

from __future__ import annotations

from typing import Any

import click

from tuner.cli.common import to_home
from tuner.cli.continuing import view_and_store
from tuner.cli.options import COUNT, EPOCHS, NUMBER, storage_options, study_option, worker_options
from tuner.cli.run import report_and_exit


@click.command()
@storage_options
@study_option()
@click.option("--top", type=COUNT, help="Extend the best N finished trials.  [default: 1]")
@click.option("--by", metavar="PARAMETER", help="With --top: the best N of each value of it.")
@click.option("--trial", "numbers", type=NUMBER, multiple=True, metavar="N", help="Or this trial; repeatable.")
@click.option("--epochs", type=EPOCHS, required=True, help="Total number of epochs.")
@worker_options
def extend(
    home: str, storage: str | None, study: str | None, top: int | None, by: str | None, numbers: tuple[int, ...],
    epochs: int, **options: Any,
) -> None:  # fmt: skip
    """Train finished trials for more epochs, from their checkpoints, in a separate study.

    Run the same command again to resume; no epoch is trained twice.

    \b
    Examples:
      tuner extend --top 3 --epochs 50
      tuner extend --study pet_lr --trial 12 --epochs 50
      tuner extend --study pet_lr --top 1 --by model --epochs 50
    """
    from tuner.errors import StudyError
    from tuner.search import extend as extend_module
    from tuner.search.run import RunOptions

    if (top or by) and numbers:
        raise StudyError(
            "give either --top N, with or without --by, for the best trials, or --trial N for single ones."
        )
    place = to_home(home)
    given = RunOptions.from_options(storage or place.database, place, options)
    request = extend_module.ExtendRequest(study, epochs, top or 1, numbers, given, by or "")
    done = extend_module.extend(request, view_and_store, lambda notice: click.echo(f"notice: {notice}", err=True))
    report_and_exit(done, home, storage)
