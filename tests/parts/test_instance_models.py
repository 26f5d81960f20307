"""One base test over every model that finds instances."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small_models import assert_gradients, small
from torch import Tensor

from tuner.data.instances import make_energy_targets
from tuner.models import INSTANCE_MODELS, MODELS
from tuner.recipe import Part
from tuner.registry import build
from tuner.train.checkpoint import load_weights, save_weights
from tuner.train.losses import LOSSES, OWN

every_finder = pytest.mark.parametrize("name", INSTANCE_MODELS)


def images(number: int = 2, side: int = 64, channels: int = 3) -> Tensor:
    return torch.randn(number, channels, side, side, generator=torch.Generator().manual_seed(1))


def target(number: int = 2, side: int = 64) -> Tensor:
    """In the first image three instances, of which one is a single pixel, with a gap in their numbers; in all
    others none.
    """
    labels = np.zeros((number, side, side), np.uint16)
    labels[0, 2:20, 4:18], labels[0, 10:30, 18:30], labels[0, 5, 30] = 1, 2, 4
    return torch.from_numpy(make_energy_targets(labels))


def judged(model: Any, batch: Tensor, truth: Tensor) -> Tensor:
    """The loss of a batch, as training asks for it."""
    if hasattr(model, "losses"):
        parts, answer = model.losses(batch, truth)
        assert (answer is None) == model.training
        return build("loss", LOSSES, Part(OWN), "instance")(parts, truth)
    return build("loss", LOSSES, Part("watershed"), "instance")(model(batch), truth)


def said(answer: Any) -> list[Tensor]:
    """Every tensor of an answer."""
    if isinstance(answer, Tensor):
        return [answer]
    return [tensor for one in answer for tensor in vars(one).values() if isinstance(tensor, Tensor)]


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(said(one), said(other), strict=True))


@every_finder
def test_it_gives_a_label_map_of_each_image_at_any_size(name: str) -> None:
    model = small(name).eval()
    with torch.no_grad():
        answer = model(torch.randn(2, 3, 33, 47))
    for sizes, expected in ((None, [(33, 47)] * 2), ([(80, 61), (20, 31)], [(80, 61), (20, 31)])):
        found = model.instances(answer, sizes)
        assert [one.labels.shape for one in found] == expected
        for one in found:
            assert one.labels.dtype == np.int32 and one.scores.dtype == np.float32
            assert np.array_equal(np.unique(one.labels[one.labels > 0]), np.arange(1, len(one.scores) + 1))
            assert ((one.scores >= 0) & (one.scores <= 1)).all()


@every_finder
def test_it_takes_as_many_channels_as_are_supplied(name: str) -> None:
    with torch.no_grad():
        model = small(name, 4).eval()
        assert len(model.instances(model(images(channels=4)))) == 2


@every_finder
def test_every_weight_gets_a_finite_gradient(name: str) -> None:
    model = small(name)
    judged(model, images(), target()).backward()
    assert_gradients(model)


@every_finder
@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
def test_images_without_instances_are_learned_from(name: str, train: bool) -> None:
    loss = judged(small(name).train(train), images(), torch.zeros_like(target()))
    assert loss.isfinite() and loss > 0 and loss.requires_grad


@every_finder
def test_the_same_seed_gives_the_same_answer(name: str) -> None:
    with torch.no_grad():
        first = small(name).eval()(images())
        again, other = (small(name, seed=seed, fresh=True).eval()(images()) for seed in (0, 4))
    assert same(first, again)
    assert not torch.equal(said(first)[0], said(other)[0])


@every_finder
def test_eval_mode_draws_nothing_and_training_follows_the_seed(name: str) -> None:
    model = small(name).eval()
    with torch.no_grad():
        torch.manual_seed(5)
        first = judged(model, images(), target())
        drawn = torch.rand(1)
        assert torch.equal(first, judged(model, images(), target())) and same(model(images()), model(images()))
        model.train()
        torch.manual_seed(5)
        assert torch.equal(torch.rand(1), drawn)
        losses = []
        for _ in range(2):
            torch.manual_seed(5)
            losses.append(judged(model, images(), target()))
        assert torch.equal(*losses)


@every_finder
def test_an_image_does_not_depend_on_its_neighbours_in_eval_mode(name: str) -> None:
    model, batch = small(name).eval(), images(number=3)
    with torch.no_grad():
        alone, among = model(batch[1:2]), model(batch)
    for one, other in zip(said(alone), said(among[1:2]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@every_finder
def test_a_single_image_of_the_smallest_size_can_be_trained_on(name: str) -> None:
    assert judged(small(name), images(1, 32), target(1, 32)).isfinite()


@every_finder
def test_weights_load_back_bitwise(name: str, tmp_path: Path) -> None:
    model, other = small(name).to(memory_format=torch.channels_last), small(name)
    with torch.no_grad():
        judged(model, images(), target())  # statistics of batch norm are kept too
        for value in other.state_dict().values():
            value.zero_()
    save_weights(model, tmp_path / "weights.safetensors")
    load_weights(other, tmp_path / "weights.safetensors")
    loaded = other.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in model.state_dict().items())
    with torch.no_grad():
        other.to(memory_format=torch.channels_last).eval()
        assert same(model.eval()(images()), other(images()))


@every_finder
def test_a_few_steps_lower_the_loss(name: str) -> None:
    torch.manual_seed(0)
    model, batch, truth = small(name, k=8), images(), target()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = judged(model, batch, truth)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert min(losses[6:]) < 0.9 * losses[0]


@every_finder
def test_shapes_can_be_computed_without_numbers(name: str) -> None:
    model = small(name)
    with torch.device("meta"):
        assert getattr(model.to("meta"), "probe", model)(torch.empty(2, 3, 64, 64)).shape[0] == 2


@every_finder
def test_it_can_be_built_without_numbers(name: str) -> None:
    with torch.device("meta"):
        model = build("model", MODELS, Part(name), 3, 1)
    assert all(value.is_meta for value in model.parameters())


@every_finder
def test_half_precision_gives_finite_losses_in_full_and_nearly_the_same(name: str) -> None:
    model = small(name).eval()
    with torch.no_grad():
        plain = judged(model, images(), target())
        with torch.autocast("cpu", torch.bfloat16):
            half = judged(model, images(), target())
            found = model.instances(model(images()))
    torch.testing.assert_close(half.float(), plain, rtol=0.1, atol=0)
    assert len(found) == 2


@every_finder
def test_what_speaks_for_objects_has_gradients_in_the_image_and_its_layers(name: str) -> None:
    model, batch = small(name).eval(), images().requires_grad_()
    evidence = model.evidence(batch)
    assert evidence.shape in ((2, 1), (2, 1, 64, 64)) and evidence.isfinite().all()
    evidence.sum().backward()
    assert batch.grad is not None and (batch.grad.abs().sum((1, 2, 3)) > 0).all()
