"""The command `tuner parts`: what a recipe can name."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import click

from tuner.cli.common import echo_json, echo_list
from tuner.cli.options import SPACE, json_option

if TYPE_CHECKING:
    from tuner.registry import PartInfo


@click.command("parts")
@click.argument("kind", required=False, metavar="[KIND|MODULE:FUNCTION]")
@click.option("--space", type=SPACE, metavar="NAME|PATH", help="Look for MODULE also beside this space.")
@json_option
def parts_command(kind: str | None, space: str | None, as_json: bool) -> None:
    """List what a recipe can name: models, losses, optimizers, schedules, datasets, augmentations, metrics.

    And the samplers that SEARCH of a space or --sampler can name.

    Each name is listed with the arguments that a space can search, and their defaults; so is a function of your
    own, which is looked for in the working folder and among the installed packages.

    \b
    Examples:
      tuner parts models
      tuner parts my_model:net --space my_space.py
      tuner parts --json
    """
    from dataclasses import asdict

    from tuner.registry.listing import list_parts

    is_own = kind is not None and ":" in kind
    if space and not is_own:
        raise click.UsageError("--space needs MODULE:FUNCTION, a function of your own.")
    if is_own:
        look_beside(space)
    found = list_parts(kind)
    if as_json:
        return echo_json([asdict(one) for one in found])
    for at, (title, parts) in enumerate(groupby(found, format_title)):
        click.echo("\n" * bool(at) + click.style(title, bold=True))
        echo_list([(one.name, one.about, format_arguments(one)) for one in parts], indent="  ")
    if not is_own and kind != "metrics":
        click.echo(
            '\nor your own: use("package.module:function", ...); its keyword-only arguments can be searched'
        )
    if is_own and not (found[0].args or found[0].needs):
        click.echo("  no keyword-only arguments, so a space can search none")


def look_beside(space: str | None) -> None:
    """Look for modules of the user's own in the working folder, and beside a space if one is given."""
    from tuner.registry.own_modules import search_beside
    from tuner.space.space import find_space

    search_beside(*([] if space is None else [find_space(space)]))


def format_title(one: PartInfo) -> str:
    return f"{one.kind} of the task {one.task}" if one.task else one.kind


def format_arguments(one: PartInfo) -> str:
    """Return for example 'k=64, dropout=0.1'; arguments without a default come first, by name."""
    return ", ".join([*one.needs, *(f"{name}={value}" for name, value in one.args.items())])
