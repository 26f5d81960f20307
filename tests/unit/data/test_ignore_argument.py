"""ignore=NUMBER of a recipe's data: the pixels of this number count in neither losses nor metrics."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.image_folders import make_photos
from PIL import Image

from tuner.data.cache import CachedDataset, load_cached
from tuner.data.datasets import data_problems, open_data, swap_data
from tuner.data.survey import survey
from tuner.errors import DataError
from tuner.recipe import Part, Recipe, use
from tuner.registry import build
from tuner.tasks import find_task
from tuner.train.losses import LOSSES
from tuner.train.totals import Totals

COLUMNS = (0, 0, 1, 1, 11, 11, 0, 0, 1, 1, 11, 11, 0, 0, 1, 1)  # six of each class, four ignored


def make_maps(path: Path, names: str = "") -> Path:
    """Write four images whose label maps have these columns, and a classes.txt."""
    for part in ("images", "labels"):
        (path / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for at in range(4):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(path / "images" / f"{at}.png")
        Image.fromarray(np.tile(np.array(COLUMNS, np.uint8), (16, 1))).save(path / "labels" / f"{at}.png")
    if names:
        (path / "classes.txt").write_text(names)
    return path


def cached(path: Path, **args: object) -> CachedDataset:
    source = open_data(Part(str(path), args))  # type: ignore[arg-type]
    found = survey(source, path.parent / "memory")
    return load_cached(replace(source, classes=found.classes), found.fingerprint, 16, path.parent / "cache")


def test_ignored_pixels_count_in_neither_loss_nor_metrics(tmp_path: Path) -> None:
    """A model that says class 0 with a probability of 3/4 everywhere."""
    data = cached(make_maps(tmp_path / "maps"), ignore=11)
    assert data.classes == ("0", "1") and data.shares() == [0.5, 0.5]
    target = torch.from_numpy(np.array(data.targets)).long()
    logits = torch.zeros(len(target), 2, 16, 16)
    logits[:, 0] = math.log(3)
    loss = build("loss", LOSSES, use("cross_entropy"), "multiclass")(logits, target)
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)
    totals = Totals(find_task("multiclass"), torch.device("cpu"), data.classes, full=True)
    totals.add(loss, logits, target)
    scores = totals.scores()
    assert scores["accuracy"] == pytest.approx(0.5) and scores["miou"] == pytest.approx(0.25)  # 1/2 and 0
    counted = len(target) * 16 * 12 // 2
    assert totals.confusion() == [[counted, 0], [counted, 0]]


def test_data_that_is_cached_is_keyed_by_it(tmp_path: Path) -> None:
    path = make_maps(tmp_path / "maps")
    plain, ignoring, again = cached(path), cached(path, ignore=11), cached(path, ignore=255)
    assert plain.fingerprint == again.fingerprint != ignoring.fingerprint
    assert len(plain.classes) == 12 and set(np.unique(ignoring.targets)) == {0, 1, 255}


def test_it_is_the_same_as_the_line_in_classes_txt(tmp_path: Path) -> None:
    path = make_maps(tmp_path / "maps", "sky\nroad\n")
    given = cached(path, ignore=11)
    (path / "classes.txt").write_text("sky\nroad\nignore=11\n")
    assert cached(path).fingerprint == cached(path, ignore=11).fingerprint == given.fingerprint
    remarks = open_data(Part(str(path), {"ignore": 11})).remarks
    assert remarks == ("classes.txt says ignore=11: pixels of this number are ignored, as those of 255 are",)


@pytest.mark.parametrize("ignore", [-1, 256, 1.5, "11", True, None, [11]])
def test_what_is_no_class_number_is_one_clear_line(tmp_path: Path, ignore: object) -> None:
    wrong = f"ignore is {ignore!r}; a class number from 0 to 255 is needed, and 255 is always ignored."
    part = Part(str(make_maps(tmp_path / "maps")), {"ignore": ignore})  # type: ignore[dict-item]
    assert data_problems(part) == [wrong]
    with pytest.raises(DataError) as caught:
        open_data(part)
    assert str(caught.value) == wrong


@pytest.mark.parametrize(
    ("names", "ignore", "words"),
    [
        (
            "sky\nroad\n",
            1,
            "the data has ignore=1, and FILE names this number 'road'. Give a number without a name",
        ),
        ("sky\nroad\nignore=11\n", 12, "the data has ignore=12, and FILE says ignore=11. Keep one of the two."),
    ],
)
def test_a_named_class_and_another_line_are_refused(tmp_path: Path, names: str, ignore: int, words: str) -> None:
    path = make_maps(tmp_path / "maps", names)
    with pytest.raises(DataError) as caught:
        open_data(Part(str(path), {"ignore": ignore}))
    assert words.replace("FILE", str(path / "classes.txt")) in str(caught.value)


def test_other_targets_have_no_number_to_ignore(tmp_path: Path) -> None:
    path = make_photos(tmp_path / "photos", 4)
    with pytest.raises(DataError, match=r"the data has ignore=1, which needs label maps; .* holds masks"):
        open_data(Part(str(path), {"ignore": 1}))
    (wrong,) = data_problems(use("scene", ignore=1))
    assert "takes no argument 'ignore'" in wrong


def test_another_folder_takes_it_over_and_no_dataset_by_name(tmp_path: Path) -> None:
    part = Part(str(tmp_path), {"ignore": 11, "layout": "labels"})
    recipe = Recipe("multiclass", part, use("unet"), use("cross_entropy"), use("adam"), epochs=1)
    assert dict(swap_data(recipe, "scene").data.args) == {}
    assert dict(swap_data(recipe, "/elsewhere").data.args) == dict(part.args)
