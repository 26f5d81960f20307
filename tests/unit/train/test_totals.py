"""Running totals: exact over batches, saved and restored in the middle."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tuner.tasks import find_task
from tuner.train.metrics import binary_counts, binary_scores
from tuner.train.totals import Totals

CPU = torch.device("cpu")
loss_of = nn.BCEWithLogitsLoss()


def totals() -> Totals:
    return Totals(find_task("binary"), CPU)


@pytest.fixture
def split() -> tuple[Tensor, Tensor]:
    """Thirteen images: no batch size but 1 and 13 divides them."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(13, 1, 8, 8, generator=generator)
    return logits, (torch.rand(13, 1, 8, 8, generator=generator) > 0.7).float()


def run(split: tuple[Tensor, Tensor], size: int) -> dict[str, float]:
    made = totals()
    for logits, target in zip(*(part.split(size) for part in split), strict=True):
        made.add(loss_of(logits, target), logits, target)
    return made.scores("val_")


@pytest.mark.parametrize("size", [1, 3, 4, 8, 12])
def test_any_batch_size_gives_the_scores_of_the_whole(split: tuple[Tensor, Tensor], size: int) -> None:
    whole, pieces = run(split, 13), run(split, size)
    assert pieces.pop("val_loss") == pytest.approx(whole.pop("val_loss"), rel=1e-6)
    expected = {f"val_{name}": value for name, value in binary_scores(binary_counts(*split).tolist()).items()}
    assert whole == expected
    for summed in ("val_image_iou", "val_image_dice"):  # sums of fractions, not of whole numbers
        assert pieces.pop(summed) == pytest.approx(expected.pop(summed), rel=1e-12)
    assert pieces == expected


def test_names_carry_the_split(split: tuple[Tensor, Tensor]) -> None:
    made = totals()
    made.add(loss_of(*split), *split)
    whole = {f"train_{name}" for name in find_task("binary").metrics if not name.startswith("batch_")}
    assert made.scores("train_").keys() == whole


# --- averages over the batches ---


def scores_by_batch(logits: Tensor, target: Tensor, batch: int, piece: int) -> dict[str, float]:
    """Return the scores of a full count in batches, each added in pieces."""
    made = Totals(find_task("binary"), CPU, full=True)
    for some, true in zip(logits.split(batch), target.split(batch), strict=True):
        for part, truth in zip(some.split(piece), true.split(piece), strict=True):
            made.add(loss_of(part, truth), part, truth)
        made.end_batch()
    return made.scores()


@pytest.mark.parametrize("piece", [1, 2, 3])
def test_batches_of_three_and_two_are_averaged_whatever_their_pieces(piece: int) -> None:
    """Worked out by hand: of six pixels each, 3 images are half right, 2 are all right."""
    target = torch.ones(5, 1, 1, 6)
    logits = torch.ones(5, 1, 1, 6)
    logits[:3, ..., :3] = -1
    found = scores_by_batch(logits, target, 3, piece)
    assert found["batch_iou"] == pytest.approx((0.5 + 1) / 2)
    assert found["batch_dice"] == pytest.approx((2 / 3 + 1) / 2)
    assert found["iou"] == pytest.approx(21 / 30) and found["image_iou"] == pytest.approx((3 * 0.5 + 2) / 5)


def test_a_batch_of_one_image_is_the_average_of_the_images(split: tuple[Tensor, Tensor]) -> None:
    found = scores_by_batch(*split, batch=1, piece=1)
    assert found["batch_iou"] == pytest.approx(found["image_iou"])
    assert found["batch_dice"] == pytest.approx(found["image_dice"])
    whole = scores_by_batch(*split, batch=13, piece=4)
    assert (whole["batch_iou"], whole["batch_dice"]) == pytest.approx((whole["iou"], whole["dice"]))


def test_a_batch_with_nothing_to_find_and_nothing_found_counts_as_one() -> None:
    nothing = torch.zeros(4, 1, 2, 2)
    found = scores_by_batch(nothing - 1, nothing, batch=2, piece=2)
    assert found["batch_iou"] == found["batch_dice"] == 1 and found["iou"] == 0


def test_totals_go_on_from_their_saved_state(split: tuple[Tensor, Tensor]) -> None:
    unbroken, first, second = totals(), totals(), totals()
    parts = list(zip(*(part.split(4) for part in split), strict=True))
    for at, (logits, target) in enumerate(parts):
        unbroken.add(loss_of(logits, target), logits, target)
        (first if at < 2 else second).add(loss_of(logits, target), logits, target)
        if at == 1:
            second.restore(first.state())
    assert second.scores("train_") == unbroken.scores("train_")
    assert second.images == 13


def test_totals_before_the_first_batch_can_be_saved_and_restored(split: tuple[Tensor, Tensor]) -> None:
    made = totals()
    made.restore(totals().state())
    made.add(loss_of(*split), *split)
    assert made.scores("val_") == run(split, 13)


def test_totals_hold_no_graph(split: tuple[Tensor, Tensor]) -> None:
    logits = split[0].requires_grad_()
    made = totals()
    made.add(loss_of(logits, split[1]), logits, split[1])
    assert not made.loss.requires_grad and made.counts is not None and not made.counts.requires_grad


def test_a_loss_that_is_no_number_shows_in_the_score(split: tuple[Tensor, Tensor]) -> None:
    made = totals()
    made.add(torch.tensor(float("nan")), *split)
    made.add(loss_of(*split), *split)
    assert made.scores("train_")["train_loss"] != made.scores("train_")["train_loss"]
