"""One base test over every optimizer and every schedule."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn, optim

from tuner.recipe import Part
from tuner.registry import build
from tuner.train.optimizers import OPTIMIZERS
from tuner.train.schedules import SCHEDULES, Schedule, step_schedule

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


def step(optimizer: optim.Optimizer, *weights: nn.Parameter) -> None:
    optimizer.zero_grad()
    for weight in weights:
        (weight - 3).square().sum().backward()
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


@every_optimizer
def test_it_is_fused_where_the_weights_have_numbers(name: str) -> None:
    assert optimizer_of(name, parameter()).defaults["fused"]
    assert not optimizer_of(name, nn.Parameter(torch.zeros(2, device="meta"))).defaults["fused"]


@every_optimizer
def test_groups_have_rates_of_their_own_and_go_on_bitwise(name: str) -> None:
    def made(weights: list[nn.Parameter]) -> optim.Optimizer:
        groups = [{"params": [weights[0]], "lr": 1e-4}, {"params": iter(weights[1:])}]
        built: optim.Optimizer = build("optimizer", OPTIMIZERS, Part(name, {"lr": 1e-2}), groups)
        return built

    weights = [parameter(), parameter()]
    optimizer = made(weights)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-4, 1e-2]
    for _ in range(3):
        step(optimizer, *weights)
    moved = [float((weight.detach() - parameter().detach()).norm()) for weight in weights]
    assert 0 < moved[0] < moved[1] / 20
    others = [nn.Parameter(weight.detach().clone()) for weight in weights]
    again = made(others)
    again.load_state_dict(through_a_file(optimizer.state_dict()))
    for _ in range(2):
        step(optimizer, *weights)
        step(again, *others)
    assert all(map(torch.equal, weights, others))


@every_schedule
def test_rates_stay_positive_and_never_rise_above_the_given_one(name: str) -> None:
    schedule, optimizer = schedule_of(name)
    for _ in range(EPOCHS):
        assert 0 < rate(optimizer) <= 0.1
        step(optimizer, optimizer.param_groups[0]["params"][0])
        step_schedule(schedule, 1.0)
    assert 0 <= rate(optimizer) <= 0.1


@every_schedule
def test_groups_keep_the_ratio_of_their_rates(name: str) -> None:
    groups = [{"params": [parameter()], "lr": 1e-6}, {"params": [parameter()], "lr": 1e-2}]
    optimizer = optim.SGD(groups)
    schedule: Schedule = build("schedule", SCHEDULES, Part(name), optimizer, 40)
    for _ in range(40):
        assert rate(optimizer) / optimizer.param_groups[1]["lr"] == pytest.approx(1e-4)
        optimizer.step()
        step_schedule(schedule, 1.0)


@every_schedule
def test_the_shortest_training_has_the_full_rate_or_grows_towards_it(name: str) -> None:
    optimizer = optim.SGD([parameter()], lr=0.1)
    build("schedule", SCHEDULES, Part(name), optimizer, 1)
    assert rate(optimizer) == 0.1 or (name == "warmup" and 0 < rate(optimizer) < 0.1)


@every_schedule
def test_a_schedule_goes_on_from_its_saved_state(name: str) -> None:
    schedule, optimizer = schedule_of(name)
    again, other = schedule_of(name)
    for _ in range(5):
        step(optimizer, optimizer.param_groups[0]["params"][0])
        step_schedule(schedule, 1.0)
    other.load_state_dict(through_a_file(optimizer.state_dict()))
    again.load_state_dict(through_a_file(schedule.state_dict()))
    rates = []
    for each, its in ((schedule, optimizer), (again, other)):
        seen = []
        for _ in range(EPOCHS):
            step(its, its.param_groups[0]["params"][0])
            step_schedule(each, 1.0)
            seen.append(rate(its))
        rates.append(seen)
    assert rates[0] == rates[1]
