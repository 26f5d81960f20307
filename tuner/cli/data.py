"""The commands that list, check and fetch datasets."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from tuner.cli.common import WholeHelpGroup, echo_list, to_home
from tuner.cli.options import DATASET, FILE, FOLDER, home_option, layout_option, max_pixels_option
from tuner.wording import pluralize, write_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.data.source import Source
    from tuner.data.survey import Survey


class DataCommands(WholeHelpGroup):
    """The group `tuner data`; a first argument that is not a subcommand is a dataset to check."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = [SHOW, *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.commands[SHOW].format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


SHOW = "show"


@click.group("data", cls=DataCommands, subcommand_metavar="[NAME|PATH]")
def data_command() -> None:
    """List datasets, check one given by name or folder and draw a contact sheet, or download a public one.

    \b
    Examples:
      tuner data
      tuner data ~/photos --sheet photos.png
      tuner data get oxford_pet
    """


@data_command.command(SHOW, hidden=True)
@click.argument("path", type=DATASET, required=False)
@layout_option
@home_option
@click.option("--sheet", type=FILE, metavar="FILE.png", help="File of the contact sheet.  [default: in --home]")
@max_pixels_option
def show(path: str | None, layout: str | None, home: str, sheet: str | None) -> None:
    """List datasets, or check one given by name or folder and draw a contact sheet."""
    if path is None:
        return list_data()
    from tuner.console import progress_bar
    from tuner.data.datasets import add_split, data_problems, open_data, refuse_layout
    from tuner.data.survey import survey
    from tuner.errors import DataError, FilesError, writing
    from tuner.paths import expand_path
    from tuner.plots.contact_sheet import draw_contact_sheet
    from tuner.recipe import Part

    refuse_layout(path, layout)
    part = add_split(Part(path, {"layout": layout} if layout else {}), "exact")  # as a new study does
    if wrong := data_problems(part):
        raise DataError(" ".join(wrong))
    if sheet and Path(sheet).suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise FilesError(f"the contact sheet {sheet} must end in .png or .jpg.")
    source = open_data(part)
    place = to_home(home).make()
    with progress_bar(f"reading {source.name}") as progress:
        found = survey(source, place.cache, progress)
    picture = expand_path(sheet) if sheet else place.folder / f"sheet-{source.name}.png"
    with writing(picture):
        draw_contact_sheet(source, picture, found.classes)
    print_survey(source, found)
    click.echo(f"contact sheet: {picture}")


def print_survey(source: Source, found: Survey) -> None:
    """Print what a dataset contains, and notices about it."""
    from tuner.data.remarks import dataset_remarks
    from tuner.errors import MOST_LINES, format_names

    click.echo(f"{source.where}: {format_contents(source, found.classes)}")
    if found.classes:
        click.echo(f"  classes: {format_names(found.classes, 20)}")
    if shares := format_shares(source, found):
        click.echo(f"  training pixels: {shares}")
    if counts := format_instances(found):
        click.echo(f"  instances: {counts}")
    notices = [*found.notices(), *dataset_remarks(source, found)]
    for notice in notices[:MOST_LINES]:
        click.echo(f"  notice: {notice}")
    if len(notices) > MOST_LINES:
        click.echo(f"  ... and {len(notices) - MOST_LINES} more")


def format_shares(source: Source, found: Survey) -> str:
    """Return the share of each class in the pixels of label maps, such as 'sky 41%, road 59%', or ''."""
    from tuner.data.remarks import format_share, pixel_shares
    from tuner.errors import format_names

    shares = pixel_shares(source, found.findings)
    return format_names([f"{found.classes[number]} {format_share(share)}" for number, share in shares.items()], 20)


def format_instances(found: Survey) -> str:
    """Return for example '423, 1 to 8 per image; 61 touch another; areas of 12 to 9000 pixels', or ''."""
    things = [finding.things for finding in found.findings.values() if finding.things]
    if not things:
        return ""
    numbers, touching, smallest, largest = zip(*things, strict=True)
    total = f"{sum(numbers)}, {min(numbers)} to {max(numbers)} per image"
    return (
        f"{total}; {sum(touching)} touch another; areas of {min(filter(None, smallest))} to {max(largest)} pixels"
    )


def format_contents(source: Source, classes: Sequence[str]) -> str:
    """Return for example '12 images with labels of 4 classes; 10 train, 2 val'."""
    kinds = f"{source.targets} of {pluralize(len(classes), 'class')}" if classes else source.targets
    return f"{pluralize(len(source.items), 'image')} with {kinds}; {source.counts()}"


@data_command.command("get")
@click.argument("name")
@click.option("--to", type=FOLDER, metavar="DIR", help="Target folder.  [default: the first dataset folder]")
def get_command(name: str, to: str | None) -> None:
    """Download a public dataset: resumes an interrupted download, verifies and unpacks it.

    Available are oxford_pet, isic2016 and penn_fudan. For datasets that need a login, the steps are printed.
    TUNER_MIRROR can name a URL with the same files.

    \b
    Examples:
      tuner data get oxford_pet
      tuner data get isic2016 --to ~/datasets
    """
    from tuner.console import progress_bar
    from tuner.data.fetch import fetch_dataset

    click.echo(fetch_dataset(name, Path(to) if to else None, progress_bar))
    found_there = f"TUNER_DATA={quote(to)} " if to else ""
    click.echo(f"next: {found_there}{write_command('data', name)}")


def list_data() -> None:
    from tuner.data.locate import data_roots
    from tuner.registry import list_parts

    echo_list([(one.name, one.about, describe_location(one.name)) for one in list_parts("datasets")])
    click.echo(f"\nsearched folders: {', '.join(map(str, data_roots()))}   (add more with TUNER_DATA)")
    click.echo(
        "or any folder: --data PATH, with images/ + masks/, rgb/ + figure_ground/, images/ + labels/, "
        "images/ + instances/, images/ + annotations.json, or one folder per class; others with --layout"
    )


def describe_location(name: str) -> str:
    """Return where a dataset is and what it contains, or what is wrong with it, without reading images."""
    from tuner.data.datasets import GENERATED, add_split, open_data
    from tuner.data.locate import candidate_folders
    from tuner.errors import DataError
    from tuner.recipe import Part

    there = [place for place in candidate_folders(name) if place.is_dir()]
    if name not in GENERATED and not there:
        return "not on this machine"
    try:
        source = open_data(add_split(Part(name), "exact"))
    except DataError as error:
        return str(error).partition("\n")[0]
    where = "generated" if name in GENERATED else f"at {there[0]}"
    return f"{where}: {format_contents(source, source.classes)}"
