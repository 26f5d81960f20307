"""A bundle: the exported best model as a folder that needs no database.

weights.safetensors  recipe.json  metrics.json  history.csv  card.md
predictions.png  strip.png  curves.png  quality.png  explanation.png  confusion.csv  details.json   as far as there
bundle.json          its version, and the hash of every other file
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.errors import BundleError, FilesError, StudyError, writing
from tuner.export.best import BestTrial
from tuner.paths import Run, hash_file
from tuner.recipe import Recipe
from tuner.study.format import format_metrics_table
from tuner.tasks import find_task

if TYPE_CHECKING:
    from torch import nn

VERSION = 1
WEIGHTS = "weights.safetensors"
REQUIRED_FILES = (WEIGHTS, "recipe.json", "metrics.json", "history.csv", "card.md")
MANIFEST = "bundle.json"
PICTURE_CAPTIONS = {
    "predictions.png": "The worst, median and best validation images: the truth, what was found, the errors.",
    "strip.png": "One validation image after every epoch: how it learned.",
    "curves.png": "Every metric over the epochs. Training that rises while validation falls is learning by heart.",
    "quality.png": "Which classes are taken for which, what finding more costs in false alarms, and whether its "
    "probabilities can be believed: on the dashed line they can.",
    "explanation.png": "Where it looks: the warmer, the more a place speaks for the answer.",
}
INSTANCE_CAPTIONS = {
    "predictions.png": "The worst, median and best validation images: what is there and what was found of it have "
    "one colour. In the errors, what is striped was merged with its neighbour or split.",
    "quality.png": "How much of it is still found when outlines must fit better, what finding more costs in false "
    "alarms, and whether as many are found as are there: on the dashed line they are.",
}
USAGE = {
    "masks": 'mask = bundle.predict("photo.jpg")  # 0 and 1, as large as the photo',
    "labels": 'labels = bundle.predict("photo.jpg")  # a class number for each pixel',
    "instances": 'labels = bundle.predict("photo.jpg")  # an instance number for each pixel, 0 for the background',
    "classes": 'shares = bundle.predict("photo.jpg")  # the probability of each class',
}


def export_bundle(best: BestTrial, run: Run, folder: Path, force: bool) -> Path:
    """Write the bundle aside and rename it; an existing folder stays unless `force` replaces it."""
    if folder.exists() and not force:
        raise FilesError(f"{folder} exists already. Choose another folder, or replace it with --force.")
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise FilesError(
            f"{folder} exists and is no bundle; --force replaces bundles only. Choose another folder."
        )
    if not run.best.is_file():
        raise StudyError(
            f"the weights of trial {best.trial.number} are not at {run.best}. "
            "Export on the host that trained it, or with the --home or the --artifacts it was trained with."
        )
    folder = folder.resolve()  # "." and links have no name of their own to stand beside
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    with writing(folder):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            write_files(aside, best, run)
            replace_folder(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return folder


def write_files(folder: Path, best: BestTrial, run: Run) -> None:
    """Every file of the bundle, the manifest last."""
    shutil.copyfile(run.best, folder / WEIGHTS)
    write_json(folder / "recipe.json", best.trial.attrs["recipe"])
    write_json(folder / "metrics.json", best.to_json())
    with (folder / "history.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in best.history for key in row)))
        writer.writeheader()
        writer.writerows(best.history)
    for extra in run.pictures:
        if extra.is_file():
            shutil.copyfile(extra, folder / extra.name)
    if not all((folder / file.name).exists() for file in run.lazy_pictures):
        draw_missing_plots(folder, best, run)
    there = {file.name for file in folder.iterdir()}
    (folder / "card.md").write_text(make_card(best, there), encoding="utf-8")
    hashes = {file.name: hash_file(file) for file in sorted(folder.iterdir())}
    write_json(folder / MANIFEST, {"version": VERSION, "files": hashes})


def draw_missing_plots(folder: Path, best: BestTrial, run: Run) -> None:
    """The pictures that are drawn when they are looked at, and so were never in the run's folder."""
    from tuner.report.on_demand import DrawRequest, draw_missing_pictures

    draw_missing_pictures(
        DrawRequest(best.study.goal.metric, best.history, best.trial.attrs, lambda: run.details), folder
    )


