"""Counts and scores against torchmetrics and scikit-learn, on random input and at its edges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor
from torchmetrics import classification

from tuner.tasks import TASKS
from tuner.train import metrics
from tuner.train.metrics import (
    IGNORED,
    MAX_LOG_ODDS,
    binary_counts,
    binary_prediction,
    binary_scores,
    class_counts,
    class_prediction,
    class_probabilities,
    class_scores,
    confusion_matrix,
    label_counts,
    label_scores,
    num_bins,
    probability_bins,
    ratio,
)

BINARY = {
    "iou": classification.BinaryJaccardIndex,
    "dice": classification.BinaryF1Score,
    "accuracy": classification.BinaryAccuracy,
    "precision": classification.BinaryPrecision,
    "recall": classification.BinaryRecall,
    "f1": classification.BinaryF1Score,
}
SHARED = {
    "precision": classification.MulticlassPrecision,
    "recall": classification.MulticlassRecall,
    "f1": classification.MulticlassF1Score,
    "accuracy": lambda number, **kwargs: classification.MulticlassAccuracy(
        number, **{**kwargs, "average": "micro"}
    ),
}
LABELS = {**SHARED, "miou": classification.MulticlassJaccardIndex, "dice": classification.MulticlassF1Score}
NAMES = ("pet", "ground", "border", "sky", "road", "car")
COUNTS: Mapping[str, Callable[..., Tensor]] = {
    "binary": binary_counts,
    "multiclass": label_counts,
    "classification": class_counts,
}


def batch(seed: int, share: float, number: int = 3) -> tuple[Tensor, Tensor]:
    """Random logits, and masks in which about `share` of the pixels are the object."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(number, 1, 16, 16, generator=generator)
    return logits, (torch.rand(number, 1, 16, 16, generator=generator) < share).float()


def scores(logits: Tensor, target: Tensor) -> dict[str, float]:
    return binary_scores(binary_counts(logits, target).tolist())


def labels(
    seed: int, number: int = 4, absent: tuple[int, ...] = (), ignored: float = 0.2
) -> tuple[Tensor, Tensor]:
    """Logits that lean towards random label maps; some pixels ignored, some classes neither there nor found."""
    generator = torch.Generator().manual_seed(seed)
    allowed = torch.tensor([c for c in range(len(NAMES)) if c not in absent])
    target = allowed[torch.randint(0, len(allowed), (number, 12, 14), generator=generator)]
    logits = torch.randn(number, len(NAMES), 12, 14, generator=generator)
    logits.scatter_add_(1, target.unsqueeze(1), torch.ones(number, 1, 12, 14))
    logits[:, list(absent)] -= 100
    target[torch.rand(target.shape, generator=generator) < ignored] = IGNORED
    return logits, target


def numbers(seed: int, number: int = 200, classes: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, classes, (number,), generator=generator)
    logits = torch.randn(number, classes, generator=generator)
    return logits.scatter_add_(1, target.unsqueeze(1), torch.ones(number, 1)), target


def label_scored(logits: Tensor, target: Tensor, full: bool = True) -> dict[str, float]:
    return label_scores(label_counts(logits, target, [] if full else None).tolist(), NAMES)


def class_scored(logits: Tensor, target: Tensor) -> dict[str, float]:
    names = [str(at) for at in range(logits.shape[1])]
    return class_scores(class_counts(logits, target, []).tolist(), names)


def by_image(logits: Tensor, target: Tensor, average: str) -> float:
    """Mean over the images, of scikit-learn's scores of each, over the classes it finds there."""
    score = sk.jaccard_score if average == "iou" else sk.f1_score
    found, true = logits.argmax(1).flatten(1).numpy(), target.flatten(1).numpy()
    each = [score(t[t != IGNORED], p[t != IGNORED], average="macro") for t, p in zip(true, found, strict=True)]
    return float(np.mean(each))


def precision_of_classes(true: Any, score: Any) -> float:
    """scikit-learn's average precision, mean over the classes that are there."""
    there = [at for at in range(score.shape[1]) if (true == at).any()]
    return float(np.mean([sk.average_precision_score(true == at, score[:, at]) for at in there]))


