"""Generated label maps: the same on every machine, of every class, and not to be solved by one colour."""

from __future__ import annotations

import hashlib

import numpy as np

from tuner.data.synthetic.scenes import CLASSES, COUNT, REVISION, SIDE, draw_scene, scenes


def test_pictures_and_label_maps_are_as_a_source_promises() -> None:
    source = scenes()
    assert source.targets == "labels" and source.classes == CLASSES and len(source.items) == COUNT
    assert source.split("val") and not source.split("test")
    seen = np.zeros(256, int)
    for item in source.items[::4]:
        image, labels = source.read(item)
        assert image.shape == (SIDE, SIDE, 3) and image.dtype == labels.dtype == np.uint8
        assert {0, 1} < set(np.unique(labels)) <= {0, 1, 2, 3, 255}
        seen += np.bincount(labels.ravel(), minlength=256)
    shares = seen / seen.sum()
    assert shares[:4].min() > 0.05 and 0.005 < shares[255] < 0.1


def test_the_pixels_belong_to_the_revision() -> None:
    """The cache is keyed by the revision: when this fails, change REVISION and the hash below together."""
    maps = b"".join(draw_scene(np.random.default_rng(at))[1].tobytes() for at in range(20))
    assert (REVISION, hashlib.sha256(maps).hexdigest()[:12]) == ("scenes-1", "f11ed140db3e")


def test_a_picture_depends_on_its_number_alone() -> None:
    source, other = scenes(), scenes(split_seed=4, val=0.5)
    for a, b in zip(source.read(source.items[7]), other.read(other.items[7]), strict=True):
        assert np.array_equal(a, b)


def test_the_nearest_mean_colour_does_not_tell_the_class() -> None:
    pairs = [draw_scene(np.random.default_rng(at)) for at in range(30)]
    images, maps = (np.stack(part) for part in zip(*pairs, strict=True))
    means = np.stack([images[maps == c].mean(axis=0) for c in range(4)])
    guess = np.square(images[..., None, :].astype(float) - means).sum(axis=-1).argmin(axis=-1)
    valid = maps < 4
    ious = [
        ((guess == c) & (maps == c) & valid).sum() / (((guess == c) | (maps == c)) & valid).sum() for c in range(4)
    ]
    assert np.mean(ious) < 0.65
