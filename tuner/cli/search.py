"""The commands that run searches and list or check spaces: run, extend, spaces, check."""

from __future__ import annotations

import sys
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.common import echo_json, echo_list, open_engine, storage_hint, to_home
from tuner.cli.options import (
    COUNT,
    EPOCHS,
    NUMBER,
    SPACE,
    STUDY_SEED,
    Decorator,
    artifacts_option,
    data_option,
    json_option,
    layout_option,
    max_pixels_option,
    search_options,
    space_timeout_option,
    storage_options,
    study_option,
    table_option,
    worker_options,
)
from tuner.errors import BULLET

if TYPE_CHECKING:
    from tuner.search.run import RunResult, StudySetup
    from tuner.study.queries import StudySummary


def divisor_option(name: str, what: str) -> Decorator:
    return click.option(name, type=COUNT, default=1, metavar="N", help=f"Divide {what} by N, in a separate study.")


def size_options(command: Any) -> Any:
    shrink = divisor_option("--shrink", "image size and widths")
    shorten = divisor_option("--shorten", "the epochs")
    text = "Small sizes on generated data, in a separate study."
    return shrink(shorten(click.option("--rehearse", is_flag=True, help=text)(command)))


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
@space_timeout_option
@worker_options
def run(home: str, storage: str | None, **options: Any) -> None:
    """Search a space, or train the rows of a published table; create the study or resume it.

    Run the same command again to resume. Run it in a second terminal, or on another host with the same
    --storage, to add workers to the study. Ctrl-C saves and stops; a second Ctrl-C stops immediately.

    \b
    Examples:
      tuner run --space unet_k --data ~/photos --trials 100
      tuner run --space my_space.py --hours 8 --workers 2
      tuner run --space pet_lr --trials 50 --each model --no-pruning
      tuner run --table weizmann_unet --seeds 3
      tuner run --table weizmann_unet --shrink 8 --shorten 5
    """
    from tuner.cli.live import make_view
    from tuner.search.run import RunRequest
    from tuner.search.run import run as launch

    place = to_home(home)
    request = RunRequest.from_options(storage or place.database, place, options)
    report_and_exit(launch(request, make_view), home, storage)


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
    from tuner.cli.live import make_view
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
    done = extend_module.extend(request, make_view, lambda notice: click.echo(f"notice: {notice}", err=True))
    report_and_exit(done, home, storage)


def report_and_exit(done: RunResult, home: str, storage: str | None) -> None:
    if done.error:
        click.echo(f"tuner: {done.error}", err=True)
    if done.now:
        print_result(done.now, home, storage)
    sys.exit(done.code)


def print_result(now: StudySummary, home: str, storage: str | None) -> None:
    """Print progress, the best trial, and the next commands."""
    from tuner.study.format import format_params, format_value

    name = now.study.name
    click.echo(f"study '{name}': {now.num_finished} of {now.num_trials or 'any number of'} trials ended")
    if now.best:
        best = f"{format_value(now.best.value)}, trial {now.best.number}, {format_params(now.best.params)}"
        click.echo(f"best: {now.study.goal.metric} {best}")
        click.echo(f"next: tuner best --study {quote(name)} --export best{storage_hint(home, storage)}")
    if table := now.study.table:
        named = "" if name == table else f" --study {quote(name)}"
        click.echo(f"next: tuner table {quote(table)}{named}{storage_hint(home, storage)}")
    if now.study.has_given_trials:
        if failed := now.states.get("FAIL", 0):
            click.echo(f"{failed} failed; run the command again to retry them")
    elif now.num_trials and now.num_finished >= now.num_trials:
        click.echo(f"the budget is spent; raise it to continue: --trials {2 * now.num_trials}")
    print_spent_hours(now, home, storage)


def print_spent_hours(now: StudySummary, home: str, storage: str | None) -> None:
    """Print which budgets of hours are spent, and the command that raises them."""
    from tuner.study import budget
    from tuner.study.claims import MIN_GPU_SECONDS

    engine = open_engine(storage, home)
    status = budget.read_budget(engine, now.study.id)
    engine.dispose()
    limits, taken = status.budget, status.spent
    for option, words, limit, spent in (
        ("--hours", "hours", limits.hours, taken.hours),
        ("--gpu-hours", "GPU-hours", limits.gpu_hours, taken.gpu_hours + MIN_GPU_SECONDS / 3600),
    ):
        if limit is not None and spent >= limit:
            study = quote(now.study.name)
            more = f"tuner budget --study {study} {option} {2 * limit:g}{storage_hint(home, storage)}"
            click.echo(f"the {limit:g} {words} are spent; raise them to continue: {more}")


@click.command()
@json_option
def spaces(as_json: bool) -> None:
    """List the search spaces, those in ./search_spaces first; their code is not run."""
    from tuner.space.space import describe_file, known_spaces

    rows = [{"name": name, **describe_file(path)} for name, path in known_spaces().items()]
    if as_json:
        return echo_json(rows)
    echo_list([(row["name"], row["about"], row["path"]) for row in rows])
    if not rows:
        click.echo("no spaces yet: put a .py file into ./search_spaces")


@click.command()
@click.argument("space", type=SPACE, required=False)
@table_option
@data_option
@layout_option
@storage_options
@artifacts_option
@study_option("the space's")
@size_options
@space_timeout_option
@max_pixels_option
def check(space: str | None, home: str, storage: str | None, data: str | None, **options: Any) -> None:
    """Check a space without training: draw 64 random recipes and check each, and the data as run does.

    With --data, it ends as `tuner run` would: every file of the folder is read once, and the study of the name is
    compared, if there is one. Without it, a line tells why run would stop.

    \b
    Examples:
      tuner check search_spaces/my_space.py
      tuner check unet_k --data ~/photos
    """
    from tuner.errors import TunerError
    from tuner.search.run import RunRequest, check_data, check_request, open_space_process, refuse_conflicts

    if space is None and options["table"] is None:
        raise click.UsageError("Missing argument 'SPACE', or --table NAME.")
    place = to_home(home)
    given = {"space": space, "data": data, "trials": None, "seed": 0, **options}
    request = RunRequest.from_options(storage or place.database, place, given)
    refuse_conflicts(request)
    obstacle: TunerError | None = None
    with open_space_process(request) as process:
        setup = check_request(request, process)
        try:
            setup = check_data(setup, request.options, process)
        except TunerError as error:
            if data is not None:
                raise
            obstacle = error
    print_setup(setup)
    if obstacle:
        sentences = [line for line in str(obstacle).split("\n") if not line.startswith(BULLET)]
        click.echo(f"tuner run would stop here: {' '.join(sentences)}")


def print_setup(setup: StudySetup) -> None:
    """Print what was checked: the number of recipes, goal, data, weights and parameters."""
    from tuner.space.space import describe_parameter

    info = setup.info
    what = "rows" if info.has_given_trials else "draws"
    click.echo(f"{setup.space.path}: {len(setup.recipes)} {what}, all valid")
    click.echo(f"goal: {info.goal}   data: {info.data}" + (f"   layout: {info.layout}" if info.layout else ""))
    if setup.counts:
        click.echo(f"images: {setup.counts}   split: {info.split}")
    if weights := sorted({recipe.weights.name for recipe in setup.recipes} - {"none"}):
        click.echo(f"weights: {', '.join(weights)} (found when it runs)")
    if not info.has_given_trials:
        click.echo(f"search: {info.search}")
    for parameter, distribution in info.parameters.items():
        click.echo(f"  {parameter:<14} {describe_parameter(distribution)}")
