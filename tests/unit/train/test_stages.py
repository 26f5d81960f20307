"""Stages: what rests truly rests, each stage has its own rates, and the border of two is met in the middle too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.local_training import CPU, Killed, Trial, assert_same, killed_after, stop_after
from torch import Tensor, nn, optim

from tuner.data.cache import CachedDataset
from tuner.errors import PartError
from tuner.recipe import Part, Recipe, Stage, use
from tuner.registry import build
from tuner.train.memory import MicroBatches
from tuner.train.schedules import SCHEDULES, step_schedule
from tuner.train.stages import find_modules, freeze, make_optimizer
from tuner.train.trainer import Trainer

ASKED = 5  # times an epoch of batches of 8 asks whether to stop: three steps, two validation batches


class Net(nn.Module):
    """Four layers called encoder, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Linear(2, 2))
        self.head = nn.Linear(2, 1)


@pytest.fixture
def staged(toy_recipe: Recipe, own_models: Path) -> Recipe:
    """The head alone, then all with a slower encoder, then all but the encoder's first layers."""
    return replace(
        toy_recipe,
        model=use("mine.nets:parted"),
        stages=(
            Stage(1, frozen="encoder", lr=1e-2),
            Stage(2, encoder_lr=1e-4, schedule=use("exponential", gamma=0.5)),
            Stage(1, frozen=["encoder[:2]"], lr=1e-3, schedule=use("none")),
        ),
        epochs=4,
    )


@pytest.fixture
def batch(toy_data: CachedDataset) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(toy_data.images[:8].copy()), torch.from_numpy(toy_data.targets[:8].copy())


def trainer_of(recipe: Recipe, folder: Path) -> Trainer:
    made = Trainer(recipe, CPU, MicroBatches(folder / "micro_batches.json"))
    made.set_train_mode()
    return made


def state(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def step(trainer: Trainer, batch: tuple[Tensor, Tensor]) -> None:
    from tuner.train.totals import Totals

    trainer.step(*batch, Totals(trainer.task, CPU))


# --- which modules ---


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("encoder[:-1]", [0, 1, 2]),
        ("encoder[:2]", [0, 1]),
        ("encoder[-1:]", [3]),
        ("encoder[1:3]", [1, 2]),
        ("encoder[:]", [0, 1, 2, 3]),
        ("encoder.2", [2]),
    ],
)
def test_layers_are_named_as_a_list_is_sliced(name: str, expected: list[int]) -> None:
    net = Net()
    assert find_modules(net, name) == [net.encoder[at] for at in expected]


def test_a_module_is_named_by_its_path() -> None:
    net = Net()
    assert find_modules(net, "encoder") == [net.encoder] and find_modules(net, "head") == [net.head]


def test_a_model_can_give_several_modules_one_name() -> None:
    net = Net()
    vars(net)["groups"] = {"all": ("encoder", "head"), "tail": ("encoder.3", "head")}
    assert find_modules(net, "all") == [net.encoder, net.head]
    assert find_modules(net, "tail") == [net.encoder[3], net.head]
    assert find_modules(net, "tail[1:]") == [net.head]
    with pytest.raises(PartError, match=r"Did you mean 'tail'\? It has: encoder, head, all, tail\."):
        find_modules(net, "tial")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("encodr", r"'encodr', which the model does not have. Did you mean 'encoder'\? It has: encoder, head\."),
        ("encodr[:2]", r"'encodr', which the model does not have. Did you mean 'encoder'\?"),
        ("encoder[:-10]", r"'encoder\[:-10\]', which selects none of the 4 layers of 'encoder'"),
        ("head[:1]", r"'head\[:1\]', which selects none of the 0 layers of 'head'"),
        ("encoder[3]", r"'encoder\[3\]'; the name of a module is needed, or its layers: 'encoder\[:-10\]'"),
        ("encoder[:x]", r"'encoder\[:x\]'; the name of a module is needed"),
        ("", r"''; the name of a module is needed"),
    ],
)
def test_what_cannot_be_frozen_is_told(name: str, said: str) -> None:
    with pytest.raises(PartError, match=said):
        find_modules(Net(), name)


# --- frozen means frozen ---


def test_what_rests_gets_no_gradient_and_does_not_change_by_a_bit(
    staged: Recipe, tmp_path: Path, batch: tuple[Tensor, Tensor]
) -> None:
    trainer = trainer_of(staged, tmp_path)
    before, outputs = state(trainer), []
    trainer.model.encoder.register_forward_hook(lambda module, given, output: outputs.append(output))
    trainer.forward_backward(*batch)
    grads = {name: p.grad is not None for name, p in trainer.model.named_parameters()}
    assert grads == {name: name.startswith("head.") for name in grads} and len(grads) == 10
    assert not any(output.requires_grad for output in outputs)  # nothing was kept for a way back
    for _ in range(3):
        step(trainer, batch)
    assert changed(before, state(trainer)) == {"head.1.weight", "head.1.bias"}


