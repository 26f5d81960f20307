"""The worst, median and best images, and the strip: what is drawn where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuner.report.examples import (
    CELL,
    GAP,
    LINE,
    Example,
    draw_examples,
    fitted,
    labels_of,
    wrong_labels,
    wrong_pixels,
)
from tuner.report.overlays import BACKDROP, IGNORED, RIGHT, TINT, WRONG
from tuner.report.strip import COLUMNS, SIDE, draw_strip

CLASSES = ("a", "b", "c")


def grey(height: int = 32, width: int = 32) -> np.ndarray:
    return np.full((height, width, 3), 100, np.uint8)


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def hue(pixel: np.ndarray) -> str:
    """Which of our three colours it leans to."""
    apart = {name: np.abs(pixel.astype(int) - (0.35 * 130 + 0.65 * np.array(colour))).sum()
             for name, colour in (("right", RIGHT), ("wrong", WRONG), ("missed", TINT))}  # fmt: skip
    best = min(apart, key=lambda name: apart[name])
    return best if apart[best] < 40 else ""


def test_errors_of_a_mask_are_green_red_and_blue() -> None:
    truth, guess = np.zeros((4, 4), np.uint8), np.full((4, 4), 127, np.uint8)
    truth[0], guess[0] = 1, 128
    guess[1] = 255
    truth[2] = 1
    drawn = wrong_pixels(Example("", grey(4, 4), truth, guess))
    assert [hue(drawn[row, 0]) for row in range(4)] == ["right", "wrong", "missed", ""]


def test_errors_of_a_label_map_leave_out_what_is_ignored() -> None:
    truth = np.array([[0, 1, IGNORED]] * 3, np.uint8)
    drawn = wrong_labels(Example("", grey(3, 3), truth, np.array([[0, 2, 1]] * 3, np.uint8)))
    assert [hue(drawn[0, at]) for at in range(3)] == ["right", "wrong", ""]


@pytest.mark.parametrize(("targets", "head"), [("masks", 2), ("labels", 3)])
def test_a_row_is_image_truth_prediction_and_errors_below_its_label(
    tmp_path: Path, targets: str, head: int
) -> None:
    truth = np.ones((32, 32), np.uint8)
    guess = np.zeros((32, 32), np.uint8)
    examples = [Example("worst: IoU 0.000", grey(), truth, guess), Example("best", grey(), truth, truth * 255)]
    draw_examples(examples[: 1 if targets == "labels" else 2], tmp_path / "p.png", targets, CLASSES)
    sheet, rows = read(tmp_path / "p.png"), 1 if targets == "labels" else 2
    assert sheet.shape == (GAP + head * (LINE + GAP) + rows * (LINE + CELL + 2 * GAP), 4 * (CELL + GAP) + GAP, 3)
    middle = GAP + head * (LINE + GAP) + LINE + GAP + CELL // 2
    cells = [sheet[middle, GAP + CELL // 2 + at * (CELL + GAP)] for at in range(4)]
    assert cells[0].tolist() == [100, 100, 100]
    assert hue(cells[3]) == ("missed" if targets == "masks" else "wrong")
    label = sheet[middle - CELL // 2 - GAP - LINE : middle - CELL // 2 - GAP]
    assert label.min() < 100 and (sheet[:GAP] == BACKDROP).all()


def test_a_class_stands_below_its_image_green_or_red(tmp_path: Path) -> None:
    shares = np.array([0.1, 0.7, 0.2], np.float32)
    for truth, colour in ((1, RIGHT), (2, WRONG)):
        draw_examples([Example("worst", grey(), truth, shares)], tmp_path / "p.png", "classes", CLASSES)
        sheet = read(tmp_path / "p.png").astype(int)
        said = sheet[GAP + CELL + LINE : GAP + CELL + 2 * LINE]
        assert np.abs(said - np.array(colour)).sum(2).min() < 60
        more = sheet[GAP + CELL + 2 * LINE : GAP + CELL + 3 * LINE, :CELL]
        assert bool((more < 150).any()) is (truth == 2)  # what is right, where that was wrong


def test_names_that_are_no_ascii_and_long_ones_can_be_written(tmp_path: Path) -> None:
    names = ("Käuzchen", "x" * 300, "猫")
    examples = [Example("worst", grey(), at, np.eye(3, dtype=np.float32)[at]) for at in range(3)]
    draw_examples(examples, tmp_path / "p.png", "classes", names)
    assert read(tmp_path / "p.png").shape[1] == 3 * (CELL + GAP) + GAP


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2)], ids=str)
def test_slivers_fit_into_a_cell(size: tuple[int, int]) -> None:
    assert fitted(grey(*size)).shape == (CELL, CELL, 3)


def test_shown_images_are_named_by_their_rank() -> None:
    found = labels_of({"worst": [4, 2], "median": [], "best": [7]})
    assert found == [("worst", 4), ("worst 2", 2), ("best", 7)]


# --- the strip ---


def cells_of(sheet: np.ndarray) -> int:
    """How many cells have a picture in their middle."""
    down, across = SIDE + LINE + GAP, SIDE + GAP
    middles = sheet[GAP + SIDE // 2 :: down, GAP + SIDE // 2 :: across]
    return int((middles != BACKDROP).any(2).sum())


@pytest.mark.parametrize(("epochs", "rows"), [(1, 1), (7, 1), (8, 2), (24, 3), (90, 3)])
def test_a_strip_is_image_truth_and_a_frame_an_epoch_in_rows(tmp_path: Path, epochs: int, rows: int) -> None:
    frames = {at: np.full((20, 20), 2 * at, np.uint8) for at in range(1, epochs + 1)}
    truth = np.ones((32, 32), np.uint8)
    draw_strip(grey(), truth, frames, 1, tmp_path / "s.png", "masks", ("background", "object"))
    sheet = read(tmp_path / "s.png")
    assert sheet.shape[0] == rows * (SIDE + LINE + GAP) + GAP
    assert sheet.shape[1] == min(2 + epochs, COLUMNS) * (SIDE + GAP) + GAP
    assert cells_of(sheet) == 2 + min(epochs, 24)


def test_a_frame_is_tinted_as_strongly_as_it_is_sure(tmp_path: Path) -> None:
    frames = {
        1: np.zeros((20, 20), np.uint8),
        2: np.full((20, 20), 100, np.uint8),
        3: np.full((20, 20), 255, np.uint8),
    }
    draw_strip(grey(), np.ones((32, 32), np.uint8), frames, 3, tmp_path / "s.png", "masks", CLASSES)
    sheet = read(tmp_path / "s.png")
    blue = [int(sheet[GAP + SIDE // 2, GAP + SIDE // 2 + (2 + at) * (SIDE + GAP), 2]) for at in range(3)]
    assert blue[0] == 100 < blue[1] < blue[2]


def test_a_strip_of_classes_has_bars_as_long_as_the_shares(tmp_path: Path) -> None:
    frames = {1: np.array([0.9, 0.05, 0.05], np.float16), 2: np.array([0.2, 0.1, 0.7], np.float16)}
    draw_strip(grey(), 2, frames, 2, tmp_path / "s.png", "classes", CLASSES)
    sheet = read(tmp_path / "s.png")
    lengths = []
    for at in (1, 2):
        cell = sheet[:, GAP + at * (SIDE + GAP) : GAP + at * (SIDE + GAP) + SIDE]
        green, blue = ((cell == np.array(colour)).all(2).sum(1).max() for colour in (RIGHT, TINT))
        lengths.append((int(green), int(blue)))
    assert lengths == [(round(0.05 * SIDE), round(0.9 * SIDE)), (round(0.7 * SIDE), round(0.2 * SIDE))]


def test_a_strip_of_label_maps_shows_each_class_in_its_colour(tmp_path: Path) -> None:
    truth = np.ones((32, 32), np.uint8)
    draw_strip(grey(), truth, {1: truth, 2: truth * 2}, 1, tmp_path / "s.png", "labels", CLASSES)
    sheet = read(tmp_path / "s.png")
    middles = [sheet[GAP + SIDE // 2, GAP + SIDE // 2 + at * (SIDE + GAP)].tolist() for at in range(4)]
    assert middles[1] == middles[2] != middles[3] and middles[0] == [100, 100, 100]
