"""The table of tasks: targets, metrics, and the functions that score and convert predictions.

This module does not import torch, so that goals can be checked without loading it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuner.errors import PartError, did_you_mean
from tuner.recipe import Recipe


@dataclass(frozen=True)
class Task:
    """What a kind of model predicts, and how predictions are scored.

    targets: what a dataset must hold.
    metrics: the metrics a goal may name, each with its meaning.
    image_score: the name of the score of a single image.

    The other fields name functions, as "module:function":

    prepare: converts the dataset's targets on the host, ahead of the training step.
    target: converts prepared targets to the form the loss takes, on the device.
    counts, scores: the two halves of scoring: counts per batch on the device, scores once from their sum.
    batch_scores: scores of one batch from its counts, averaged over the batches of a full count.
    ranking: metrics that cannot be computed from sums, such as average precision.
    to_prediction: converts logits to what is drawn.
    """

    name: str
    targets: str  # "masks" of 0 and 1, "labels" (a class number at each pixel), "classes", "instances"
    metrics: Mapping[str, str]
    target: str
    counts: str
    scores: str
    to_prediction: str
    image_score: str
    prepare: str = ""
    batch_scores: str = ""
    ranking: str = ""

    def num_outputs(self, recipe: Recipe) -> int:
        """Return the number of output channels of a model."""
        return len(recipe.classes) if self.has_classes else 1

    @property
    def has_classes(self) -> bool:
        return self.targets in ("labels", "classes")

    @property
    def has_instances(self) -> bool:
        """Whether its models detect instances; they have a method `instances(answer)`."""
        return self.targets == "instances"

    @property
    def output_kind(self) -> str:
        """The shape of a model's output: "masks" of the image's size, or a vector of "classes"."""
        return "classes" if self.targets == "classes" else "masks"


LOSS_METRIC = {"loss": "the recipe's own loss, mean over the images; to be minimized"}
OF_BATCHES = ", mean over the batches: depends on batch_size, to compare with reports (validation and test only)"
BINARY_METRICS = {
    "iou": "intersection over union of the foreground, over all pixels of the data set",
    "dice": "2 x intersection over the sum of both areas, over all pixels of the data set; the same as f1",
    "image_iou": "intersection over union of each image, mean over the images; 1 where nothing is there nor found",
    "image_dice": "Dice of each image, mean over the images; 1 where nothing is there nor found",
    "batch_iou": f"intersection over union of each batch{OF_BATCHES}",
    "batch_dice": f"Dice of each batch{OF_BATCHES}",
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
MINIMIZED_METRICS = ("loss", "count_error", "merged", "split")  # smaller is better
TASKS = {
    "binary": Task(
        name="binary",
        targets="masks",
        metrics={**LOSS_METRIC, **BINARY_METRICS},
        target="tuner.train.metrics:mask_target",
        counts="tuner.train.metrics:binary_counts",
        scores="tuner.train.metrics:binary_scores",
        batch_scores="tuner.train.metrics:binary_batch_scores",
        to_prediction="tuner.train.metrics:binary_prediction",
        image_score="IoU",
    ),
    "multiclass": Task(
        name="multiclass",
        targets="labels",
        metrics={**LOSS_METRIC, **LABEL_METRICS},
        target="tuner.train.metrics:class_target",
        counts="tuner.train.metrics:label_counts",
        scores="tuner.train.metrics:label_scores",
        to_prediction="tuner.train.metrics:class_prediction",
        image_score="mean IoU",
    ),
    "classification": Task(
        name="classification",
        targets="classes",
        metrics={**LOSS_METRIC, **CLASS_METRICS},
        target="tuner.train.metrics:class_target",
        counts="tuner.train.metrics:class_counts",
        scores="tuner.train.metrics:class_scores",
        to_prediction="tuner.train.metrics:class_probabilities",
        image_score="probability of the true class",
    ),
    "instance": Task(
        name="instance",
        targets="instances",
        metrics={**LOSS_METRIC, **INSTANCE_METRICS},
        prepare="tuner.data.instances:make_energy_targets",
        target="tuner.train.instance_metrics:instance_target",
        counts="tuner.train.instance_metrics:instance_counts",
        scores="tuner.train.instance_metrics:instance_scores",
        ranking="tuner.train.instance_metrics:InstanceRanking",
        to_prediction="tuner.train.instance_metrics:instance_prediction",
        image_score="PQ",
    ),
}

SHARES = {name for task in TASKS.values() for name in task.metrics} - set(MINIMIZED_METRICS)


def is_share(metric: str) -> bool:
    """Return whether a metric, with or without its split or class, lies between 0 and 1."""
    bare = metric.partition(":")[0]
    for split in ("train_", "val_", "test_"):
        bare = bare.removeprefix(split)
    return bare in SHARES


def find_task(name: str) -> Task:
    """Return the task of that name; PartError for an unknown name."""
    if name not in TASKS:
        raise PartError(f"no task '{name}'.{did_you_mean(name, TASKS)} Known: {', '.join(sorted(TASKS))}.")
    return TASKS[name]


BINARY_CLASSES = ("background", "object")
