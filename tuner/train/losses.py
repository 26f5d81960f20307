"""The table of losses. A builder takes the task's name and the class shares; other arguments are searchable.

Every loss maps (logits, target) to one non-negative number, the mean over the batch. In "multiclass" the label 255
is ignored; a batch of ignored pixels has loss 0.

Why not SMP's losses: its Dice and Jaccard give no gradient for classes absent from a batch, and its multiclass
focal loss is one-vs-rest; where both are defined alike, the tests compare them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tuner.data.source import IGNORED
from tuner.errors import FailureKind, PartError, TrialFailed, did_you_mean
from tuner.recipe import Part
from tuner.registry import FRACTION, NOT_NEGATIVE, SHARE, build, check_range
from tuner.wording import pluralize

Loss = Callable[[Tensor, Tensor], Tensor]
Shares = Callable[[], Sequence[float]]  # of the training targets by class, computed on call

OWN, WATERSHED = "own", "watershed"
PIXELS = ("binary", "multiclass")
CLASSES = ("multiclass", "classification")
ALL = ("binary", *CLASSES)
TASKS_OF = {  # loss -> tasks
    "bce": ("binary",),
    "dice": PIXELS,
    "iou": PIXELS,
    "focal": ALL,
    "dice_bce": ("binary",),
    "cross_entropy": CLASSES,
    "mix": ALL,
    WATERSHED: ("instance",),
    OWN: ("instance",),
}
LOSSES = {name: f"tuner.train.losses:{name}" for name in TASKS_OF}
WEIGHTS = ("none", "frequency")
MIN_MISS = 1e-6  # lower bound of 1 - p, whose power is differentiated


def bce(mode: str) -> Loss:
    """Binary cross-entropy per pixel, from logits."""
    check_task("bce", mode)
    return torch.nn.BCEWithLogitsLoss()


def dice(mode: str, *, smooth: float = 1.0) -> Loss:
    """1 - Dice over the batch, mean over the classes; independent of object size."""
    check_task("dice", mode)
    check_range("loss 'dice'", NOT_NEGATIVE, smooth=smooth)
    return overlap_loss(mode, lambda both, areas: (2 * both + 2 * smooth) / (areas + 2 * smooth).clamp(min=1e-7))


def iou(mode: str, *, smooth: float = 1.0) -> Loss:
    """1 - intersection over union of the batch, mean over the classes; stricter than dice."""
    check_task("iou", mode)
    check_range("loss 'iou'", NOT_NEGATIVE, smooth=smooth)
    return overlap_loss(mode, lambda both, areas: (both + smooth) / (areas - both + smooth).clamp(min=1e-7))


def focal(mode: str, *, gamma: float = 2.0) -> Loss:
    """Cross-entropy with easy examples weighted down by (1 - p)^gamma, p being the probability of the truth."""
    check_task("focal", mode)
    check_range("loss 'focal'", NOT_NEGATIVE, gamma=gamma)

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        surprise, number = pointwise_loss(mode, logits, target)
        return ((-torch.expm1(-surprise)).clamp(min=MIN_MISS) ** gamma * surprise).sum() / number

    return loss


def dice_bce(mode: str, *, dice_weight: float = 1.0, smooth: float = 1.0) -> Loss:
    """Binary cross-entropy + dice_weight x dice: stable from the start, sensitive to small objects."""
    check_task("dice_bce", mode)
    check_range("loss 'dice_bce'", NOT_NEGATIVE, dice_weight=dice_weight)
    first, second = bce(mode), dice(mode, smooth=smooth)
    return lambda logits, target: first(logits, target) + dice_weight * second(logits, target)


def cross_entropy(
    mode: str, shares: Shares | None = None, *, weights: str | list[float] = "none", label_smoothing: float = 0.0
) -> Loss:
    """Cross-entropy per pixel or image, from logits, with optional class weights.

    `weights` is "none"; "frequency", the inverse of each class's share of the training targets with mean 1; or a
    list with one number per class.
    """
    check_task("cross_entropy", mode)
    check_range("loss 'cross_entropy'", FRACTION, label_smoothing=label_smoothing)
    each = class_weights(weights, shares)

    @functools.cache
    def on(device: torch.device) -> Tensor | None:
        return None if each is None else torch.tensor(each, device=device)

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        weight, ignored = on(logits.device), ignored_label(mode)
        total = F.cross_entropy(
            logits, target, weight, ignore_index=ignored, reduction="sum", label_smoothing=label_smoothing
        )
        counts = target != ignored
        whole = (counts if weight is None else weight[target.where(counts, 0)] * counts).sum()
        return total / whole.where(whole > 0, 1)

    return loss


def mix(
    mode: str, shares: Shares | None = None, *, first: str = "iou", second: str = "dice", weight: float = 0.5
) -> Loss:
    """weight x first + (1 - weight) x second, for any two other losses with default arguments."""
    check_task("mix", mode)
    check_range("loss 'mix'", SHARE, weight=weight)
    if "mix" in (first, second):
        raise PartError("loss 'mix' is of two other losses; it cannot hold itself.")
    one, other = (build("loss", LOSSES, Part(name), mode, shares) for name in (first, second))
    return lambda logits, target: weight * one(logits, target) + (1 - weight) * other(logits, target)


def watershed(mode: str, *, mask: str = "bce", energy_weight: float = 1.0, direction_weight: float = 0.5) -> Loss:
    """For deep_watershed: mask loss + energy_weight x energy error + direction_weight x direction error.

    `mask` names a binary loss. Errors are averaged inside instances; the direction counts if the model predicts
    it.
    """
    check_task("watershed", mode)
    check_range("loss 'watershed'", NOT_NEGATIVE, energy_weight=energy_weight, direction_weight=direction_weight)
    of_mask = build("loss", LOSSES, Part(mask), "binary")

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        inside = target[:, :1] > 0
        number = inside.sum((1, 2, 3), keepdim=True).clamp(min=1) * len(target)  # mean of the images' means
        off = F.smooth_l1_loss(logits[:, 1:2].sigmoid(), target[:, 1:2], reduction="none", beta=0.1)
        total: Tensor = of_mask(logits[:, :1], inside.float()) + energy_weight * (off * inside / number).sum()
        if logits.shape[1] > 2 and direction_weight:
            turned = 1 - (F.normalize(logits[:, 2:], dim=1) * target[:, 2:]).sum(1, keepdim=True)
            has_direction = inside & (target[:, 2:] != 0).any(1, keepdim=True)
            total = total + direction_weight * (turned * has_direction / number).sum()
        return total

    return loss


def own(mode: str, *, weights: dict[str, float] | None = None) -> Callable[[Mapping[str, Tensor], Tensor], Tensor]:
    """The sum of the losses that the model itself returns, such as mask_rcnn, with optional weights."""
    check_task(OWN, mode)
    given = {} if weights is None else weights
    if not isinstance(given, dict):
        raise PartError(f"weights of loss '{OWN}' are {weights!r}; write weights={{'loss_mask': 2.0}}.")
    check_range(f"loss '{OWN}'", NOT_NEGATIVE, **{f"weights[{name!r}]": weight for name, weight in given.items()})

    def loss(parts: Mapping[str, Tensor], target: Tensor) -> Tensor:
        if unknown := [name for name in given if name not in parts]:
            raise TrialFailed(
                FailureKind.LOSS_PART,
                f"loss '{OWN}' has a weight for '{unknown[0]}', which is not a loss of the model."
                f"{did_you_mean(unknown[0], parts)} Its losses: {', '.join(parts)}.",
            )
        return torch.stack([given.get(name, 1.0) * part for name, part in parts.items()]).sum()

    return loss


def overlap_loss(mode: str, score: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """Return 1 - score(shared area, sum of areas) of each class over the batch, mean over the classes.

    A class absent from the batch costs its mean probability.
    """

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        found, true, counted = class_areas(mode, logits, target)
        both, there = (found * true).sum((0, 2)), true.sum((0, 2))
        given = found.sum((0, 2))
        cost = torch.where(there > 0, 1 - score(both, given + there), given / counted.clamp(min=1))
        return cost.clamp(min=0).mean()  # rounding can make it slightly negative

    return loss


def class_areas(mode: str, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return probability and truth (images x classes x pixels), 0 where ignored, and the number of pixels."""
    if mode == "binary":
        true = target.flatten(2)
        return logits.flatten(2).sigmoid(), true, torch.tensor(true.numel())
    labels = target.flatten(1).unsqueeze(1)
    counts = labels != IGNORED
    true = labels == torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1)
    return logits.flatten(2).softmax(1) * counts, true, counts.sum()


