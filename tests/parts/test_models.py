"""One base test over every model of the table."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tuner.models import MODELS
from tuner.parts import build, locate, searchable
from tuner.recipe import Part
from tuner.train.checkpoint import load_weights, save_weights

SMALL = {"k": 4}  # arguments that make a model small, where it has them
every_model = pytest.mark.parametrize("name", MODELS)


def small(name: str, channels: int = 3, classes: int = 1, seed: int = 0, **args: float) -> nn.Module:
    takes = searchable(locate("model", MODELS, name))
    chosen = {key: value for key, value in {**SMALL, **args}.items() if key in takes}
    torch.manual_seed(seed)
    model: nn.Module = build("model", MODELS, Part(name, chosen), channels, classes)
    return model


def images(side: int = 32, number: int = 2, channels: int = 3) -> Tensor:
    return torch.randn(number, channels, side, side, generator=torch.Generator().manual_seed(1))


@every_model
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (57, 40), (64, 96)], ids=str)
def test_the_output_is_as_large_as_the_image(name: str, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert small(name)(torch.randn(2, 3, *size)).shape == (2, 1, *size)


@every_model
@pytest.mark.parametrize(("channels", "classes"), [(1, 1), (3, 5), (4, 2)])
def test_channels_and_classes_are_as_supplied(name: str, channels: int, classes: int) -> None:
    output = small(name, channels, classes)(images(channels=channels))
    assert output.shape == (2, classes, 32, 32)


@every_model
def test_every_weight_gets_a_finite_gradient(name: str) -> None:
    model = small(name)
    model(images()).square().mean().backward()
    for weight, value in model.named_parameters():
        assert value.grad is not None and value.grad.isfinite().all(), weight
    assert sum(float(p.grad.abs().sum()) for p in model.parameters() if p.grad is not None) > 0


@every_model
def test_a_fresh_model_neither_vanishes_nor_explodes(name: str) -> None:
    with torch.no_grad():
        spread = float(small(name)(images(number=4)).std())
    assert 1e-3 < spread < 1e3


@every_model
def test_the_same_seed_gives_the_same_output(name: str) -> None:
    with torch.no_grad():
        same = [small(name, seed=3).eval()(images()) for _ in range(2)]
        other = small(name, seed=4).eval()(images())
    assert torch.equal(*same)
    assert not torch.equal(same[0], other)


@every_model
def test_eval_mode_draws_nothing_and_train_mode_follows_the_seed(name: str) -> None:
    model = small(name, dropout=0.5)
    with torch.no_grad():
        model.eval()
        assert torch.equal(model(images()), model(images()))
        model.train()
        torch.manual_seed(5)
        first = model(images())
        torch.manual_seed(5)
        assert torch.equal(first, model(images()))


@every_model
def test_dropout_is_felt_in_train_mode(name: str) -> None:
    if "dropout" not in searchable(locate("model", MODELS, name)):
        pytest.skip("has no dropout")
    model = small(name, dropout=0.5)
    with torch.no_grad():
        assert not torch.equal(model.train()(images()), model(images()))


@every_model
def test_an_image_does_not_depend_on_its_neighbours_in_eval_mode(name: str) -> None:
    model, batch = small(name).eval(), images(number=3)
    with torch.no_grad():
        torch.testing.assert_close(model(batch)[1:2], model(batch[1:2]), rtol=1e-4, atol=1e-5)


@every_model
def test_weights_load_back_bitwise(name: str, tmp_path: Path) -> None:
    model, other = small(name, seed=1).to(memory_format=torch.channels_last), small(name, seed=2)
    save_weights(model, tmp_path / "weights.safetensors")
    load_weights(other, tmp_path / "weights.safetensors")
    loaded = other.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in model.state_dict().items())


@every_model
def test_a_few_steps_lower_the_loss(name: str) -> None:
    model, batch = small(name), images(number=4)
    target = (batch.mean(1, keepdim=True) > 0).float()
    loss_of, optimizer = nn.BCEWithLogitsLoss(), torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss = loss_of(model(batch), target)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[1] < losses[0]
    assert min(losses) < 0.9 * losses[0]


@every_model
def test_shapes_can_be_computed_without_numbers(name: str) -> None:
    with torch.device("meta"):
        assert small(name)(torch.empty(2, 3, 64, 64)).shape == (2, 1, 64, 64)


@every_model
def test_memory_order_changes_no_result(name: str) -> None:
    model = small(name).eval()
    with torch.no_grad():
        plain = model(images())
        turned = model.to(memory_format=torch.channels_last)(images().to(memory_format=torch.channels_last))
    torch.testing.assert_close(plain, turned, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("args", [{"k": 0}, {"dropout": 1.0}, {"dropout": -0.1}], ids=str)
def test_unet_refuses_values_that_make_no_model(args: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(args))} is"):
        build("model", MODELS, Part("unet", args), 3, 1)


def test_unet_names_an_image_that_is_too_small() -> None:
    with pytest.raises(ValueError, match=r"7 x 9 is too small .* at least 8 x 8"):
        small("unet")(torch.zeros(1, 3, 7, 9))


def test_unet_takes_the_smallest_image() -> None:
    assert small("unet")(torch.zeros(1, 3, 8, 8)).shape == (1, 1, 8, 8)


def test_unet_is_as_wide_as_k_says() -> None:
    widths = [m.out_channels for m in small("unet", k=6).modules() if isinstance(m, nn.Conv2d)]
    assert widths == [6, 6, 12, 12, 24, 24, 48, 48, 24, 24, 12, 12, 6, 6, 1]
