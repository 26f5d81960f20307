"""The front of several goals, and what is picked from it."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from tuner.errors import StudyError
from tuner.goal import Goal, maximize, minimize
from tuner.study.front import FrontTrial, find_front, pick_trial, read_complete, read_front, select_front
from tuner.study.info import StudyInfo
from tuner.study.study import join_study

GOALS = (maximize("iou"), minimize("params"))
INFO = StudyInfo("two", "two", GOALS[0], "shapes", further=GOALS[1:])
TRIALS = [
    FrontTrial(number, {"iou": iou, "params": params, "latency_ms": float(number)})
    for number, iou, params in ((0, 0.9, 100.0), (1, 0.85, 20.0), (2, 0.5, 10.0), (3, 0.8, 30.0), (4, 0.5, 11.0))
]


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_front_is_the_one_that_optuna_finds(number: int) -> None:
    draw = random.Random(number)
    directions = ["maximize", "minimize", "maximize"][:number]
    study = optuna.create_study(directions=directions)
    values = [[float(draw.randrange(12)) for _ in directions] for _ in range(60)]  # with equal ones
    study.add_trials([create_trial(values=each) for each in values])
    front = find_front(values, [Goal(str(at), each) for at, each in enumerate(directions)])
    best = study.best_trials if number > 1 else [t for t in study.trials if t.value == study.best_value]
    assert sorted(front) == sorted(trial.number for trial in best)
    assert [values[at][0] for at in front] == sorted((values[at][0] for at in front), reverse=True)


def test_a_front_is_read_from_the_database_without_trials_that_are_not_complete(tmp_path: Path) -> None:
    joined = join_study(f"sqlite:///{tmp_path / 'tuner.db'}", INFO)
    complete: dict[str, Any] = {"values": [0.9, 100.0], "user_attrs": {"params": 100.0, "latency_ms": 7, "x": 1}}
    joined.study.add_trial(create_trial(**complete))
    joined.study.add_trial(create_trial(**complete | {"values": [0.8, 200.0]}))
    joined.study.add_trial(create_trial(**complete | {"values": [0.7, 50.0]}))
    joined.study.add_trial(create_trial(state=TrialState.PRUNED, user_attrs={"params": 1.0}))
    info = replace(INFO, id=joined.id)
    assert read_complete(joined.engine, info)[0] == FrontTrial(0, {"iou": 0.9, "params": 100.0, "latency_ms": 7.0})
    assert [trial.number for trial in read_front(joined.engine, info)] == [0, 2]
    assert [trial.number for trial in joined.study.best_trials] == [0, 2]  # as Optuna says
    assert joined.study.metric_names == ["iou", "params"]
    joined.engine.dispose()


@pytest.mark.parametrize(
    ("pick", "number"),
    [
        ("3", 3),
        (" knee ", 1),
        ("params<100", 1),
        ("params<=100", 0),
        ("params < 30, iou > 0.4", 1),
        ("latency_ms>=3", 3),
        ("params<1.05e1", 2),
        ("iou:1,params:1", 1),  # trial 0 is the best in one and the worst in the other, as is 2
        ("iou: 20 , params:1", 0),
        ("iou:1e-3,params:1e300", 2),
        ("params:0.5", 2),
    ],
)
def test_a_trial_is_picked_by_its_number_the_knee_weights_or_conditions(pick: str, number: int) -> None:
    assert pick_trial(TRIALS, INFO, pick) == number


@pytest.mark.parametrize(
    ("pick", "told"),
    [
        ("9", "study 'two' has no finished trial 9. Finished: 0, 1, 2, 3, 4."),
        ("params<5", "no trial of study 'two' meets params<5: params is 10 to 100 in those that are left."),
        ("params<20,iou>0.8", "meets iou>0.8: iou is 0.5 to 0.5"),
        ("parms<5", "no trial has a 'parms'. Did you mean 'params'? Known: iou, params, latency_ms."),
        (
            "best",
            "'best' picks no trial. Give the number of a trial, 'knee', weights of goals such as 'iou:2', or "
            "conditions such as 'latency_ms<",
        ),
        (
            "iou:2,prams:1",
            "study 'two' has no goal 'prams' to weigh. Did you mean 'params'? Its goals: iou, params; give "
            "weights such as 'params:2'.",
        ),
        ("latency_ms:1", "has no goal 'latency_ms' to weigh."),
        ("iou:2,", "has no goal '' to weigh."),
        (":", "has no goal '' to weigh."),
        ("iou:2,iou:1", "the weight of iou is given twice; give one number above 0, such as 'iou:2'."),
        *(
            (f"iou:{wrong}", f"the weight of iou is '{wrong}'; give")
            for wrong in ("0", "-1", "nan", "inf", "x", "")
        ),
        ("params<1e", "'params<1e' picks no trial."),
        ("", "'' picks no trial."),
        ("9" * 30, "has no finished trial 999"),
    ],
)
def test_what_picks_nothing_is_told(pick: str, told: str) -> None:
    with pytest.raises(StudyError, match=re.escape(told)):
        pick_trial(TRIALS, INFO, pick)


def test_weights_are_of_goals_whose_names_may_have_colons() -> None:
    own = replace(INFO, goal=maximize("mine:score"))
    trials = [FrontTrial(at, {"mine:score": at / 2, "params": at * at}) for at in range(3)]
    assert [pick_trial(trials, own, f"mine:score:{weight},params:2") for weight in (0.5, 2, 4.5)] == [0, 1, 2]
    assert pick_trial(trials, own, "mine:score>0.7") == 2


def test_one_goal_has_a_front_of_its_best_and_no_knee() -> None:
    one = StudyInfo("one", "one", GOALS[0], "shapes")
    assert [trial.number for trial in select_front(TRIALS, one.goals)] == [0]
    with pytest.raises(StudyError, match="one goal, maximize iou, and so no knee"):
        pick_trial(TRIALS, one, "knee")
    with pytest.raises(StudyError, match="no finished trial yet"):
        pick_trial([], one, "3")
