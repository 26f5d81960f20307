"""SEARCH of a space: what it may hold, how it is stored, and what overrides it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import tuner
from tuner.errors import SpaceError, StudyError
from tuner.space.rungs import parse_first_rung
from tuner.space.search_settings import SearchChoice, SearchSettings
from tuner.space.space import load_space

SPACE = """
from tuner import maximize, search
GOAL = maximize("iou")
SEARCH = {search}
def suggest(trial): ...
"""


def load(folder: Path, search: str) -> SearchChoice:
    path = folder / "mine.py"
    path.write_text(SPACE.format(search=search))
    return load_space(str(path)).search


def test_a_new_study_pauses_and_learns_from_the_first_rung() -> None:
    assert tuner.search().settle() == SearchSettings("early", "promote", 1, 3)
    assert tuner.search(pruning="stop").settle() == SearchSettings("tpe", "stop", 1, 3)
    assert tuner.search(pruning="thaw").settle() == SearchSettings("early", "thaw", 1, 3)
    assert tuner.search(pruning="none").settle() == SearchSettings("tpe", "none", 1, 3)
    assert tuner.search(sampler="random").settle() == SearchSettings("random", "promote", 1, 3)


def test_several_goals_are_not_searched_by_the_first_one_alone() -> None:
    assert tuner.search().settle(has_several_goals=True) == SearchSettings("tpe", "stop", 1, 3)
    assert tuner.search(pruning="promote").settle(has_several_goals=True) == SearchSettings("tpe", "promote")


def test_a_stored_study_keeps_what_is_not_chosen() -> None:
    before = SearchSettings("tpe", "stop", 2, 4)
    assert tuner.search().join(before) == before
    assert tuner.search(sampler="gp", factor=2).join(before) == SearchSettings("gp", "stop", 2, 2)
    grid = SearchSettings("grid", "none", grid={"lr": [1.0]})
    assert tuner.search().join(grid) == grid
    assert tuner.search(sampler="tpe").join(grid) == SearchSettings("tpe", "none")


def test_a_space_says_how_it_is_searched(tmp_path: Path) -> None:
    found = load(tmp_path, "search(pruning='stop', first_rung=2)")
    assert found == SearchChoice({"pruning": "stop", "first_rung": 2})
    assert found.settle() == SearchSettings("tpe", "stop", 2, 3)
    with pytest.raises(SpaceError, match=r"SEARCH of .* is 'tpe'. Write for example: SEARCH = search"):
        load(tmp_path, "'tpe'")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sampler": "tpee"}, ["sampler is 'tpee'. Did you mean 'tpe'? Known: tpe"]),
        ({"pruning": "halt"}, ["pruning is 'halt'", "Known: stop, promote, thaw, none."]),
        ({"pruning": ["stop"]}, ["pruning is ['stop']"]),
        (
            {"first_rung": 0, "factor": 1},
            ["first_rung is 0; a whole number of at least 1", "factor is 1", "least 2"],
        ),
        ({"first_rung": True}, ["first_rung is True"]),
        ({"first_rung": 1.5}, ["first_rung is 1.5; a whole number of at least 1 (epochs), a part"]),
        ({"first_rung": -0.5}, ["first_rung is -0.5"]),
        ({"first_rung": float("nan")}, ["first_rung is nan"]),
        ({"first_rung": "60"}, ["first_rung is '60'", "such as 1/3, or a time, such as '60s' or '5m', is needed"]),
        ({"first_rung": "x s"}, ["first_rung is 'x s'"]),
        ({"first_rung": "60s", "pruning": "thaw"}, ["pruning='thaw' needs a first_rung in epochs", "it is '60s'"]),
        ({"first_rung": "0s"}, ["first_rung is '0s'"]),
        ({"warm_from": "horses"}, ["warm_from is 'horses'; names of studies are needed"]),
        ({"prior": {"lr": 1e-3}}, ["prior is {'lr': 0.001}; a value and the trust in it, above 0 and below 1"]),
        ({"prior": {"lr": (1e-3, 1)}}, ["above 0 and below 1"]),
        ({"sampler": "grid", "prior": {"lr": (1e-3, 0.5)}}, ["a grid has every point in any case"]),
    ],
)
def test_everything_wrong_is_told_at_once_in_one_line(
    tmp_path: Path, given: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(SpaceError) as told:
        load(tmp_path, f"search(**{given})".replace("nan", "float('nan')"))
    assert all(word in str(told.value) for word in [*words, "(line 4)"]) and "\n" not in str(told.value)


def test_options_override_what_the_space_says() -> None:
    mine = SearchChoice({"pruning": "promote", "factor": 4})
    assert mine.with_options({}) == mine
    assert mine.with_options({"pruning": "none", "factor": None}).chosen == {"pruning": "none", "factor": 4}
    with pytest.raises(StudyError, match="sampler is 'tpee'"):
        mine.with_options({"sampler": "tpee"})


def test_what_is_told_before_the_first_trial_stays_out_of_a_grid() -> None:
    mine = tuner.search(warm_from=["horses"], prior={"lr": (1e-3, 0.7)})
    assert str(mine.settle()).endswith("factor 3, learns from horses, prior of lr")
    assert mine.with_options({"sampler": "grid"}).chosen == {"sampler": "grid"}
    assert tuner.search(sampler="grid").join(mine.settle()) == SearchSettings("grid", "promote")
    assert mine.with_options({"warm_from": ["cells"]}).settle().warm_from == ["cells"]
    assert tuner.search(factor=4).join(mine.settle()).warm_from == ["horses"]


def test_stored_settings_are_read_as_they_were() -> None:
    mine = SearchSettings(pruning="promote", first_rung=2)
    assert SearchSettings.from_json(mine.to_json()) == mine


def test_a_first_rung_may_be_a_part_of_an_epoch() -> None:
    mine = SearchSettings(pruning="promote", first_rung=1 / 3)
    assert (mine.part, mine.first_count) == (1 / 3, 1) and SearchSettings.from_json(mine.to_json()) == mine
    assert str(mine) == "tpe, pruning promote, first rung 1/3, factor 3"
    assert mine.rungs_text == "after 1/3, 1, 3, 9, 27, ... epochs"
    whole = SearchSettings(first_rung=2, factor=4)
    assert (whole.part, whole.first_count, whole.rungs_text) == (0, 2, "after 2, 8, 32, 128, 512, ... epochs")


def test_a_first_rung_may_be_a_time() -> None:
    mine = SearchSettings(first_rung="5m")
    assert mine == SearchSettings(first_rung="300s") == SearchSettings.from_json(mine.to_json())
    assert (mine.first_rung, mine.seconds, mine.part, mine.first_count) == ("300s", 300, 0, 300_000)
    assert str(mine) == "tpe, pruning stop, first rung 5 min, factor 3"
    assert (
        SearchSettings(first_rung="60s").rungs_text == "after 60 s, 3 min, 9 min, 27 min, 1.4 h, ... of training"
    )
    assert SearchSettings(first_rung="0.5s").first_rung == "0.5s"


@pytest.mark.parametrize(
    ("text", "rung"),
    [("2", 2), ("1/3", 1 / 3), ("0.33", 0.33), ("1.5", 1.5), ("1/0", "1/0"), ("60s", "60s"), ("x", "x")],
)
def test_a_first_rung_is_read_from_text(text: str, rung: object) -> None:
    assert parse_first_rung(text) == rung
