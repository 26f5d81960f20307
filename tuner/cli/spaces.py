"""The commands that list and check search spaces: spaces, check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tuner.cli.common import echo_json, echo_list, to_home
from tuner.cli.options import (
    SPACE,
    artifacts_option,
    data_option,
    json_option,
    layout_option,
    max_pixels_option,
    search_options,
    size_options,
    space_timeout_option,
    storage_options,
    study_option,
    table_option,
)
from tuner.errors import BULLET, format_names
from tuner.wording import pluralize

if TYPE_CHECKING:
    from tuner.search.run import StudySetup
    from tuner.study.info import StudyInfo

FIRST_GOAL_SAMPLERS = ("early", "gp", "cmaes")  # that learn from the first of several goals
SHOWN_POINTS = 12  # of START, by `tuner check`


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
@search_options
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
      tuner check unet_k --limit params=2e6 --pruning none
    """
    from tuner.data.locate import check_exists
    from tuner.errors import TunerError
    from tuner.space.space import find_space

    if space is None and options["table"] is None:
        raise click.UsageError("Missing argument 'SPACE', or --table NAME.")
    if space and not options["table"]:
        find_space(space)
    check_exists(data)

    from tuner.search.run import RunRequest, check_data, check_request, open_space_process, refuse_conflicts

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
        click.echo(f"here tuner run would stop: {' '.join(sentences)}")


def print_setup(setup: StudySetup) -> None:
    """Print what was checked: the number of recipes, goal, data, weights and parameters."""
    from tuner.space.space import describe_parameter

    info = setup.info
    what, start = "rows" if info.has_given_trials else "draws", setup.space.start
    more = f" and {pluralize(len(start), 'point')} of START" if start else ""
    click.echo(f"{setup.space.path}: {len(setup.recipes) - len(start)} {what}{more}, all valid")
    click.echo(
        f"goal: {info.goal_text}   data: {info.data}" + (f"   layout: {info.layout}" if info.layout else "")
    )
    if setup.counts:
        click.echo(f"images: {setup.counts}   split: {info.split}")
    if weights := sorted({recipe.weights.name for recipe in setup.recipes} - {"none"}):
        click.echo(f"weights: {', '.join(weights)} (found when it runs)")
    if not info.has_given_trials:
        judged = f" (judged {info.search.rungs_text})" if info.is_pruned else ""
        click.echo(f"search: {info.search}{judged}")
        for study in info.earlier:
            click.echo(f"learns from {study}{learned_points(info)}")
        if info.further:
            click.echo(describe_goals(info))
    print_limits(setup)
    for parameter, distribution in info.parameters.items():
        values = info.search.grid.get(parameter)
        listed = f"; grid: {format_names(values, 12)}" if values else ""
        click.echo(f"  {parameter:<14} {describe_parameter(distribution)}{listed}")
    print_start(start, info)


def learned_points(info: StudyInfo) -> str:
    """Return what the sampler does not learn from earlier studies, or ""."""
    sampler = info.search.sampler
    return "" if sampler == "early" else f"; the sampler {sampler} learns from the points alone"


def describe_goals(info: StudyInfo) -> str:
    """Return what follows all goals, and what the first one alone."""
    first, sampler = info.goal.metric, info.search.sampler
    by_first = ["the best trial", *([f"the sampler {sampler}"] if sampler in FIRST_GOAL_SAMPLERS else [])]
    pruned = "; trials are pruned by it too, among those that cost at most as much" if info.is_pruned else ""
    return f"several goals: {' and '.join(by_first)} by {first} alone{pruned}; tuner best shows the front"


def print_limits(setup: StudySetup) -> None:
    """Print the limits, and how many of the draws break each that can be known now."""
    from tuner.goal import over_limits

    limits, measured = setup.info.limits, setup.space.measured
    over = [over_limits(each, limits) for each in measured]
    for name, limit in limits.items():
        if any(name in each for each in measured):
            breaking = f"{sum(name in each for each in over)} of {pluralize(len(over), 'recipe')}"
            told = f"{breaking} break it, and would not be trained"
        else:
            told = "measured in each trial, before it is trained"
        click.echo(f"limit: {name} at most {limit:g} ({told})")


def print_start(start: tuple[dict[str, Any], ...], info: StudyInfo) -> None:
    """Print the points that are trained first."""
    from tuner.study.format import format_params

    for number, point in enumerate(start[:SHOWN_POINTS], start=1):
        rest = ", the others chosen by the sampler" if info.parameters.keys() - point else ""
        click.echo(f"  START {number:<8} {format_params(point)}{rest}")
    if len(start) > SHOWN_POINTS:
        click.echo(f"  ... and {len(start) - SHOWN_POINTS} more points of START")
