"""What `tuner check` says of a study with several goals."""

from __future__ import annotations

import pytest

from tuner.cli.spaces import describe_goals
from tuner.goal import Goal
from tuner.space.search_settings import SearchSettings
from tuner.study.info import StudyInfo


@pytest.mark.parametrize(
    ("sampler", "is_told"), [("early", True), ("gp", True), ("cmaes", True), ("nsga2", False)]
)
def test_samplers_that_learn_from_the_first_goal_are_named(sampler: str, is_told: bool) -> None:
    search, further = SearchSettings(sampler=sampler), (Goal("params", "minimize"),)
    told = describe_goals(StudyInfo("s", "s", Goal("iou", "maximize"), "shapes", search=search, further=further))
    assert (f"the best trial and the sampler {sampler} by iou alone" in told) is is_told
