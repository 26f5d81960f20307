"""Sentences, captions and headings of the page itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from helpers.planted_studies import failed, plant, run, scored
from helpers.sentences import Sentence
from helpers.sentences.advice import READABLE
from helpers.sentences.certainty import (
    AHEAD,
    CHEAPER,
    GROUPS,
    IN_PAIRS,
    LOST,
    MANY,
    NEAR,
    ONE,
    REPEATED,
    SCORED,
    TIED_IMAGES,
    TWO,
)  # fmt: skip
from helpers.sentences.confirmation import LUCKY
from tuner.goal import minimize
from tuner.report.resampling import DRAWS
from tuner.space.search_settings import SearchSettings
from tuner.study.info import StudyKind

A = {"lr": 1e-3}
BEGAN, ENDED = datetime(2026, 1, 2, 3, 4, tzinfo=UTC), datetime(2026, 1, 2, 5, 6, tzinfo=UTC)
NOTHING = plant()
ALL_FAILED = plant(failed("CUDA out of memory"))
TABLE_ROWS = plant(run(0.5, A), kind=StudyKind.TABLE, subject="t")


def search(**settings: Any) -> Any:
    return plant(run(0.5, A), search=replace(SearchSettings(), **settings))


RANDOM = search(sampler="random", pruning="none")
TPE, EARLY = search(sampler="tpe"), search(sampler="early")
GRID = search(sampler="grid", grid={"lr": [1e-4, 1e-3, 1e-2]})
IN_TURN = plant(
    run(0.5, {"loss": "bce"}),
    kinds=(kinds := {"loss": {"kind": "categorical", "choices": ["bce", "dice"]}}),
    parameters=kinds,
    each="loss",
)
KNOWN_NOT = plant(run(0.5, A | {"k": 3}))
TRAINED = plant(run(0.5, A, started=BEGAN, ended=ENDED), run(0.4, A, started=ENDED, ended=ENDED))
FIRST_TRAINS = plant(run(None, A, state="RUNNING", started=BEGAN))
GOES_ON = plant(run(0.5, A, started=BEGAN, ended=ENDED), run(None, A, state="RUNNING", started=ENDED))
NO_DEVICE = plant(run(0.5, A, result={"host": "node7"}))
DEVICE = plant(run(0.5, A, result={"host": "node7", "device": "cpu"}))
WEAK = plant(run(0.0001, A), run(0.00005, A))
LATER = plant(run(0.5, A, curve=[0.1, 0.5, 0.4]))
UNRECORDED = plant(run(0.5, A, result={"best_epoch": 9}))
FRONT = plant(
    run(0.5, A, values={"iou": 0.5, "params": 9.0}),
    run(0.4, A, values={"iou": 0.4, "params": 3.0}),
    further=(minimize("params"),),
)
UNREADABLE_PICTURE = plant(run(0.5, A, files={"predictions.png": "nowhere"}))

PUBLISHED = plant(run(0.5, A), kind=StudyKind.TABLE, subject="t", published=(None, "it cannot be shown"))
OTHER_DATA = plant(run(0.5, A), data="horses")
WEAK_CHEAPER = plant(
    run(0.005, A, seconds=100.0),
    run(0.00495, {"lr": 1e-2}, seconds=10.0),
    files={0: scored(MANY), 1: scored(MANY[::-1])},
)

SHARE = f"If the 40 validation images were drawn anew {DRAWS} times, the best trial would stay ahead"
SECTIONS = (
    Sentence("the one to ship", ONE, WEAK),
    Sentence("the best so far", WEAK, ONE, shown="Trial 0, the best so far"),
    Sentence("Every trial; trial {}, {}, is marked", CHEAPER, NOTHING,
             says="Every trial; trial 1, the one to ship, is marked"),
    Sentence("Every trial; trial {}, {}, is marked", WEAK, ALL_FAILED,
             says="Every trial; trial 0, the best so far, is marked"),
    Sentence("{}, seen in validation", ONE, ALL_FAILED, says="iou, seen in validation 0.5000"),
    Sentence("{} to expect from another run", REPEATED, ONE, says="iou to expect from another run about 0.520"),
    Sentence("of training in all", TWO, ALL_FAILED, says="of training in all 20 s"),
    Sentence("none: given trials are trained to their end", TABLE_ROWS, ONE),
    Sentence("successive halving {}", TPE, RANDOM, shown="pruning successive halving"),
    Sentence("; each {} in turn", IN_TURN, ONE, says="; each loss in turn"),
    Sentence("a grid of {}", GRID, ONE, says="a grid of 3 points"),
    Sentence("TPE, the first ones at random", TPE, RANDOM),
    Sentence("values after the first rung, the first by TPE", EARLY, TPE),
    Sentence("the sampler {}", RANDOM, TPE, says="the sampler random"),
    Sentence("as the trials have it", KNOWN_NOT, ONE),
    Sentence("since {} UTC", FIRST_TRAINS, TRAINED, says="dates since 2026-01-02 03:04 UTC"),
    Sentence("since {} UTC", GOES_ON, NOTHING, says="dates since 2026-01-02 03:04 UTC"),
    Sentence("{} to {} UTC", TRAINED, GOES_ON, says="dates 2026-01-02 03:04 to 2026-01-02 05:06 UTC"),
    Sentence("device not noted", NO_DEVICE, DEVICE),
    Sentence("At epoch {} of {}, its best", LATER, UNRECORDED, says="At epoch 2 of 3, its best"),
    Sentence("The metrics of its best epoch are not recorded.", UNRECORDED, LATER),
    Sentence("If the {} were drawn anew {} times", SCORED, NEAR, says=SHARE),
    Sentence("{} groups of validation images", IN_PAIRS, SCORED, says="the 20 groups of validation images were"),
    Sentence("the mean {} of the images", SCORED, NEAR, says="by the mean dice of the images"),
    Sentence("Below {}, the two cannot be told apart by these", SCORED, NEAR, says="Below 95%, the two"),
    Sentence("{} against the next best ones", SCORED, ONE, says="Trial 0 against the next best ones"),
    Sentence("{} ahead in", SCORED, ONE, says="trial 0 ahead in"),
    Sentence("so it is", SCORED, ONE, shown="judged by so it is training time"),
    Sentence("the validation images", TIED_IMAGES, NEAR, shown="% the validation images"),
    Sentence("cannot be told apart", NEAR, AHEAD, shown="the noise between runs cannot be told apart"),
    Sentence("overlaps with the first", REPEATED, ONE),
    Sentence("Trained more than once", GROUPS, TWO),
    Sentence("as good as the best, and cheaper", WEAK_CHEAPER, CHEAPER,
             says="Trial 1, as good as the best, and cheaper"),
    Sentence("the best of the study", LUCKY, ONE, says=", the best of the study, is marked"),
    Sentence("{} on the validation images", ONE, FRONT, shown="goal maximize iou on the validation images"),
    Sentence("{} validation images", SCORED, IN_PAIRS, shown="If the 40 validation images were drawn"),
    Sentence("{} with {} on {}", ONE, OTHER_DATA, shown="maximize iou with s on shapes"),
    Sentence("Published and ours", PUBLISHED, ONE),
    Sentence("The front, the best by the first goal first", FRONT, ONE),
    Sentence("The front of several goals", FRONT, ONE),
    Sentence("No other trial is better in all goals.", FRONT, ONE),
    Sentence("Another trial than the best by the first goal", FRONT, ONE),
    Sentence("Not shown: {}.", UNREADABLE_PICTURE, ALL_FAILED),
    Sentence("What failed, and why", ALL_FAILED, ONE),
    Sentence("no trial at all", NOTHING, ALL_FAILED),
    Sentence("How sure one may be", ONE, ALL_FAILED),
    Sentence("No trial has begun.", NOTHING, ALL_FAILED),
    Sentence("Report of the study {}, made by tuner from {}.", ONE, TWO,
             says="Report of the study s, made by tuner from 1 trial.", shown="made by tuner from 1 trial."),
    Sentence("Not known: {}.", LOST, ALL_FAILED),
    Sentence("Nothing to ship yet", ALL_FAILED, ONE),
    Sentence("No trial has finished with a value yet ({})", ALL_FAILED, ONE, says="a value yet (1 failed), so"),
    Sentence("The commands for it", ONE, LUCKY),
    Sentence("All of it, as a space of its own", READABLE, ONE),
    Sentence("Its recipe cannot be read.", ONE, READABLE),
    Sentence("How to use it, and how to train it for longer", CHEAPER, WEAK),
    Sentence("How to train it for longer", WEAK, ONE, shown="How to train it for longer"),
)  # fmt: skip
