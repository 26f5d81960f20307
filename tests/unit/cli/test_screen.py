"""What stands on a terminal of any size."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from rich.console import Console

from tuner.cli.screen import ScreenData, StudyScreen, fit_columns, fit_parts
from tuner.cli.sparklines import Curve
from tuner.errors import FailureKind
from tuner.goal import maximize, minimize
from tuner.study.budget import Budget, BudgetUse
from tuner.study.failures import Failure
from tuner.study.info import StudyInfo
from tuner.study.queries import StudySummary, WorkerInfo
from tuner.study.stats import Cost, StudyStats
from tuner.study.time_left import TimeLeft
from tuner.study.trial_queries import TrialInfo

STUDY = StudyInfo("unet_k", "unet_k", maximize("iou"), "photos", id=1)
BEST = TrialInfo(1, 7, "COMPLETE", 0.8123, {"lr": 0.0012, "k": 64}, {})
REASON = "out of memory with a single image of 1024 px: CUDA out of memory. Tried to allocate 2.00 GiB"
NOTHING = StudyStats(Cost(), (), TimeLeft(None, "unknown"), Budget(), BudgetUse(0, 0.0, 0.0), False, "")
FULL = replace(
    NOTHING,
    cost=Cost(trials=12, epochs=300, seconds=5400, saved=100, planned=160),
    failures=tuple(Failure(at, FailureKind.OUT_OF_MEMORY, REASON) for at in range(5)),
    left=TimeLeft(720, "trials"),
    device="NVIDIA H100",
)
RISING: Curve = [(epoch, 0.8 * epoch / 20) for epoch in range(1, 21)]


def worker(at: int, **doing: Any) -> WorkerInfo:
    plain = {
        "worker": f"w{at}",
        "host": "node7.lab",
        "pid": 4000 + at,
        "born": 1.0,
        "device": "NVIDIA H100",
    }
    plain |= {"beats": 1, "state": "training", "number": at, "step": 10, "steps": 20, "value": 0.5}
    return WorkerInfo(**{**plain, "params": {"lr": 0.00123, "loss": "bce"}, **doing})


def sight(
    workers: int = 2, tally: StudyStats = FULL, best: TrialInfo | None = BEST, study: StudyInfo = STUDY
) -> ScreenData:
    hands = tuple(worker(20 + at) for at in range(workers))
    states = {"COMPLETE": 5, "PRUNED": 2, "FAIL": 5, "RUNNING": workers}
    curves: dict[int, Curve] = {20 + at: RISING[:10] for at in range(workers)}
    return ScreenData(StudySummary(study, 50, states, 0, best, hands), tally, curves, RISING if best else ())


def lines(seen: ScreenData, width: int, height: int, ascii_only: bool = False, **how: Any) -> list[str]:
    """What rich writes for a terminal of this size."""
    file = io.TextIOWrapper(io.BytesIO(), "ascii" if ascii_only else "utf-8")
    console = Console(file=file, width=width, height=height)
    console.print(StudyScreen(seen, **how))
    file.flush()
    written: bytes = file.buffer.getvalue()  # type: ignore[attr-defined]
    return written.decode(file.encoding).splitlines()


@pytest.mark.parametrize("ascii_only", [False, True], ids=["unicode", "ascii"])
@pytest.mark.parametrize("width", [20, 40, 60, 80, 112, 200])
def test_it_fits_any_terminal_and_the_most_important_stays(width: int, ascii_only: bool) -> None:
    for height, workers in product((5, 10, 16, 24, 60), (0, 1, 3, 64)):
        shown = lines(sight(workers), width, height, ascii_only)
        text = "\n".join(shown)
        assert len(shown) <= height and max(map(len, shown)) <= width, text
        assert "unet_k" in text and "12 of 50 trials" in text, text
        assert width < 40 or "12 min" in text, text
        if height >= 10:
            assert ("20" in text or "and 6" in text) if workers else "no workers" in text, text


def test_all_is_there_where_there_is_room() -> None:
    text = "\n".join(lines(sight(), 130, 30))
    for words in (
        "unet_k: maximize iou on photos", "12 of 50 trials", "5 finished", "2 pruned", "5 failed",
        "time left: 12 min",
        "best so far: iou 0.8123", "trial 7", "lr=0.0012 k=64",
        "node7:4020", "NVIDIA H100", "lr=0.00123", "10/20", "0.4000", "vs best", "+0.0000",
        "spent: 300 epochs", "GPU time 1.5 h", "pruning saved 100 epochs (25 %)",
        "failed: 5 out of memory", f"trial 4: {REASON}", "trial 2: ",
    ):  # fmt: skip
        assert words in text, words
    assert "trial 1: " not in text  # the last few
    assert "●" in text


def test_forty_columns_and_ten_lines_show_the_trials_their_curves_and_what_failed() -> None:
    text = "\n".join(lines(sight(3), 40, 10))
    for words in ("12 of 50 trials", "left: 12 min", "best so far: iou 0.8123", "300 epochs", "5 out of memory"):
        assert words in text, words
    assert all(f"   {number} " in text for number in (20, 21, 22)) and text.count("●") == 3


def test_more_workers_than_lines_are_counted() -> None:
    assert "and 58 more workers" in "\n".join(lines(sight(64), 80, 12))
    assert "node7:4083" in "\n".join(lines(sight(64), 112, 100))


def test_ascii_is_ascii() -> None:
    shown = lines(sight(), 112, 30, ascii_only=True)
    assert "o" in "".join(shown) and shown[0].startswith("+-")
    assert "?" not in "".join(shown)


def column_widths(width: int) -> dict[str, int]:
    seen = ScreenData(StudySummary(STUDY, None, {}, 0, BEST, ()), NOTHING)
    return {title: size for title, size, *_ in fit_columns(seen, width)}


def test_the_plot_grows_with_the_window_and_numbers_come_with_it() -> None:
    assert not {"worker", "best", "vs best"} & column_widths(40).keys()
    assert column_widths(40)["iou by epoch"] > 10
    assert {"best", "vs best"} <= column_widths(80).keys() and "worker" not in column_widths(80)
    assert {"worker", "parameters"} <= column_widths(110).keys()
    assert column_widths(200)["iou by epoch"] > column_widths(120)["iou by epoch"]


@pytest.mark.parametrize("width", [40, 112])
def test_a_study_in_which_nothing_has_happened(width: int) -> None:
    seen = ScreenData(
        StudySummary(STUDY, None, {}, 0, None, ()), replace(NOTHING, left=TimeLeft(None, "no workers"))
    )
    text = "\n".join(lines(seen, width, 24))
    for words in ("0 trials", "best so far: -", "no workers are running", "spent: 0 epochs"):
        assert words in text
    assert "0 failed" in text and "failed:" not in text


def test_all_failed() -> None:
    seen = ScreenData(StudySummary(STUDY, 5, {"FAIL": 5}, 0, None, ()), replace(FULL, left=TimeLeft(0.0, "done")))
    text = "\n".join(lines(seen, 80, 24))
    assert "5 of 5 trials" in text and "failed: 5 out of memory" in text and "left: done" in text


@pytest.mark.parametrize(
    ("curve", "value", "now"),
    [
        ([], None, "-"),
        ([(1, 0.25)], 0.25, "0.2500"),
        ([(1, math.nan)], math.nan, "nan"),
        ([(1, 0.25), (2, math.nan)], math.nan, "0.2500"),
        ([(1, 12345678.0)], 12345678.0, "1.2e+07"),
    ],
    ids=["none", "one epoch", "nan", "then nan", "large"],
)
@pytest.mark.parametrize("width", [40, 112])
def test_curves_that_are_hardly_any(curve: Curve, value: float | None, now: str, width: int) -> None:
    seen = replace(sight(1), curves={20: curve}, best=())
    seen = replace(seen, now=replace(seen.now, workers=(worker(20, value=value),)))
    assert now in "\n".join(lines(seen, width, 24))


def test_what_a_worker_does_before_it_trains_stands_in_the_place_of_its_curve() -> None:
    seen = replace(sight(1), curves={})
    busy = worker(20, state="caching photos", step=120, steps=400, number=None, value=None, params=None)
    seen = replace(seen, now=replace(seen.now, workers=(busy,)))
    assert "caching photos 120/400" in "\n".join(lines(seen, 112, 24))


def test_within_an_epoch_its_steps_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = sight(1)
    busy = worker(20, step=3, steps=20, batch=120, batches=450)
    seen = replace(seen, now=replace(seen.now, workers=(busy,)))
    text = "\n".join(lines(seen, 80, 24))
    assert " 4/20 " in text and "step 120/450" in text
    assert " 4/20 27% " in "\n".join(lines(seen, 80, 10))
    before_a_curve = "\n".join(lines(replace(seen, curves={}), 80, 24))
    assert "training, step 120/450" in before_a_curve
    between = replace(seen, now=replace(seen.now, workers=(replace(busy, batch=0, batches=0),)))
    assert " 3/20 " in "\n".join(lines(between, 80, 24))


def test_paused_and_the_database_away_are_said_first() -> None:
    seen = replace(
        sight(3, replace(FULL, paused=True, left=TimeLeft(None, "paused"))),
        notice="database unreachable since 10:00",
    )
    for size in ((40, 10), (112, 24)):
        text = "\n".join(lines(seen, *size))
        assert "paused" in text and "database unreachable since 10:00" in text


def test_the_wall_time_is_shown_where_it_is_limited() -> None:
    tally = replace(FULL, budget=Budget(hours=8.0), spent=BudgetUse(0, 2.0, 0.0))
    assert "wall time 2 h of 8 h" in "\n".join(lines(sight(tally=tally), 112, 24))


def test_where_less_is_better_less_is_marked_better() -> None:
    worse: Curve = [(epoch, value + 0.1) for epoch, value in RISING[:10]]
    for goal, style in ((minimize("loss"), "33"), (maximize("iou"), "32")):
        seen = replace(sight(1, study=replace(STUDY, goal=goal)), curves={20: worse})
        console = Console(file=io.StringIO(), width=112, height=24, force_terminal=True, color_system="standard")
        console.print(StudyScreen(seen))
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        assert f"\x1b[1;{style}m●" in shown and f"\x1b[1;{style}m +0.1000" in shown
        assert ("0.1400" if goal.metric == "loss" else "0.5000") in shown  # the best of the curve


def test_names_are_shown_as_they_are_and_no_terminal_obeys_them() -> None:
    odd = replace(STUDY, name="my [/x] study", data="photos [raw] \x1b[2J")
    failure = Failure(1, FailureKind.EXCEPTION, "\x1b]0;title\x07 [bold]", "odd [red]")
    text = "\n".join(lines(sight(study=odd, tally=replace(FULL, failures=(failure,))), 120, 24))
    assert "my [/x] study: maximize iou on photos [raw]" in text and "1 odd [red]" in text and "[bold]" in text
    assert "\x1b" not in text and "\x07" not in text


def test_wide_characters_do_not_break_the_frame() -> None:
    wide = replace(STUDY, name="細胞" * 40, data="größe")
    assert len(lines(sight(study=wide), 80, 24)) <= 24


def test_what_watches_is_said_beside_the_heading_where_there_is_room() -> None:
    assert "the most recent of 3" in lines(sight(), 112, 24, mark="the most recent of 3")[0]
    assert "most recent" not in lines(sight(), 40, 10, mark="the most recent of 3 studies")[0]


def test_parts_are_left_out_by_rank_and_shown_in_order() -> None:
    parts = [(0, "first", ""), (2, "second", ""), (1, "third", ""), (1, "", "")]
    assert fit_parts(parts, 40).plain == "first   second   third"
    assert fit_parts(parts, 15).plain == "first   third"
    assert fit_parts(parts, 7).plain == "first"
    assert fit_parts(parts, 3).plain == "fi…"
