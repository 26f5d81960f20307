"""The command that shows where a model looked."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("bundle", type=click.Path())
@click.argument("images", nargs=-1, type=click.Path())
@click.option("--layers", metavar="x1,x4", help="Which layers.  [default: those the model names]")
@click.option("--class", "name", metavar="NAME", help="Which class.  [default: the one that was predicted]")
@click.option("--out", default="explanations", show_default=True, metavar="DIR", help="Folder for the panels.")
@click.option("--list-layers", "listing", is_flag=True, help="List the layers of the model, and do nothing else.")
def explain(
    bundle: str, images: tuple[str, ...], layers: str | None, name: str | None, out: str, listing: bool
) -> None:
    """Show where a model looked: heat maps (Grad-CAM) of its layers for each image.

    \b
    Example:
      tuner explain best photos/*.jpg --layers x4,x6
    """
    from tuner import panels

    if listing:
        for line in panels.list_layers(Path(bundle)):
            click.echo(line)
        return
    if not images:
        raise click.UsageError("Missing argument 'IMAGES...'.")
    chosen = [layer.strip() for layer in (layers or "").split(",") if layer.strip()]
    if layers is not None and not chosen:
        raise click.BadParameter("names no layer; --list-layers lists them.", param_hint="'--layers'")
    for line in panels.explain_files(Path(bundle), [Path(image) for image in images], Path(out), chosen, name):
        click.echo(line)
