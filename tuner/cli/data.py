"""The command that shows datasets."""

from __future__ import annotations

from pathlib import Path

import click

from tuner.cli.common import home_of, home_option


@click.command("data")
@click.argument("path", required=False)
@home_option
@click.option("--sheet", metavar="FILE.png", help="Where to draw the contact sheet.  [default: in the home]")
def data_command(path: str | None, home: str, sheet: str | None) -> None:
    """List the datasets; or check one, by name or folder, and draw a contact sheet.

    \b
    Example:
      tuner data ~/photos
    """
    if path is None:
        return list_data()
    from tuner.console import progress_bar
    from tuner.data.datasets import data_problems, open_data
    from tuner.data.survey import survey
    from tuner.errors import DataError, FilesError, writing
    from tuner.recipe import Part
    from tuner.report.sheet import draw_sheet

    if wrong := data_problems(Part(path)):
        raise DataError(" ".join(wrong))
    if sheet and Path(sheet).suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise FilesError(f"the contact sheet is a picture; {sheet} ends in neither .png nor .jpg.")
    source = open_data(Part(path))
    place = home_of(home).make()
    with progress_bar(f"reading {source.name}") as progress:
        found = survey(source, place.cache, progress)
    picture = Path(sheet).expanduser() if sheet else place.folder / f"sheet-{source.name}.png"
    with writing(picture):
        draw_sheet(source, picture)
    classes = f" of {len(source.classes)} classes" if source.classes else ""
    click.echo(f"{source.where}: {len(source.items)} images with {source.targets}{classes}; {source.counts()}")
    for notice in found.notices():
        click.echo(f"  notice: {notice}")
    click.echo(f"contact sheet: {picture}")


def list_data() -> None:
    from tuner.data.datasets import DATASETS
    from tuner.data.places import roots
    from tuner.parts import locate

    for name in DATASETS:
        about = (locate("dataset", DATASETS, name).__doc__ or "").partition("\n")[0]
        places = [root / name for root in roots() if (root / name).is_dir()]
        here = "generated" if name == "shapes" else f"at {places[0]}" if places else "not on this machine"
        click.echo(f"{name:<16} {about}\n{'':<16} {click.style(here, dim=True)}")
    click.echo(f"\nlooked for in: {', '.join(map(str, roots()))}   (add folders with TUNER_DATA)")
    click.echo("or any folder: --data PATH, with images/ + masks/, rgb/ + figure_ground/, or a folder a class")
