"""Sentences on the pictures of a trial, and on those and tables that cannot be shown."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import sqlalchemy as sa
from PIL import Image

from helpers.planted_studies import PlantedStudy, plant, run
from helpers.sentences import Sentence
from tuner.report.page import compare_published
from tuner.report.trial_files import PICTURES as NAMES
from tuner.study.info import StudyKind


@dataclass(frozen=True, eq=False)
class TableStudy:
    """A study of a published table, of which no file is there."""

    planted: PlantedStudy

    def say(self, folder: Path) -> str:
        published = compare_published(sa.create_engine("sqlite://"), self.planted.study.info)
        return replace(self.planted, published=published).say(folder)


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()


ALL = {name: png(8, 8) for name in NAMES}
DRAWN = plant(run(0.5), files={0: ALL})
INSTANCES = plant(run(0.5, notes={"recipe": {"task": "instance"}}), files={0: ALL})
NONE = plant(run(0.5))
DELETED = plant(run(0.5, files={"predictions.png": "nowhere"}))
DAMAGED = plant(run(0.5), files={0: {"predictions.png": b"damaged"}})
LARGE = plant(run(0.5), files={0: {"predictions.png": png(8000, 7600)}})
NO_TABLE = TableStudy(plant(run(0.5), kind=StudyKind.TABLE, subject="nowhere"))

PICTURES = (
    Sentence("trial {} has no {}", NONE, DRAWN, "Not shown: trial 0 has no predictions.png."),
    Sentence("{} of trial {} was deleted", DELETED, NONE, "Not shown: predictions.png of trial 0 was deleted."),
    Sentence("{} of trial {} cannot be read: {}", DAMAGED, DRAWN,
             "predictions.png of trial 0 cannot be read: not a picture, or damaged."),
    Sentence("not a picture, or damaged", DAMAGED, LARGE),
    Sentence("{} x {} pixels are too many", LARGE, DAMAGED, "cannot be read: 8000 x 7600 pixels are too many."),
    Sentence("{} of trial {}: {}", DRAWN, NONE, "Predictions of trial 0: examples with truth, prediction",
             shown="Predictions of trial {}: "),
    Sentence("examples in which matching true and predicted instances have one colour", INSTANCES, DRAWN),
    Sentence("precision by IoU threshold, precision and recall, and the number of instances", INSTANCES, DRAWN),
    Sentence("examples with truth, prediction and errors side by side", DRAWN, INSTANCES),
    Sentence("confusion matrix, curves and calibration on the validation images", DRAWN, INSTANCES),
    Sentence("How it learnt", DRAWN, NONE, "How it learnt: trial 0"),
    Sentence("one validation example after every epoch", DRAWN, NONE),
    Sentence("Where it looks", DRAWN, NONE, "Where it looks: trial 0"),
    Sentence("heat maps over the examples: what the prediction depends on", DRAWN, NONE),
    Sentence("metrics after every epoch, training and validation", DRAWN, NONE),
    Sentence("The published table '{}' cannot be shown: {}", NO_TABLE, NONE,
             "The published table 'nowhere' cannot be shown: "),
)  # fmt: skip
