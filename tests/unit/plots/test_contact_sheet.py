"""The contact sheet of a dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.image_folders import make_photos
from PIL import Image

from tuner.data.folder import folder
from tuner.data.synthetic.scenes import scenes
from tuner.data.synthetic.shapes import shapes
from tuner.plots.contact_sheet import CELL, NUM_COLUMNS, NUM_ROWS, draw_contact_sheet
from tuner.plots.grid import GAP
from tuner.plots.overlays import label_colours


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


@pytest.mark.parametrize("number", [2, 6, 7, 23, 24, 100])
def test_a_sheet_is_as_large_as_it_must_be(tmp_path: Path, number: int) -> None:
    source = replace(shapes(), items=shapes().items[:number])
    draw_contact_sheet(source, tmp_path / "sheet.png")
    columns, rows = min(number, NUM_COLUMNS), min(-(-number // NUM_COLUMNS), NUM_ROWS)
    assert size_of(tmp_path / "sheet.png") == (columns * (CELL + GAP) + GAP, rows * (CELL + GAP) + GAP)


def test_masks_are_seen_on_their_images(tmp_path: Path) -> None:
    source = folder(make_photos(tmp_path / "photos", 4))
    draw_contact_sheet(source, tmp_path / "with.png")
    blank = replace(source, read=lambda item: (source.read(item)[0], np.zeros((128, 128), np.uint8)))
    draw_contact_sheet(blank, tmp_path / "without.png")
    assert (
        np.asarray(Image.open(tmp_path / "with.png")) != np.asarray(Image.open(tmp_path / "without.png"))
    ).any()


def test_a_mask_of_another_size_than_its_image_is_laid_over_it(tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 2)
    for mask in (photos / "masks").iterdir():
        Image.open(mask).resize((64, 64)).save(mask)
    draw_contact_sheet(folder(photos), tmp_path / "sheet.png")
    assert size_of(tmp_path / "sheet.png")[0] == 2 * (CELL + GAP) + GAP


def test_label_maps_are_drawn_in_colours_with_a_legend(tmp_path: Path) -> None:
    source = scenes()
    few = replace(source, items=source.items[:3])
    draw_contact_sheet(few, tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png")).astype(int)
    assert sheet.shape[1] == 4 * (CELL + GAP) + GAP
    legend = sheet[:, 3 * (CELL + GAP) :]
    for colour in label_colours()[:4].astype(int):
        assert (legend == colour).all(axis=2).sum() == 14 * 14
    assert not (legend == label_colours()[4].astype(int)).all(axis=2).any()


def test_instances_are_drawn_each_in_its_colour(tmp_path: Path) -> None:
    """Also those of a large photograph, whose map is of another size."""
    for part in ("images", "instances"):
        (tmp_path / "data" / part).mkdir(parents=True)
    halves = np.zeros((30, 40), np.uint16)
    halves[5:25, 5:20], halves[5:25, 20:35] = 700, 9000  # they touch
    for stem in "ab":
        Image.new("RGB", (1600, 1200), (90, 90, 90)).save(tmp_path / "data" / "images" / f"{stem}.png")
        Image.fromarray(halves).save(tmp_path / "data" / "instances" / f"{stem}.png")
    draw_contact_sheet(folder(tmp_path / "data"), tmp_path / "sheet.png")
    cell = np.asarray(Image.open(tmp_path / "sheet.png"))[GAP:, GAP : GAP + CELL].astype(int)
    first, second = cell[60, 50], cell[60, 110]
    for at, colour in ((first, label_colours()[1]), (second, label_colours()[2])):
        assert np.abs(at - (90 + colour.astype(int)) // 2).max() <= 1
    assert cell[2, 2].tolist() == [90, 90, 90]
    for column, colour in ((79, label_colours()[1]), (80, label_colours()[2])):  # the outlines between them
        assert cell[60, column].tolist() == colour.tolist()


def test_classes_are_written_below_their_pictures(tmp_path: Path) -> None:
    for name, shade in (("dark", 20), ("light", 230)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for at in range(3):
            Image.new("RGB", (20, 20), (shade, shade, shade)).save(tmp_path / "data" / name / f"{at}.png")
    draw_contact_sheet(folder(tmp_path / "data"), tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    left, middle, right = GAP + CELL // 4, GAP + CELL // 3, GAP + 5 * (CELL + GAP) + CELL // 4
    assert sheet[middle, left, 0] == 20 and sheet[middle, right, 0] == 230
    words = sheet[GAP + CELL - 14 : GAP + CELL, GAP : GAP + CELL // 2].min(axis=2)
    assert (words < 100).sum() > 10, "the name is below the picture"
