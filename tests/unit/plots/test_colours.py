"""Colours that may meet in one chart stay apart, also for eyes without one of the three kinds of cones."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from tuner.plots.colours import GREEN, HEAT, INK, MARKERS, PALETTE, SHADES, STATE_MARKS

Numbers = NDArray[np.float64]
SEEN_BY = {  # Machado et al. 2009, severity 1, of linear RGB
    "all cones": np.eye(3),
    "no red cones": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "no green cones": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "no blue cones": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}
TO_CONES = [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]  # of Oklab
TO_LAB = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
STATES = [mark.colour for mark in STATE_MARKS.values()]


def linear(colour: str) -> Numbers:
    parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def distance(first: str, second: str) -> float:
    """The smallest distance over all eyes in Oklab, times 100: 0 is the same, 100 black and white."""

    def place(colour: str, eyes: object) -> Numbers:
        rgb = np.clip(np.asarray(eyes) @ linear(colour), 0, 1)
        return np.asarray(TO_LAB) @ np.cbrt(np.asarray(TO_CONES) @ rgb)

    return 100 * min(float(np.linalg.norm(place(first, eyes) - place(second, eyes))) for eyes in SEEN_BY.values())


def mixed(share: float) -> str:
    """A colour of the scale of numbers."""
    at = min(int(share * (len(SHADES) - 1)), len(SHADES) - 2)
    low, high = (np.array([int(SHADES[n][i : i + 2], 16) for i in (1, 3, 5)]) for n in (at, at + 1))
    parts = low + (high - low) * (share * (len(SHADES) - 1) - at)
    return "#" + "".join(f"{round(part):02x}" for part in parts)


def contrast(first: str, second: str) -> float:
    light = sorted(float(np.dot([0.2126, 0.7152, 0.0722], linear(one))) for one in (first, second))
    return (light[1] + 0.05) / (light[0] + 0.05)


def test_the_measure_knows_what_is_hard_to_tell_apart() -> None:
    assert distance("#000000", "#ffffff") > 95
    assert distance("#2563eb", "#9333ea") < 2  # blue and violet without red cones
    assert distance("#ea580c", "#a16207") < 5


@pytest.mark.parametrize("colours", [STATES, [*PALETTE], [STATES[0], GREEN, *STATES[1:]]])
def test_colours_of_a_chart_stay_apart(colours: list[str]) -> None:
    pairs = {(a, b): round(distance(a, b), 1) for a, b in combinations(colours, 2)}
    assert min(pairs.values()) > 7, pairs


def test_no_series_and_no_shade_of_a_finished_trial_looks_pruned_paused_or_failed() -> None:
    ended_early = STATES[1:]
    series = {(a, b): distance(a, b) for a in PALETTE for b in ended_early}
    shades = {(at, b): distance(mixed(at / 20), b) for at in range(21) for b in ended_early}
    assert min(series.values()) > 7 and min(shades.values()) > 7, (series, shades)


def test_states_and_series_differ_in_their_markers_too() -> None:
    assert len({mark.marker for mark in STATE_MARKS.values()}) == len(STATE_MARKS)
    assert len(set(MARKERS)) == len(MARKERS) == len(PALETTE)


def test_lines_are_seen_on_light_and_dark_pages() -> None:
    colours = [*PALETTE, *STATES, GREEN, *SHADES]
    assert all(contrast(colour, page) > 1.8 for colour in colours for page in ("#ffffff", "#10141c"))
    assert all(contrast(colour, "#10141c") > 2.7 for colour in colours)


def test_texts_can_be_read_in_every_cell_of_a_heat_map() -> None:
    assert all(contrast(INK, colour) > 4.5 for colour in HEAT)
