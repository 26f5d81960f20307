"""Small plots: where the dots fall, what is seen where curves meet, what ASCII makes of it."""

from __future__ import annotations

import math

import pytest

from tuner.cli.sparklines import Curve, PlotCell, PlotFrame, fit_frame, plot, value_at

RISING: Curve = [(epoch, epoch / 8) for epoch in range(1, 9)]
FLAT: Curve = [(1, 0.5), (8, 0.5)]


def text(lines: list[list[PlotCell]]) -> list[str]:
    return ["".join(character for character, _ in line) for line in lines]


def kinds(lines: list[list[PlotCell]]) -> list[list[str]]:
    return [[kind for _, kind in line] for line in lines]


def test_a_rising_curve_goes_from_the_lower_left_to_the_upper_right() -> None:
    # 8 dots across, 4 high: two epochs a character, a row of dots every two epochs
    assert text(plot(RISING, [], fit_frame([RISING]), 4)) == ["⣀⠤⠒⠉"]
    assert text(plot(RISING, [], fit_frame([RISING]), 4, ascii_only=True)) == ["_.-'"]


def test_a_falling_curve_is_the_mirror() -> None:
    falling = [(epoch, -value) for epoch, value in RISING]
    assert text(plot(falling, [], fit_frame([falling]), 4)) == ["⠉⠒⠤⣀"]


def test_a_tall_plot_uses_all_its_lines() -> None:
    lines = text(plot(RISING, [], fit_frame([RISING]), 4, height=2))
    assert [line.replace("⠀", " ") for line in lines] == ["  ⡠⠊", "⡠⠊  "]


def test_a_plot_has_the_size_asked_for() -> None:
    for width, height in ((1, 1), (7, 2), (40, 3)):
        lines = plot(RISING, FLAT, fit_frame([RISING, FLAT]), width, height)
        assert [len(line) for line in lines] == [width] * height


def test_the_reference_lies_under_the_curve_and_is_marked_where_the_curve_has_come_to() -> None:
    half = RISING[:4]
    frame = fit_frame([RISING, FLAT])
    lines = plot(half, [(1, 1.0), (8, 1.0)], frame, 4, height=2)
    assert kinds(lines) == [
        ["reference", "mark", "reference", "reference"],
        ["curve", "curve", "", ""],
    ]
    assert lines[0][1] == ("●", "mark")
    assert plot(half, [(1, 1.0), (8, 1.0)], frame, 4, height=2, ascii_only=True)[0][1] == ("o", "mark")


def test_a_curve_beyond_the_reference_has_no_mark() -> None:
    lines = plot(RISING, [(1, 0.5), (4, 0.5)], fit_frame([RISING]), 4)
    assert "mark" not in kinds(lines)[0]


def test_nothing_to_draw_is_blank() -> None:
    assert text(plot([], [], fit_frame([]), 5)) == ["     "]
    assert text(plot([(1, math.nan)], [], fit_frame([[(1, math.nan)]]), 5)) == ["     "]


def test_one_epoch_is_one_dot_at_the_left_in_the_middle() -> None:
    assert text(plot([(1, 0.7)], [], fit_frame([[(1, 0.7)]]), 3, ascii_only=True)) == [".  "]
    assert text(plot([(1, 0.7)], [], fit_frame([[(1, 0.7)]], last=10), 3)) == ["⠄  "]


def test_values_that_are_no_numbers_are_left_out_and_the_others_joined() -> None:
    broken = [(1, 0.0), (2, math.nan), (3, math.inf), (4, 0.0)]
    assert text(plot(broken, [], fit_frame([broken]), 2)) == ["⠤⠤"]


def test_the_frame_spans_what_is_compared_and_the_epochs_to_come() -> None:
    assert fit_frame([RISING, FLAT], last=20) == PlotFrame(20, 0.125, 1.0)
    assert fit_frame([RISING], last=3) == PlotFrame(8, 0.125, 1.0)


@pytest.mark.parametrize(("larger_is_better", "frame"), [(True, (0.0, 1000.0)), (False, (-1000.0, 0.0))])
def test_the_worst_value_of_many_does_not_flatten_the_others(
    larger_is_better: bool, frame: tuple[float, float]
) -> None:
    sign = 1 if larger_is_better else -1
    curve = [(1, sign * -1e9), *((epoch, sign * 0.0) for epoch in range(2, 20)), (20, sign * 1000.0)]
    found = fit_frame([curve], larger_is_better=larger_is_better)
    assert (found.low, found.high) == frame
    assert plot(curve, [], found, 10)[0][0][1] == "curve"  # drawn at the edge


def test_a_value_between_two_epochs_lies_on_their_line() -> None:
    curve = [(2, 0.2), (4, 0.6), (8, math.nan)]
    assert value_at(curve, 3) == pytest.approx(0.4)
    assert value_at(curve, 4) == 0.6
    assert [value_at(curve, epoch) for epoch in (1, 5, 8)] == [None, None, None]
    assert value_at([], 1) is None
    assert value_at([(1, 0.3)], 1) == 0.3
