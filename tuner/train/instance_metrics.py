"""Metrics of predicted instances: panoptic quality and count errors from counts, AP from all images together.

Average precision is computed by torchmetrics, which follows COCO: the instances of all images are ranked by score,
for ten thresholds of IoU.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuner.data.instances import Instances, Matches, instance_ids, match_instances
from tuner.train.details import THRESHOLDS
from tuner.train.metrics import ImageScores, ratio

MAX_DETECTIONS = 1000  # highest-scored instances ranked per image; COCO's 100 are too few for cells
RECALLS = 101  # points of a curve, as in COCO
RECALL_STEP = 4  # one in so many points is kept


def instance_target(prepared: Tensor) -> Tensor:
    """Return the fields of `tuner.data.instances.make_energy_targets` unchanged."""
    return prepared


def instance_prediction(found: Sequence[Instances]) -> Tensor:
    return torch.stack([torch.from_numpy(one.labels) for one in found])


def instance_counts(found: Any, target: Tensor, each: ImageScores = None) -> Tensor:
    """Return sums over the images of a full count, else nothing: training computes no instances.

    IoU of the matched, number of matched, wrong and missed instances, count errors, images, merged and split. Each
    image's score is its panoptic quality, 1 for none predicted and none true.
    """
    if each is None:
        return torch.zeros(0, dtype=torch.float64)
    rows = [
        count_matches(match_instances(one.labels, truth))
        for one, truth in zip(found, true_label_maps(target), strict=True)
    ]
    each.append(torch.tensor([panoptic_quality(iou, tp, fp, fn, empty=1.0) for iou, tp, fp, fn, *_ in rows]))
    return torch.tensor(rows, dtype=torch.float64).sum(0)


def count_matches(found: Matches) -> list[float]:
    tp, fp, fn = len(found.pairs), len(found.wrong), len(found.missed)
    merged, split = len(found.merged), len(found.split)
    return [sum(iou for _, _, iou in found.pairs), tp, fp, fn, abs(fp - fn), 1, merged, split]


def panoptic_quality(iou: float, tp: float, fp: float, fn: float, empty: float = 0.0) -> float:
    """Return the IoU of the matched, reduced by wrong and missed instances."""
    whole = tp + (fp + fn) / 2
    return iou / whole if whole else empty


def true_label_maps(target: Tensor) -> list[np.ndarray[Any, np.dtype[np.int32]]]:
    return list(target[:, 0].cpu().numpy().astype(np.int32))


def instance_scores(counts: Sequence[float], classes: Sequence[str] = ()) -> dict[str, float]:
    if not counts:
        return {}
    iou, tp, fp, fn, apart, images, merged, split = counts
    return {
        "pq": panoptic_quality(iou, tp, fp, fn),
        "count_error": ratio(apart, images),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
        "merged": ratio(merged, images),
        "split": ratio(split, images),
    }


class InstanceRanking:
    """All predicted instances of a pass, ranked together, for metrics that are not sums of counts."""

    def __init__(self) -> None:
        from torchmetrics.detection import MeanAveragePrecision

        self.precision = MeanAveragePrecision(
            iou_type="segm",
            backend="faster_coco_eval",
            max_detection_thresholds=[1, 10, MAX_DETECTIONS],
            extended_summary=True,
        )
        self.precision.warn_on_many_detections = False
        self.numbers: list[list[int]] = []  # per image: true, predicted

    def add(self, found: Sequence[Instances], target: Tensor) -> None:
        for one, truth in zip(found, true_label_maps(target), strict=True):
            there = instance_ids(truth)
            self.numbers.append([len(there), len(one.scores)])
            ranked = np.argsort(-one.scores, kind="stable")[:MAX_DETECTIONS]
            scores = torch.from_numpy(one.scores[ranked])
            self.precision.update(
                [{**instance_masks(one.labels, ranked + 1), "scores": scores}], [instance_masks(truth, there)]
            )

    def scores(self) -> dict[str, float]:
        found = self.summary
        return {"ap": found["ap"], "ap50": found["aps"][0], "ap75": found["aps"][5]}

    @cached_property
    def summary(self) -> dict[str, Any]:
        """AP by threshold, precision by recall at two of them if there are predictions, and counts by image."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = self.precision.compute()
        if "precision" not in answer:
            nothing = [0.0] * len(THRESHOLDS)
            return {"ap": 0.0, "aps": nothing, "recall": [], "precision": {}, "numbers": self.numbers}
        curves = answer["precision"][:, :, 0, 0, -1].clamp(min=0)  # COCO uses -1 for undefined
        return {
            "ap": max(0.0, float(answer["map"])),
            "aps": curves.mean(1).tolist(),
            "recall": np.linspace(0, 1, RECALLS)[::RECALL_STEP].round(4).tolist(),
            "precision": {f"{THRESHOLDS[at]:.2f}": curves[at, ::RECALL_STEP].tolist() for at in (0, 5)},
            "numbers": self.numbers,
        }


def instance_masks(labels: np.ndarray[Any, Any], which: np.ndarray[Any, Any]) -> dict[str, Tensor]:
    """Return a mask for each of these instances, all of one class."""
    return {
        "masks": torch.from_numpy(labels == which[:, None, None]),
        "labels": torch.zeros(len(which), dtype=torch.long),
    }
