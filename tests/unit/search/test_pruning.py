"""When the scheduler is asked about a trial, and what becomes of its answer."""

from __future__ import annotations

from helpers.schedulers import Asked
from optuna.trial import FrozenTrial

from tuner.search.curves import fill_gaps
from tuner.search.pruning import judge_epoch
from tuner.search.scheduler import Curve
from tuner.study.decisions import Action
from tuner.study.pending import ActiveTrial
from tuner.study.trial_reader import make_trial


class Curves:
    """The curve of one running trial."""

    def __init__(self, trial: FrozenTrial) -> None:
        self.trial = trial

    def read_at(self, number: int, epoch: int) -> list[Curve]:
        values = {at: value for at, value in self.trial.intermediate_values.items() if at <= epoch}
        return [Curve(number, fill_gaps(values), 100, "running")]


def judged(
    values: dict[int, float],
    epochs: list[int],
    answer: Action = "stop",
    at: int = 3,
    rungs: tuple[int, ...] = (1, 3, 9),
) -> ActiveTrial:
    """Return a trial with these values after the scheduler was asked about these epochs."""
    frozen = make_trial(7, 0, "RUNNING", None)
    frozen.intermediate_values.update(values)
    active = ActiveTrial(frozen, 1, 0, "")
    active.unjudged = epochs
    while active.unjudged:
        judge_epoch(Asked(at, answer, rungs), Curves(frozen), active)  # type: ignore[arg-type]
    return active


def test_a_trial_is_judged_at_its_rungs_only() -> None:
    active = judged({1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4}, [1, 2, 3, 4], at=9)
    assert (active.verdict, list(active.pending.judgements), active.judged) == ("", [1, 3], 3)


def test_a_rung_without_validation_is_judged_at_the_next_epoch_with_it() -> None:
    active = judged({2: 0.2, 4: 0.4, 6: 0.6}, [2, 4, 6])
    assert (active.verdict, active.frozen.user_attrs["pruned_at"]) == ("stop", 4)
    assert [judgement.action for judgement in active.pending.judgements.values()] == ["continue", "stop"]


def test_a_rung_is_judged_once_however_often_it_is_asked_about() -> None:
    active = judged({1: 0.1, 3: 0.3}, [1, 1, 3, 3], at=9)
    assert list(active.pending.judgements) == [1, 3]


def test_a_pause_is_written_when_the_trial_rests() -> None:
    active = judged({1: 0.1, 2: 0.2, 3: 0.3}, [3], "pause")
    assert active.verdict == "pause" and active.judgement is not None and active.judgement.epoch == 3
    assert not active.pending.judgements and "pruned_at" not in active.frozen.user_attrs


def test_a_rung_within_the_first_epoch_is_judged_once() -> None:
    active = judged({0: 0.1, 1: 0.2, 3: 0.3}, [0, 1, 3], at=9, rungs=(0, 1, 3))
    assert (list(active.pending.judgements), active.judged) == ([0, 1, 3], 3)
    active = judged({0: 0.1}, [0, 0], at=0, rungs=(0, 1, 3))
    assert (active.verdict, active.frozen.user_attrs["pruned_at"]) == ("stop", 0)


def test_a_trial_that_was_not_scored_within_the_first_epoch_is_not_judged_there() -> None:
    active = judged({1: 0.2}, [1], at=9, rungs=(0, 1, 3))
    assert list(active.pending.judgements) == [1]


def test_gaps_between_epochs_are_filled_and_the_value_within_the_first_stands_for_itself() -> None:
    assert fill_gaps({0: 0.1, 2: 0.2, 3: 0.3}) == {0: 0.1, 1: 0.2, 2: 0.2, 3: 0.3}
    assert fill_gaps({2: 0.2}) == {1: 0.2, 2: 0.2}
