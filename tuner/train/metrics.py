"""Counts first, then scores: sums of counts are exact for any division of the images into batches.

Every task counts into one float64 vector on the logits' device, without synchronization. It starts with the
confusion matrix (rows truth, columns prediction). Next, for pixels, the sums over the images and the number of
images; for classes, the hits among the top five. A full count is one with a list `each`, to which it appends the
score of each image. It ends with histograms of probabilities that were right and wrong, for each class or the
object of a mask, and for the most likely class: all curves are computed from these.

Why not torchmetrics: for 8 label maps of 19 classes its confusion matrix is equal, but takes 3 times as long and
is not one for each image; its average precision from 512 bins takes 170 times as long as everything counted here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.data.source import IGNORED
from tuner.train.details import MAX_LOG_ODDS, Row

MAX_BINS = 4096
MASK_BINS = 512  # for the class of a mask
STORED_BINS = 512  # stored per class for an epoch,
STORED_CELLS = 2**17  # and of all classes together
MAX_CELLS = 2**20  # bins of all classes
CHUNK_SIZE = {"cpu": 2**21, "cuda": 2**24}  # probabilities binned at once; bounds the memory
ImageScores = list[Tensor] | None


def mask_target(targets: Tensor) -> Tensor:
    """Return masks of 0 and 1 for binary losses: number x 1 x height x width, float."""
    return targets.unsqueeze(1).float()


def class_target(targets: Tensor) -> Tensor:
    """Return class numbers of pixels or images for cross-entropy."""
    return targets.long()


def binary_prediction(logits: Tensor) -> Tensor:
    """Return the probability of each pixel as a byte: number x height x width."""
    return (logits[:, 0].sigmoid() * 255).round().byte()


def class_prediction(logits: Tensor) -> Tensor:
    """Return the most likely class of each pixel as a byte."""
    return argmax_class(logits).byte()


def class_probabilities(logits: Tensor) -> Tensor:
    return logits.softmax(1)


def binary_counts(logits: Tensor, target: Tensor, each: ImageScores = None) -> Tensor:
    """Return (tn, fp, fn, tp) of all pixels, the sums of the images' IoU and Dice, and their number.

    Each image's score is its IoU.
    """
    predicted, true = (logits > 0).flatten(1), (target > 0.5).flatten(1)
    both, found, there = (each.sum(1, dtype=torch.int32) for each in (predicted & true, predicted, true))
    tp, fp, fn = both.sum(), (found - both).sum(), (there - both).sum()
    union, areas = found + there - both, found + there
    empty = areas == 0  # nothing true and nothing predicted: IoU and Dice are 1
    ious = both.double() / union.clamp(min=1) + empty
    dices = 2 * both.double() / areas.clamp(min=1) + empty
    iou, dice = ious.sum(), dices.sum()
    number = torch.full_like(iou, len(logits))
    sums = torch.stack([predicted.numel() - tp - fp - fn, fp, fn, tp, iou, dice, number]).double()
    if each is None:
        return sums
    each.append(ious.float())
    return torch.cat([sums, mask_histogram(logits, target)])


def binary_scores(counts: Sequence[float], classes: Sequence[str] = ()) -> dict[str, float]:
    """Return scores over the whole dataset; 0 / 0 counts as 0."""
    tn, fp, fn, tp, iou, dice, number = counts[:7]
    return {
        "iou": ratio(tp, tp + fp + fn),
        "dice": ratio(2 * tp, 2 * tp + fp + fn),
        "image_iou": ratio(iou, number),
        "image_dice": ratio(dice, number),
        "accuracy": ratio(tp + tn, tp + fp + fn + tn),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "f1": ratio(2 * tp, 2 * tp + fp + fn),
    }


def binary_batch_scores(counts: Tensor) -> dict[str, Tensor]:
    """Return the IoU and Dice of one batch from its counts; 0 / 0 counts as 1, as for an image."""
    _, fp, fn, tp = counts[:4]
    union, areas = tp + fp + fn, 2 * tp + fp + fn
    empty = areas == 0
    return {"batch_iou": tp / union.clamp(min=1) + empty, "batch_dice": 2 * tp / areas.clamp(min=1) + empty}


def label_counts(logits: Tensor, target: Tensor, each: ImageScores = None) -> Tensor:
    """Return the confusion of all counted pixels, the sums of the images' IoU and Dice, and their number.

    Images with only ignored pixels are not counted. Each image's score is the mean IoU of its classes.
    """
    matrices = image_confusions(logits, target)
    right, areas = matrices.diagonal(dim1=1, dim2=2), matrices.sum(1) + matrices.sum(2)
    iou, dice = mean_over_classes(right, areas - right), mean_over_classes(2 * right, areas)
    counted = areas.sum(1) > 0
    sums = torch.cat([matrices.sum(0).flatten(), torch.stack([iou.sum(), dice.sum(), counted.sum()])])
    if each is None:
        return sums
    each.append(torch.where(counted, iou, torch.nan).float())
    return torch.cat([sums, class_histograms(logits, target)])


def label_scores(counts: Sequence[float], classes: Sequence[str]) -> dict[str, float]:
    """Return scores over the whole dataset: means over the classes in truth or prediction."""
    number = len(classes)
    matrix, (iou, dice, images), bins = split_counts(counts, number, 3)
    shared, occurs = shared_scores(matrix)
    right, union = matrix.diagonal(), matrix.sum(0) + matrix.sum(1) - matrix.diagonal()
    each = right / np.maximum(union, 1)
    scores = {
        "miou": masked_mean(each, occurs),
        "dice": shared["f1"],
        "image_iou": ratio(iou, images),
        "image_dice": ratio(dice, images),
        **shared,
    }
    if not bins.size:
        return scores
    named = {f"iou:{classes[at]}": float(each[at]) for at in range(number) if occurs[at]}
    return {**scores, "map": mean_average_precision(bins, number), **named}


def class_counts(logits: Tensor, target: Tensor, each: ImageScores = None) -> Tensor:
    """Return the confusion of all images and the top-5 hits; an image's score is the probability of its class."""
    number = logits.shape[1]
    matrix = count_values(target * number + argmax_class(logits), number * number)
    five = logits.topk(min(5, number), dim=1).indices
    hits = (five == target.unsqueeze(1)).sum().double()
    sums = torch.cat([matrix, hits.unsqueeze(0)])
    if each is None:
        return sums
    each.append(logits.softmax(1).gather(1, target.unsqueeze(1))[:, 0].float())
    return torch.cat([sums, class_histograms(logits, target, ignored=-1)])