def pointwise_loss(mode: str, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor | int]:
    """Return the cross-entropy of each element (0 where ignored), and how many are counted."""
    if mode == "binary":
        return F.binary_cross_entropy_with_logits(logits, target, reduction="none"), target.numel()
    ignored = ignored_label(mode)
    surprise = F.cross_entropy(logits, target, ignore_index=ignored, reduction="none")
    return surprise, (target != ignored).sum().clamp(min=1)


def ignored_label(mode: str) -> int:
    """Return the ignored label; for classification none, since 255 may be a class."""
    return IGNORED if mode == "multiclass" else -100


def class_weights(weights: object, shares: Shares | None) -> list[float] | None:
    """Return one number per class, or None for no weights; PartError says what is wrong."""
    if weights == "none":
        return None
    if weights == "frequency":
        if not (counted := shares() if shares else []):
            raise PartError("weights='frequency' needs training data to count the classes.")
        return inverse_weights(counted)
    if not isinstance(weights, list | tuple):
        hint = did_you_mean(str(weights), WEIGHTS)
        raise PartError(
            f"weights is {weights!r}.{hint} Known: {', '.join(WEIGHTS)}, or a list with one number per class."
        )
    if not all(weight in NOT_NEGATIVE for weight in weights) or not any(weights):
        raise PartError(
            f"weights are {list(weights)}; numbers of at least 0 are needed, at least one of them above 0."
        )
    number = len(shares()) if shares else 0
    if number and len(weights) != number:
        given, classes = pluralize(len(weights), "number"), pluralize(number, "class")
        raise PartError(f"weights has {given} for {classes}; give one weight per class.")
    return [float(weight) for weight in weights]


def inverse_weights(shares: Sequence[float]) -> list[float]:
    """Return 1 / share, scaled to mean 1; absent classes get 1."""
    found = [1 / share for share in shares if share > 0]
    mean = sum(found) / max(len(found), 1)
    return [1 / share / mean if share > 0 else 1.0 for share in shares]


def check_task(name: str, mode: str) -> None:
    """Raise PartError with the suitable losses if a loss is not for the task."""
    if mode not in TASKS_OF[name]:
        others = [other for other, modes in TASKS_OF.items() if mode in modes]
        raise PartError(f"loss '{name}' is not for the task '{mode}'. For it: {', '.join(others) or 'none'}.")


def check_not_negative(name: str, arg: str, value: object) -> None:
    """Raise PartError unless an argument of a loss is at least 0; `least` of version 0.1."""
    check_range(f"loss '{name}'", NOT_NEGATIVE, **{arg: value})
