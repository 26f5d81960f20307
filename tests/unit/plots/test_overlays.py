"""Masks laid over images, and the panels made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuner.plots.contact_sheet import CELL, add_caption
from tuner.plots.grid import BACKDROP, GAP, write_grid
from tuner.plots.overlays import (
    IGNORED,
    RIGHT,
    TINT,
    WRONG,
    instance_overlay,
    label_colours,
    label_overlay,
    mask_overlay,
    resize_longer_side,
)


def grey(height: int = 40, width: int = 60, value: int = 100) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def square(height: int = 40, width: int = 60) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[10:30, 20:40] = 1
    return mask


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_the_tint_lies_inside_the_mask_only() -> None:
    image = grey()
    drawn = mask_overlay(image, square())
    assert (drawn[:9] == 100).all() and (drawn[:, 42:] == 100).all()
    assert drawn[20, 30].tolist() == [int(100 * 0.55 + part * 0.45) for part in TINT]
    assert drawn[10, 20].tolist() == list(TINT)  # its outline is solid
    assert (image == 100).all()


@pytest.mark.parametrize("value", [0, 1], ids=["empty", "full"])
def test_an_empty_and_a_full_mask_can_be_drawn(value: int) -> None:
    drawn = mask_overlay(grey(), np.full((40, 60), value, np.uint8))
    assert drawn.shape == (40, 60, 3)
    assert bool((drawn == 100).all()) == (value == 0)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3)], ids=str)
def test_slivers_can_be_drawn(size: tuple[int, int]) -> None:
    assert mask_overlay(grey(*size), np.ones(size, np.uint8)).shape == (*size, 3)
    assert max(resize_longer_side(grey(*size), CELL).shape[:2]) == CELL
    assert min(resize_longer_side(grey(*size), CELL).shape[:2]) >= 1


def test_a_picture_keeps_its_shape_in_a_cell() -> None:
    assert resize_longer_side(grey(100, 400), CELL).shape == (CELL // 4, CELL, 3)
    assert resize_longer_side(grey(20, 10), CELL).shape == (CELL, CELL // 2, 3)


def test_a_panel_has_a_cell_for_each_picture_and_a_gap_around_it(tmp_path: Path) -> None:
    write_grid([[grey(CELL, CELL, 0), grey(CELL, CELL, 50)], [grey(CELL, CELL, 200)]], tmp_path / "panel.png")
    sheet = read(tmp_path / "panel.png")
    side = 2 * (CELL + GAP) + GAP
    assert sheet.shape == (side, side, 3)
    first, second = GAP + CELL // 2, GAP + CELL + GAP + CELL // 2
    assert [sheet[y, x, 0] for y, x in ((first, first), (first, second), (second, first))] == [0, 50, 200]
    assert (sheet[:GAP] == BACKDROP).all() and (sheet[second, second] == BACKDROP).all()


# --- label maps ---


def test_every_class_has_its_own_colour_and_what_is_ignored_none() -> None:
    image, labels = grey(4, 4), np.array([[0, 1, 2, IGNORED]] * 4, np.uint8)
    drawn = label_overlay(image, labels)
    assert len({tuple(drawn[0, at].tolist()) for at in range(4)}) == 4
    assert (drawn[:, 3] == 100).all() and (image == 100).all()
    assert drawn[0, 1].tolist() == [int(100 * 0.45 + part * 0.55) for part in label_colours()[1].tolist()]


def test_the_colours_of_twenty_classes_are_told_apart() -> None:
    chosen = label_colours()[:20].astype(int)
    apart = np.abs(chosen[:, None] - chosen[None]).sum(2) + np.eye(20, dtype=int) * 999
    assert label_colours().shape == (256, 3) and apart.min() >= 30


# --- instances ---


def test_every_instance_has_its_own_colour_with_its_outline_and_nothing_else_is_touched() -> None:
    image, labels = grey(20, 40), np.zeros((20, 40), np.uint16)
    labels[4:16, 4:16], labels[4:16, 16:28] = 1, 700  # side by side
    drawn = instance_overlay(image, labels)
    assert (drawn[labels == 0] == 100).all() and (image == 100).all()
    first, second = label_colours()[1].astype(int), label_colours()[(700 - 1) % 255 + 1].astype(int)
    assert drawn[10, 10].tolist() == ((100 + first) // 2).tolist() != drawn[10, 22].tolist()
    assert drawn[4, 10].tolist() == drawn[10, 15].tolist() == first.tolist()
    assert drawn[10, 16].tolist() == second.tolist()  # where they touch, both outlines are seen


def test_no_instance_has_the_colour_of_nothing() -> None:
    image = grey(1, 256)
    drawn = instance_overlay(image, np.arange(1, 257, dtype=np.int32)[None])
    assert len(np.unique(drawn[0], axis=0)) > 200 and drawn[0, 0].tolist() == drawn[0, 255].tolist()
    assert instance_overlay(image, np.zeros((1, 256), np.uint16)).tolist() == image.tolist()


# --- classes ---


def ink(cell: np.ndarray) -> set[str]:
    """Whether there is green or red in it."""
    red, green = cell[..., 0].astype(int), cell[..., 1].astype(int)
    return {name for name, there in (("red", red > green + 60), ("green", green > red + 60)) if there.any()}


def test_a_caption_lies_below_the_picture_and_not_on_it() -> None:
    made = add_caption(grey(50, 100), "a cat", WRONG)
    assert made.shape == (CELL // 2 + 18, CELL, 3)
    assert (made[: CELL // 2] == 100).all() and ink(made[CELL // 2 :]) == {"red"}
    assert add_caption(grey(10, 10), "ein Käuzchen in der Dämmerung, nicht ein Bär", RIGHT).shape[1] == CELL