def test_batch_norm_statistics_rest_and_nothing_is_dropped(
    staged: Recipe, tmp_path: Path, batch: tuple[Tensor, Tensor]
) -> None:
    trainer = trainer_of(staged, tmp_path)
    pixels = trainer.normalise(batch[0])
    assert trainer.model.training and trainer.model.head.training
    assert not any(module.training for module in trainer.model.encoder.modules())
    assert torch.equal(trainer.model.encoder(pixels), trainer.model.encoder(pixels))
    assert not torch.equal(trainer.model(pixels), trainer.model(pixels))  # the head drops as ever
    assert int(trainer.model.encoder[1].num_batches_tracked) == 0
    trainer.enter_stage(2)
    trainer.set_train_mode()
    assert all(module.training for module in trainer.model.modules())
    assert not torch.equal(trainer.model.encoder(pixels), trainer.model.encoder(pixels))
    assert int(trainer.model.encoder[1].num_batches_tracked) == 2


def test_a_slice_rests_and_the_layers_after_it_learn(
    staged: Recipe, tmp_path: Path, batch: tuple[Tensor, Tensor]
) -> None:
    trainer = trainer_of(staged, tmp_path)
    trainer.enter_stage(4)
    trainer.set_train_mode()
    before = state(trainer)
    step(trainer, batch)
    still = {name for name in before if name.startswith(("encoder.0.", "encoder.1."))}
    assert changed(before, state(trainer)) == before.keys() - still


def test_a_weight_the_model_never_trains_stays_so_when_all_is_thawed(
    staged: Recipe, tmp_path: Path, batch: tuple[Tensor, Tensor]
) -> None:
    trainer = trainer_of(replace(staged, model=use("mine.nets:parted", still=True)), tmp_path)
    trainer.enter_stage(2)
    trainer.set_train_mode()
    before = state(trainer)
    step(trainer, batch)
    assert changed(before, state(trainer)) == before.keys() - {"encoder.0.bias"}


def test_freezing_and_thawing_gradients_leaves_none_behind() -> None:
    net = Net()
    everything = {name for name, _ in net.named_parameters()}
    net.head(net.encoder(torch.ones(1, 2))).sum().backward()
    resting = freeze(net, ["encoder"], everything)
    assert resting == [net.encoder] and all(p.grad is None for p in net.parameters())
    assert freeze(net, [], everything) == [] and all(p.requires_grad for p in net.parameters())


# --- the optimizer of a stage ---


def rates(optimizer: optim.Optimizer) -> list[tuple[int, float]]:
    """(number of tensors, learning rate) of each group."""
    return [(len(group["params"]), group["lr"]) for group in optimizer.param_groups]


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (Stage(1), [(8, 0.5)]),
        (Stage(1, lr=0.1), [(8, 0.1)]),
        (Stage(1, frozen="encoder", lr=0.1), [(2, 0.1)]),
        (Stage(1, encoder_lr=0.01), [(2, 0.5), (6, 0.01)]),
        (Stage(1, lr=0.1, encoder_lr=0.01, frozen="encoder[:1]"), [(2, 0.1), (4, 0.01)]),
        (Stage(1, encoder_lr=0.01, frozen="head"), [(6, 0.01)]),
    ],
    ids=str,
)
def test_an_optimizer_holds_what_learns_each_at_its_rate(stage: Stage, expected: list[tuple[int, float]]) -> None:
    net = Net()
    freeze(net, stage.frozen, {name for name, _ in net.named_parameters()})
    made = make_optimizer(net, use("adam", lr=0.5, weight_decay=0.1), stage)
    assert rates(made) == expected
    assert {group["weight_decay"] for group in made.param_groups} == {0.1}


def test_a_rate_for_an_encoder_that_is_not_there_is_told() -> None:
    with pytest.raises(PartError, match="sets encoder_lr, but the model has no part named encoder"):
        make_optimizer(nn.Linear(2, 2), use("adam"), Stage(1, encoder_lr=0.1))


def test_a_stage_that_freezes_everything_is_told() -> None:
    net, stage = Net(), Stage(1, frozen=("encoder", "head"))
    freeze(net, stage.frozen, {name for name, _ in net.named_parameters()})
    with pytest.raises(PartError, match=r"freezes everything: encoder, head\. Leave something to train"):
        make_optimizer(net, use("adam"), stage)


# --- from stage to stage ---


def test_a_stage_begins_with_an_optimizer_of_its_own_and_keeps_it_to_its_end(
    staged: Recipe, tmp_path: Path, batch: tuple[Tensor, Tensor]
) -> None:
    trainer = trainer_of(staged, tmp_path)
    first = trainer.optimizer
    step(trainer, batch)
    assert rates(first) == [(2, 1e-2)] and len(first.state) == 2
    trainer.enter_stage(2)
    second = trainer.optimizer
    assert second is not first and len(second.state) == 0
    assert rates(second) == [(2, 3e-3), (8, 1e-4)]
    trainer.enter_stage(3)
    assert trainer.optimizer is second
    trainer.enter_stage(4)
    assert trainer.optimizer is not second and rates(trainer.optimizer) == [(6, 1e-3)]


