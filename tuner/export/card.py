"""The model card of a bundle: what the model is, its data, its metrics and how to use it, as Markdown."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tuner.recipe import Recipe
from tuner.study.format import format_metrics_table
from tuner.tasks import find_task
from tuner.wording import pluralize, write_command

if TYPE_CHECKING:
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
USAGE = {
    "masks": 'mask = bundle.predict("photo.jpg")  # 0 and 1, as large as the photo',
    "labels": 'labels = bundle.predict("photo.jpg")  # a class number for each pixel',
    "instances": 'labels = bundle.predict("photo.jpg")  # an instance number for each pixel, 0 for the background',
    "classes": 'shares = bundle.predict("photo.jpg")  # the probability of each class',
}


def make_card(best: BestTrial, there: Collection[str] = (), name: str = "best") -> str:
    """Return the model card: what the model is, its data, its metrics and how to use it.

    `there` are the names of the files beside it, to show the pictures among them; `name` is that of the bundle.
    """
    recipe = Recipe.from_json(best.trial.attrs["recipe"])
    made = best.trial.attrs.get("made_with", {})
    sections = (
        f"# {recipe.model} for {recipe.data.name}\n",
        describe_rehearsal() if best.study.rehearsal else "",
        describe_origin(best),
        describe_params(best.trial.params),
        describe_metrics(best, recipe),
        describe_data(recipe, made),
        describe_pictures(there, find_task(recipe.task).has_instances),
        describe_usage(recipe, made, name),
        describe_classes(recipe.classes),
        describe_code(recipe.own_names, made),
        describe_versions(made),
    )
    return "\n".join(section for section in sections if section)


def describe_rehearsal() -> str:
    return "**This is a rehearsal**: small sizes on generated data. Its metrics mean nothing for real data.\n"


def describe_origin(best: BestTrial) -> str:
    """Return which trial it is, how it came to be chosen, and what it does not find."""
    info = best.study
    lines = [
        f"Trial {best.trial.number} of the study `{info.name}` (space `{info.space}`, goal: {info.goal}).",
        *describe_choice(best),
    ]
    if missed := best.verdict.sentence:
        lines.append(f"Of the validation images, {missed}.")
    return "\n".join(lines) + "\n"


def describe_choice(best: BestTrial) -> Iterator[str]:
    """Yield what a confirmation says of the trial, else its rank, one sentence each."""
    if best.confirmation:
        from tuner.report.confirmation import describe_confirmation

        yield from describe_confirmation(best.confirmation)
    elif best.state:
        yield f"It was chosen by its number: {best.state}."
        yield rank_among_finished(best)
    else:
        yield rank_as_best(best)
        if is_lucky(best):
            worse = "less" if best.study.is_maximized else "more"
            yield f"The best of several trials is partly luck: expect a little {worse} on new images."


def rank_among_finished(best: BestTrial) -> str:
    """Return the rank of a trial that was chosen by its number; of these, `finished` counts no failed ones."""
    if not best.finished:
        return f"No trial has finished, so it is compared with none{count_failed(best)}."
    if best.finished == 1 and best.trial.state == "COMPLETE":
        return f"It is the only finished trial{count_failed(best)}."
    finished = pluralize(best.finished, "finished trial")
    return f"It is better than {best.beaten} of {finished} ({best.failed} failed)."


def rank_as_best(best: BestTrial) -> str:
    """Return the rank of a trial that was chosen as the best, or picked; `finished` counts failed ones too."""
    if best.finished - best.failed <= 1:
        return f"It is the only finished trial{count_failed(best)}."
    place = "the best"
    if best.study.further or best.pick:
        place = f"picked by `{best.pick or best.study.goal}` as one"
    beat = f" and beat {best.beaten} of them" if best.beaten else ""
    return f"It is {place} of {pluralize(best.finished, 'trial')} ({best.failed} failed){beat}."


def count_failed(best: BestTrial) -> str:
    return f" ({best.failed} failed)" if best.failed else ""


def is_lucky(best: BestTrial) -> bool:
    """Return whether a search chose it by its value among others; rows and extensions are given."""
    is_chosen = not best.pick.strip().isdecimal()
    return best.beaten > 0 and is_chosen and not best.study.has_given_trials


def describe_params(params: Mapping[str, Any]) -> str:
    rows = (f"| {name} | {value} |\n" for name, value in params.items())
    return "## Parameters\n| parameter | value |\n|---|---|\n" + "".join(rows)


def describe_metrics(best: BestTrial, recipe: Recipe) -> str:
    return f"## Metrics at epoch {best.epoch} of {recipe.epochs}\n{format_metrics_table(best.metrics)}\n"


def describe_data(recipe: Recipe, made: Mapping[str, Any]) -> str:
    size = recipe.image_size
    data, digest, training, validation = (
        made.get(key, "unknown") for key in ("data", "data_hash", "train_images", "val_images")
    )
    return f"""Data: `{data}`, {training} training and {validation} validation images,
