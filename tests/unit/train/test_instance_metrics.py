"""Scores of instances, against a case computed by hand and against torchmetrics on many drawn ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchmetrics.detection import MeanAveragePrecision, PanopticQuality

from tuner.data.instances import Instances, make_energy_targets, renumber
from tuner.tasks import find_task
from tuner.train.instance_metrics import InstanceRanking, instance_counts, instance_scores, true_label_maps
from tuner.train.totals import Totals


def found(labels: NDArray[np.int32], *scores: float) -> Instances:
    return Instances(labels, np.array(scores, np.float32))


def target(*labels: NDArray[np.int32]) -> torch.Tensor:
    return torch.from_numpy(make_energy_targets(np.stack(labels).astype(np.uint16)))


def by_hand() -> tuple[Instances, NDArray[np.int32]]:
    """Two true squares of 100 pixels. Found: the first (0.9), nothing (0.8), 62 pixels of the second (0.7)."""
    true = np.zeros((40, 40), np.int32)
    true[2:12, 2:12], true[20:30, 20:30] = 1, 2
    said = np.zeros((40, 40), np.int32)
    said[2:12, 2:12], said[2:6, 30:34] = 1, 2
    said[20:26, 20:30], said[26, 20:22] = 3, 3
    return found(said, 0.9, 0.8, 0.7), true


def scored(pairs: list[tuple[Instances, NDArray[np.int32]]]) -> dict[str, float]:
    totals = Totals(find_task("instance"), torch.device("cpu"), full=True)
    for one, true in pairs:
        totals.add(torch.tensor(0.0), [one], target(true))
    return totals.scores("val_")


def test_a_case_computed_by_hand() -> None:
    scores = scored([by_hand()])
    half = (51 * 1 + 50 * 2 / 3) / 101  # 0.62 counts: precision 1 up to recall 1/2, then 2 of 3
    strict = 51 / 101  # it does not: the second is never found
    assert scores["val_ap50"] == pytest.approx(half)
    assert scores["val_ap75"] == pytest.approx(strict)
    assert scores["val_ap"] == pytest.approx((3 * half + 7 * strict) / 10)  # at 0.5, 0.55 and 0.6 it counts
    assert scores["val_pq"] == pytest.approx((1 + 0.62) / (2 + 0.5))
    assert scores["val_count_error"] == 1
    assert (scores["val_precision"], scores["val_recall"]) == (pytest.approx(2 / 3), 1)


def drawn(seed: int) -> tuple[Instances, NDArray[np.int32]]:
    """Squares, some found askew, some not, and some that are not there."""
    rng = np.random.default_rng(seed)
    true, said = np.zeros((2, 48, 48), np.int32)
    for number in range(1, int(rng.integers(2, 12))):
        y, x, side = rng.integers(0, 40), rng.integers(0, 40), rng.integers(4, 12)
        true[y : y + side, x : x + side] = number
        down, across = rng.integers(-2, 3, 2)
        if rng.random() < 0.8:
            said[max(0, y + down) : y + down + side, max(0, x + across) : x + across + side] = number
    true, said = renumber(true), renumber(said)
    return found(said, *rng.random(int(said.max()))), true


def masks(labels: NDArray[np.int32]) -> torch.Tensor:
    return torch.from_numpy(labels == np.arange(1, labels.max() + 1)[:, None, None])


def test_it_agrees_with_torchmetrics_on_its_other_engine() -> None:
    pairs = [drawn(seed) for seed in range(12)]
    other = MeanAveragePrecision(iou_type="segm", backend="pycocotools")
    for one, true in pairs:
        zeros = [torch.zeros(int(each.max()), dtype=torch.long) for each in (one.labels, true)]
        other.update(
            [{"masks": masks(one.labels), "scores": torch.from_numpy(one.scores), "labels": zeros[0]}],
            [{"masks": masks(true), "labels": zeros[1]}],
        )
    expected, scores = other.compute(), scored(pairs)
    for name, theirs in (("ap", "map"), ("ap50", "map_50"), ("ap75", "map_75")):
        assert scores[f"val_{name}"] == pytest.approx(float(expected[theirs]), abs=1e-6)
    assert 0.05 < scores["val_ap"] < 0.9


def test_panoptic_quality_is_torchmetrics() -> None:
    pairs = [drawn(seed) for seed in range(12)]
    theirs = PanopticQuality(things={1}, stuffs={0}, return_per_class=True)
    for one, true in pairs:
        said, there = (
            torch.from_numpy(np.stack([each > 0, each], -1).astype(np.int64)) for each in (one.labels, true)
        )
        theirs.update(said[None], there[None])
    assert scored(pairs)["val_pq"] == pytest.approx(float(theirs.compute()[0, 0]), abs=1e-6)


def test_more_than_a_hundred_in_an_image_all_count() -> None:
    true = np.zeros((60, 60), np.int32)
    true[::4, ::4] = np.arange(1, 226).reshape(15, 15)
    assert scored([(found(true, *np.linspace(1, 0.5, 225)), true)])["val_ap"] == pytest.approx(1)


def test_a_sum_over_batches_is_the_whole() -> None:
    pairs = [drawn(seed) for seed in range(6)]
    together = Totals(find_task("instance"), torch.device("cpu"), full=True)
    together.add(torch.tensor(0.0), [one for one, _ in pairs], target(*(true for _, true in pairs)))
    assert together.scores("val_") == pytest.approx(scored(pairs))
    assert [round(float(x), 5) for x in together.image_scores()] == [
        round(scored([pair])["val_pq"], 5) for pair in pairs
    ]


@pytest.mark.filterwarnings("error")
def test_nothing_there_and_nothing_found() -> None:
    none = np.zeros((8, 8), np.int32)
    each: list[torch.Tensor] = []
    counts = instance_counts([found(none)], target(none), each)
    assert torch.cat(each).tolist() == [1.0]
    assert instance_scores(counts.tolist())["count_error"] == 0
    assert scored([(found(none), none)])["val_ap"] == 0
    one = none.copy()
    one[2:4, 2:4] = 1
    assert scored([(found(one, 0.5), none)])["val_ap"] == 0 == scored([(found(none), one)])["val_ap"]
    assert scored([(found(none), none), (found(one, 0.5), one)])["val_ap"] == 1


def test_training_counts_no_instances() -> None:
    assert instance_counts(None, target(np.zeros((4, 4), np.int32))).tolist() == []
    totals = Totals(find_task("instance"), torch.device("cpu"))
    totals.add(torch.tensor(2.0), None, target(np.zeros((4, 4), np.int32)))
    assert totals.scores("train_") == {"train_loss": 2.0}


def test_what_pictures_get() -> None:
    ranked = InstanceRanking()
    one, true = by_hand()
    ranked.add([one], target(true))
    result = ranked.summary
    assert result["numbers"] == [[2, 3]] and len(result["aps"]) == 10
    assert result["precision"]["0.50"][0] == 1 and result["recall"][-1] == 1
    assert len(result["recall"]) == len(result["precision"]["0.75"]) == 26


def test_truth_comes_back_from_what_was_prepared() -> None:
    true = by_hand()[1]
    np.testing.assert_array_equal(true_label_maps(target(true))[0], true)
