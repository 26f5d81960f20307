"""Sentences of the model card, which tells a stranger what a bundle is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from helpers.made_studies import MADE_WITH, make_best
from helpers.planted_studies import confirm, plant, run
from helpers.sentences import Sentence
from tuner.export.best_trial import BestTrial
from tuner.export.card import make_card
from tuner.goal import maximize, minimize
from tuner.recipe import Recipe, use
from tuner.report.confirmation import assess_confirmation
from tuner.study.info import StudyKind

RECIPE = Recipe(
    task="binary",
    data=use("shapes", image_size=32),
    model=use("unet", k=4),
    loss=use("bce"),
    optimizer=use("adam", lr=3e-3),
    epochs=2,
    batch_size=8,
    seed=7,
)
FILES = ("predictions.png", "strip.png", "curves.png", "quality.png", "explanation.png")


@dataclass(frozen=True, eq=False)
class Card:
    """The card of a best trial, in a bundle with these files."""

    best: BestTrial
    there: tuple[str, ...] = ()

    def say(self, folder: Path) -> str:
        return make_card(self.best, self.there, "melon")


def card(recipe: Recipe = RECIPE, there: tuple[str, ...] = (), made: Any = None, **changes: Any) -> Card:
    best = make_best(recipe, **changes)
    if made is not None:
        best = replace(best, trial=replace(best.trial, attrs=best.trial.attrs | {"made_with": made}))
    return Card(best, there)


def card_of_study(**changes: Any) -> Card:
    return card(study=replace(make_best(RECIPE).study, **changes))


def card_of_trial(stored: str, value: float = 0.6, result: Any = None, **changes: Any) -> Card:
    trial = make_best(RECIPE).trial
    trial = replace(trial, state=stored, value=value, attrs=trial.attrs | {"result": result or {}})
    return card(trial=trial, **changes)


def card_of_winner() -> Card:
    runs = confirm({"trial 3": [0.80, 0.82, 0.81]}, {"trial 3": 0.85})
    return card(confirmation=assess_confirmation(runs.study, lambda _: {}, ()))


BEST, REPORT = card(), plant(run(0.5), run(0.4))
ALONE = card(beaten=0, finished=1, failed=0)
ALONE_OF_FAILED = card(beaten=0, finished=3, failed=2)
TIED = card(beaten=0, finished=2, failed=0)
LEAST = card_of_study(goal=minimize("loss"))
TABLE, EXTENSION = (card_of_study(kind=kind, subject="other") for kind in (StudyKind.TABLE, StudyKind.EXTENSION))
CONFIRMED = card_of_winner()
FRONT = card_of_study(further=(minimize("params"),))
KNEE, NUMBER = card(pick="knee"), card(pick="3")
FINISHED = card_of_trial("COMPLETE", state="finished after 2 of 2 epochs", beaten=1, finished=3, failed=0)
FINISHED_ALONE = card_of_trial("COMPLETE", state="finished after 2 of 2 epochs", beaten=0, finished=1)
PAUSED = card_of_trial("PRUNED", state="paused after 2 of 6 epochs; it may go on", beaten=0, finished=1)
PAUSED_FIRST = card_of_trial("PRUNED", state="paused after 2 of 6 epochs; it may go on", beaten=0, finished=0)
NOTHING_FOUND = card_of_trial("COMPLETE", value=0.0)
REHEARSED = card_of_study(rehearsal=True)
BARE = card(made={})
PICTURED = card(there=FILES)
INSTANCES = card(replace(RECIPE, task="instance", model=use("deep_watershed", k=4)), FILES)
LABELS = card(replace(RECIPE, task="multiclass", loss=use("cross_entropy"), classes=("sky", "road")))
CLASSES = card(replace(RECIPE, task="classification", loss=use("cross_entropy"), classes=("cat", "dog")))
OWN = replace(RECIPE, model=use("mine.nets:sorter"))
OWN_CODE = card(OWN)
PACKAGED = card(OWN, made=MADE_WITH | {"packages": {"timm": "1.0"}})
EDITABLE = card(OWN, made=MADE_WITH | {"packages": {"timm": "1.0", "mine": "2.1"}, "editable": {"mine": "f00d"}})
ITS_GOAL = maximize("iou")
LUCK = "The best of several trials is partly luck: expect a little {} on new images."
ALONE_IS = "It is the only finished trial{}."

CARD = (
    Sentence("The worst, median, best and random validation images: ground truth", PICTURED, INSTANCES),
    Sentence("The prediction of one validation image after every epoch.", PICTURED, BEST),
    Sentence("Every metric over the epochs.", PICTURED, BEST),
    Sentence("Training that rises while validation falls is overfitting.", PICTURED, BEST),
    Sentence("Which classes are confused, the trade-off between recall and false alarms", PICTURED, INSTANCES),
    Sentence("Where the model looks: the warmer the colour", PICTURED, BEST),
    Sentence("The worst, median, best and random validation images: a true instance", INSTANCES, PICTURED),
    Sentence("In the errors, striped instances were merged with a neighbour or split.", INSTANCES, PICTURED),
    Sentence("Recall at stricter IoU thresholds", INSTANCES, PICTURED),
    Sentence("# 0 and 1, as large as the photo", BEST, LABELS),
    Sentence("# a class number for each pixel", LABELS, BEST),
    Sentence("# an instance number for each pixel, 0 for the background", INSTANCES, LABELS),
    Sentence("# the probability of each class", CLASSES, LABELS),
    Sentence("**This is a rehearsal**: small sizes on generated data.", REHEARSED, BEST),
    Sentence("Its metrics mean nothing for real data.", REHEARSED, BEST),
    Sentence("Trial {} of the study `{}` (space `{}`, goal: {}).", BEST, REPORT,
             f"Trial 2 of the study `made` (space `made`, goal: {ITS_GOAL})."),
    Sentence("Of the validation images, {}.", NOTHING_FOUND, BEST,
             "Of the validation images, it finds nothing yet (iou 0)."),
    Sentence("It was chosen by its number: {}.", FINISHED, BEST,
             "It was chosen by its number: finished after 2 of 2 epochs."),
    Sentence(LUCK, BEST, ALONE, "expect a little less on new images."),
    Sentence(LUCK, LEAST, ALONE_OF_FAILED, "expect a little more on new images."),
    Sentence(LUCK, FRONT, TABLE),
    Sentence(LUCK, KNEE, NUMBER),
    Sentence(LUCK, BEST, EXTENSION),
    Sentence(LUCK, BEST, CONFIRMED),
    Sentence(LUCK, BEST, FINISHED),
    Sentence("No trial has finished, so it is compared with none{}.", PAUSED_FIRST, PAUSED,
             "so it is compared with none (2 failed)."),
    Sentence(ALONE_IS, ALONE, TIED, "It is the only finished trial.", shown="the only finished trial"),
    Sentence(ALONE_IS, ALONE_OF_FAILED, BEST, "It is the only finished trial (2 failed).",
             shown="the only finished trial"),
    Sentence(ALONE_IS, FINISHED_ALONE, PAUSED, shown="the only finished trial"),
    Sentence("It is better than {} of {} ({} failed).", FINISHED, FINISHED_ALONE,
             "It is better than 1 of 3 finished trials (0 failed)."),
    Sentence("It is better than {} of {} ({} failed).", PAUSED, PAUSED_FIRST,
             "It is better than 0 of 1 finished trial (2 failed)."),
    Sentence("picked by `{}` as one", KNEE, BEST, "It is picked by `knee` as one of 10 trials"),
    Sentence("picked by `{}` as one", FRONT, ALONE, f"It is picked by `{ITS_GOAL}` as one of 10 trials"),
    Sentence("and beat {} of them", BEST, TIED, "trials (2 failed) and beat 7 of them."),
    Sentence("It is {} of {} ({} failed){}.", BEST, ALONE, "It is the best of 10 trials (2 failed) and beat 7"),
    Sentence("It is {} of {} ({} failed){}.", TIED, CONFIRMED, "It is the best of 2 trials (0 failed).",
             shown="It is the best of"),
    Sentence("## Metrics at epoch {} of {}", BEST, REPORT, "## Metrics at epoch 2 of 2"),
    Sentence("Data: `{}`, {} training and {} validation images,", BEST, REPORT,
             "Data: `shapes`, 19 training and 11 validation images,"),
    Sentence("Data: `{}`, {} training and {} validation images,", BARE, REPORT,
             "Data: `unknown`, unknown training and unknown validation images,"),
    Sentence("content hash `{}`.", BEST, REPORT, "content hash `cafe`."),
    Sentence("Images are resized to {} x {} pixels.", BEST, REPORT, "resized to 32 x 32 pixels."),
    Sentence("On the command line, beside this folder, which needs {} (here it is named `{}`):", BEST, REPORT,
             "which needs nothing else (here it is named `melon`):"),
    Sentence("the installed packages below", PACKAGED, OWN_CODE, "which needs the installed packages below"),
    Sentence("bundle = tuner.load_bundle({}{})", BEST, REPORT, "bundle = tuner.load_bundle('melon')"),
    Sentence("bundle = tuner.load_bundle({}{})", OWN_CODE, BEST, "load_bundle('melon', trust=True)",
             shown="load_bundle('melon', trust=True)"),
    Sentence("# where the model looks", BEST, REPORT),
    Sentence("# the torch.nn.Module", BEST, REPORT),
    Sentence("Its classes, in the order of their numbers: {}.", LABELS, BEST, "of their numbers: sky, road."),
    Sentence("Their source is in `code/`, if they are not of installed packages", OWN_CODE, BEST),
    Sentence("Not of tuner: {}.", OWN_CODE, BEST, "Not of tuner: `mine.nets:sorter`."),
    Sentence("Of installed packages: {}.", PACKAGED, OWN_CODE, "Of installed packages: timm 1.0."),
    Sentence("(editable, hash of its source `{}`)", EDITABLE, PACKAGED,
             "timm 1.0, mine 2.1 (editable, hash of its source `f00d`)."),
    Sentence("Made with tuner {}, torch {}, python {},", BEST, REPORT,
             "Made with tuner 0.1.0, torch 2, python 3, commit abc+."),
    Sentence("The whole recipe is in `recipe.json`, every epoch in `history.csv`.", BEST, REPORT),
)  # fmt: skip
