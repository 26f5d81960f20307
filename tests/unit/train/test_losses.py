"""The values of the losses, against their formulas written out and against other libraries' own."""

from __future__ import annotations

import pytest
import torch
from segmentation_models_pytorch.losses import DiceLoss, FocalLoss, JaccardLoss
from torch import Tensor, nn

from tuner.errors import PartError
from tuner.recipe import Value, use
from tuner.registry import build
from tuner.train.losses import (
    IGNORED,
    LOSSES,
    TASKS_OF,
    bce,
    cross_entropy,
    dice,
    dice_bce,
    focal,
    inverse_weights,
    iou,
    mix,
)

SHARES = [0.5, 0.3, 0.2]


@pytest.fixture
def guess() -> Tensor:
    return 2 * torch.randn(4, 1, 12, 10, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def mask() -> Tensor:
    return (torch.rand(4, 1, 12, 10, generator=torch.Generator().manual_seed(1)) > 0.6).float()


@pytest.fixture
def maps() -> tuple[Tensor, Tensor]:
    """Logits of three classes, and labels of which some are ignored."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(0, 3, (4, 12, 10), generator=generator)
    labels[:, :2] = IGNORED
    return 2 * torch.randn(4, 3, 12, 10, generator=generator), labels


def test_bce_is_the_mean_negative_log_likelihood(guess: Tensor, mask: Tensor) -> None:
    p = guess.double().sigmoid()
    expected = -(mask * p.log() + (1 - mask) * (1 - p).log()).mean()
    torch.testing.assert_close(bce("binary")(guess, mask).double(), expected, rtol=1e-5, atol=1e-6)


def test_dice_is_one_minus_the_overlap_of_the_whole_batch(guess: Tensor, mask: Tensor) -> None:
    p = guess.double().sigmoid()
    both = (p * mask).sum()
    expected = 1 - (both + 1) / ((p.sum() + mask.sum()) / 2 + 1)  # smooth is added to half of each side
    torch.testing.assert_close(dice("binary")(guess, mask).double(), expected, rtol=1e-5, atol=1e-6)


def test_iou_is_one_minus_intersection_over_union_of_the_whole_batch(guess: Tensor, mask: Tensor) -> None:
    p = guess.double().sigmoid()
    both = (p * mask).sum()
    expected = 1 - (both + 1) / (p.sum() + mask.sum() - both + 1)
    torch.testing.assert_close(iou("binary")(guess, mask).double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("smooth", [0.0, 1.0, 50.0])
@pytest.mark.parametrize(("ours", "theirs"), [(dice, DiceLoss), (iou, JaccardLoss)])
def test_overlaps_are_segmentation_models_own(
    ours: object, theirs: type[nn.Module], smooth: float, guess: Tensor, mask: Tensor, maps: tuple[Tensor, Tensor]
) -> None:
    """Where every class is in the batch. Where one is not, theirs gives no gradient."""
    close = {"rtol": 1e-5, "atol": 1e-6}
    torch.testing.assert_close(
        ours("binary", smooth=smooth)(guess, mask), theirs("binary", smooth=smooth)(guess, mask), **close
    )  # type: ignore[operator]
    reference = theirs("multiclass", smooth=smooth, ignore_index=IGNORED)
    torch.testing.assert_close(ours("multiclass", smooth=smooth)(*maps), reference(*maps), **close)  # type: ignore[operator]


def test_smooth_softens_dice(guess: Tensor, mask: Tensor) -> None:
    assert dice("binary", smooth=100.0)(guess, mask) < dice("binary", smooth=0.0)(guess, mask)


@pytest.mark.parametrize("loss", [dice, iou])
def test_an_overlap_with_nothing_costs_the_mean_probability(
    loss: object, guess: Tensor, maps: tuple[Tensor, Tensor]
) -> None:
    nothing = loss("binary")(guess, torch.zeros_like(guess))  # type: ignore[operator]
    torch.testing.assert_close(nothing, guess.sigmoid().mean())
    logits, labels = maps
    labels[labels == 1] = 0
    two = [
        loss("multiclass")(*pair)
        for pair in ((logits, labels), (logits.index_fill(1, torch.tensor(1), -99), labels))
    ]  # type: ignore[operator]
    assert two[0] > two[1]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_weighs_easy_pixels_down(
    gamma: float, guess: Tensor, mask: Tensor, maps: tuple[Tensor, Tensor]
) -> None:
    p = guess.double().sigmoid()
    right = torch.where(mask > 0, p, 1 - p)
    expected = (-((1 - right) ** gamma) * right.log()).mean()
    torch.testing.assert_close(focal("binary", gamma=gamma)(guess, mask).double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        focal("binary", gamma=gamma)(guess, mask), FocalLoss("binary", gamma=gamma)(guess, mask)
    )
    logits, labels = maps
    valid = labels != IGNORED
    right = logits.double().softmax(1).movedim(1, -1)[valid].gather(1, labels[valid].unsqueeze(1))
    expected = (-((1 - right) ** gamma) * right.log()).mean()
    torch.testing.assert_close(focal("multiclass", gamma=gamma)(*maps).double(), expected, rtol=1e-4, atol=1e-5)


def test_focal_without_gamma_is_cross_entropy(guess: Tensor, mask: Tensor, maps: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(focal("binary", gamma=0.0)(guess, mask), bce("binary")(guess, mask))
    torch.testing.assert_close(focal("multiclass", gamma=0.0)(*maps), cross_entropy("multiclass")(*maps))


def test_dice_bce_is_their_weighted_sum(guess: Tensor, mask: Tensor) -> None:
    expected = bce("binary")(guess, mask) + 0.3 * dice("binary", smooth=2.0)(guess, mask)
    torch.testing.assert_close(dice_bce("binary", dice_weight=0.3, smooth=2.0)(guess, mask), expected)


@pytest.mark.parametrize("weights", ["none", [1.0, 0.0, 3.0]], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs(
    weights: str | list[float], smoothing: float, maps: tuple[Tensor, Tensor]
) -> None:
    weight = None if weights == "none" else torch.tensor(weights)
    reference = nn.CrossEntropyLoss(weight, ignore_index=IGNORED, label_smoothing=smoothing)
    loss = cross_entropy("multiclass", weights=weights, label_smoothing=smoothing)
    torch.testing.assert_close(loss(*maps), reference(*maps))
    images, numbers = torch.randn(5, 3), torch.tensor([0, 2, 2, 1, 0])
    loss = cross_entropy("classification", weights=weights, label_smoothing=smoothing)
    torch.testing.assert_close(loss(images, numbers), reference(images, numbers))


def test_in_classification_no_number_is_ignored() -> None:
    logits, numbers = torch.randn(2, 300), torch.tensor([IGNORED, IGNORED])
    for name in ("cross_entropy", "focal"):
        assert build("loss", LOSSES, use(name), "classification")(logits, numbers) > 0


def test_weights_by_frequency_make_classes_count_alike() -> None:
    weights = torch.tensor(inverse_weights(SHARES))
    assert torch.allclose(weights * torch.tensor(SHARES), weights[0] * SHARES[0]) and weights.mean() == 1
    assert inverse_weights([0.5, 0.0, 0.25]) == pytest.approx([2 / 3, 1, 4 / 3])
    loss = cross_entropy("classification", lambda: SHARES, weights="frequency")
    reference = nn.CrossEntropyLoss(weights)
    logits, numbers = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    torch.testing.assert_close(loss(logits, numbers), reference(logits, numbers))


def test_shares_are_counted_only_when_weights_need_them() -> None:
    def never() -> list[float]:
        raise AssertionError("counted")

    for name in LOSSES:
        build("loss", LOSSES, use(name), TASKS_OF[name][0], never)


def test_mix_is_a_weighted_sum_of_any_two(guess: Tensor, mask: Tensor, maps: tuple[Tensor, Tensor]) -> None:
    expected = 0.3 * iou("binary")(guess, mask) + 0.7 * bce("binary")(guess, mask)
    torch.testing.assert_close(mix("binary", first="iou", second="bce", weight=0.3)(guess, mask), expected)
    expected = 0.9 * cross_entropy("multiclass")(*maps) + 0.1 * dice("multiclass")(*maps)
    torch.testing.assert_close(
        mix("multiclass", first="cross_entropy", second="dice", weight=0.9)(*maps), expected
    )


@pytest.mark.parametrize(
    ("name", "mode", "args", "told"),
    [
        ("focal", "binary", {"gamma": -1.0}, r"gamma of loss 'focal' is -1.0; a number of at least 0"),
        ("dice", "binary", {"smooth": -1}, r"smooth of loss 'dice' is -1; a number of at least 0"),
        ("iou", "multiclass", {"smooth": "much"}, r"smooth of loss 'iou' is 'much'; a number"),
        ("dice_bce", "binary", {"dice_weight": float("nan")}, r"dice_weight of loss 'dice_bce' is nan"),
        ("mix", "binary", {"weight": 1.5}, r"weight of loss 'mix' is 1.5; a number of at least 0 and at most 1"),
        ("mix", "binary", {"first": "mix"}, r"it cannot hold itself"),
        ("mix", "binary", {"first": "dise"}, r"no loss 'dise'\. Did you mean 'dice'\?"),
        (
            "mix",
            "classification",
            {},
            r"'iou' is not for the task 'classification'\. For it: focal, cross_entropy",
        ),
        ("cross_entropy", "multiclass", {"weights": "frequencies"}, r"Did you mean 'frequency'\?"),
        ("cross_entropy", "multiclass", {"weights": 3}, r"weights is 3\. .*a list with one number per class"),
        ("cross_entropy", "multiclass", {"weights": [1, 2]}, r"weights has 2 numbers for 3 classes"),
        ("cross_entropy", "multiclass", {"weights": [1, -2, 1]}, r"numbers of at least 0 are needed"),
        ("cross_entropy", "multiclass", {"weights": [0, 0, 0]}, r"at least one of them above 0"),
        ("cross_entropy", "multiclass", {"weights": [1, "a", 1]}, r"numbers of at least 0 are needed"),
        ("cross_entropy", "classification", {"label_smoothing": 1.0}, r"label_smoothing of .* is 1.0; .* below 1"),
    ],
)
def test_values_that_make_no_loss_are_told_in_one_line(
    name: str, mode: str, args: dict[str, Value], told: str
) -> None:
    with pytest.raises(PartError, match=told) as error:
        build("loss", LOSSES, use(name, **args), mode, lambda: SHARES)
    assert "\n" not in str(error.value)


def test_frequencies_need_data() -> None:
    for shares in (None, list):
        with pytest.raises(PartError, match="needs training data to count"):
            cross_entropy("multiclass", shares, weights="frequency")