@pytest.mark.parametrize("metric", BINARY)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0], ids=["empty", "rare", "half", "full"])
def test_every_score_of_masks_is_torchmetrics_own(metric: str, share: float) -> None:
    for seed in range(4):
        logits, target = batch(seed, share)
        expected = BINARY[metric](threshold=0.5)(logits.sigmoid(), target.int())
        assert scores(logits, target)[metric] == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("metric", BINARY)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0], ids=["empty", "half", "full"])
@pytest.mark.parametrize("found", [-1.0, 1.0], ids=["nothing-found", "all-found"])
def test_an_object_absent_from_target_or_prediction_is_scored_as_torchmetrics_does(
    metric: str, share: float, found: float
) -> None:
    _, target = batch(0, share)
    logits = torch.full_like(target, found)
    expected = BINARY[metric](threshold=0.5)(logits.sigmoid(), target.int())
    assert scores(logits, target)[metric] == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("name", ["iou", "dice"])
@pytest.mark.parametrize("share", [0.02, 0.5])
def test_a_score_by_image_is_the_mean_of_scikit_learns_for_each(name: str, share: float) -> None:
    logits, target = batch(1, share, number=9)
    target[0] = 0
    score = sk.jaccard_score if name == "iou" else sk.f1_score
    pairs = zip(target.flatten(1).numpy(), (logits > 0).flatten(1).numpy(), strict=True)
    expected = np.mean([score(true.astype(bool), found, zero_division=1.0) for true, found in pairs])
    assert scores(logits, target)[f"image_{name}"] == pytest.approx(expected, abs=1e-9)


def test_an_image_without_object_is_all_right_when_nothing_is_found() -> None:
    target = torch.zeros(2, 1, 4, 4)
    target[1, 0, 0] = 1
    found = scores(torch.full_like(target, -1.0), target)
    assert found["image_iou"] == found["image_dice"] == 0.5 and found["iou"] == found["dice"] == 0


@pytest.mark.parametrize("metric", LABELS)
@pytest.mark.parametrize("absent", [(), (2,), (0, 5)], ids=str)
def test_every_score_of_labels_is_torchmetrics_own(metric: str, absent: tuple[int, ...]) -> None:
    for seed in range(3):
        logits, target = labels(seed, absent=absent)
        reference = LABELS[metric](len(NAMES), average="macro", ignore_index=IGNORED)
        expected = float(reference(logits, target))
        assert label_scored(logits, target)[metric] == pytest.approx(expected, abs=1e-6)


def test_a_class_that_is_only_found_or_only_there_counts_as_nothing_right() -> None:
    logits, target = labels(3, absent=(4, 5))
    logits[:, 4] += 102  # found, though never there
    target[target == 1] = 5  # there, and never found
    found = label_scored(logits, target)
    assert found["iou:road"] == found["iou:car"] == 0
    for metric, reference in LABELS.items():
        expected = float(reference(len(NAMES), average="macro", ignore_index=IGNORED)(logits, target))
        assert found[metric] == pytest.approx(expected, abs=1e-6), metric


@pytest.mark.parametrize("name", ["iou", "dice"])
def test_a_score_by_image_is_over_the_classes_of_each_image(name: str) -> None:
    logits, target = labels(5, number=6, absent=(1,))
    target[0, :6] = 3
    assert label_scored(logits, target)[f"image_{name}"] == pytest.approx(by_image(logits, target, name), abs=1e-9)


def test_each_class_that_occurs_has_its_own_iou() -> None:
    logits, target = labels(4, absent=(2,))
    valid = target != IGNORED
    each = sk.jaccard_score(
        target[valid], logits.argmax(1)[valid], average=None, labels=range(len(NAMES)), zero_division=0
    )
    found = {name: value for name, value in label_scored(logits, target).items() if name.startswith("iou:")}
    assert found == {f"iou:{name}": pytest.approx(each[at]) for at, name in enumerate(NAMES) if at != 2}
    assert not any(name.startswith(("iou:", "map")) for name in label_scored(logits, target, full=False))


def test_an_image_in_which_all_is_ignored_changes_nothing() -> None:
    logits, target = labels(6)
    more = (
        torch.cat([logits, torch.randn(1, *logits.shape[1:])]),
        torch.cat([target, torch.full_like(target[:1], IGNORED)]),
    )
    assert label_scored(*more) == label_scored(logits, target)
    nothing = label_scored(logits, torch.full_like(target, IGNORED))
    assert set(nothing.values()) == {0.0} and "iou:pet" not in nothing


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_of_pixels_is_scikit_learns(seed: int) -> None:
    logits, target = labels(seed, absent=(3,) if seed else ())
    valid = target != IGNORED
    score = logits.softmax(1).movedim(1, -1)[valid].numpy()
    assert label_scored(logits, target)["map"] == pytest.approx(
        precision_of_classes(target[valid].numpy(), score), abs=1e-3
    )