def rates_of(part: Part, lr: float, epochs: int) -> list[float]:
    """The rate of each epoch under a schedule, worked out on its own."""
    optimizer = optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)
    schedule, seen = build("schedule", SCHEDULES, part, optimizer, epochs), []
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        step_schedule(schedule, 0.0)
    return seen


def test_each_stage_has_its_own_rate_schedule_and_length(
    staged: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    cosine, falling = use("cosine"), use("exponential", gamma=0.5)
    stages = (Stage(2, lr=1e-2, schedule=falling), Stage(3), Stage(2, lr=1e-3, schedule=use("none")))
    trial = Trial(replace(staged, stages=stages, epochs=7, schedule=cosine), toy_data, tmp_path / "run")
    trial.train()
    expected = [*rates_of(falling, 1e-2, 2), *rates_of(cosine, 3e-3, 3), 1e-3, 1e-3]
    assert [report.lr for report in trial.reports.values()] == pytest.approx(expected)
    assert expected[2] > expected[3] > expected[4]  # a whole cosine over the stage's own epochs


def test_one_stage_is_no_stages(toy_recipe: Recipe, toy_data: CachedDataset, tmp_path: Path) -> None:
    plain = Trial(toy_recipe, toy_data, tmp_path / "plain")
    one = Trial(replace(toy_recipe, stages=(Stage(2, lr=3e-3),)), toy_data, tmp_path / "one")
    plain.train()
    one.train()
    assert one.curve == plain.curve
    assert one.run.best.read_bytes() == plain.run.best.read_bytes()


@pytest.fixture
def unbroken_stages(staged: Recipe, toy_data: CachedDataset, tmp_path: Path) -> Trial:
    trial = Trial(staged, toy_data, tmp_path / "unbroken")
    assert trial.train().end == "finished" and sorted(trial.reports) == [1, 2, 3, 4]
    return trial


@pytest.mark.parametrize(
    "asked",
    [
        3,
        ASKED,
        *(
            pytest.param(n * ASKED + at, marks=pytest.mark.slow)
            for n, at in ((0, 0), (1, 1), (2, 4), (3, 0), (4, -1))
        ),
    ],
)
def test_a_trial_interrupted_before_at_and_after_a_border_is_the_same_trial(
    staged: Recipe, toy_data: CachedDataset, tmp_path: Path, unbroken_stages: Trial, asked: int
) -> None:
    """Stopped, which saves in the middle of an epoch; and killed, which loses what was not saved."""
    stopped, killed = (Trial(staged, toy_data, tmp_path / name) for name in ("stopped", "killed"))
    assert stopped.train(stop_after(asked)).end == "stopped"
    with pytest.raises(Killed):
        killed.train(killed_after(asked))
    for trial in (stopped, killed):
        torch.rand(3)
        assert trial.go_on().end == "finished"
        assert_same(trial, unbroken_stages)


def test_a_trial_stopped_at_every_other_step_of_its_stages_is_the_same_trial(
    staged: Recipe, toy_data: CachedDataset, tmp_path: Path, unbroken_stages: Trial
) -> None:
    trial = Trial(staged, toy_data, tmp_path / "run")
    ends = []
    while "finished" not in ends:
        ends.append(trial.train(stop_after(2)).end if len(ends) < 40 else "stuck")
        assert ends[-1] != "stuck"
        if trial.left()["progress"]["step"] == 3:  # two validation batches need three questions
            ends.append(trial.train(stop_after(3)).end)
    assert len(ends) >= 8
    assert_same(trial, unbroken_stages)


def test_a_longer_last_stage_goes_on_where_the_shorter_ended(
    staged: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    short, long = (
        Trial(staged, toy_data, tmp_path / "run"),
        Trial(staged.with_epochs(6), toy_data, tmp_path / "long"),
    )
    short.train()
    long.train()
    short.recipe = staged.with_epochs(6)
    assert short.go_on().end == "finished" and sorted(short.reports) == [1, 2, 3, 4, 5, 6]
    assert_same(short, long)


def test_encoder_lr_of_a_frozen_encoder_is_refused() -> None:
    stage = Stage(1, frozen="encoder", encoder_lr=0.01)
    model = Net()
    freeze(model, stage.frozen, {name for name, _ in model.named_parameters()})
    with pytest.raises(PartError, match="sets encoder_lr and freezes the whole encoder"):
        make_optimizer(model, use("adam", lr=0.5), stage)


def test_a_second_stage_that_harms_is_seen(staged: Recipe, toy_data: CachedDataset, tmp_path: Path) -> None:
    """The best epoch is one of the last stage: else fine-tuning could never come out worse than not to."""
    harmful = (Stage(2, lr=1e-2), Stage(1, lr=1e3))
    trial = Trial(replace(staged, stages=harmful, epochs=3), toy_data, tmp_path)
    outcome = trial.train()
    values = {epoch: report.value for epoch, report in trial.reports.items()}
    assert values[3] < max(values[1], values[2])  # type: ignore[type-var]
    assert (outcome.progress.best_epoch, outcome.progress.best_value) == (3, values[3])
