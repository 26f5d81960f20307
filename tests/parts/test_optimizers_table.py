"""One base test over every optimizer and every schedule."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn, optim

from tuner.optims import OPTIMIZERS, SCHEDULES, Schedule, advance
from tuner.parts import build
from tuner.recipe import Part

every_optimizer = pytest.mark.parametrize("name", OPTIMIZERS)
every_schedule = pytest.mark.parametrize("name", SCHEDULES)
EPOCHS = 12


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))


def optimizer_of(name: str, weights: nn.Parameter, **args: float) -> optim.Optimizer:
    optimizer: optim.Optimizer = build("optimizer", OPTIMIZERS, Part(name, args), [weights])
    return optimizer


def schedule_of(name: str, lr: float = 0.1, **args: float) -> tuple[Schedule, optim.Optimizer]:
    optimizer = optim.SGD([parameter()], lr=lr)
    schedule: Schedule = build("schedule", SCHEDULES, Part(name, args), optimizer, EPOCHS)
    return schedule, optimizer


def step(optimizer: optim.Optimizer, weights: nn.Parameter) -> None:
    optimizer.zero_grad()
    (weights - 3).square().sum().backward()
    optimizer.step()


def through_a_file(state: dict[str, object]) -> dict[str, object]:
    """As a checkpoint holds it: nothing but tensors and plain values."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, object] = torch.load(file, weights_only=True)
    return loaded


def rate(optimizer: optim.Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


@every_optimizer
def test_a_step_moves_towards_the_minimum(name: str) -> None:
    weights = parameter()
    before = (weights.detach() - 3).norm()
    step(optimizer_of(name, weights), weights)
    assert (weights.detach() - 3).norm() < before


@every_optimizer
def test_the_learning_rate_is_the_one_given(name: str) -> None:
    assert rate(optimizer_of(name, parameter(), lr=0.025)) == 0.025


@every_optimizer
def test_a_larger_rate_moves_further(name: str) -> None:
    moved = []
    for lr in (1e-4, 1e-2):
        weights = parameter()
        step(optimizer_of(name, weights, lr=lr), weights)
        moved.append(float((weights.detach() - parameter().detach()).norm()))
    assert moved[0] < moved[1]


@every_optimizer
def test_an_optimizer_goes_on_bitwise_from_its_saved_state(name: str) -> None:
    weights = parameter()
    optimizer = optimizer_of(name, weights, lr=0.01)
    for _ in range(3):
        step(optimizer, weights)
    other = nn.Parameter(weights.detach().clone())
    again = optimizer_of(name, other, lr=0.5)
    again.load_state_dict(through_a_file(optimizer.state_dict()))
    for _ in range(3):
        step(optimizer, weights)
        step(again, other)
    assert torch.equal(weights, other)


@every_schedule
def test_rates_stay_positive_and_never_rise_above_the_given_one(name: str) -> None:
    schedule, optimizer = schedule_of(name)
    for _ in range(EPOCHS):
        step(optimizer, optimizer.param_groups[0]["params"][0])
        advance(schedule, 1.0)
        assert 0 < rate(optimizer) <= 0.1


@every_schedule
def test_a_schedule_goes_on_from_its_saved_state(name: str) -> None:
    schedule, optimizer = schedule_of(name)
    again, other = schedule_of(name)
    for _ in range(5):
        step(optimizer, optimizer.param_groups[0]["params"][0])
        advance(schedule, 1.0)
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    again.load_state_dict(through_a_file(schedule.state_dict()))
    rates = []
    for each, its in ((schedule, optimizer), (again, other)):
        seen = []
        for _ in range(EPOCHS):
            step(its, its.param_groups[0]["params"][0])
            advance(each, 1.0)
            seen.append(rate(its))
        rates.append(seen)
    assert rates[0] == rates[1]
