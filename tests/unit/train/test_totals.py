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
    assert made.scores("train_").keys() == {f"train_{name}" for name in find_task("binary").metrics}


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
