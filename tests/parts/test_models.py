"""One base test over every model of the table."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import pytest
import torch
from helpers.small_models import ARCHITECTURES, CLASSIFIERS, assert_gradients, small
from torch import Tensor, nn

from tuner.models import INSTANCE_MODELS, MODELS
from tuner.recipe import Part
from tuner.registry import build, find_builder, searchable_args
from tuner.train.checkpoint import load_weights, save_weights

SCORERS = [name for name in MODELS if name not in INSTANCE_MODELS]  # models of instances have a test of their own
TRAINED = [name for name in SCORERS if name != "pixel_frequency"]  # which has no weights, but learns by counting
COSTLY = {  # in `make test` they are tried for what is left to `every_model`; another model has the same parts
    "resnet34_unet": "resnet18_unet",
    "mobilenet_segnet_attention": "mobilenet_unet",
    "mobilenet_segnet_attention_atrous": "mobilenet_unet",
    "sport_vgg": "basic_cnn",
    "fcn_resnet50": "smp",
}


def entries(names: list[str], slow: Container[str] = ()) -> pytest.MarkDecorator:
    """One test for each model; those of one model run in one process, which builds it once."""
    groups = {name: pytest.mark.xdist_group(f"test_models-{name}") for name in names}
    marks = {name: (groups[name], pytest.mark.slow) if name in slow else groups[name] for name in names}
    return pytest.mark.parametrize("name", [pytest.param(name, marks=marks[name]) for name in names])


every_model, every_trained_model = entries(SCORERS), entries(TRAINED)
most_models, most_trained_models = entries(SCORERS, COSTLY), entries(TRAINED, COSTLY)


def images(side: int = 32, number: int = 2, channels: int = 3) -> Tensor:
    return torch.randn(number, channels, side, side, generator=torch.Generator().manual_seed(1))


def shape(name: str, number: int, classes: int, *size: int) -> tuple[int, ...]:
    """What a model gives for so many images of this size."""
    return (number, classes) if name in CLASSIFIERS else (number, classes, *size)


@every_model
def test_the_output_is_as_large_as_the_image_with_channels_and_classes_as_supplied(name: str) -> None:
    model = small(name, 4, 5).eval()
    for size in ((33, 47), (57, 40)):
        with torch.no_grad():
            assert model(torch.randn(1, 4, *size)).shape == shape(name, 1, 5, *size)


@pytest.mark.parametrize(("name", "channels", "classes"), [("unet", 1, 1), ("timm", 1, 2), ("smp", 1, 2)])
def test_images_may_be_grey(name: str, channels: int, classes: int) -> None:
    with torch.no_grad():
        output = small(name, channels, classes).eval()(images(number=1, channels=channels))
    assert output.shape == shape(name, 1, classes, 32, 32)


@most_trained_models
def test_every_weight_gets_a_finite_gradient(name: str) -> None:
    model = small(name)
    model(images()).square().mean().backward()
    assert_gradients(model)


@most_trained_models
def test_a_fresh_model_neither_vanishes_nor_explodes(name: str) -> None:
    model = small(name)
    with torch.no_grad():
        spreads = {train: float(model.train(train)(images(number=4)).std()) for train in (False, True)}
    assert all(1e-3 < spread < 1e3 for spread in spreads.values()), spreads


@most_models
def test_the_same_seed_gives_the_same_output(name: str) -> None:
    with torch.no_grad():
        first = small(name).eval()(images(number=1))
        again, other = (small(name, seed=seed, fresh=True).eval()(images(number=1)) for seed in (0, 4))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name not in TRAINED)


@most_models
def test_eval_mode_draws_nothing_and_train_mode_follows_the_seed(name: str) -> None:
    model = small(name, dropout=0.5)
    has_dropout = "dropout" in searchable_args(find_builder("model", MODELS, name))
    with torch.no_grad():
        model.eval()
        assert torch.equal(model(images()), model(images()))
        model.train()
        torch.manual_seed(5)
        first = model(images())
        torch.manual_seed(5)
        assert torch.equal(first, model(images()))
        assert not has_dropout or not torch.equal(first, model(images()))


@most_models
def test_an_image_does_not_depend_on_its_neighbours_in_eval_mode(name: str) -> None:
    model, batch = small(name).eval(), images(number=3)
    with torch.no_grad():
        torch.testing.assert_close(model(batch)[1:2], model(batch[1:2]), rtol=1e-4, atol=1e-5)


@most_models
def test_a_single_image_of_the_smallest_size_can_be_trained_on(name: str) -> None:
    with torch.no_grad():
        output = small(name).train()(images(number=1))
    assert output.shape == shape(name, 1, 1, 32, 32) and output.isfinite().all()


@most_models
def test_weights_load_back_bitwise(name: str, tmp_path: Path) -> None:
    model, other = small(name).to(memory_format=torch.channels_last), small(name)
    with torch.no_grad():
        model(images())  # statistics of batch norm are kept too
        for value in other.state_dict().values():
            value.zero_()
    learn(model)
    save_weights(model, tmp_path / "weights.safetensors")
    load_weights(other, tmp_path / "weights.safetensors")
    loaded = other.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in model.state_dict().items())
    with torch.no_grad():
        assert torch.equal(model.eval()(images()), other.to(memory_format=torch.channels_last).eval()(images()))


def loss_of(name: str, model: nn.Module, batch: Tensor) -> Tensor:
    """How far the model is from telling bright from dark, at each pixel or in the image's left half."""
    bright = (batch.mean(1, keepdim=True) > 0).float()
    target = (bright[..., :16].mean((2, 3)) > 0.5).float() if name in CLASSIFIERS else bright
    torch.manual_seed(0)  # what is dropped at random is the same each time
    return nn.functional.binary_cross_entropy_with_logits(model(batch), target)