@pytest.mark.parametrize("classes", [2, 8, 300])
def test_average_precision_is_exact_for_probabilities_as_fine_as_the_bins(classes: int) -> None:
    logits, target = numbers(1, 400, classes)
    expected = precision_of_classes(target.numpy(), probability_bins(logits).numpy())
    assert class_scored(logits, target)["map"] == pytest.approx(expected, abs=1e-12)
    smooth = precision_of_classes(target.numpy(), logits.softmax(1).numpy())
    assert expected == pytest.approx(smooth, abs=2e-3)


def test_bins_are_uniform_in_the_log_odds_from_end_to_end() -> None:
    odds = torch.tensor([-50.0, -15.99, -1.0, 0.0, 1.0, 8.0, 50.0])
    found = probability_bins(torch.stack([odds, torch.zeros_like(odds)], 1))[:, 0]
    width = 2 * MAX_LOG_ODDS / num_bins(2)
    assert found.tolist() == pytest.approx(
        ((odds.clamp(-MAX_LOG_ODDS, 15.943) + MAX_LOG_ODDS) / width).floor().tolist(), abs=1
    )
    assert [num_bins(number) for number in (1, 256, 257, 1000)] == [4096, 4096, 2048, 1024]


@pytest.mark.parametrize("metric", SHARED)
@pytest.mark.parametrize("seed", range(2))
def test_every_score_of_classes_is_torchmetrics_own(metric: str, seed: int) -> None:
    logits, target = numbers(seed, 40 if seed else 200)
    target[target == 2] = 3  # found sometimes, never there
    expected = float(SHARED[metric](8, average="macro")(logits, target))
    assert class_scored(logits, target)[metric] == pytest.approx(expected, abs=1e-6)


def test_top_five_is_scikit_learns_and_top_one_is_accuracy() -> None:
    logits, target = numbers(3)
    found = class_scored(logits, target)
    assert found["top5"] == sk.top_k_accuracy_score(target.numpy(), logits.numpy(), k=5)
    assert found["top1"] == found["accuracy"] == sk.accuracy_score(target.numpy(), logits.argmax(1).numpy())
    assert class_scored(*numbers(3, classes=4))["top5"] == 1


def test_a_classs_number_is_never_the_ignored_label() -> None:
    logits, target = torch.zeros(3, 300), torch.full((3,), IGNORED)
    logits[:, IGNORED] = 5
    assert class_scored(logits, target)["top1"] == class_scored(logits, target)["map"] == 1


def test_a_thousand_classes_fit() -> None:
    logits, target = numbers(0, 64, 1000)
    counts = class_counts(logits, target, [])
    assert counts.numel() * counts.element_size() < 30e6
    assert class_scored(logits, target)["map"] == pytest.approx(
        precision_of_classes(target.numpy(), logits.softmax(1).numpy()), abs=5e-3
    )


def test_confusion_has_the_truth_in_its_rows() -> None:
    logits, target = labels(2)
    valid = target != IGNORED
    expected = sk.confusion_matrix(target[valid], logits.argmax(1)[valid]).tolist()
    assert confusion_matrix(label_counts(logits, target).tolist(), len(NAMES)) == expected
    logits, target = numbers(2)
    expected = sk.confusion_matrix(target, logits.argmax(1)).tolist()
    assert confusion_matrix(class_counts(logits, target, []).tolist(), 8) == expected
    logits, target = batch(2, 0.3)
    expected = sk.confusion_matrix(target.flatten().int(), (logits > 0).flatten().int()).tolist()
    assert confusion_matrix(binary_counts(logits, target).tolist(), 1) == expected
    assert confusion_matrix(binary_counts(logits, target).tolist(), 2) == expected


def test_counts_are_each_pixel_once() -> None:
    logits = torch.tensor([3.0, 2.0, -1.0, -2.0, 0.5, -0.1]).view(1, 1, 2, 3)
    target = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 0.0]).view(1, 1, 2, 3)
    assert binary_counts(logits, target).tolist() == pytest.approx([2, 1, 1, 2, 0.5, 2 / 3, 1])


