"""The numbers behind the pictures: scikit-learn's and torchmetrics' within a bin, and read with care."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor
from torchmetrics.classification import BinaryCalibrationError, MulticlassCalibrationError

from tuner.tasks import BINARY_CLASSES
from tuner.train import details
from tuner.train import details as details_module
from tuner.train.details import Details, make_details, read_details, write_details
from tuner.train.metrics import (
    IGNORED,
    binary_counts,
    class_counts,
    confusion_matrix,
    label_counts,
    reduce_histogram,
)

NAMES = ("cat", "dog", "owl", "emu")


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 2


def masks(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and masks that they are right about more often than not."""
    logits = drawn(seed, 9, 1, 24, 24)
    noise = torch.rand(logits.shape, generator=torch.Generator().manual_seed(seed + 1))
    return logits, (noise < (0.6 * logits).sigmoid()).float()


def labels(seed: int = 0, absent: int = -1) -> tuple[Tensor, Tensor]:
    logits = drawn(seed, 5, 4, 24, 24)
    target = (logits + drawn(seed + 1, *logits.shape)).argmax(1)
    target[target == absent] = (absent + 1) % 4
    target[:, :3] = IGNORED
    return logits, target


def of_masks(logits: Tensor, target: Tensor) -> Details:
    each: list[Tensor] = []
    counts = binary_counts(logits, target, each)
    matrix, bins = confusion_matrix(counts[:4].tolist(), 1), reduce_histogram(counts, 1, True).numpy()
    return make_details(3, "IoU", BINARY_CLASSES, torch.cat(each).tolist(), matrix, bins, True)


def of_labels(logits: Tensor, target: Tensor) -> Details:
    each: list[Tensor] = []
    counts = label_counts(logits, target, each)
    bins = reduce_histogram(counts, 4, False).numpy()
    return make_details(
        3, "mean IoU", NAMES, torch.cat(each).tolist(), confusion_matrix(counts.tolist(), 4), bins, True
    )


def of_classes(logits: Tensor, target: Tensor) -> Details:
    each: list[Tensor] = []
    number = logits.shape[1]
    counts = class_counts(logits, target, each)
    bins = reduce_histogram(counts, number, False).numpy()
    names = [str(at) for at in range(number)]
    matrix = confusion_matrix(counts.tolist(), number)
    return make_details(3, "probability", names, torch.cat(each).tolist(), matrix, bins, False)


@pytest.mark.parametrize("seed", [0, 7])
def test_the_curves_of_masks_are_scikit_learns(seed: int) -> None:
    logits, target = masks(seed)
    found = of_masks(logits, target)
    true, score = target.flatten().numpy(), logits.sigmoid().flatten().numpy()
    (curve,) = found.curves.values()
    assert list(found.curves) == ["object"] and found.left_out == {}
    assert curve["auc"] == pytest.approx(sk.roc_auc_score(true, score), abs=2e-3)
    assert curve["ap"] == pytest.approx(sk.average_precision_score(true, score), abs=2e-3)
    fpr, tpr, _ = sk.roc_curve(true, score)
    assert np.interp(curve["fpr"], fpr, tpr) == pytest.approx(curve["tpr"], abs=0.02)
    assert (curve["fpr"][0], curve["tpr"][0], curve["fpr"][-1], curve["tpr"][-1]) == (0, 0, 1, 1)
    assert len(curve["fpr"]) <= 130 and len(curve["recall"]) == len(curve["precision"]) <= 130
    error = float(BinaryCalibrationError(n_bins=15)(logits.sigmoid().flatten(), target.flatten().int()))
    assert found.calibration["error"] == pytest.approx(error, abs=5e-3)
    ious = sk.jaccard_score(true, score > 0.5, average=None)
    assert list(found.iou.values()) == pytest.approx(list(ious), abs=1e-6) and list(found.iou) == [*BINARY_CLASSES]


def test_the_curves_of_label_maps_are_scikit_learns_without_ignored_pixels() -> None:
    logits, target = labels()
    found, counted = of_labels(logits, target), target != IGNORED
    true, score = target[counted], logits.softmax(1).movedim(1, -1)[counted]
    for at, name in enumerate(NAMES):
        area = sk.roc_auc_score((true == at).numpy(), score[:, at].numpy())
        ap = sk.average_precision_score((true == at).numpy(), score[:, at].numpy())
        assert found.curves[name]["auc"] == pytest.approx(area, abs=2e-3)
        assert found.curves[name]["ap"] == pytest.approx(ap, abs=5e-3)  # few pixels a bin
    error = float(MulticlassCalibrationError(4, n_bins=15)(score, true))
    assert found.calibration["error"] == pytest.approx(error, abs=5e-3)
    assert sum(found.calibration["share"]) == pytest.approx(1)