@most_trained_models
def test_a_step_against_the_gradient_lowers_the_loss_as_foreseen(name: str) -> None:
    model, batch = small(name), images(64)  # at 32 px, batch norm of the deepest features bends too soon
    before = loss_of(name, model, batch)
    before.backward()
    slope = sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None)
    foreseen = 1e-4 * before.item()
    with torch.no_grad():
        for weight in model.parameters():
            weight -= foreseen / slope * weight.grad
        fell = before.item() - loss_of(name, model, batch).item()
    assert 0.5 * foreseen < fell < 1.5 * foreseen


@pytest.mark.parametrize("name", ["unet", "unet_transposed", "basic_cnn", "timm"])
def test_a_few_steps_lower_the_loss(name: str) -> None:
    model, batch = small(name), images(number=4)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss = loss_of(name, model, batch)
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[1] < losses[0]
    assert min(losses) < 0.9 * losses[0]


@most_models
def test_shapes_can_be_computed_without_numbers(name: str) -> None:
    model = small(name)  # not below: what is built on meta would be kept for the other tests
    with torch.device("meta"):
        assert model.to("meta")(torch.empty(2, 3, 64, 64)).shape == shape(name, 2, 1, 64, 64)


@most_models
def test_memory_order_changes_no_result(name: str) -> None:
    model = small(name).eval()
    with torch.no_grad():
        plain = model(images())
        turned = model.to(memory_format=torch.channels_last)(images().to(memory_format=torch.channels_last))
    torch.testing.assert_close(plain, turned, rtol=1e-4, atol=1e-5)


@most_models
def test_half_precision_gives_nearly_the_same(name: str) -> None:
    model = small(name).eval()
    learn(model)
    with torch.no_grad():
        plain = model(images())
        with torch.autocast("cpu", torch.bfloat16):
            half = model(images())
    assert half.isfinite().all() and half.shape == plain.shape
    assert float((half.float() - plain).norm()) < 0.1 * float(plain.norm())


def learn(model: nn.Module) -> None:
    """What takes the place of a gradient step, where a model has no gradient."""
    if hasattr(model, "learn"):
        model.learn(images(), (images() > 0).float()[:, :1])


@every_trained_model
def test_what_has_imagenet_weights_has_an_encoder(name: str) -> None:
    model = small(name)
    encoded = name not in ("unet", "unet_transposed", "basic_cnn")
    assert (getattr(model, "pretrained", None) is not None) == encoded
    if encoded:
        rest = [key for key, _ in model.named_parameters() if not key.startswith("encoder.")]
        assert 0 < len(rest) < len(list(model.parameters()))


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


def test_every_architecture_of_smp_is_tried() -> None:
    import segmentation_models_pytorch as library

    assert set(ARCHITECTURES) == set(library.MODEL_ARCHITECTURES_MAPPING)


KINDS = ("unet", "deeplabv3plus", "pan", "segformer")  # each of another kind; the others in `make test-all`


@pytest.mark.parametrize(
    "architecture",
    [pytest.param(name, marks=() if name in KINDS else pytest.mark.slow) for name in ARCHITECTURES],
)
def test_smp_takes_every_architecture(architecture: str) -> None:
    encoder = "tu-test_vit" if architecture == "dpt" else "tu-test_resnet"
    model = small("smp", classes=2, architecture=architecture, encoder=encoder)
    height, width = (131, 140) if architecture == "pan" else (39, 50)
    output = model(torch.randn(2, 3, height, width))
    output.square().mean().backward()
    assert output.shape == (2, 2, height, width)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert sum(p.grad is not None for p in model.encoder.parameters()) > 10


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet", "test_convnext", "mobilenetv3_small_050"])
def test_timm_takes_classifiers_of_every_kind(name: str) -> None:
    model = small("timm", classes=4, name=name)
    output = model(torch.randn(2, 3, 39, 50))
    output.square().mean().backward()
    assert output.shape == (2, 4)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
