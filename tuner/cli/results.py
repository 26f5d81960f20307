"""The commands that show and use what came out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tuner.cli.common import artifacts_option, echo_json, engine_of, home_of, home_option, storage_options
from tuner.cli.control import in_words, line_of


@click.command()
@storage_options
@click.option("--study", metavar="NAME", help="One study.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(home: str, storage: str | None, study: str | None, as_json: bool) -> None:
    """Show the studies: trials by state, the best so far, who works on them."""
    from tuner import control, overview
    from tuner.live import show_params, show_value

    engine = engine_of(storage, home)
    infos = [overview.find_study(engine, study)] if study else overview.all_studies(engine)
    views = [overview.overview(engine, info) for info in infos]
    if as_json:
        return echo_json([status_json(now) for now in views])
    if not views:
        click.echo("no study yet. Begin one with: tuner run --space unet_k")
    for now in views:
        mark = f" ({now.study.size})" if now.study.size else ""
        states = ", ".join(f"{n} {s.lower()}" for s, n in sorted(now.states.items())) or "no trials"
        click.echo(f"{click.style(now.study.name, bold=True)}{mark}: {now.study.goal} on {now.study.data}")
        paused = ", paused" if control.standing(engine, now.study.id).paused else ""
        click.echo(f"  {now.finished} of {now.num_trials or 'any number of'} trials ended ({states}){paused}")
        limits = control.budget(engine, now.study.id)
        if limits.hours or limits.gpu_hours:
            click.echo(f"  budget: {in_words(limits, control.spent(engine, now.study.id))}")
        if now.best:
            best = f"{show_value(now.best.value)}, trial {now.best.number}, {show_params(now.best.params)}"
            click.echo(f"  best {now.study.goal.metric} {best}")
        for worker in now.workers:
            click.echo(f"  worker {line_of(worker)}")


def status_json(now: Any) -> dict[str, Any]:
    from dataclasses import asdict

    best = now.best and {"trial": now.best.number, "value": now.best.value, "params": now.best.params}
    return {
        "study": now.study.name,
        "space": now.study.space,
        "data": now.study.data,
        "goal": asdict(now.study.goal),
        "rehearsal": now.study.rehearsal,
        "trials": now.num_trials,
        "ended": now.finished,
        "states": now.states,
        "best": best,
        "workers": [asdict(worker) for worker in now.workers],
    }


@click.command()
@storage_options
@artifacts_option
@click.option("--study", metavar="NAME", help="Of which study.  [default: the one worked on last]")
@click.option("--export", "folder", metavar="DIR", help="Write the model and all about it into a new folder.")
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def best(
    home: str, storage: str | None, artifacts: str | None, study: str | None,
    folder: str | None, force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Show the best trial; export its model as a folder that needs no database.

    \b
    Example:
      tuner best --export best && tuner predict best photo.jpg
    """
    from tuner.best import best as find_best

    found = find_best(engine_of(storage, home), study)
    if folder:
        from tuner.bundle import export
        from tuner.keeper import open_keeper

        keeper = open_keeper(home_of(home), artifacts or found.study.artifacts)
        export(found, found.fetched(keeper), Path(folder).expanduser(), force)
    if as_json:
        return echo_json(found.to_json() | ({"exported": folder} if folder else {}))
    click.echo(
        f"{found.study.name}: trial {found.trial.number}, {found.study.goal.metric} {found.trial.value:.4f}"
    )
    click.echo(f"  best of {found.finished} trials, beat {found.beaten}, {found.failed} failed")
    for name, value in found.trial.params.items():
        click.echo(f"  {name:<14} {value:.4g}" if isinstance(value, float) else f"  {name:<14} {value}")
    click.echo(f"  at epoch {found.epoch}:")
    for name, value in found.metrics.items():
        click.echo(f"    {name:<16} {value:.4f}")
    if folder:
        click.echo(f"exported to {folder}; use it with: tuner predict {folder} IMAGE...")


@click.command()
@click.argument("bundle", type=click.Path())
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option(
    "--out", default="predictions", show_default=True, metavar="DIR", help="Folder for masks and overlays."
)
def predict(bundle: str, images: tuple[str, ...], out: str) -> None:
    """Write a mask and an overlay for each image, with an exported bundle alone.

    \b
    Example:
      tuner predict best photos/*.jpg --out masks
    """
    from tuner.predict import predict_files

    for path in predict_files(Path(bundle), [Path(image) for image in images], Path(out)):
        click.echo(path)


@click.command()
@click.argument("bundle", type=click.Path())
@click.option("--data", metavar="NAME|PATH", help="Another dataset or folder than the bundle was trained on.")
@click.option(
    "--split",
    type=click.Choice(["test", "val"]),
    default="test",
    show_default=True,
    help="Which split: val is the one that chose the best epoch.",
)
@click.option("--confusion", metavar="FILE.csv", help="Write the confusion matrix there.")
@home_option
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def evaluate(bundle: str, data: str | None, split: str, confusion: str | None, home: str, as_json: bool) -> None:
    """Score an exported bundle on the test split, which no search has seen.

    \b
    Example:
      tuner evaluate best --data ~/photos
    """
    from dataclasses import asdict

    from tuner.errors import writing
    from tuner.evaluate import evaluate_bundle
    from tuner.report.tables import BINARY_CLASSES, write_confusion

    found = evaluate_bundle(Path(bundle), data, split, home_of(home))
    if confusion:
        with writing(Path(confusion)):
            write_confusion(found.confusion, found.classes or BINARY_CLASSES, Path(confusion))
    if as_json:
        return echo_json(asdict(found))
    click.echo(f"{found.data}, {found.split} split: {found.images} images")
    for name, value in found.metrics.items():
        click.echo(f"  {name:<16} {value:.4f}")
