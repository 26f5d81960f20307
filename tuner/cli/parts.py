"""The command `tuner parts`: what a recipe can name."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import click

from tuner.cli.common import echo_json, echo_list
from tuner.cli.options import json_option

if TYPE_CHECKING:
    from tuner.registry import PartInfo


@click.command("parts")
@click.argument("kind", required=False)
@json_option
def parts_command(kind: str | None, as_json: bool) -> None:
    """List what a recipe can name: models, losses, optimizers, schedules, datasets, augmentations, metrics.

    Each name is listed with the arguments that a space can search, and their defaults.

    \b
    Examples:
      tuner parts models
      tuner parts --json
    """
    from dataclasses import asdict

    from tuner.registry import list_parts

    found = list_parts(kind)
    if as_json:
        return echo_json([asdict(one) for one in found])
    for at, (title, parts) in enumerate(groupby(found, format_title)):
        click.echo("\n" * bool(at) + click.style(title, bold=True))
        echo_list([(one.name, one.about, format_arguments(one)) for one in parts], indent="  ")
    if kind != "metrics":
        click.echo(
            '\nor your own: use("package.module:function", ...); its keyword-only arguments can be searched'
        )


def format_title(one: PartInfo) -> str:
    return f"{one.kind} of the task {one.task}" if one.task else one.kind


def format_arguments(one: PartInfo) -> str:
    """Return for example 'k=64, dropout=0.1'; arguments without a default come first, by name."""
    return ", ".join([*one.needs, *(f"{name}={value}" for name, value in one.args.items())])
