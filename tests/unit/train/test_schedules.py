"""Schedules step once an epoch; plateau looks at the validation loss."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn, optim
from torch.optim import lr_scheduler

from tuner.errors import PartError
from tuner.recipe import Part, Value, use
from tuner.registry import build
from tuner.train.optimizers import adam
from tuner.train.schedules import (
    SCHEDULES,
    Schedule,
    apply_schedule,
    cosine,
    depends_on_end,
    exponential,
    learning_rates,
    none,
    plateau,
    step_schedule,
)


def optimizer(lr: float = 0.1) -> optim.Optimizer:
    weights = nn.Parameter(torch.ones(2))
    made = adam([weights], lr=lr)
    weights.sum().backward()
    return made


def seen_rates(schedule: Schedule, losses: list[float]) -> list[float]:
    """The learning rate after each epoch."""
    seen = []
    for loss in losses:
        schedule.optimizer.step()
        step_schedule(schedule, loss)
        seen.append(float(schedule.optimizer.param_groups[0]["lr"]))
    return seen


def test_none_keeps_the_rate() -> None:
    assert seen_rates(none(optimizer(), 5), [1.0, 2.0, 0.5, float(9)]) == [0.1] * 4


def test_plateau_waits_for_its_patience_and_then_halves() -> None:
    assert seen_rates(plateau(optimizer(), 9, patience=2), [1.0] * 4) == pytest.approx([0.1, 0.1, 0.1, 0.05])


def test_plateau_keeps_the_rate_while_the_loss_falls() -> None:
    assert seen_rates(plateau(optimizer(), 9, patience=0), [1.0, 0.9, 0.8, 0.7]) == [0.1] * 4


def test_plateau_stops_at_its_least_rate() -> None:
    seen = seen_rates(plateau(optimizer(), 9, patience=0, factor=0.1, min_lr=0.004), [1.0] * 5)
    assert seen[-1] == 0.004


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda o: cosine(o, 9), lambda o: lr_scheduler.CosineAnnealingLR(o, 9)),
        (lambda o: exponential(o, 9), lambda o: lr_scheduler.ExponentialLR(o, 0.98)),
    ],
    ids=["cosine", "exponential"],
)
def test_a_closed_form_is_torchs_own_curve(ours: object, theirs: object) -> None:
    expected = seen_rates(theirs(optimizer()), [1.0] * 9)  # type: ignore[operator]
    assert seen_rates(ours(optimizer()), [1.0] * 9) == pytest.approx(expected, abs=1e-12)  # type: ignore[operator]


def test_cosine_ends_at_its_share_and_stays_there() -> None:
    made = seen_rates(cosine(optimizer(), 4, min_lr=0.1), [1.0] * 6)
    assert made[-3:] == pytest.approx([0.01] * 3) and made[1] == pytest.approx(0.055)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"warm": 3}, [0.25, 0.5, 0.75, 1, 1, 1, 1]),
        ({"warm": 0}, [1] * 7),
        ({"warm": 3, "then": "exponential", "gamma": 0.5}, [0.25, 0.5, 0.75, 1, 0.5, 0.25, 0.125]),
        (
            {"warm": 3, "then": "cosine"},
            [0.25, 0.5, 0.75, *((1 + math.cos(math.pi * at / 4)) / 2 for at in range(4))],
        ),
        ({"warm": 9}, [at / 10 for at in range(1, 8)]),
    ],
    ids=str,
)
def test_warmup_grows_linearly_and_then_does_as_it_is_told(args: dict[str, Value], expected: list[float]) -> None:
    assert learning_rates(use("warmup", **args), 7, 7) == pytest.approx(expected)


@pytest.mark.parametrize("name", ["cosine", "exponential", "warmup"])
def test_a_saved_schedule_goes_on_along_the_curve_of_a_longer_training(name: str) -> None:
    args: dict[str, Value] = {"warm": 2, "then": "cosine"} if name == "warmup" else {}
    part, short = use(name, **args), optimizer()
    schedule: Schedule = build("schedule", SCHEDULES, part, short, 5)
    seen_rates(schedule, [1.0] * 4)
    longer = optimizer()
    again: Schedule = build("schedule", SCHEDULES, part, longer, 12)
    longer.load_state_dict(short.state_dict())
    again.load_state_dict(schedule.state_dict())
    apply_schedule(again)
    now = float(longer.param_groups[0]["lr"])
    assert [now, *seen_rates(again, [1.0] * 7)] == pytest.approx(
        [0.1 * share for share in learning_rates(part, 12, 12)[4:]]
    )


@pytest.mark.parametrize("name", SCHEDULES)
def test_to_settle_where_it_stands_changes_nothing(name: str) -> None:
    made = optimizer()
    schedule: Schedule = build("schedule", SCHEDULES, Part(name), made, 9)
    seen_rates(schedule, [1.0] * 7)
    before = made.param_groups[0]["lr"]
    apply_schedule(schedule)
    assert made.param_groups[0]["lr"] == before


@pytest.mark.parametrize(
    ("part", "depends"),
    [
        (use("none"), False),
        (use("plateau", patience=1), False),
        (use("exponential"), False),
        (use("cosine"), True),
        (use("warmup"), False),
        (use("warmup", then="exponential"), False),
        (use("warmup", warm=2, then="cosine"), True),
        (use("warmup", warm=30, then="cosine"), False),
        (use("test_schedules:one_cycle"), True),
        (use("test_schedules:halving"), False),
    ],
    ids=str,
)
def test_whether_a_schedule_looks_at_the_end_is_found_by_going_through_it(part: Part, depends: bool) -> None:
    assert depends_on_end(part, 5, 20) is depends


def one_cycle(optimizer: optim.Optimizer, epochs: int) -> Schedule:
    """A user's own, by name: it knows the number of epochs."""
    return lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=epochs + 1, cycle_momentum=False)


def halving(optimizer: optim.Optimizer) -> Schedule:
    """A user's own that does not ask for the number of epochs."""
    return lr_scheduler.StepLR(optimizer, 3)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (use("plateau", factor=2.0), "factor of schedule 'plateau' is 2.0; a number above 0 and below 1"),
        (
            use("plateau", patience=1.5),
            "patience of schedule 'plateau' is 1.5; a whole number of at least 0 is needed",
        ),
        (use("plateau", min_lr=-1), "min_lr of schedule 'plateau' is -1"),
        (use("exponential", gamma=1.1), "gamma of schedule 'exponential' is 1.1; a number above 0 and at most 1"),
        (
            use("cosine", min_lr=2),
            "min_lr of schedule 'cosine', a share of lr, is 2; a number of at least 0 and at most 1",
        ),
        (use("warmup", warm=-1), "warm of schedule 'warmup' is -1"),
        (use("warmup", then="cosin"), r"then of schedule 'warmup' is 'cosin'\. Did you mean 'cosine'\?"),
    ],
    ids=str,
)
def test_values_that_make_no_schedule_are_told_in_one_line(part: Part, told: str) -> None:
    with pytest.raises(PartError, match=told):
        build("schedule", SCHEDULES, part, optimizer(), 5)
