"""The bundle: the exported best model as a folder that needs no database.

weights.safetensors  recipe.json  metrics.json  history.csv  card.md
predictions.png  strip.png  curves.png  quality.png  explanation.png  confusion.csv  details.json   if available
code/                the source of the parts of the user's own, which runs only if it is trusted
bundle.json          the format version and the hash of every other file
"""

from __future__ import annotations

import csv
import logging
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tuner.artifacts.own_code import load_code, read_own_code, write_code
from tuner.errors import BundleError, FilesError, StudyError, format_names, printable, writing
from tuner.export.manifest import CODE, MANIFEST, VERSION, WEIGHTS
from tuner.export.manifest import verify_bundle as verify_bundle
from tuner.paths import Run, expand_path, format_json, hash_file, read_bytes, read_json
from tuner.recipe import Recipe, is_number, is_whole_number
from tuner.registry.own_modules import find_own_file, own_sources, search_in, working_folder
from tuner.tasks import find_task
from tuner.wording import pluralize, write_command

if TYPE_CHECKING:
    from torch import nn

    from tuner.export.best_trial import BestTrial

PICTURE_CAPTIONS = {
    "predictions.png": "The worst, median, best and random validation images: ground truth, prediction, errors.",
    "strip.png": "The prediction of one validation image after every epoch.",
    "curves.png": "Every metric over the epochs. Training that rises while validation falls is overfitting.",
    "quality.png": "Which classes are confused, the trade-off between recall and false alarms, and calibration: "
    "on the dashed line, probabilities are as stated.",
    "explanation.png": "Where the model looks: the warmer the colour, the more a place raised the score.",
}
INSTANCE_CAPTIONS = {
    "predictions.png": "The worst, median, best and random validation images: a true instance and its prediction "
    "have the same colour. In the errors, striped instances were merged with a neighbour or split.",
    "quality.png": "Recall at stricter IoU thresholds, the trade-off between recall and false alarms, and "
    "predicted against true counts: on the dashed line they are equal.",
}
log = logging.getLogger("tuner")
USAGE = {
    "masks": 'mask = bundle.predict("photo.jpg")  # 0 and 1, as large as the photo',
    "labels": 'labels = bundle.predict("photo.jpg")  # a class number for each pixel',
    "instances": 'labels = bundle.predict("photo.jpg")  # an instance number for each pixel, 0 for the background',
    "classes": 'shares = bundle.predict("photo.jpg")  # the probability of each class',
}


def export_bundle(best: BestTrial, run: Run, folder: Path, force: bool) -> Path:
    """Write a bundle atomically and return its path; an existing bundle is replaced only with `force`."""
    real = resolve_folder(folder)
    if folder.exists() and not force:
        raise FilesError(f"{folder} already exists. Choose another folder, or replace it with --force.")
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        rule = "--force replaces only bundles. Choose another folder."
        raise FilesError(f"{folder} exists and is not a bundle; {rule}")
    if not run.best.is_file():
        raise StudyError(
            f"the weights of trial {best.trial.number} are not at {run.best}. "
            "Export on the host that trained it, or with the --home or the --artifacts it was trained with."
        )
    with atomic_folder(real) as aside:
        write_files(aside, best, run, real.name)
    return real


def resolve_folder(folder: Path) -> Path:
    """Return where a folder is: "." and links have no name to write beside. FilesError for a link to itself."""
    real = Path(os.path.realpath(folder))
    if real.is_symlink():
        raise FilesError(f"{folder} is a link that leads to itself. Choose another folder.")
    return real


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces a resolved `folder` at the end; raise FilesError as `writing`."""
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    with writing(folder):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            yield aside
            replace_folder(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def write_files(folder: Path, best: BestTrial, run: Run, name: str) -> None:
    """Write every file of the bundle, the manifest last; `name` is the one that the folder will have."""
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
    write_code(find_code(best, run), folder / CODE)
    if not all((folder / file.name).exists() for file in run.lazy_pictures):  # the dashboard draws them on demand
        from tuner.report.on_demand import DrawRequest, draw_missing_pictures

        request = DrawRequest(best.study.goal.metric, best.history, best.trial.attrs, lambda: run.details)
        draw_missing_pictures(request, folder)
    there = {file.name for file in folder.iterdir()}
    card = make_card(best, there, name)
    (folder / "card.md").write_text(card, encoding="utf-8", errors="backslashreplace")
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    hashes = {file.relative_to(folder).as_posix(): hash_file(file) for file in files}
    write_json(folder / MANIFEST, {"version": VERSION, "files": hashes})


def find_code(best: BestTrial, run: Run) -> dict[str, str]:
    """Return the source of the trial's own parts; of a trial that has kept none, as it is now, with a warning."""
    stored = load_code(run, best.trial.attrs.get("made_with", {}).get("code", ""))
    now = {} if stored else read_own_code(Recipe.from_json(best.trial.attrs["recipe"]).own_names)
    if now:
        log.warning("the bundle's code/ is %s as it is now: the trial has kept none", ", ".join(now))
    return stored or now