def test_what_is_sure_and_right_is_calibrated_and_what_is_sure_and_wrong_is_not() -> None:
    target = torch.arange(60) % 3
    sure = torch.nn.functional.one_hot(target, 3).float() * 40
    assert of_classes(sure, target).calibration["error"] == pytest.approx(0, abs=1e-6)
    wrong = of_classes(sure.roll(1, dims=1), target)
    assert wrong.calibration["error"] == pytest.approx(1, abs=1e-6)
    assert all(curve["auc"] < 0.51 for curve in wrong.curves.values())


def test_a_class_absent_from_validation_has_no_curve_and_is_told() -> None:
    found = of_labels(*labels(absent=2))
    assert list(found.curves) == ["cat", "dog", "emu"] and found.left_out == {"owl": "absent from validation"}
    logits, target = masks()
    assert of_masks(logits, torch.zeros_like(target)).left_out == {"object": "absent from validation"}
    assert of_masks(logits, torch.ones_like(target)).left_out == {"object": "nothing else in validation"}


def test_many_classes_make_no_large_file(tmp_path: Path) -> None:
    logits = drawn(0, 600, 300)
    write_details(of_classes(logits, torch.arange(600) % 300), tmp_path / "details.json")
    assert (tmp_path / "details.json").stat().st_size < 1_500_000
    found = read_details(tmp_path / "details.json")
    assert found is not None and len(found.curves) == 300


def test_what_is_kept_of_an_epoch_is_small() -> None:
    logits = drawn(0, 8, 1000)
    kept = reduce_histogram(class_counts(logits, torch.arange(8), []), 1000, False)
    assert kept.numel() * kept.element_size() < 3e6 and kept[:-1].sum() == 8 * 1000 and kept[-1].sum() == 8
    assert reduce_histogram(binary_counts(*masks(), []), 1, True).shape == (1, 2, 512)


def test_what_is_not_a_number_is_counted_in_the_first_bin_and_stops_nothing() -> None:
    logits, target = masks()
    kept = reduce_histogram(binary_counts(torch.full_like(logits, torch.nan), target, []), 1, True)
    assert kept[0, :, 0].sum() == target.numel()
    kept = reduce_histogram(binary_counts(torch.full_like(logits, torch.inf), target, []), 1, True)
    assert kept[0, :, -1].sum() == target.numel()


# --- which are shown ---


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 5, 8, 9, 10, 100])
def test_worst_median_and_best_are_shown_once_each(number: int) -> None:
    scores = list(np.random.default_rng(number).permutation(number) / 100)
    found = details_module.choose_examples(scores)
    every = [at for kind in ("worst", "median", "best") for at in found[kind]]
    assert len(every) == len(set(every)) == min(number, 9)
    assert [scores[at] for at in found["worst"]] == sorted(scores)[: len(found["worst"])]
    assert [scores[at] for at in found["best"]] == sorted(scores, reverse=True)[: len(found["best"])]
    if number >= 9:
        assert [scores[at] for at in found["median"]] == sorted(scores)[number // 2 - 1 :][:3] or number % 2 == 0
        assert all(abs(scores[at] * 100 - number / 2) <= 2 for at in found["median"])


@pytest.mark.parametrize("number", [9, 10, 11, 30])
def test_five_random_images_are_the_same_whatever_the_scores(number: int) -> None:
    one, other = (
        details_module.choose_examples(list(np.random.default_rng(seed).permutation(number) / 100))
        for seed in (0, 1)
    )
    assert one.get("random") == other.get("random") and one["worst"] != other["worst"]
    shown = one.get("random", [])
    assert len(shown) == len(set(shown)) == (5 if number > 9 else 0)  # of nine, all are shown already
    assert set(shown) <= set(range(number))


def test_a_random_image_has_a_score() -> None:
    scores = [None if at % 2 else at / 100 for at in range(40)]
    assert all(at % 2 == 0 for at in details_module.choose_examples(scores)["random"])


def test_an_image_without_a_score_is_not_shown() -> None:
    assert details_module.choose_examples([None, 0.5, None]) == {"worst": [1], "median": [], "best": []}


@pytest.mark.parametrize(("number", "best"), [(3, 2), (24, 5), (25, 13), (100, 57), (100, 1), (100, 100)])
def test_a_strip_has_its_first_best_and_last_epoch(number: int, best: int) -> None:
    found = details_module.choose_epochs(range(1, number + 1), best)
    assert found == sorted(set(found)) and len(found) == min(number, 24)
    assert {1, best, number} <= set(found)
    assert max(np.diff(found)) <= 2 * number / 23 + 1


# --- read with care ---


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "details.json"
    for made in (of_masks(*masks()), of_labels(*labels(absent=1))):
        write_details(made, path)
        assert read_details(path) == made == read_details(path.read_bytes())
    assert [file.name for file in tmp_path.iterdir()] == ["details.json"]
    plain = json.loads(path.read_text())
    assert set(plain) == {
        *(
            "version",
            "epoch",
            "metric",
            "classes",
            "images",
            "confusion",
            "iou",
            "curves",
            "calibration",
            "left_out",
            "instances",
        )
    }


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"version": 2}', b'{"version": 1}', b"[" * 100_000]
)
def test_a_damaged_file_is_none(content: bytes, tmp_path: Path) -> None:
    assert (
        read_details(content) is None
        and read_details(tmp_path / "absent.json") is None
        and read_details(tmp_path) is None
    )


