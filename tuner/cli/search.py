"""The commands that search, and those that look at a space."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.common import at, echo_json, home_of, storage_options

if TYPE_CHECKING:
    from tuner.overview import Overview


@click.command()
@click.option("--space", required=True, metavar="NAME|PATH", help="A search space: see tuner spaces.")
@click.option("--data", metavar="NAME|PATH", help="Another dataset or folder than the space's own.")
@click.option(
    "--trials", type=click.IntRange(min=1), help="Trials in all, over every worker and restart.  [default: 50]"
)
@click.option(
    "--hours", type=click.FloatRange(min=0, min_open=True), help="Stop after so long; type it again to go on."
)
@click.option("--workers", type=click.IntRange(min=1), help="Worker processes here.  [default: one a GPU, or one]")
@storage_options
@click.option("--study", metavar="NAME", help="Name of the study.  [default: the space's]")
@click.option("--seed", default=0, show_default=True, help="Of the whole study.")
@click.option("--rehearse", is_flag=True, help="Toy size on generated data, into a study of its own.")
@click.option(
    "--cache-gb", type=click.FloatRange(min=0), default=20.0, show_default=True, help="Room for decoded images."
)
def run(home: str, **options: Any) -> None:
    """Search: create the study or go on with it.

    Typing it again goes on where it stopped. Typing it in a second terminal, or on another host with the
    same --storage, adds workers to the same study. Ctrl-C saves and stops; a second Ctrl-C stops at once.

    \b
    Examples:
      tuner run --space unet_k --data ~/photos --trials 100
      tuner run --space my_space.py --hours 8 --workers 2
    """
    from tuner.launch import Request
    from tuner.launch import run as launch

    done = launch(Request(home=home_of(home), **options))
    if done.error:
        click.echo(f"tuner: {done.error}", err=True)
    if done.now:
        tell_result(done.now, home, options["storage"])
    sys.exit(done.code)


def tell_result(now: Overview, home: str, storage: str | None) -> None:
    """How far the study is, its best, and what to type next."""
    from tuner.live import show_params, show_value

    name = now.study.name
    click.echo(f"study '{name}': {now.finished} of {now.num_trials or 'any number of'} trials ended")
    if now.best:
        best = f"{show_value(now.best.value)}, trial {now.best.number}, {show_params(now.best.params)}"
        click.echo(f"best: {now.study.goal.metric} {best}")
        click.echo(f"next: tuner best --study {name} --export best{at(home, storage)}")
    if now.num_trials and now.finished >= now.num_trials:
        click.echo(f"the budget is spent; raise it to go on: --trials {2 * now.num_trials}")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def spaces(as_json: bool) -> None:
    """List the search spaces: your own ./search_spaces first."""
    from tuner.space import about, known_spaces

    rows = [{"name": name, "about": about(path), "path": str(path)} for name, path in known_spaces().items()]
    if as_json:
        return echo_json(rows)
    for row in rows:
        click.echo(f"{row['name']:<20} {row['about']}\n{'':<20} {click.style(row['path'], dim=True)}")
    if not rows:
        click.echo("no spaces yet: put a .py file into ./search_spaces")


@click.command()
@click.argument("space")
@click.option("--data", metavar="NAME|PATH", help="Another dataset or folder than the space's own.")
def check(space: str, data: str | None) -> None:
    """Check a space: 64 random draws, every recipe, without training.

    \b
    Example:
      tuner check search_spaces/my_space.py
    """
    from tuner.data.datasets import data_name, swap_data
    from tuner.space import describe, draw, load_space

    found = load_space(space)
    draws = draw(found)
    name = data_name(draws.recipes[0], data)
    from tuner.check import check_recipes  # loads torch: a space that cannot be drawn from is told before

    check_recipes([swap_data(r, name) for r in draws.recipes], found.goal, str(found.path))
    click.echo(f"{found.path}: {len(draws.recipes)} draws, all can be trained")
    click.echo(f"goal: {found.goal}   data: {name}")
    for parameter, distribution in draws.parameters.items():
        click.echo(f"  {parameter:<14} {describe(distribution)}")
