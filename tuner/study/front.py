"""The front of a study with several goals: the trials than which no other is better in all of them.

It is read without Optuna. The front of a study with one goal is its best trial.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import ge, gt, le, lt

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tuner.errors import StudyError, did_you_mean, format_names, printable
from tuner.goal import COSTS, Goal
from tuner.study.info import StudyInfo
from tuner.study.optuna_tables import trial_attrs, trial_values, trials

CONDITION = re.compile(r"\s*([^\s<>=]+)\s*(<=|>=|<|>)\s*([0-9.eE+-]+)\s*")
COMPARE: dict[str, Callable[[float, float], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}
KNEE = "knee"


@dataclass(frozen=True)
class FrontTrial:
    """A complete trial with the values of all goals, and what else was measured of it, by name."""

    number: int
    values: Mapping[str, float]


def find_front(values: Sequence[Sequence[float]], goals: Sequence[Goal]) -> list[int]:
    """Return the indices of the values that no others dominate, the best of the first goal first.

    Of equal ones, all are returned.
    """
    signs = [-1.0 if goal.direction == "maximize" else 1.0 for goal in goals]
    losses = [tuple(sign * value for sign, value in zip(signs, each, strict=True)) for each in values]
    front: list[int] = []
    for at in sorted(range(len(losses)), key=lambda at: (losses[at], at)):  # none dominates an earlier one
        if not any(dominates(losses[other], losses[at]) for other in front):
            front.append(at)
    return front


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether losses are at most as large as others, and not equal to them."""
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def read_complete(engine: Engine, info: StudyInfo) -> list[FrontTrial]:
    """Return the complete trials that have a finite value of each goal."""
    mine = (trials.c.study_id == info.id) & (trials.c.state == "COMPLETE")
    values = sa.select(trials.c.number, trial_values).join(trials, trials.c.trial_id == trial_values.c.trial_id)
    attrs = sa.select(trials.c.number, trial_attrs).join(trials, trials.c.trial_id == trial_attrs.c.trial_id)
    found: dict[int, dict[str, float]] = {}
    with engine.connect() as db:
        for row in db.execute(values.where(mine, trial_values.c.value_type == "FINITE")):
            if row.objective < len(info.goals):
                found.setdefault(row.number, {})[info.goals[row.objective].metric] = row.value
        for row in db.execute(attrs.where(mine, trial_attrs.c.key.in_(list(COSTS)))):
            found.setdefault(row.number, {}).setdefault(row.key, float(json.loads(row.value_json)))
    whole = {number: each for number, each in found.items() if all(goal.metric in each for goal in info.goals)}
    return [FrontTrial(number, whole[number]) for number in sorted(whole)]


def select_front(complete: Sequence[FrontTrial], goals: Sequence[Goal]) -> list[FrontTrial]:
    """Return the trials of the front, the best of the first goal first."""
    front = find_front([[trial.values[goal.metric] for goal in goals] for trial in complete], goals)
    return [complete[at] for at in front]


def read_front(engine: Engine, info: StudyInfo) -> list[FrontTrial]:
    """Return the trials of a study's front, the best of the first goal first."""
    return select_front(read_complete(engine, info), info.goals)


def pick_trial(complete: Sequence[FrontTrial], info: StudyInfo, pick: str) -> int:
    """Return the number of the trial that `pick` chooses of the complete ones.

    pick: the number of a trial; "knee", the trial of the front that is nearest to the best of all goals; weights
        of goals such as "iou:2,params:1": the trial of the front with the best weighted sum; or conditions such as
        "params<2e6,iou>0.8": the best by the first goal of those that meet them.

    StudyError if it chooses none.
    """
    if not complete:
        raise StudyError(f"study '{info.name}' has no finished trial yet; there is nothing to pick from.")
    text = pick.strip()
    if text.isascii() and text.isdecimal():
        return pick_number(complete, info, text)
    if text == KNEE:
        return pick_knee(select_front(complete, info.goals), info)
    if ":" in text and not CONDITION.match(text):
        return pick_weighted(select_front(complete, info.goals), parse_weights(text, info), info)
    return pick_best(complete, info, pick)


def pick_number(complete: Sequence[FrontTrial], info: StudyInfo, text: str) -> int:
    known = [trial.number for trial in complete]
    if len(text) > 18 or int(text) not in known:
        shown = format_names(map(str, known))
        raise StudyError(f"study '{info.name}' has no finished trial {printable(text, 20)}. Finished: {shown}.")
    return int(text)


