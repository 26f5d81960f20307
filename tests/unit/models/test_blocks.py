"""What several models are made of: sizes, a lone image, the way up, the remedy for a size that does not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tuner.models import MODELS
from tuner.models.blocks import Decoder, Segmenter, check_widths, convs, init_weights, set_in_channels
from tuner.recipe import Part
from tuner.registry import build


def model_of(name: str, /, channels: int = 3, classes: int = 2, **args: Any) -> Any:
    torch.manual_seed(0)
    return build("model", MODELS, Part(name, args), channels, classes)


def image(*size: int, number: int = 2) -> Tensor:
    return torch.randn(number, 3, *size, generator=torch.Generator().manual_seed(1))


class Seen(nn.Module):
    """An encoder that remembers the sizes it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.sizes.append(tuple(image.shape[-2:]))
        return image


def test_an_image_is_padded_to_the_multiple_and_cropped_back() -> None:
    model = Segmenter("x", Seen(), None, nn.Identity(), multiple=32)
    given = image(40, 64)
    assert torch.equal(model(given), given)
    assert model.encoder.sizes == [(64, 64)]


def test_a_coarse_mask_is_enlarged_to_the_image() -> None:
    model = Segmenter("x", nn.AvgPool2d(4), None, nn.Identity(), multiple=4)
    flat = torch.full((1, 1, 9, 10), 0.5)
    torch.testing.assert_close(model(flat), flat)


@pytest.mark.parametrize("name", ["resnet18_unet", "mobilenet_segnet_attention", "segformer", "smp"])
def test_an_image_too_small_is_told_with_the_size_that_would_do(name: str) -> None:
    with pytest.raises(ValueError, match=r"an image of 31 x 40 is too small for '.*': at least 32 x 32 is needed"):
        model_of(name)(image(31, 40))


@pytest.mark.parametrize(
    ("name", "args", "size", "would_do"),
    [
        pytest.param("smp", {"architecture": "pan", "encoder": "tu-test_resnet"}, 64, 128, marks=pytest.mark.slow),
        ("timm", {"name": "test_maxvit"}, 64, 160),
        pytest.param("timm", {"name": "test_maxvit"}, 192, 320, marks=pytest.mark.slow),
    ],
)
def test_the_size_that_would_do_is_found_where_the_library_does_not_say(
    name: str, args: dict[str, Any], size: int, would_do: int
) -> None:
    model = model_of(name, **args)
    said = rf"an image of {size} x {size} does not fit '.*': {would_do} x {would_do} fits"
    for number in (1, 2):
        with pytest.raises(ValueError, match=said):
            model(image(size, size, number=number))
    assert model.eval()(image(would_do, would_do, number=1)).isfinite().all()


def test_another_failure_is_not_blamed_on_the_size() -> None:
    model = Segmenter("x", nn.Conv2d(4, 1, 3, padding=1), None, nn.Identity())
    with pytest.raises(RuntimeError, match="to have 4 channels"):
        model(image(32, 32))


def test_out_of_memory_is_passed_on() -> None:
    class Full(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        Segmenter("x", Full(), None, nn.Identity())(image(32, 32))


def gradients(model: nn.Module, output: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(output.square().sum(), list(model.parameters())))


def test_a_lone_image_shown_twice_has_the_gradients_of_one_shown_once() -> None:
    model, lone = model_of("resnet18_unet", k=1).double(), image(64, 64, number=1).double()
    once = gradients(model, model.masks(lone))
    twice = gradients(model, model.masks(torch.cat([lone, lone]))[:1])
    for one, other in zip(once, twice, strict=True):
        torch.testing.assert_close(one, other)


def test_a_lone_image_of_the_smallest_size_is_trained_on() -> None:
    """Where its deepest feature is one pixel, batch norm alone would refuse it."""
    model, lone = model_of("resnet18_unet", k=1), image(32, 32, number=1)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        model.masks(lone)
    assert all(g.isfinite().all() for g in gradients(model, model(lone)))


def test_the_way_up_puts_each_skip_beside_its_level() -> None:
    decoder = Decoder((2, 3, 5), (7, 4), convs, transposed=True, bottleneck=6)
    assert [(up.in_channels, up.out_channels) for up in decoder.ups] == [(6, 7), (7, 4)]
    assert [block[0].in_channels for block in decoder.blocks] == [7 + 3, 4 + 2]
    features = [torch.randn(1, width, side, side) for width, side in ((9, 32), (2, 16), (3, 8), (5, 4))]
    assert decoder(features).shape == (1, 4, 16, 16)


def test_a_level_without_a_skip_grows_all_the_same() -> None:
    decoder = Decoder((2, 3), (4, 4, 4), convs)
    assert decoder([torch.randn(1, 2, 16, 16), torch.randn(1, 3, 8, 8)]).shape == (1, 4, 64, 64)


def test_the_start_keeps_the_signal_through_many_layers() -> None:
    torch.manual_seed(0)
    deep = nn.Sequential(*[convs(32, 32, number=1) for _ in range(20)], nn.ConvTranspose2d(32, 32, 2, stride=2))
    deep.apply(init_weights)
    with torch.no_grad():
        assert 0.2 < float(deep(torch.randn(2, 32, 16, 16)).square().mean().sqrt()) < 5


@pytest.mark.parametrize("width", [0, -1, 2.5, True, "4"])
def test_a_width_is_a_whole_number_of_at_least_one(width: object) -> None:
    with pytest.raises(ValueError, match=f"k is {width!r}; a whole number of at least 1 is needed"):
        check_widths(k=width)


def test_the_first_convolution_takes_other_channels_and_stays_what_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False), nn.Conv2d(8, 3, 1))
    set_in_channels(net, 3)
    kept = net[1]
    set_in_channels(net, 5)
    first = net[0]
    assert isinstance(first, nn.Conv2d) and net[1] is kept
    assert (first.in_channels, first.kernel_size, first.stride, first.padding) == (5, (7, 7), (2, 2), (3, 3))
    assert first.bias is None
