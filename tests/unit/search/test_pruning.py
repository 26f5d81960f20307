"""Whether a search prunes at all."""

from __future__ import annotations

from dataclasses import replace

import optuna

from tuner.goal import Goal
from tuner.search.pruning import make_pruner
from tuner.space.search_settings import SearchSettings
from tuner.study.info import StudyInfo

INFO = StudyInfo("s", "s", Goal("iou", "maximize"), "shapes")


def test_without_pruning_every_trial_goes_on() -> None:
    assert isinstance(make_pruner(replace(INFO, search=SearchSettings(pruning="none"))), optuna.pruners.NopPruner)
    assert not isinstance(make_pruner(INFO), optuna.pruners.NopPruner)