def pick_knee(front: Sequence[FrontTrial], info: StudyInfo) -> int:
    """Return the trial of the front that is nearest to the best of each goal, in units of the front's range."""
    if not info.further:
        raise StudyError(f"study '{info.name}' has one goal, {info.goal}, and so no knee. Leave the pick out.")
    lost = scale_losses(front, info.goals)
    return front[min(range(len(front)), key=lambda at: (sum(loss**2 for loss in lost[at].values()), at))].number


def pick_weighted(front: Sequence[FrontTrial], weights: Mapping[str, float], info: StudyInfo) -> int:
    """Return the trial of the front with the best weighted sum of goals, each in units of the front's range."""
    lost, largest = scale_losses(front, info.goals), max(weights.values())
    sums = [sum(weight / largest * losses[name] for name, weight in weights.items()) for losses in lost]
    return front[min(range(len(front)), key=lambda at: (sums[at], at))].number


def scale_losses(front: Sequence[FrontTrial], goals: Sequence[Goal]) -> list[dict[str, float]]:
    """Return how far each trial of a front is from the best of each goal: 1 is the worst of the front."""
    lost: list[dict[str, float]] = [{} for _ in front]
    for goal in goals:
        values = [trial.values[goal.metric] for trial in front]
        best, worst = (max(values), min(values)) if goal.direction == "maximize" else (min(values), max(values))
        for losses, value in zip(lost, values, strict=True):
            losses[goal.metric] = (value - best) / (worst - best) if worst != best else 0.0
    return lost


def parse_weights(text: str, info: StudyInfo) -> dict[str, float]:
    """Return the weights of a text such as "iou:2,params:1" by goal; StudyError if one cannot be read."""
    known, weights = [goal.metric for goal in info.goals], dict[str, float]()
    for item in text.split(","):
        name, _, number = (part.strip() for part in item.rpartition(":"))  # a metric of one's own has a colon too
        if name not in known:
            hint = did_you_mean(name, known)
            raise StudyError(
                f"study '{info.name}' has no goal '{printable(name or number, 80)}' to weigh.{hint} Its goals: "
                f"{', '.join(known)}; give weights such as '{known[-1]}:2'."
            )
        weight = parse_weight(number)
        if name in weights or not weight:
            wrong = "given twice" if name in weights else f"'{printable(number, 80)}'"
            raise StudyError(f"the weight of {name} is {wrong}; give one number above 0, such as '{name}:2'.")
        weights[name] = weight
    return weights


def parse_weight(text: str) -> float:
    """Return the finite number above 0 that a text is; 0 if it is none."""
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 < weight < math.inf else 0.0


def pick_best(complete: Sequence[FrontTrial], info: StudyInfo, pick: str) -> int:
    """Return the best trial by the first goal of those that meet all conditions."""
    left = list(complete)
    for name, sign, number in parse_conditions(pick, complete):
        meets = [trial for trial in left if name in trial.values and COMPARE[sign](trial.values[name], number)]
        if not meets:
            values = [trial.values[name] for trial in left if name in trial.values] or [float("nan")]
            raise StudyError(
                f"no trial of study '{info.name}' meets {name}{sign}{number:g}: {name} is {min(values):.4g} to "
                f"{max(values):.4g} in those that are left."
            )
        left = meets
    return select_front(left, (info.goal,))[0].number


def parse_conditions(pick: str, complete: Sequence[FrontTrial]) -> Iterator[tuple[str, str, float]]:
    """Yield the name, sign and number of each condition; StudyError if one cannot be read."""
    known = list(dict.fromkeys(name for trial in complete for name in trial.values))
    for text in pick.split(","):
        found = CONDITION.fullmatch(text)
        try:
            number = float(found[3]) if found else None
        except ValueError:
            number = None
        if found is None or number is None:
            raise StudyError(
                f"'{printable(pick, 80)}' picks no trial. Give the number of a trial, '{KNEE}', weights of goals "
                f"such as '{known[0]}:2', or conditions such as "
                f"'{known[-1]}<{complete[0].values.get(known[-1], 1):.3g}'."
            )
        if found[1] not in known:
            hint = did_you_mean(found[1], known)
            raise StudyError(f"no trial has a '{printable(found[1], 80)}'.{hint} Known: {', '.join(known)}.")
        yield found[1], found[2], number
