"""Remarks about a dataset are logged when a search starts, not by `tuner data` alone."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.dataset_layouts import make_instances, save

from tuner.data.folder import folder
from tuner.paths import Home
from tuner.search.run import survey_sources


def test_remarks_on_classes_and_identical_images_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    for split, number in (("train", 3), ("val", 1)):
        for name in ("cat", "dog"):
            for at in range(number):
                image = rng.integers(0, 99, (32, 32, 3), np.uint8)
                save(tmp_path / "photos" / split / name / f"{name}{at}.png", image)
    shutil.copy(tmp_path / "photos/train/cat/cat0.png", tmp_path / "photos/val/cat/cat1.png")
    sources = [folder(tmp_path / "photos", split_seed=seed) for seed in (0, 1)]
    with caplog.at_level(logging.WARNING, logger="tuner"):
        survey_sources(sources, Home(tmp_path / "home").make())
    assert caplog.messages == [
        "photos: 2 classes of fewer than 5 training images: cat (3), dog (3)",
        "photos: 1 pair of identical images in two splits, which makes scores too high: "
        "cat/cat0 (train) = cat/cat1 (val)",
    ]


def test_a_validation_split_without_any_instance_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make_instances(tmp_path / "photos" / "train", 3)
    bare = np.random.default_rng(0).integers(0, 99, (32, 32, 3), np.uint8)
    save(tmp_path / "photos" / "val" / "images" / "a.png", bare)
    save(tmp_path / "photos" / "val" / "instances" / "a.png", np.zeros((32, 32), np.uint16))
    with caplog.at_level(logging.WARNING, logger="tuner"):
        survey_sources([folder(tmp_path / "photos")], Home(tmp_path / "home").make())
    assert "photos: no validation image has an instance" in caplog.text
