"""The worst, median and best images, and the strip: what is drawn where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuner.plots import overlays
from tuner.plots.examples import (
    CELL,
    COLUMNS,
    SIDE,
    Example,
    draw_examples,
    draw_label_errors,
    draw_mask_errors,
    draw_strip,
    fit_to_square,
    label_positions,
)
from tuner.plots.grid import BACKDROP, GAP, LINE
from tuner.plots.overlays import IGNORED, RIGHT, TINT, WRONG, to_grey

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
    drawn = draw_mask_errors(Example("", grey(4, 4), truth, guess))
    assert [hue(drawn[row, 0]) for row in range(4)] == ["right", "wrong", "missed", ""]


def test_errors_of_a_label_map_leave_out_what_is_ignored() -> None:
    truth = np.array([[0, 1, IGNORED]] * 3, np.uint8)
    drawn = draw_label_errors(Example("", grey(3, 3), truth, np.array([[0, 2, 1]] * 3, np.uint8)))
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
    assert fit_to_square(grey(*size)).shape == (CELL, CELL, 3)


def test_shown_images_are_named_by_their_rank() -> None:
    found = label_positions({"worst": [4, 2], "median": [], "best": [7]})
    assert found == [("worst", 4), ("worst 2", 2), ("best", 7)]


# --- instances ---


def two_and_two() -> tuple[np.ndarray, np.ndarray]:
    """Of four true ones the first two are found as one, the third in two halves, the fourth as it is."""
    truth, guess = np.zeros((64, 64), np.uint16), np.zeros((64, 64), np.int32)
    truth[4:20, 4:20], truth[4:20, 20:36], truth[40:60, 4:24], truth[40:60, 40:60] = 1, 2, 3, 4
    guess[4:20, 4:36], guess[40:50, 4:24], guess[50:60, 4:24], guess[40:60, 40:60] = 1, 2, 3, 4
    return truth, guess


def leaning(area: np.ndarray) -> str:
    """The mark whose colour most of an area leans to."""
    mean = area.reshape(-1, 3).mean(0)
    apart = {name: np.abs(mean - (0.4 * 130 + 0.6 * np.array(colour))).sum() for name, colour in overlays.LEGEND}
    return min(apart, key=lambda name: apart[name]).split()[0]


def test_merged_split_missed_false_and_right_instances_are_told_apart() -> None:
    truth, guess = two_and_two()
    truth[4:12, 50:58], guess[26:34, 50:58] = 5, 5  # missed, and a false alarm
    drawn = overlays.instance_errors(grey(64, 64), guess, truth)
    assert leaning(drawn[6:18, 6:18]) == "merged" and leaning(drawn[42:48, 6:22]) == "split"
    assert leaning(drawn[5:11, 51:57]) == "missed" and leaning(drawn[27:33, 51:57]) == "false"
    assert leaning(drawn[[40, 59], 40:60]) == "right"  # its outline; inside it is hardly green
    assert (drawn[22:38, :40] == to_grey(grey(1, 1))[0, 0]).all()
    assert (drawn[8, 19] == overlays.CUT).all() and (drawn[50, 10] == overlays.CUT).all()  # where the cuts are


def test_what_is_found_has_the_colour_of_what_it_is() -> None:
    truth, guess = two_and_two()
    shuffled = np.array([0, 4, 3, 1, 2])[guess]
    same = overlays.match_numbers(shuffled, truth)
    assert (same[guess == 4] == 4).all() and ((same > 0) == (guess > 0)).all()
    others = {int(same[guess == at][0]) for at in (1, 2, 3)}
    assert len(others) == 3 and min(others) > 4  # none is a true one's
    assert overlays.match_numbers(truth, truth).tolist() == truth.tolist()
    nothing = np.zeros_like(truth)
    assert not overlays.match_numbers(nothing, truth).any() and overlays.match_numbers(guess, nothing).max() == 4


@pytest.mark.parametrize("size", [(64, 64), (640, 320)], ids=str)
def test_a_row_of_instances_is_image_truth_prediction_and_errors(tmp_path: Path, size: tuple[int, int]) -> None:
    truth, guess = (overlays.resize_labels(each, size[1], size[0]) for each in two_and_two())
    examples = [Example("worst: PQ 0.125", grey(*size), truth, guess)]
    draw_examples(examples, tmp_path / "p.png", "instances", ("object",))
    sheet = read(tmp_path / "p.png")
    assert sheet.shape == (GAP + 2 * (LINE + GAP) + LINE + CELL + 2 * GAP, 4 * (CELL + GAP) + GAP, 3)
    top = GAP + 2 * (LINE + GAP) + LINE + GAP
    wide = CELL * size[1] // size[0]
    left = (CELL - wide) // 2 + wide * 50 // 64
    cells = [sheet[top + CELL * 50 // 64, GAP + left + at * (CELL + GAP)].tolist() for at in range(4)]
    assert cells[0] == [100, 100, 100] != cells[1] == cells[2] != cells[3]


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


def test_a_strip_of_instances_shows_a_thing_in_one_colour_whatever_its_number(tmp_path: Path) -> None:
    truth, guess = two_and_two()
    frames = {1: np.zeros((48, 48), np.uint8), 2: guess.astype(np.uint8), 3: (5 - truth) * (truth > 0)}
    draw_strip(grey(64, 64), truth, frames, 3, tmp_path / "s.png", "instances", ("object",))
    sheet = read(tmp_path / "s.png")
    at = SIDE * 50 // 64
    middles = [sheet[GAP + at, GAP + at + cell * (SIDE + GAP)].tolist() for cell in range(5)]
    assert middles[0] == middles[2] == [100, 100, 100] != middles[1] == middles[3] == middles[4]