content hash `{digest}`. Images are resized to {size} x {size} pixels.
"""


def describe_pictures(there: Collection[str], of_instances: bool = False) -> str:
    """Return Markdown that shows each picture with its caption."""
    texts = PICTURE_CAPTIONS | (INSTANCE_CAPTIONS if of_instances else {})
    shown = (f"![{name}]({name})\n\n{text}\n" for name, text in texts.items() if name in there)
    return "\n".join(shown)


def describe_usage(recipe: Recipe, made: Mapping[str, Any], name: str) -> str:
    """Return how to predict with a bundle of this name, on the command line and in Python."""
    needs = "the installed packages below" if made.get("packages") and recipe.own_names else "nothing else"
    trust = ", trust=True" if recipe.own_names else ""
    return f"""## Usage
On the command line, beside this folder, which needs {needs} (here it is named `{name}`):

    {predict_command(name, recipe, "photo.jpg")}

In Python:

```python
import tuner

bundle = tuner.load_bundle({name!r}{trust})
{USAGE[find_task(recipe.task).targets]}
bundle.explain("photo.jpg").save("explanation.png")  # where the model looks
bundle.model  # the torch.nn.Module
```
"""


def predict_command(bundle: str, recipe: Recipe, images: str) -> str:
    """Return the command that predicts images with a bundle, with --trust if it has parts of the user's own."""
    return write_command("predict", bundle, images, trust=bool(recipe.own_names))


def describe_classes(classes: Collection[str]) -> str:
    return f"Its classes, in the order of their numbers: {', '.join(classes)}.\n" if classes else ""


def describe_code(own: Collection[str], made: Mapping[str, Any]) -> str:
    """Return what the card says of parts of the user's own and their packages, "" if there are none."""
    if not own:
        return ""
    names = ", ".join(f"`{name}`" for name in own)
    where = "Their source is in `code/`, if they are not of installed packages; it runs only with --trust."
    packages = ", ".join(describe_packages(made))
    return f"Not of tuner: {names}. {where}{f' Of installed packages: {packages}.' if packages else ''}\n"


def describe_packages(made: Mapping[str, Any]) -> Iterator[str]:
    """Yield each package with its version, and the hash of its source if that could change."""
    editable = made.get("editable", {})
    for name, version in made.get("packages", {}).items():
        source = f" (editable, hash of its source `{editable[name]}`)" if name in editable else ""
        yield f"{name} {version}{source}"


def describe_versions(made: Mapping[str, Any]) -> str:
    tuner, torch, python = (made.get(key, "unknown") for key in ("tuner", "torch", "python"))
    return f"""Made with tuner {tuner}, torch {torch}, python {python},
commit {made.get("commit") or "unknown"}.
The whole recipe is in `recipe.json`, every epoch in `history.csv`.
"""
