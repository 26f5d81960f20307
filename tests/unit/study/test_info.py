"""The stored description of a study, in this version and in 0.1."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tuner.goal import Goal
from tuner.space.search_settings import SearchSettings
from tuner.study.info import StudyInfo, StudyKind

PLAIN = StudyInfo("s", "unet_k", Goal("iou", "maximize"), "shapes", seed=3, parameters={"k": {"kind": "int"}})


@pytest.mark.parametrize("kind", StudyKind)
def test_a_study_is_read_as_it_was_stored(kind: StudyKind) -> None:
    info = StudyInfo(
        "s", "u", Goal("loss", "minimize"), "d", True, 3, {"k": {}}, kind, "small", 2, 5, "s3://b", "abc", id=4
    )
    again = StudyInfo.from_json(4, "s", json.loads(json.dumps(info.to_json())))
    assert again == info and again.kind is kind


def test_the_settings_of_the_search_are_read_as_they_were_stored_also_by_earlier_versions() -> None:
    info = replace(PLAIN, search=SearchSettings(pruning="promote", first_rung=2))
    stored = json.loads(json.dumps(info.to_json()))
    assert StudyInfo.from_json(0, "s", stored) == info and info.is_pruned
    del stored["search"]
    assert StudyInfo.from_json(0, "s", stored).search == SearchSettings()
    assert StudyInfo.from_json(0, "s", {**stored, "pruning": True}).search == SearchSettings()
    assert not StudyInfo.from_json(0, "s", {**stored, "pruning": False}).is_pruned


@pytest.mark.parametrize(
    ("listed", "kind", "table", "source"),
    [
        ({}, StudyKind.SEARCH, "", "search"),
        ({"listed": ""}, StudyKind.SEARCH, "", "search"),
        ({"listed": "table my rows"}, StudyKind.TABLE, "my rows", "table my rows"),
        ({"listed": "longer small"}, StudyKind.EXTENSION, "", "extension of small"),
    ],
)
def test_what_version_0_1_stored_is_read(listed: dict[str, Any], kind: StudyKind, table: str, source: str) -> None:
    stored = {"space": "unet_k", "goal": ["iou", "maximize"], "data": "shapes", "rehearsal": False, "seed": 3}
    info = StudyInfo.from_json(0, "s", {**stored, "parameters": {"k": {"kind": "int"}}, "key": "", **listed})
    assert (info.kind, info.table, info.source) == (kind, table, source)
    assert info.has_given_trials == (kind is not StudyKind.SEARCH)
    assert StudyInfo.from_json(0, "s", info.to_json()) == info and "listed" not in info.to_json()
    if kind is StudyKind.SEARCH:
        assert info == PLAIN


def test_limits_are_stored_and_a_study_without_them_is_stored_as_before() -> None:
    assert "limits" not in PLAIN.to_json()
    limited = replace(PLAIN, limits={"params": 2e6})
    assert StudyInfo.from_json(0, "s", json.loads(json.dumps(limited.to_json()))) == limited


def test_goals_beside_the_first_are_stored_and_measured_where_they_are_costs() -> None:
    assert "further" not in PLAIN.to_json() and PLAIN.goals == (PLAIN.goal,)
    several = replace(PLAIN, further=(Goal("params", "minimize"), Goal("dice", "maximize")), limits={"macs": 1e9})
    assert StudyInfo.from_json(0, "s", json.loads(json.dumps(several.to_json()))) == several
    assert several.goal_text == "maximize iou, minimize params, maximize dice"
    assert several.measures == ["macs", "params"]
