"""The commands that show, export and use the best model: best, predict, evaluate, explain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tuner.cli.common import echo_json, open_engine, to_home
from tuner.cli.options import (
    DATASET,
    FILE,
    FOLDER,
    SEED,
    TRIAL,
    FiniteFloat,
    Whole,
    artifacts_option,
    home_option,
    json_option,
    layout_option,
    max_pixels_option,
    storage_options,
    study_option,
    trust_option,
)
from tuner.cli.trials import print_numbers
from tuner.errors import printable
from tuner.wording import pluralize

if TYPE_CHECKING:
    from tuner.export.best_trial import BestTrial
    from tuner.plots.heatmaps import Score

SAMPLE = Whole(1, 100)  # as `tuner.export.evaluate.SAMPLE`


@click.command()
@storage_options
@artifacts_option
@study_option()
@click.option(
    "--export", "folder", type=FOLDER, metavar="DIR", help="Export the model as a bundle into a new folder."
)
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option(
    "--pick",
    metavar="N|knee|GOAL:X|NAME<X",
    help="Another trial: its number, the knee of the front, the best of the front by weights such as "
    "'iou:2,params:1', or the best with 'params<2e6,iou>0.8'.",
)
@click.option(
    "--trial", "number", type=TRIAL, metavar="N", help="Another trial, also a paused one; see tuner trials."
)
@json_option
def best(
    home: str, storage: str | None, artifacts: str | None, study: str | None,
    folder: str | None, force: bool, pick: str | None, number: int | None, as_json: bool,
) -> None:  # fmt: skip
    """Show the best trial; export its model as a bundle, a folder that needs no database.

    After tuner confirm it is the best run of the confirmed winner; --trial and --pick choose out of the search.
    With several goals it is the best by the first one, and the front is shown: the trials than which no other is
    better in all goals. --pick chooses another.

    \b
    Examples:
      tuner best --export best && tuner predict best photo.jpg
      tuner best --pick 'params<2e6' --export small
      tuner best --pick 'iou:2,params:1'
      tuner best --trial 3 --export third
    """
    from tuner.export.best_trial import check_exportable, find_best, find_shipped, find_trial

    if number is not None and pick is not None:
        raise click.UsageError("give --trial N or --pick, not both: each chooses a trial.")
    engine, place = open_engine(storage, home), to_home(home)
    if number is not None:
        found = find_trial(engine, study, number)
    elif pick is not None:
        found = find_best(engine, study, pick)
    else:
        found = find_shipped(engine, study, place, artifacts)
    if folder:
        check_exportable(found)
        from tuner.artifacts.attempts import open_attempts
        from tuner.export.bundle import export_bundle
        from tuner.export.card import predict_command
        from tuner.paths import expand_path
        from tuner.recipe import Recipe

        attempts = open_attempts(place, artifacts or found.study.artifacts)
        export_bundle(found, found.fetch_files(attempts), expand_path(folder), force)
    if as_json:
        return echo_json(found.to_json() | ({"exported": folder} if folder else {}))
    print_best(found)
    if folder:
        command = predict_command(folder, Recipe.from_json(found.trial.attrs["recipe"]), "IMAGE...")
        click.echo(f"exported to {folder}; use it with: {command}")


def print_best(found: BestTrial) -> None:
    """Print how the trial came to be chosen, its parameters and metrics, and what it does not find."""
    click.echo(
        f"{found.study.name}: trial {found.trial.number}, {found.study.goal.metric} {found.trial.value:.4f}"
    )
    chosen = f"picked by {printable(found.pick, 80)} out" if found.pick else "best"
    if found.confirmation:
        from tuner.report.confirmation import describe_confirmation

        click.echo(f"  the best run of what tuner confirm trained again; {found.study.subject} is the search")
        for sentence in describe_confirmation(found.confirmation):
            click.echo(f"  {sentence}")
    elif found.state:
        rank = f"better than {found.beaten} of {pluralize(found.finished, 'finished trial')}"
        click.echo(f"  {found.state}\n  {rank}, {found.failed} failed")
    else:
        click.echo(
            f"  {chosen} of {pluralize(found.finished, 'trial')}, beat {found.beaten}, {found.failed} failed"
        )
    for name in (name for name in found.values if name != found.study.goal.metric):
        click.echo(f"  {name:<14} {found.values[name]:.4g}")
    print_numbers(found.trial.params, found.epoch, found.metrics)
    if found.verdict.sentence:
        click.echo(f"  {found.verdict.sentence}; {found.verdict.remedy}")
    print_front(found)


def print_front(found: BestTrial) -> None:
    """Print the front of a study with several goals as a table; the shown trial has a mark."""
    if not found.front:
        return
    names = [goal.metric for goal in found.study.goals]
    widths = [max(10, len(name)) for name in names]
    heading = " ".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))
    click.echo(f"  the front of {found.study.goal_text}, {pluralize(len(found.front), 'trial')}:")
    click.echo(f"    {'trial':>5} {heading}")
    for each in found.front:
        cells = " ".join(f"{each.values[n]:>{width}.4g}" for n, width in zip(names, widths, strict=True))
        mark = "*" if each.number == found.trial.number else " "
        click.echo(f"  {mark} {each.number:>5} {cells}")


@click.command()
@click.argument("bundle", type=FOLDER)
@click.argument("images", nargs=-1, required=True, type=FILE)
@click.option(
    "--out",
    type=FOLDER,
    default="predictions",
    metavar="DIR",
    help="Output folder; results of the same name in it are replaced.",
)
@click.option(
    "--threshold",
    type=FiniteFloat(min=0, max=1, min_open=True, max_open=True),
    metavar="P",
    help="Masks: the object is where its probability is above P.  [default: 0.5]",
)
@click.option("--probabilities", is_flag=True, help="Write the probabilities at each pixel too.")
@trust_option
@max_pixels_option
def predict(
    bundle: str, images: tuple[str, ...], out: str, threshold: float | None, probabilities: bool, trust: bool
) -> None:
    """Predict images, or the images in folders, with an exported bundle.

    Writes NAME_mask.png, NAME_labels.png or NAME_instances.png (16 bits), each with NAME_overlay.png; all
    instances in COCO format as instances.json; for classification a table, classes.csv, with the probability of
    each class.

    The results of a folder have its subfolders. Images that cannot be read are named at the end, with exit code 2;
    the others are predicted.

    With --probabilities: of a mask NAME_probability.png (16 bits: 0 to 65535), of a label map
    NAME_probabilities.npy, an array of classes, rows and columns.

    \b
    Examples:
      tuner predict best photos/*.jpg --out masks
      tuner predict best photos --out masks --threshold 0.3
    """
    from tuner.export.bundle import open_bundle
    from tuner.export.inputs import Wanted, check_wanted, find_images

    opened, wanted, paths = open_bundle(bundle, trust), Wanted(threshold, probabilities), [*map(Path, images)]
    check_wanted(wanted, opened.recipe)
    find_images(paths, Path(out))

    from tuner.export.predict import predict_files  # imports torch, which takes seconds

    for line in predict_files(opened, paths, Path(out), wanted):
        click.echo(line)


@click.command()
@click.argument("bundle", type=FOLDER)
@click.option(
    "--data", type=DATASET, metavar="NAME|PATH", help="Another dataset or folder.  [default: the bundle's own]"
)
@layout_option
@click.option(
    "--split",
    type=click.Choice(["test", "val"]),
    default="test",
    help="Which split; val was used to choose the best epoch.",
)
@click.option("--confusion", type=FILE, metavar="FILE.csv", help="Write the confusion matrix to this file.")
@click.option(
    "--out",
    type=FOLDER,
    metavar="DIR",
    help="Write pictures, curves and the score of each image into this folder.",
)
@click.option("--sample", type=SAMPLE, help="How many random images --out shows.  [default: 10]")
@click.option("--seed", type=SEED, help="Seed of the random images.  [default: 0]")
@home_option
@trust_option
@json_option
@max_pixels_option
def evaluate(
    bundle: str, data: str | None, layout: str | None, split: str, confusion: str | None, out: str | None,
    sample: int | None, seed: int | None, home: str, trust: bool, as_json: bool,
) -> None:  # fmt: skip
    """Score an exported bundle on the test split, which searches never use.

    With --out: the worst, median, best and random images with truth, prediction and errors; ROC, precision and
    recall, confusion and calibration; and tables.

    \b
    Examples:
      tuner evaluate best --data ~/photos
      tuner evaluate best --out tested --sample 20
    """
    from dataclasses import asdict

    from tuner.data.locate import check_exists
    from tuner.errors import writing
    from tuner.export.bundle import open_bundle
    from tuner.tasks import BINARY_CLASSES

    if out is None:
        refuse_options("--out DIR: pictures are written there", {"--sample": sample, "--seed": seed})
    opened = open_bundle(bundle, trust)
    check_exists(data)

    from tuner.export.evaluate import DEFAULT_SAMPLE, check_has_confusion, describe_shortage, evaluate_bundle
    from tuner.study.format import write_confusion

    if confusion:
        check_has_confusion(opened)
    folder = None if out is None else Path(out)
    number = DEFAULT_SAMPLE if sample is None else sample
    found = evaluate_bundle(opened, data, split, to_home(home), folder, number, seed or 0, layout)
    if confusion:
        with writing(Path(confusion)):
            write_confusion(found.confusion, found.classes or BINARY_CLASSES, Path(confusion))
    if as_json:
        return echo_json(asdict(found) | ({"out": out} if out else {}))
    click.echo(f"{found.data}, {found.split} split: {pluralize(found.images, 'image')}")
    for name, value in found.metrics.items():
        click.echo(f"  {name:<16} {value:.4f}")
    if folder:
        click.echo(f"written to {folder}: {', '.join(sorted(file.name for file in folder.iterdir()))}")
        if sample and (remark := describe_shortage(sample, found.images, split)):
            click.echo(f"{folder / 'sample.png'}{remark}")


@click.command()
@click.argument("bundle", type=FOLDER)
@click.argument("images", nargs=-1, type=FILE)
@click.option("--layers", metavar="x1,x4", help="Layers to explain.  [default: those that the model names]")
@click.option("--class", "name", metavar="NAME", help="Class to explain.  [default: the predicted one]")
@click.option(
    "--score",
    type=click.Choice(["probability", "logit"]),
    help="What is summed over the predicted pixels of a mask or label map.  [default: probability]",
)
@click.option("--out", type=FOLDER, default="explanations", metavar="DIR", help="Output folder.")
@click.option("--sample", type=SAMPLE, help="In place of IMAGES: this many random images of the data.")
@click.option("--seed", type=SEED, help="Seed of --sample.  [default: 0]")
@click.option("--split", type=click.Choice(["test", "val"]), help="Split of --sample.  [default: val]")
@click.option("--data", type=DATASET, metavar="NAME|PATH", help="Data of --sample.  [default: the bundle's own]")
@layout_option
@home_option
@trust_option
@click.option("--list-layers", "listing", is_flag=True, help="Only list the layers of the model.")
@max_pixels_option
def explain(
    bundle: str, images: tuple[str, ...], layers: str | None, name: str | None,
    score: Score | None, out: str, sample: int | None, seed: int | None, split: str | None, data: str | None,
    layout: str | None, home: str, trust: bool, listing: bool,
) -> None:  # fmt: skip
    """Draw heat maps (Grad-CAM) of the model's layers for each image, also those in folders.

    The results of a folder have its subfolders. Images that cannot be read are named at the end, with exit code 2.

    \b
    Examples:
      tuner explain best photos --layers x4,x6
      tuner explain best --sample 10 --split test
    """
    from tuner.data.locate import check_exists
    from tuner.errors import escape
    from tuner.export.bundle import open_bundle
    from tuner.export.inputs import find_images

    if listing:
        opened = open_bundle(bundle, trust)
        from tuner.export.explain import list_layers

        for line in list_layers(opened):
            click.echo(line)
        return
    if images and sample:
        raise click.UsageError("give IMAGES, or --sample N for random ones of the data, not both.")
    if not images and not sample:
        raise click.UsageError("Missing argument 'IMAGES...', or --sample N for random ones of the data.")
    if not sample:
        refuse_options("--sample N", {"--seed": seed, "--split": split, "--data": data, "--layout": layout})
    name = name and escape(name)  # as class names are stored
    chosen = [layer.strip() for layer in (layers or "").split(",") if layer.strip()]
    if layers is not None and not chosen:
        raise click.BadParameter("no layer given; --list-layers lists them.", param_hint="'--layers'")
    opened = open_bundle(bundle, trust)
    check_exists(data)
    files = [Path(image) for image in images]
    if files:
        find_images(files, Path(out))

    from tuner.export import explain as explain_module  # imports torch, which takes seconds

    if sample:
        random = explain_module.Sample(sample, seed or 0, split or "val", data, layout)
        lines = explain_module.explain_sample(opened, random, to_home(home), Path(out), chosen, name, score)
    else:
        lines = explain_module.explain_files(opened, files, Path(out), chosen, name, score)
    for line in lines:
        click.echo(line)


def refuse_options(need: str, given: Mapping[str, object]) -> None:
    """Raise a usage error for an option that has a value and no effect without what it needs."""
    for option, value in given.items():
        if value is not None:
            raise click.UsageError(f"{option} needs {need}.")
