"""The generated data: the same on every machine and day, and not to be solved by looking at one colour."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from tuner.data.synthetic.shapes import COUNT, REVISION, SIDE, draw_picture, shapes


def test_every_picture_depends_on_its_number_alone() -> None:
    first, again = shapes(), shapes(split_seed=5)
    for item in first.items[::17]:
        for one, two in zip(first.read(item), again.read(item), strict=True):
            assert np.array_equal(one, two)


def test_pictures_and_masks_are_as_a_source_promises() -> None:
    source = shapes()
    assert len({item.key for item in source.items}) == COUNT and source.split("val") and not source.split("test")
    for item in source.items:
        image, mask = source.read(item)
        assert image.shape == (SIDE, SIDE, 3) and image.dtype == np.uint8
        assert mask.shape == (SIDE, SIDE) and set(np.unique(mask)) == {0, 1}


def test_the_pixels_belong_to_the_revision() -> None:
    """The cache is keyed by the revision: when this fails, change REVISION and the hash below together."""
    masks = b"".join(draw_picture(np.random.default_rng(at))[1].tobytes() for at in range(20))
    assert (REVISION, hashlib.sha256(masks).hexdigest()[:12]) == ("shapes-2", "9e4e1791c409")


def test_no_threshold_on_one_channel_finds_the_objects() -> None:
    """The best threshold of 3 channels x 2 directions overlaps little: a model has to look at a neighbourhood."""
    pictures = [draw_picture(np.random.default_rng(at)) for at in range(30)]
    images, masks = (np.stack(part) for part in zip(*pictures, strict=True))
    truth = masks.astype(bool)
    best = 0.0
    for channel in range(3):
        for level in range(20, 240, 10):
            above = images[..., channel] > level
            for guess in (above, ~above):
                best = max(best, (guess & truth).sum() / (guess | truth).sum())
    assert best < 0.35


@pytest.mark.parametrize("val", [0.1, 0.4])
def test_the_held_out_part_can_be_chosen(val: float) -> None:
    assert abs(len(shapes(val=val).split("val")) / COUNT - val) < 0.08
