"""Deep Watershed: heads become instances as a person would cut them; bad arguments are told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tuner.data.instances import make_energy_targets, match_instances
from tuner.errors import PartError
from tuner.models.deep_watershed import WatershedInstances, deep_watershed, extract_instances
from tuner.train.losses import watershed as watershed_loss

Map = NDArray[np.float32]


def heads(labels: NDArray[np.integer[Any]]) -> tuple[Map, Map]:
    """What a perfect model says of these instances: mask and energy."""
    fields = make_energy_targets(labels[None].astype(np.uint16))[0]
    return (labels > 0).astype(np.float32), fields[1]


def discs(*places: tuple[int, int, int], side: int = 64) -> NDArray[np.int32]:
    labels = np.zeros((side, side), np.int32)
    for number, (y, x, radius) in enumerate(places, start=1):
        labels[np.hypot(*np.ogrid[-y : side - y, -x : side - x]) < radius] = number
    return labels


TOUCHING = discs((20, 16, 11), (24, 38, 12), (46, 30, 11))


def test_what_touches_is_told_apart() -> None:
    found = extract_instances(*heads(TOUCHING), 0.5, 0.5, 4)
    compared = match_instances(found.labels, TOUCHING)
    assert len(compared.pairs) == 3 and not compared.wrong and all(iou > 0.9 for _, _, iou in compared.pairs)
    assert found.scores.dtype == np.float32 and np.allclose(found.scores, 1)


def test_without_energy_what_touches_is_one() -> None:
    mask, energy = heads(TOUCHING)
    found = extract_instances(mask, np.zeros_like(energy), 0.5, 0.5, 4)
    assert len(found.scores) == 1 and ((found.labels > 0) == (TOUCHING > 0)).all()


def test_a_piece_of_low_energy_is_still_found_beside_one_of_high() -> None:
    labels = discs((15, 15, 9), (45, 45, 9))
    mask, energy = heads(labels)
    energy[labels == 2] *= 0.3
    found = extract_instances(mask, energy, 0.5, 0.5, 4)
    assert (found.labels == labels).all()
    assert found.scores[1] == pytest.approx(0.3) and found.scores[0] == 1


def test_what_is_too_small_is_dropped_and_the_rest_numbered_anew() -> None:
    labels = discs((10, 10, 2), (40, 40, 12))
    sizes = np.bincount(labels.ravel())
    for least, number in ((int(sizes[1]), 2), (int(sizes[1]) + 1, 1), (10_000, 0)):
        found = extract_instances(*heads(labels), 0.5, 0.5, least)
        assert len(found.scores) == found.labels.max() == number


def test_an_empty_mask_has_no_instance_and_a_single_pixel_is_one() -> None:
    none = np.zeros((16, 16), np.float32)
    assert extract_instances(none, none, 0.5, 0.5, 1).scores.shape == (0,)
    none[5, 5] = 1
    assert extract_instances(none, none, 0.5, 0.5, 1).labels.sum() == 1


def logits(labels: NDArray[np.int32]) -> torch.Tensor:
    return torch.from_numpy(np.stack(heads(labels))[None]).logit(1e-4)


def test_instances_can_be_asked_for_at_any_size() -> None:
    flood = WatershedInstances(0.5, 0.5, 4)
    (small,) = flood(logits(TOUCHING))
    (large,) = flood(logits(TOUCHING), [(128, 192)])
    assert small.labels.shape == (64, 64) and large.labels.shape == (128, 192)
    expected = np.kron(TOUCHING, np.ones((2, 3), np.int32))
    assert len(large.scores) == 3 and all(
        iou > 0.85 for _, _, iou in match_instances(large.labels, expected).pairs
    )


def test_the_least_size_is_meant_at_the_size_the_model_sees() -> None:
    labels = discs((20, 20, 5))
    area = int((labels > 0).sum())
    for least, number in ((area - 15, 1), (area + 15, 0)):
        (found,) = WatershedInstances(0.5, 0.5, least)(logits(labels), [(256, 256)])
        assert len(found.scores) == number


@pytest.mark.slow
@pytest.mark.parametrize("direction", [False, True])
def test_it_learns_to_tell_two_touching_discs_apart(direction: bool) -> None:
    torch.manual_seed(0)
    labels = np.stack([discs((14, 9, 8), (16, 23, 7), side=32), discs((9, 12, 7), (23, 14, 8), side=32)])
    image = torch.from_numpy(((labels > 0) + 0.5 * (labels == 2)).astype(np.float32))[:, None].repeat(1, 3, 1, 1)
    target = torch.from_numpy(make_energy_targets(labels.astype(np.uint16)))
    model, loss = deep_watershed(3, 1, k=8, direction=direction), watershed_loss("instance", energy_weight=4.0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    assert len(model.instances(model(image).detach())) == 2  # type: ignore[operator]
    for _ in range(150):
        optimizer.zero_grad()
        loss(model(image), target).backward()
        optimizer.step()
    for found, true in zip(model.instances(model(image).detach()), labels, strict=True):  # type: ignore[operator]
        assert len(match_instances(found.labels, true).pairs) == 2


def test_its_weights_have_the_names_of_the_segmenter() -> None:
    """So that what was trained for masks can be carried over, and ImageNet's encoder found."""
    model = deep_watershed(3, 1, base="smp", args={"encoder": "resnet18"})
    assert any(name.startswith("encoder.") for name in model.state_dict())
    assert getattr(model, "pretrained", None) is not None


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"base": "unett"}, r"no model 'unett'\. Did you mean 'unet'\?"),
        ({"base": "deep_watershed"}, r"base of model 'deep_watershed' is 'deep_watershed'; a segmenter"),
        ({"base": "mask_rcnn"}, r"base of model 'deep_watershed' is 'mask_rcnn'; a segmenter"),
        (
            {"base": "pixel_frequency"},
            r"base of model 'deep_watershed' is 'pixel_frequency'; a segmenter trained by gradient descent",
        ),
        ({"args": ["k"]}, r"args of model 'deep_watershed' are \['k'\]"),
        ({"args": {"kk": 3}}, r"model 'unet' takes no argument 'kk'"),
        ({"energy": 1.0}, r"energy of model 'deep_watershed' is 1\.0; a number above 0 and below 1"),
        ({"mask": "half"}, r"mask of model 'deep_watershed' is 'half'; a number above 0 and below 1"),
        ({"min_size": 0}, r"min_size of model 'deep_watershed' is 0; a whole number of at least 1"),
        ({"min_size": 2.5}, r"min_size of model 'deep_watershed' is 2\.5"),
    ],
)
def test_a_bad_argument_is_told(args: dict[str, Any], told: str) -> None:
    with pytest.raises(PartError, match=told):
        deep_watershed(3, 1, **args)
