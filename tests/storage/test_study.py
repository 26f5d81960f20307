"""Studies are joined, compared, sampled and pruned alike on every database."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from tuner.errors import SpaceChanged, StudyError
from tuner.goal import Goal
from tuner.paths import Home
from tuner.search.samplers import make_sampler
from tuner.space.search_settings import SearchSettings
from tuner.study import budget
from tuner.study.info import StudyInfo
from tuner.study.storage import open_storage
from tuner.study.study import JoinedStudy, join_study, rejoin_study

LR = {"kind": "float", "low": 1e-5, "high": 1e-2, "log": True, "step": None}
K = {"kind": "int", "low": 32, "high": 200, "log": False, "step": 2}
LOSS = {"kind": "categorical", "choices": ["bce", "dice"]}
INFO = StudyInfo("s", "unet_k", Goal("iou", "maximize"), "shapes", False, 0, {"lr": LR, "k": K, "loss": LOSS})


@contextmanager
def joined(url: str, info: StudyInfo = INFO) -> Iterator[JoinedStudy]:
    study = join_study(url, info)
    try:
        yield study
    finally:
        study.engine.dispose()


def with_parameters(**parameters: dict[str, Any]) -> StudyInfo:
    return replace(INFO, parameters={**INFO.parameters, **parameters})


def complaint(url: str, info: StudyInfo) -> str:
    with joined(url), pytest.raises(SpaceChanged) as told:
        join_study(url, info)
    return str(told.value)


def test_joining_again_finds_the_same_study_with_the_seed_it_began_with(prepared_url: str) -> None:
    with (
        joined(prepared_url, replace(INFO, seed=3)) as first,
        joined(prepared_url, replace(INFO, seed=5)) as second,
    ):
        assert (second.id, second.info.seed) == (first.id, 3)
    again = rejoin_study(prepared_url, "s")
    assert again.info == replace(INFO, seed=3, key=first.info.key, id=first.id)
    again.engine.dispose()


def test_a_study_keeps_the_split_that_it_began_with(prepared_url: str) -> None:
    with joined(prepared_url), joined(prepared_url, replace(INFO, split="exact")) as second:
        assert second.info.split == "stable"
    with joined(prepared_url, replace(INFO, name="new", split="exact")):
        again = rejoin_study(prepared_url, "new")
        assert again.info.split == "exact"
        again.engine.dispose()


def test_optuna_knows_direction_and_metric(prepared_url: str) -> None:
    with joined(prepared_url, replace(INFO, goal=Goal("loss", "minimize"))) as made:
        assert made.study.direction.name == "MINIMIZE"
        assert made.study.metric_names == ["loss"]


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (with_parameters(k={**LR, "low": 32.0}), ["'k'", "from int 32 to 200, step 2", "to float"]),
        (with_parameters(loss={**LOSS, "choices": ["bce", "focal"]}), ["'loss'", "bce, dice", "bce, focal"]),
        (with_parameters(loss={**LOSS, "choices": ["dice", "bce"]}), ["'loss'", "dice, bce"]),
        (with_parameters(lr={**LR, "log": False}), ["'lr'", "log"]),
        (with_parameters(k={**K, "step": 4}), ["'k'", "step 4"]),
        (with_parameters(depth=K), ["'depth'", "from absent"]),
        (replace(INFO, parameters={"lr": LR, "loss": LOSS}), ["'k'", "to absent"]),
        (replace(INFO, goal=Goal("f1", "maximize")), ["goal", "iou", "f1"]),
        (replace(INFO, goal=Goal("iou", "minimize")), ["goal", "minimize"]),
        (replace(INFO, data="/photos"), ["data", "shapes", "/photos"]),
        (replace(INFO, layout="classes"), ["layout: from not given to classes"]),
        (replace(INFO, space="other"), ["space", "unet_k", "other"]),
        (replace(INFO, rehearsal=True), ["rehearsal"]),
        (replace(INFO, search=SearchSettings(pruning="none")), ["pruning: from stop to none"]),
        (
            replace(INFO, search=SearchSettings(first_rung=2, factor=4)),
            ["first rung: from 1 to 2", "factor: from 3"],
        ),
    ],
)
def test_every_kind_of_change_is_named_from_and_to(info: StudyInfo, words: list[str], tmp_path: Any) -> None:
    said = complaint(f"sqlite:///{tmp_path / 'tuner.db'}", info)
    assert all(word in said for word in words), said
    assert "--study" in said


def test_all_changes_are_listed_at_once(prepared_url: str) -> None:
    info = StudyInfo(
        "s", "unet_k", Goal("f1", "maximize"), "/photos", False, 0, {"lr": {**LR, "log": False}, "depth": K}
    )
    said = complaint(prepared_url, info)
    assert said.count("\n  - ") == 6
    assert all(word in said for word in ("data", "goal", "'depth'", "'k'", "'loss'", "'lr'"))


def test_other_bounds_are_accepted_and_noticed(
    prepared_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("tuner"), "propagate", True)
    with joined(prepared_url) as first, joined(prepared_url, with_parameters(k={**K, "high": 400})) as second:
        assert second.id == first.id
    assert "k: the bounds are now int 32 to 400" in caplog.text


def test_a_study_of_another_program_is_refused_by_name(prepared_url: str) -> None:
    storage, engine = open_storage(prepared_url)
    optuna.create_study(storage=storage, study_name="s").enqueue_trial({"x": 1})
    with pytest.raises(StudyError, match="not created by tuner"):
        join_study(prepared_url, INFO)
    engine.dispose()


def test_a_study_whose_creator_was_killed_is_completed(prepared_url: str) -> None:
    storage, engine = open_storage(prepared_url)
    optuna.create_study(storage=storage, study_name="s", direction="maximize")
    with joined(prepared_url) as made:
        assert made.study.user_attrs["tuner"]["space"] == "unet_k"
        assert not budget.read_budget(made.engine, made.id).budget.is_limited
    engine.dispose()


def in_memory(worker: int = 0, info: StudyInfo = INFO) -> optuna.Study:
    return optuna.create_study(direction="maximize", sampler=make_sampler(info, worker))


def drawn(worker: int, info: StudyInfo = INFO) -> list[float]:
    """The learning rates of twelve trials: ten at random, two by TPE."""
    study = in_memory(worker, info)
    for _ in range(12):
        trial = study.ask()
        study.tell(trial, trial.suggest_float("lr", 1e-5, 1e-2, log=True))
    return [trial.params["lr"] for trial in study.trials]


def test_the_same_worker_of_the_same_seed_draws_the_same() -> None:
    assert drawn(0) == drawn(0)


def test_two_workers_and_two_seeds_draw_different_points() -> None:
    assert len({*drawn(0), *drawn(1), *drawn(0, replace(INFO, seed=1))}) == 36


def test_studies_of_one_name_have_run_folders_of_their_own(tmp_path: Path) -> None:
    keys = set()
    for at in ("a", "b"):
        joined = join_study(f"sqlite:///{tmp_path / at}.db", INFO)
        again = join_study(f"sqlite:///{tmp_path / at}.db", INFO)
        assert joined.info.key == again.info.key != ""
        keys.add(Home(tmp_path).run("s", joined.info.key, 0).folder)
        joined.engine.dispose(), again.engine.dispose()
    assert len(keys) == 2


def test_limits_must_stay_because_trials_that_broke_them_were_not_trained(prepared_url: str) -> None:
    limited = replace(INFO, limits={"params": 2e6})
    assert "limit of params: from none to 2000000.0" in complaint(prepared_url, limited)
    with joined(prepared_url, replace(limited, name="limited")) as study:
        assert study.info.limits == {"params": 2e6}
    with pytest.raises(SpaceChanged) as told:
        join_study(prepared_url, replace(limited, name="limited", limits={"params": 3e6, "macs": 1e9}))
    assert "limit of params: from 2000000.0 to 3000000.0" in str(told.value)
    assert "limit of macs: from none to 1000000000.0" in str(told.value)