def replace_folder(aside: Path, folder: Path) -> None:
    """Put the finished folder in its place; the old one goes only when the new one is whole."""
    old = aside.with_name(f"{aside.name}.old")
    if folder.exists():
        folder.rename(old)
    try:
        aside.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a bundle, after checking that every file is there and as it was exported."""
    verify_bundle(folder)
    try:
        return Recipe.from_json(json.loads((folder / "recipe.json").read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise BundleError(f"{folder / 'recipe.json'}: {error}.") from error


def verify_bundle(folder: Path) -> None:
    """BundleError naming every file that is missing or altered."""
    if not folder.is_dir():
        raise BundleError(f"no bundle {folder}. Export one with: tuner best --export {folder}")
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version, files = manifest["version"], dict(manifest["files"])
    except OSError as error:
        raise BundleError(f"{folder} is no bundle: it has no {MANIFEST}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{folder / MANIFEST} was altered: it cannot be read.") from error
    if version != VERSION:
        raise BundleError(f"{folder} is a bundle of version {version}; this tuner reads version {VERSION}.")
    check_files(folder, files)


def check_files(folder: Path, files: Mapping[str, str]) -> None:
    listed = [*REQUIRED_FILES, *(name for name in files if name not in REQUIRED_FILES)]
    missing = [name for name in listed if not (folder / name).is_file()]
    altered = [name for name in listed if name not in missing and files.get(name) != hash_file(folder / name)]
    wrong = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"altered: {', '.join(altered)}"] * bool(altered)
    if wrong:
        raise BundleError(f"{folder} is not as it was exported ({'; '.join(wrong)}). Export it again.")


def load_model(folder: str | Path) -> nn.Module:
    """The trained model of a bundle, ready to predict: float images in, logits out."""
    from tuner.train.checkpoint import load_weights
    from tuner.train.trainer import build_model

    folder = Path(folder)
    recipe = read_recipe(folder)
    model = build_model(recipe, find_task(recipe.task))
    load_weights(model, folder / WEIGHTS)
    return model.eval()


def make_card(best: BestTrial, there: Collection[str] = ()) -> str:
    """What it is, on which data, how good, how to load it; for a person who has only the folder.

    `there` are the files beside it: pictures are shown where there are any.
    """
    recipe = Recipe.from_json(best.trial.attrs["recipe"])
    task, made = find_task(recipe.task), best.trial.attrs.get("made_with", {})
    chosen = "\n".join(f"| {name} | {value} |" for name, value in best.trial.params.items())
    classes = f"\nIts classes, in the order of their numbers: {', '.join(recipe.classes)}.\n" * bool(
        recipe.classes
    )
    toy = "\n**This is a rehearsal**: toy size on generated data. It shows that everything works, not how well.\n"
    worse = "less" if best.study.goal.direction == "maximize" else "more"
    return f"""# {recipe.model} for {recipe.data.name}
{toy if best.study.rehearsal else ""}
Trial {best.trial.number} of the study `{best.study.name}` (space `{best.study.space}`, goal: {best.study.goal}).
It is the best of {best.finished} trials ({best.failed} failed); it beat {best.beaten} of them.
Choosing the best of many flatters the winner: expect a little {worse} on new images.

## What was chosen
| parameter | value |
|---|---|
{chosen}

## How good, at epoch {best.epoch} of {recipe.epochs}
{format_metrics_table(best.metrics)}

Data: `{made.get("data")}`, {made.get("train_images")} training and {made.get("val_images")} validation images,
content hash `{made.get("data_hash")}`. Images are resized to {recipe.image_size} x {recipe.image_size} pixels.

{describe_pictures(there, task.has_instances)}
## How to use it
On the command line, with only this folder:

    tuner predict {{this folder}} photo.jpg

In Python:

```python
import tuner

bundle = tuner.load_bundle("this folder")
{USAGE[task.targets]}
bundle.explain("photo.jpg").save("explanation.png")  # where the model looks
bundle.model  # the torch.nn.Module
```
{classes}
Made with tuner {made.get("tuner")}, torch {made.get("torch")}, python {made.get("python")},
commit {made.get("commit") or "unknown"}.
The whole recipe is in `recipe.json`, every epoch in `history.csv`.
"""


def describe_pictures(there: Collection[str], of_instances: bool = False) -> str:
    """Each picture that is there, with a sentence on how to read it."""
    texts = PICTURE_CAPTIONS | (INSTANCE_CAPTIONS if of_instances else {})
    shown = (f"![{name}]({name})\n\n{text}\n" for name, text in texts.items() if name in there)
    return "\n".join(shown)