def replace_folder(aside: Path, folder: Path) -> None:
    """Rename the finished folder into place; the old one is deleted last."""
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
    path.write_text(format_json(data, 2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class OpenBundle:
    """A bundle whose files are as they were exported, with its recipe, and the facts of metrics.json."""

    folder: Path
    recipe: Recipe
    facts: Mapping[str, Any]
    runs_code: bool = False  # that in its folder code/, which is trusted

    def search_code(self) -> None:
        """Look for the modules of its parts in its own code first, if that is trusted."""
        if self.runs_code:
            sys.dont_write_bytecode = True  # which would be a file that was not exported
            search_in({self.folder / CODE: "the code of the bundle", **working_folder()})

    def load_model(self, is_tried: bool = True) -> nn.Module:
        """Return the trained model in eval mode: normalized float images in, logits out; else BundleError.

        It is tried at its image size without data before memory is taken for it, which takes seconds to import;
        without `is_tried`, a model of tuner's own is not.
        """
        from tuner.export.trained_model import load_trained_model

        self.search_code()
        return load_trained_model(self.recipe, self.folder / WEIGHTS, is_tried)


BundleLike: TypeAlias = "str | os.PathLike[str] | OpenBundle"


def open_bundle(folder: BundleLike, trust: bool = False) -> OpenBundle:
    """Return a bundle after checking its files and fields, else BundleError; an open one is returned as it is.

    This is the only way into a bundle. Opening it runs nothing of it. Its recipe may name code that is not of
    tuner, which runs when it is used, only with `trust`.
    """
    if isinstance(folder, OpenBundle):
        return folder
    folder = expand_path(folder, BundleError)
    verify_bundle(folder)
    path = folder / "recipe.json"
    try:
        recipe = Recipe.from_json(read_json(path, BundleError))
    except (ValueError, TypeError) as error:
        raise BundleError(f"{path}: {error}.") from error
    own, has_code = recipe.own_names, (folder / CODE).is_dir()
    if own and not trust and not (has_code and is_own_code(folder / CODE, own)):
        where = f"It is in {folder / CODE} and would run with your rights: read it. " if has_code else ""
        raise BundleError(
            f"{folder} runs code of its own: {printable(format_names(own, 3))}. {where}"
            "If you trust those who made it, allow it with --trust, in Python with trust=True."
        )
    bundle = OpenBundle(folder, recipe, read_facts(folder), bool(own) and trust and has_code)
    bundle.search_code()
    return bundle


def is_own_code(code: Path, own: Collection[str]) -> bool:
    """Return whether all code that a bundle needs is in the user's own folders too, byte for byte."""
    here = own_sources(own)
    modules = [find_own_file(name.partition(":")[0]) for name in own]
    is_whole = all(file in here.values() for file in modules)
    return is_whole and all(is_same(code / path, file) for path, file in here.items())


def is_same(one: Path, other: Path) -> bool:
    return one.is_file() and read_bytes(one, BundleError) == read_bytes(other, BundleError)


def read_facts(folder: Path) -> dict[str, Any]:
    """Return what metrics.json says of the exported trial: its goal, value, epoch, metrics and params."""
    path = folder / "metrics.json"
    facts = read_json(path, BundleError)
    is_whole = isinstance(facts, dict) and all(
        isinstance(facts.get(k), dict) for k in ("goal", "metrics", "params")
    )
    numbers = is_whole and is_number(facts.get("value")) and is_whole_number(facts.get("epoch"))
    if not numbers or not isinstance(facts["goal"].get("metric"), str):
        raise BundleError(f"{path} has no goal, value, epoch, metrics and params.")
    if odd := [name for name, value in facts["metrics"].items() if not isinstance(value, int | float | None)]:
        raise BundleError(f"{path}: its metric {printable(odd[0])} is not a number.")
    return facts


def read_recipe(folder: BundleLike, trust: bool = False) -> Recipe:
    """Return the recipe of a bundle, checked as `open_bundle` does."""
    return open_bundle(folder, trust).recipe


def load_model(folder: BundleLike, trust: bool = False) -> nn.Module:
    """Return the trained model of a bundle in eval mode: normalized float images in, logits out."""
    return open_bundle(folder, trust).load_model()


def make_card(best: BestTrial, there: Collection[str] = (), name: str = "best") -> str:
    """Return the model card: what the model is, its data, its metrics and how to use it.

    `there` are the names of the files beside it, to show the pictures among them; `name` is that of the bundle.
    """
    from tuner.study.format import format_metrics_table

    recipe = Recipe.from_json(best.trial.attrs["recipe"])
    task, made = find_task(recipe.task), best.trial.attrs.get("made_with", {})
    chosen = "\n".join(f"| {name} | {value} |" for name, value in best.trial.params.items())
    names = ", ".join(recipe.classes)
    classes = f"\nIts classes, in the order of their numbers: {names}.\n" if names else ""
    toy = "\n**This is a rehearsal**: small sizes on generated data. Its metrics mean nothing for real data.\n"
    own = recipe.own_names
    place = "the best"
    if best.study.further or best.pick:
        place = f"picked by `{best.pick or best.study.goal}` as one"
    worse = "less" if best.study.goal.direction == "maximize" else "more"
    of = f"{pluralize(best.finished, 'trial')} ({best.failed} failed)"
    rank = f"""It is {place} of {of} and beat {best.beaten} of them.
The best of many trials is partly luck: expect a little {worse} on new images."""
    if best.confirmation:
        from tuner.report.confirmation import describe_confirmation

        rank = "\n".join(describe_confirmation(best.confirmation))
    elif best.state:
        rank = f"""It was chosen by its number: {best.state}.
It is better than {best.beaten} of {pluralize(best.finished, "finished trial")} ({best.failed} failed)."""
    if missed := best.verdict.sentence:
        rank += f"\nOf the validation images, {missed}."
    return f"""# {recipe.model} for {recipe.data.name}
{toy if best.study.rehearsal else ""}
Trial {best.trial.number} of the study `{best.study.name}` (space `{best.study.space}`, goal: {best.study.goal}).
{rank}

## Parameters
| parameter | value |
|---|---|
{chosen}

## Metrics at epoch {best.epoch} of {recipe.epochs}
{format_metrics_table(best.metrics)}

Data: `{made.get("data")}`, {made.get("train_images")} training and {made.get("val_images")} validation images,
content hash `{made.get("data_hash")}`. Images are resized to {recipe.image_size} x {recipe.image_size} pixels.

{describe_pictures(there, task.has_instances)}
## Usage
On the command line, beside this folder, which needs nothing else (here it is named `{name}`):

    {predict_command(name, recipe, "photo.jpg")}

In Python:

```python
import tuner

bundle = tuner.load_bundle({name!r}{", trust=True" * bool(own)})
{USAGE[task.targets]}
bundle.explain("photo.jpg").save("explanation.png")  # where the model looks
bundle.model  # the torch.nn.Module
```
{classes}{describe_code(own, made)}
Made with tuner {made.get("tuner")}, torch {made.get("torch")}, python {made.get("python")},
commit {made.get("commit") or "unknown"}.
The whole recipe is in `recipe.json`, every epoch in `history.csv`.
"""


def predict_command(bundle: str, recipe: Recipe, images: str) -> str:
    """Return the command that predicts images with a bundle, with --trust if it has parts of the user's own."""
    return write_command("predict", bundle, images, trust=bool(recipe.own_names))


def describe_code(own: Collection[str], made: Mapping[str, Any]) -> str:
    """Return what the card says of parts of the user's own and their packages, "" if there are none."""
    packages, editable = made.get("packages", {}), made.get("editable", {})
    names = ", ".join(f"`{name}`" for name in own)
    where = "Their source is in `code/`, if they are not of installed packages; it runs only with --trust."
    sources = {name: f" (editable, hash of its source `{digest}`)" for name, digest in editable.items()}
    versions = ", ".join(f"{name} {version}{sources.get(name, '')}" for name, version in packages.items())
    installed = f" Of installed packages: {versions}." if packages else ""
    return f"\nNot of tuner: {names}. {where}{installed}\n" if own else ""


def describe_pictures(there: Collection[str], of_instances: bool = False) -> str:
    """Return Markdown that shows each picture with its caption."""
    texts = PICTURE_CAPTIONS | (INSTANCE_CAPTIONS if of_instances else {})
    shown = (f"![{name}]({name})\n\n{text}\n" for name, text in texts.items() if name in there)
    return "\n".join(shown)