@pytest.mark.parametrize("task", COUNTS)
def test_counts_add_up_however_the_images_fall_into_batches(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = {"binary": batch(0, 0.3, 13), "multiclass": labels(0, 13), "classification": numbers(0, 13)}
    logits, target = inputs[task]
    whole = COUNTS[task](logits, target, [])
    assert whole.dtype == torch.float64
    for size, at_once in ((1, 1), (4, 100), (5, 2000), (13, 30_000)):
        monkeypatch.setitem(metrics.CHUNK_SIZE, "cpu", at_once)
        pieces = zip(logits.split(size), target.split(size), strict=True)
        total = sum((COUNTS[task](*piece, []) for piece in pieces), torch.zeros_like(whole))
        torch.testing.assert_close(total, whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("task", COUNTS)
def test_the_scores_are_those_that_the_task_names(task: str) -> None:
    inputs = {"binary": batch(0, 0.3), "multiclass": labels(0), "classification": numbers(0)}
    logits, target = inputs[task]
    scored = getattr(metrics, TASKS[task].scores.partition(":")[2])
    names = [str(at) for at in range(logits.shape[1])]
    full = scored(COUNTS[task](logits, target, []).tolist(), names)
    quick = scored(COUNTS[task](logits, target).tolist(), names)
    named = set(TASKS[task].metrics) - {"loss", "batch_iou", "batch_dice"}  # of batches: not from these counts
    assert {name for name in full if ":" not in name} == named
    assert set(quick) == named - {"map"}
    assert all(full[name] == value for name, value in quick.items())


@pytest.mark.parametrize("task", COUNTS)
def test_counting_looks_at_no_value_so_that_it_need_not_wait_for_a_device(task: str) -> None:
    """Tensors on the meta device have no values."""
    inputs = {"binary": batch(0, 0.3), "multiclass": labels(0), "classification": numbers(0)}
    on_meta = COUNTS[task](*(each.to("meta") for each in inputs[task]), [])
    assert on_meta.device.type == "meta" and on_meta.shape == COUNTS[task](*inputs[task], []).shape


def test_what_counts_on_a_gpu_counts_the_same() -> None:
    drawn = torch.randint(0, 40, (5000,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(metrics.scatter_count(drawn, 50), metrics.count_values(drawn, 50))


def test_another_order_in_memory_counts_the_same() -> None:
    logits, target = labels(1)
    turned = logits.to(memory_format=torch.channels_last)
    assert torch.equal(label_counts(turned, target, []), label_counts(logits, target, []))
    assert torch.equal(logits, labels(1)[0])


def test_what_is_not_a_number_is_counted_as_wrong_and_stops_nothing() -> None:
    logits, target = labels(1)
    assert label_scored(torch.full_like(logits, torch.nan), target)["miou"] < 0.1
    logits, target = numbers(1)
    assert class_scored(torch.full_like(logits, torch.inf), target)["map"] < 0.3


def test_counts_stay_exact_where_32_bit_floats_would_round() -> None:
    counts = binary_counts(torch.ones(1, 1, 4097, 4097), torch.ones(1, 1, 4097, 4097))
    assert counts.tolist() == [0, 0, 0, 4097**2, 1, 1, 1]  # odd and above 2^24


def test_a_ratio_of_nothing_to_nothing_is_zero() -> None:
    assert ratio(0, 0) == 0.0
    found = binary_scores([10, 0, 0, 0, 1, 1, 1])
    assert {name for name, value in found.items() if value == 1} == {"accuracy", "image_iou", "image_dice"}
    assert sum(found.values()) == 3


def test_a_guess_is_bytes_for_pictures_and_numbers_for_classes() -> None:
    logits = torch.tensor([-100.0, 0.0, 100.0]).view(1, 1, 1, 3)
    assert binary_prediction(logits).tolist() == [[[0, 128, 255]]]
    pixels, target = labels(0)
    assert (
        torch.equal(class_prediction(pixels).long(), pixels.argmax(1))
        and class_prediction(pixels).dtype == torch.uint8
    )
    images, _ = numbers(0, classes=300)
    assert torch.equal(class_probabilities(images), images.softmax(1)) and target.dtype == torch.int64