@pytest.mark.parametrize(
    ("part", "broken"),
    [
        *[("images", x) for x in (None, [], {"scores": 3}, {"scores": ["a"]}, {"scores": [float("nan")]})],
        *[("confusion", x) for x in (None, 7, [[1]], [["a", 1], [1, 1]], [[1, -1], [1, 1]])],
        *[("curves", x) for x in (None, [], {"object": 3}, {"object": {"fpr": [0], "tpr": [0, 1]}})],
        *[("calibration", x) for x in (None, {"error": "x"}, {"predicted": [1], "observed": [], "share": []})],
        *[("iou", x) for x in (None, {"object": None}, [1])],
        *[("left_out", x) for x in (None, {"object": 3})],
    ],
)
def test_a_damaged_part_alone_is_empty(part: str, broken: Any) -> None:
    whole = of_masks(*masks()).to_json()
    found = read_details(json.dumps({**whole, part: broken}).encode())
    check_alone_empty(found, whole, part)


def check_alone_empty(found: Details | None, whole: dict[str, Any], part: str) -> None:
    assert found is not None and not getattr(found, part)
    others = {name: value for name, value in found.to_json().items() if name != part}
    assert others == {name: value for name, value in whole.items() if name != part}


# --- of instances ---

RANKING: dict[str, Any] = {
    "ap": 0.4123456789,
    "aps": [0.9 - 0.1 * at for at in range(9)] + [0.0],
    "recall": [0.0, 0.5, 1.0],
    "precision": {"0.50": [1.0, 0.8, 0.1], "0.75": [1.0, 0.2, 0.0]},
    "numbers": [[3, 2], [0, 1], [5, 5]],
}


def test_the_ranking_of_instances_is_written_and_read(tmp_path: Path) -> None:
    made = details.make_instance_details(4, "PQ", [0.5, 0.0, 1.0], RANKING)
    write_details(made, tmp_path / "details.json")
    assert read_details(tmp_path / "details.json") == made
    assert (made.epoch, made.metric, made.scores) == (4, "PQ", [0.5, 0.0, 1.0]) and not made.confusion
    assert made.images["shown"] == {"worst": [1], "median": [0], "best": [2]} and made.classes == ["object"]
    found = made.instances
    assert found["thresholds"] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    assert (found["ap"], found["aps"][3], found["numbers"]) == (0.412346, 0.6, RANKING["numbers"])
    assert found["precision"] == RANKING["precision"]


@pytest.mark.parametrize(
    "broken",
    [
        *(None, [], {}, {"ap": 0.5}),
        {"ap": None},
        {"aps": [0.5]},
        {"thresholds": "all"},
        {"recall": [0.0, 1.0]},
        {"recall": None},
        {"precision": {"0.50": [1.0]}},
        {"precision": {"0.50": None}},
        *[{"numbers": x} for x in (None, [[1]], [[1, -1]], [[1, 2.5]], [3], {"1": 2})],
    ],
    ids=str,
)
def test_a_damaged_ranking_alone_is_empty(broken: Any) -> None:
    whole = details.make_instance_details(4, "PQ", [0.5, 0.0, 1.0], RANKING).to_json()
    is_part = isinstance(broken, dict) and len(broken) == 1 and broken != {"ap": 0.5}
    damaged = {**whole["instances"], **broken} if is_part else broken
    check_alone_empty(read_details(json.dumps({**whole, "instances": damaged}).encode()), whole, "instances")


def test_details_of_an_earlier_version_have_no_ranking() -> None:
    whole = of_masks(*masks()).to_json()
    del whole["instances"]
    found = read_details(json.dumps(whole).encode())
    assert found is not None and found.instances == {} and found.confusion


def test_positions_beyond_the_images_are_not_shown() -> None:
    whole = of_masks(*masks()).to_json()
    whole["images"]["shown"] = {"worst": [0, 99, -1, "2", True], "best": None, "other": [1]}
    found = read_details(json.dumps(whole).encode())
    assert found is not None and found.images == of_masks(*masks()).images and len(found.scores) == 9


def test_reach_is_that_of_the_bins() -> None:
    logits = torch.tensor([-15.99, 0.01, 15.99]).view(1, 1, 1, 3)
    kept = reduce_histogram(binary_counts(logits, torch.ones_like(logits), []), 1, True)
    assert kept[0, 1].nonzero().flatten().tolist() == [0, 256, 511] and details.MAX_LOG_ODDS == 16
