"""Generated badges: the same on every machine, of equal classes, and not told apart by colour."""

from __future__ import annotations

import hashlib

import numpy as np

from tuner.data.synthetic.badges import CLASSES, COUNT, REVISION, SIDE, badges, draw_badge


def test_badges_are_as_a_source_promises() -> None:
    source = badges()
    assert source.targets == "classes" and source.classes == CLASSES
    assert len({item.key for item in source.items}) == COUNT
    pairs = [source.read(item) for item in source.items]
    assert all(image.shape == (SIDE, SIDE, 3) and image.dtype == np.uint8 for image, _ in pairs)
    assert np.bincount([number for _, number in pairs]).tolist() == [COUNT // len(CLASSES)] * len(CLASSES)
    for split in ("train", "val"):
        assert {item.target for item in source.split(split)} == set(range(len(CLASSES)))


def test_the_pixels_belong_to_the_revision() -> None:
    """The cache is keyed by the revision: when this fails, change REVISION and the hash below together.

    Noise and colours are left out: they may differ in a last bit between machines.
    """
    pictures = [draw_badge(np.random.default_rng(at), sign) for at, sign in enumerate(CLASSES)]
    bright = b"".join(np.packbits(picture.mean(axis=2) > 145).tobytes() for picture in pictures)
    assert (REVISION, hashlib.sha256(bright).hexdigest()[:12]) == ("badges-1", "ff52d156b500")


def test_mean_colours_do_not_tell_the_class() -> None:
    source = badges()
    means = np.stack([source.read(item)[0].mean(axis=(0, 1)) for item in source.items])
    numbers = np.array([item.target for item in source.items])
    distance = np.square(means[:, None] - means[None]).sum(axis=-1) + 1e9 * np.eye(COUNT)
    assert (numbers[distance.argmin(axis=1)] == numbers).mean() < 0.4
