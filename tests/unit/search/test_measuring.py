"""A trial that breaks a limit ends before it is trained, and the samplers learn from it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch
from helpers.command_line import opened, rows
from helpers.worker_place import Place
from optuna.trial import TrialState

from tuner.goal import maximize, minimize
from tuner.search import measuring
from tuner.search.measuring import OverLimit, make_memory_check
from tuner.space.search_settings import SearchSettings
from tuner.study import queries, trial_queries
from tuner.study.info import StudyInfo

K = '    k = trial.suggest_categorical("k", [2, 8])\n'
LIMITS = {"params": 20_000.0}  # a U-Net of width 2 has 8,000, of width 8 ten times as many


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Place(tmp_path, search=SearchSettings(sampler="random", pruning="none"), limits=LIMITS)


def test_a_trial_over_a_limit_is_not_trained_and_never_the_best(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tuner")
    place.study(4, epochs=1, model='use("unet", k=k)', extra=K).work()
    trials = place.trials()
    wide = [trial for trial in trials if trial.params["k"] == 8]
    narrow = [trial for trial in trials if trial.params["k"] == 2]
    assert wide and narrow
    for trial in wide:
        assert (trial.state, trial.values, trial.intermediate_values) == (TrialState.PRUNED, None, {})
        assert trial.user_attrs["params"] > 20_000
        assert trial.constraints == {"params": trial.user_attrs["params"] / 20_000 - 1}
        assert trial.user_attrs["over_limit"].endswith("limit 2e+04") and "recipe" in trial.user_attrs
        assert f"trial {trial.number}: over a limit: params" in caplog.text
    for trial in narrow:
        assert trial.state is TrialState.COMPLETE and trial.constraints["params"] < 0
    assert {row.trial_id for row in rows(place.url, "SELECT * FROM tuner_epoch")} == {t._trial_id for t in narrow}
    with opened(place.url) as engine:
        now = queries.read_summary(engine, queries.find_study(engine, None))
        assert now.states == {"COMPLETE": len(narrow), "OVER_LIMIT": len(wide)}
        assert now.num_over_limit == len(wide) and now.num_finished == 4
        assert now.best is not None and now.best.params["k"] == 2
        assert queries.explain_limits(engine, now) == ""


def test_a_study_that_nothing_meets_says_so_in_one_line(place: Place) -> None:
    place.limits = {"params": 10.0, "latency_ms": 1e-6}
    place.study(2, epochs=1).work()
    with opened(place.url) as engine:
        now = queries.read_summary(engine, queries.find_study(engine, None))
        told = queries.explain_limits(engine, now)
    assert told.startswith("each of 2 trials broke a limit and was not trained; the least that was met: params ")
    assert all("latency_ms" not in trial.user_attrs for trial in place.trials())  # the model was not even built


def test_latency_is_measured_once_and_other_devices_are_told(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place.limits = {"latency_ms": 20.0}
    monkeypatch.setattr(measuring, "measure_latency", lambda *_: 20.0)
    place.study(1, epochs=1).work()
    monkeypatch.setattr(measuring, "measure_latency", lambda *_: 20.5)
    monkeypatch.setattr(measuring, "device_name", lambda _: "another")
    place.study(3, epochs=1).work()
    first, *others = place.trials()
    assert first.state is TrialState.COMPLETE and first.user_attrs["latency_ms"] == 20.0
    assert [trial.state for trial in others] == [TrialState.PRUNED] * 2
    told = [
        line for line in caplog.messages if "latency_ms is measured on another here, in other trials on" in line
    ]
    assert len(told) == 1


def memory_check(monkeypatch: pytest.MonkeyPatch, device: str, peaks: list[float]) -> tuple[optuna.Trial, Any]:
    """A check of a trial on a device whose peak memory takes these values."""
    monkeypatch.setattr(measuring.memory, "peak_bytes", lambda _: 1e9 * peaks.pop(0))
    info = StudyInfo("s", "s", maximize("iou"), "shapes", limits={"peak_memory_gb": 8.0})
    context: Any = SimpleNamespace(device=torch.device(device))
    trial = optuna.create_study().ask()
    trial.set_user_attr("peak_memory_gb", 3.0)  # as it was predicted
    return trial, make_memory_check(trial, info, context)


def test_the_memory_of_a_gpu_is_watched_in_the_first_steps_and_after_each_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trial, check = memory_check(monkeypatch, "cuda", [2.0, 5.0, 5.0, 6.0, 8.5])
    for _ in range(10):
        check(False)
    assert trial.user_attrs["peak_memory_gb"] == 5.0  # the prediction was too low
    check(True)
    assert trial.user_attrs["peak_memory_gb"] == 6.0
    with pytest.raises(OverLimit, match=r"peak_memory_gb 8\.5, limit 8"):
        check(True)
    frozen = trial.study.trials[0]
    assert frozen.constraints == {"peak_memory_gb": 8.5 / 8 - 1}


def test_the_memory_of_a_process_on_the_processor_is_not_that_of_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trial, check = memory_check(monkeypatch, "cpu", [])
    for is_epoch in (False, False, False, True):
        check(is_epoch)
    assert trial.user_attrs["peak_memory_gb"] == 3.0


def test_a_trial_of_several_goals_has_a_value_for_each_and_a_pruned_one_none(place: Place) -> None:
    place.limits, place.search = {}, SearchSettings(sampler="random", pruning="stop")
    goals = (minimize("params"), maximize("dice"), minimize("epoch_seconds"))
    place.further = goals
    place.study(4, epochs=2, model='use("unet", k=k)', extra=K).work()
    trials = place.trials()
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    assert complete and all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    for trial in complete:
        epoch = trial.user_attrs["result"]["best_epoch"]
        (row,) = rows(place.url, f"SELECT * FROM tuner_epoch WHERE trial_id={trial._trial_id} AND epoch={epoch}")
        metrics = json.loads(row.metrics)
        assert trial.values[:3] == [metrics["val_iou"], trial.user_attrs["params"], metrics["val_dice"]]
        assert trial.values[3] == trial.user_attrs["epoch_seconds"] > 0
    assert all(trial.values is None for trial in trials if trial.state is TrialState.PRUNED)
    with opened(place.url) as engine:
        info = queries.find_study(engine, None)
        best = queries.read_summary(engine, info).best
        assert best is not None and best.value == max(trial.values[0] for trial in complete)
        assert [one.value for one in trial_queries.read_trials(engine, info) if one.state == "PRUNED"] == [
            None
        ] * (4 - len(complete))
