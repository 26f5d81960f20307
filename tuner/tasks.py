"""The table of tasks: what a target is, how many outputs a model has, how it is scored and shown.

Free of torch, so that a goal can be checked without loading it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuner.errors import PartError, near
from tuner.recipe import Recipe


@dataclass(frozen=True)
class Task:
    """`targets` is what a dataset must hold; `metrics` are the names a goal may take, with what they mean.

    The rest are names in "module:function" form. `prepare` makes, on the host and ahead of the step, what is
    handed on of the dataset's targets; `target` shapes that for the loss, on the device. `counts` and `scores`
    are the two halves of scoring: counts on the device for each batch, scores once from their sum. `ranked` scores
    what no sum can tell. `guess` turns logits into what a picture of the prediction needs. `each` says what an
    image is scored by.
    """

    name: str
    targets: str  # "masks" of 0 and 1, "labels" (a class number at each pixel), "classes", "instances"
    metrics: Mapping[str, str]
    target: str
    counts: str
    scores: str
    guess: str
    each: str
    prepare: str = ""
    ranked: str = ""

    def outputs(self, recipe: Recipe) -> int:
        """How many numbers a model gives, for each pixel or for the image; of instances, kinds of them."""
        return len(recipe.classes) if self.has_classes else 1

    @property
    def has_classes(self) -> bool:
        return self.targets in ("labels", "classes")

    @property
    def has_instances(self) -> bool:
        """Its models find things, `instances(answer)`, where others say something of each pixel or image."""
        return self.targets == "instances"

    @property
    def shape(self) -> str:
        """What a model gives: "masks" of the image's size, or one row of numbers a "class"."""
        return "classes" if self.targets == "classes" else "masks"


LOSS = {"loss": "the recipe's own loss, mean over the images; to be minimized"}
BINARY_METRICS = {
    "iou": "intersection over union of the foreground, over all pixels of the data set",
    "dice": "2 x intersection over the sum of both areas, over all pixels of the data set; the same as f1",
    "image_iou": "intersection over union of each image, mean over the images; 1 where nothing is there nor found",
    "image_dice": "Dice of each image, mean over the images; 1 where nothing is there nor found",
    "accuracy": "share of the pixels that are right",
    "precision": "share of what was found that is right",
    "recall": "share of what was there that was found",
    "f1": "harmonic mean of precision and recall; the same as dice",
}
LABEL_METRICS = {
    "miou": "intersection over union over all pixels of the data set, mean over the classes there or found",
    "dice": "Dice over all pixels of the data set, mean over the classes there or found; the same as f1",
    "image_iou": "intersection over union, mean over the classes there or found in an image, then over the images",
    "image_dice": "Dice, mean over the classes there or found in an image, then over the images",
    "accuracy": "share of the pixels that are right",
    "precision": "share of what was called a class that is it, mean over the classes there or found",
    "recall": "share of a class that was found, mean over the classes there or found",
    "f1": "harmonic mean of precision and recall, mean over the classes there or found; the same as dice",
    "map": "average precision of each class over all pixels, mean over the classes there (validation only)",
}
CLASS_METRICS = {
    "accuracy": "share of the images that are right; the same as top1",
    "top1": "share of the images whose likeliest class is right; the same as accuracy",
    "top5": "share of the images whose class is among the five likeliest",
    "precision": "share of what was called a class that is it, mean over the classes there or found",
    "recall": "share of a class that was found, mean over the classes there or found",
    "f1": "harmonic mean of precision and recall, mean over the classes there or found",
    "map": "average precision of each class, mean over the classes there (validation only)",
}
INSTANCE_METRICS = {
    "ap": "average precision, mean over the thresholds of intersection over union 0.5, 0.55 to 0.95",
    "ap50": "average precision where an intersection over union of 0.5 counts as found",
    "ap75": "average precision where an intersection over union of 0.75 counts as found",
    "pq": "panoptic quality: the mean IoU of what was matched, times the f1 of matching",
    "count_error": "by how many the number found is off, mean over the images; to be minimized",
    "precision": "share of what was found that is there, at an IoU above 0.5",
    "recall": "share of what is there that was found, at an IoU above 0.5",
    "f1": "harmonic mean of precision and recall, at an IoU above 0.5",
    "merged": "how many found instances hold most of several true ones, mean over the images; to be minimized",
    "split": "how many true instances hold most of several found ones, mean over the images; to be minimized",
}
MINIMIZED = ("loss", "count_error", "merged", "split")  # the better, the smaller
TASKS = {
    "binary": Task(
        name="binary",
        targets="masks",
        metrics={**LOSS, **BINARY_METRICS},
        target="tuner.train.metrics:mask_target",
        counts="tuner.train.metrics:binary_counts",
        scores="tuner.train.metrics:binary_scores",
        guess="tuner.train.metrics:binary_guess",
        each="IoU",
    ),
    "multiclass": Task(
        name="multiclass",
        targets="labels",
        metrics={**LOSS, **LABEL_METRICS},
        target="tuner.train.metrics:class_target",
        counts="tuner.train.metrics:label_counts",
        scores="tuner.train.metrics:label_scores",
        guess="tuner.train.metrics:class_guess",
        each="mean IoU",
    ),
    "classification": Task(
        name="classification",
        targets="classes",
        metrics={**LOSS, **CLASS_METRICS},
        target="tuner.train.metrics:class_target",
        counts="tuner.train.metrics:class_counts",
        scores="tuner.train.metrics:class_scores",
        guess="tuner.train.metrics:class_shares",
        each="probability of the true class",
    ),
    "instance": Task(
        name="instance",
        targets="instances",
        metrics={**LOSS, **INSTANCE_METRICS},
        prepare="tuner.data.instances:with_energy",
        target="tuner.train.instance_metrics:instance_target",
        counts="tuner.train.instance_metrics:instance_counts",
        scores="tuner.train.instance_metrics:instance_scores",
        ranked="tuner.train.instance_metrics:Ranked",
        guess="tuner.train.instance_metrics:instance_guess",
        each="PQ",
    ),
}


def find_task(name: str) -> Task:
    """The task of that name, or a PartError with the near name."""
    if name not in TASKS:
        raise PartError(f"no task '{name}'.{near(name, TASKS)} Known: {', '.join(sorted(TASKS))}.")
    return TASKS[name]


BINARY_CLASSES = ("background", "object")