def class_scores(counts: Sequence[float], classes: Sequence[str]) -> dict[str, float]:
    """Return scores over all images: means over the classes in truth or prediction."""
    number = len(classes)
    matrix, (hits,), bins = split_counts(counts, number, 1)
    shared, _ = shared_scores(matrix)
    scores = {"top1": shared["accuracy"], "top5": ratio(hits, float(matrix.sum())), **shared}
    return {**scores, "map": mean_average_precision(bins, number)} if bins.size else scores


def confusion_matrix(counts: Sequence[float], num_classes: int) -> list[list[int]]:
    """Return rows of truth and columns of prediction. Binary tasks have two classes: background, object."""
    number = max(num_classes, 2)
    return np.asarray(counts[: number * number]).reshape(number, number).round().astype(int).tolist()


def reduce_histogram(counts: Tensor, outputs: int, is_mask: bool) -> Tensor:
    """Return the bins of a full count, merged into fewer: (rows, wrong and right, bins). Does not synchronize.

    A mask has one row; else there is one for each class and, last, one for the most likely class.
    """
    rows, width = (1, MASK_BINS) if is_mask else (outputs + 1, num_bins(outputs))
    kept = min(width, STORED_BINS, 1 << (STORED_CELLS // rows).bit_length() - 1)
    return counts[-rows * 2 * width :].view(rows, 2, kept, width // kept).sum(3).long()


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


# --- on the device ---


def argmax_class(logits: Tensor) -> Tensor:
    """Return the argmax over the classes, by `max`, which is many times faster on a CPU."""
    return logits.max(1).indices


def count_values(numbers: Tensor, most: int) -> Tensor:
    """Return how often each number below `most` occurs, without synchronizing as bincount does on a GPU."""
    flat = numbers.flatten()
    on_cpu = flat.device.type == "cpu"
    return torch.bincount(flat, minlength=most).double() if on_cpu else scatter_count(flat.long(), most)


def scatter_count(flat: Tensor, most: int) -> Tensor:
    """Count by adding whole numbers: exact in any order."""
    ones = torch.ones((), dtype=torch.int64, device=flat.device).expand_as(flat)
    return torch.zeros(most, dtype=torch.int64, device=flat.device).scatter_add_(0, flat, ones).double()


def image_confusions(logits: Tensor, target: Tensor) -> Tensor:
    """Return the confusion matrix of each image; ignored pixels go into a cell that is dropped."""
    images, number = logits.shape[:2]
    cells = number * number + 1
    cell = torch.where(target == IGNORED, cells - 1, target * number + argmax_class(logits)).flatten(1)
    cell = cell + torch.arange(images, device=cell.device).unsqueeze(1) * cells
    return count_values(cell, images * cells).view(images, cells)[:, :-1].reshape(images, number, number)


def mean_over_classes(part: Tensor, whole: Tensor) -> Tensor:
    """Return the mean of part / whole over the classes of each image; 0 for no class."""
    return (part / whole.clamp(min=1)).sum(1) / (whole > 0).sum(1).clamp(min=1)


def num_bins(num_classes: int) -> int:
    """Return a power of two: 4096 up to 256 classes, 1024 at a thousand."""
    return min(MAX_BINS, 1 << (MAX_CELLS // num_classes).bit_length() - 1)


def probability_bins(logits: Tensor) -> Tensor:
    """Return the bin of each class's probability, uniform in log-odds. NaN goes into the first."""
    number = num_bins(logits.shape[1])
    odds = logits.softmax(1).logit_(eps=1e-7)
    return odds.add_(MAX_LOG_ODDS).mul_(number / (2 * MAX_LOG_ODDS)).int().clamp_(0, number - 1)


def class_histograms(logits: Tensor, target: Tensor, ignored: int = IGNORED) -> Tensor:
    """Return two rows of bins, where wrong and where right, for each class and last for the most likely one."""
    number = logits.shape[1]
    width = num_bins(number)
    total = torch.zeros((number + 1) * 2 * width + 1, dtype=torch.float64, device=logits.device)
    first = torch.arange(number, dtype=torch.int32, device=logits.device) * 2 * width
    for some, true in split_pixels(logits, target):
        cell = probability_bins(some)
        best = cell.max(1, keepdim=True).values.add_(number * 2 * width)
        best.add_((argmax_class(some) == true).unsqueeze(1), alpha=width)
        cell.add_(first.view(1, -1, 1))
        cell.scatter_add_(1, true.clamp(max=number - 1).unsqueeze(1), torch.full_like(cell[:, :1], width))
        cell = torch.cat([cell, best], 1)
        cell.masked_fill_((true == ignored).unsqueeze(1), total.numel() - 1)
        total += count_values(cell, total.numel())
    return total[:-1]


def mask_histogram(logits: Tensor, target: Tensor) -> Tensor:
    """Return two rows of bins: the object's probability where there is none, and where there is one."""
    total = torch.zeros(2 * MASK_BINS, dtype=torch.float64, device=logits.device)
    for some, true in split_pixels(logits, target):
        odds = some[:, 0].clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS).nan_to_num_(-MAX_LOG_ODDS)
        cell = odds.add_(MAX_LOG_ODDS).mul_(MASK_BINS / (2 * MAX_LOG_ODDS)).int().clamp_(0, MASK_BINS - 1)
        total += count_values(cell.add_(true > 0.5, alpha=MASK_BINS), total.numel())
    return total


def split_pixels(logits: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits (images x classes x pixels) and truth (images x pixels) in chunks."""
    number, most = logits.shape[1], CHUNK_SIZE.get(logits.device.type, CHUNK_SIZE["cpu"])
    rows, truth = logits.reshape(len(logits), number, -1), target.reshape(len(target), -1)
    images = max(1, most // max(rows[0].numel(), 1))
    pixels = max(1, most // (images * number))
    for some, true in zip(rows.split(images), truth.split(images), strict=True):
        yield from zip(some.split(pixels, 2), true.split(pixels, 1), strict=True)


# --- on the host, from the sums ---


def split_counts(counts: Sequence[float], number: int, extra: int) -> tuple[Row, Row, Row]:
    """Return the confusion matrix, the numbers after it, and the bins."""
    values, cells = np.asarray(counts, np.float64), number * number
    return values[:cells].reshape(number, number), values[cells : cells + extra], values[cells + extra :]


def shared_scores(matrix: Row) -> tuple[dict[str, float], NDArray[np.bool_]]:
    """Return the scores of every task with classes, and which classes occur in truth or prediction."""
    right, there, found = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
    occurs = there + found > 0
    return {
        "accuracy": ratio(float(right.sum()), float(matrix.sum())),
        "precision": masked_mean(right / np.maximum(found, 1), occurs),
        "recall": masked_mean(right / np.maximum(there, 1), occurs),
        "f1": masked_mean(2 * right / np.maximum(there + found, 1), occurs),
    }, occurs


def masked_mean(values: Row, of: NDArray[np.bool_]) -> float:
    return float(values[of].mean()) if of.any() else 0.0


def mean_average_precision(cells: Row, number: int) -> float:
    """Return the mean over the classes in the truth of the sum over the bins of precision x gain in recall."""
    wrong, right = cells.reshape(number + 1, 2, -1)[:number, :, ::-1].transpose(1, 0, 2)  # the highest bin first
    hits, misses, there = np.cumsum(right, axis=1), np.cumsum(wrong, axis=1), right.sum(1)
    precision = hits / np.maximum(hits + misses, 1)
    return masked_mean((precision * right).sum(1) / np.maximum(there, 1), there > 0)
