"""What the reports say of their models, held against the models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tuner.models import MODELS
from tuner.models.mobilenet import RATES, GatedDecoder, attention_gate
from tuner.recipe import Part
from tuner.registry import build


def model_of(name: str, /, channels: int = 3, classes: int = 2, **args: Any) -> Any:
    torch.manual_seed(0)
    return build("model", MODELS, Part(name, args), channels, classes)


def on_meta(name: str, /, **args: Any) -> Any:
    """Its layers without their numbers."""
    with torch.device("meta"):
        return model_of(name, **args)


def of_kind(model: nn.Module, *kinds: type[nn.Module]) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, kinds)]


def test_unet_transposed_is_the_published_unet() -> None:
    model = on_meta("unet_transposed")
    down = [conv.out_channels for conv in of_kind(model.encoder, nn.Conv2d)]
    assert down == [64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024]
    ups = of_kind(model.decoder, nn.ConvTranspose2d)
    assert [(up.in_channels, up.out_channels) for up in ups] == [(1024, 512), (512, 256), (256, 128), (128, 64)]
    assert len(of_kind(model, nn.BatchNorm2d)) == 18
    assert not of_kind(on_meta("unet_transposed", batch_norm=False), nn.BatchNorm2d)


def test_resnet34_unet_has_a_bottleneck_and_grows_by_transposed_convolutions() -> None:
    model = on_meta("resnet34_unet")
    assert len(of_kind(model.encoder, nn.Conv2d)) == 36  # 33 of the blocks' own and the first, 3 beside
    assert [conv.out_channels for conv in of_kind(model.decoder.bottleneck, nn.Conv2d)] == [512, 512]
    assert [up.out_channels for up in of_kind(model.decoder, nn.ConvTranspose2d)] == [256, 128, 64, 32, 16]
    assert [block[0].in_channels for block in model.decoder.blocks] == [256 + 256, 128 + 128, 64 + 64, 32 + 64, 16]


def test_resnet18_unet_without_batch_norm_has_none_anywhere() -> None:
    assert of_kind(on_meta("resnet18_unet").encoder, nn.BatchNorm2d)
    bare = model_of("resnet18_unet", k=1, batch_norm=False)
    assert not of_kind(bare, nn.BatchNorm2d)
    assert all(conv.bias is not None for conv in of_kind(bare, nn.Conv2d))


def test_mobilenet_unet_mixes_by_three_convolutions_with_relu() -> None:
    model = on_meta("mobilenet_unet")
    assert [type(layer) for layer in model.decoder.blocks[0]] == [nn.Conv2d, nn.ReLU] * 3
    assert [block[0].in_channels for block in model.decoder.blocks] == [1280 + 96, 256 + 32, 128 + 24, 64 + 16, 32]


def test_the_segnet_decoder_gates_grows_and_mixes_by_three() -> None:
    decoder = on_meta("mobilenet_segnet_attention").decoder
    assert isinstance(decoder, GatedDecoder)
    assert [type(layer) for layer in decoder.gates[0]] == [nn.Conv2d, nn.Sigmoid]
    assert [type(layer) for layer in decoder.ups[0]] == [nn.ConvTranspose2d, nn.ReLU]
    assert [type(layer) for layer in decoder.blocks[0]] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] * 3
    assert [up[0].in_channels for up in decoder.ups] == [1280, 256 + 96, 128 + 32, 64 + 24, 32 + 16]


def test_a_closed_gate_hides_its_feature() -> None:
    torch.manual_seed(0)
    decoder = GatedDecoder((2, 3), (4, 4)).eval()
    with torch.no_grad():
        decoder.gates[1][0].weight.zero_()
        decoder.gates[1][0].bias.fill_(-100)
        deep, one, other = torch.randn(1, 3, 8, 8), torch.randn(1, 2, 16, 16), torch.randn(1, 2, 16, 16)
        assert torch.allclose(decoder([one, deep]), decoder([other, deep]))
        decoder.gates[1][0].bias.fill_(0)
        assert not torch.allclose(decoder([one, deep]), decoder([other, deep]))


def test_a_gate_is_one_map_between_0_and_1() -> None:
    opened = attention_gate(5)(torch.randn(2, 5, 6, 7)).detach()
    assert opened.shape == (2, 1, 6, 7) and 0 < float(opened.min()) < float(opened.max()) < 1


def test_the_atrous_model_sees_every_feature_at_both_rates() -> None:
    plain, atrous = on_meta("mobilenet_segnet_attention"), on_meta("mobilenet_segnet_attention_atrous")
    levels = atrous.decoder[0].levels
    assert [[rate[0].dilation for rate in level] for level in levels] == [[(rate, rate) for rate in RATES]] * 5
    assert [sum(rate[0].out_channels for rate in level) for level in levels] == [16, 24, 32, 96, 1280]
    assert num_weights(atrous) > 2 * num_weights(plain)  # "a huge number of parameters"


def num_weights(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_sport_vgg_narrows_by_a_named_1_x_1_convolution() -> None:
    model = on_meta("sport_vgg", classes=100)
    assert len(of_kind(model.encoder, nn.Conv2d)) == 16
    assert model.reduce.kernel_size == (1, 1) and (model.reduce.in_channels, model.reduce.out_channels) == (
        512,
        256,
    )
    assert len(of_kind(model.encoder[-10:], nn.Conv2d)) == 4  # the whole fifth block, and nothing of the fourth
    assert [layer.out_features for layer in of_kind(model.head, nn.Linear)] == [512, 100]


def test_sport_vgg_names_an_image_that_is_too_small() -> None:
    with pytest.raises(ValueError, match=r"15 x 20 is too small for 'sport_vgg': at least 16 x 16"):
        on_meta("sport_vgg")(torch.empty(1, 3, 15, 20, device="meta"))


def test_basic_cnn_is_plain() -> None:
    model = on_meta("basic_cnn", k=8)
    assert [conv.out_channels for conv in of_kind(model, nn.Conv2d)] == [8, 8, 16, 16, 32, 32, 2]


@pytest.mark.parametrize(("size", "widths"), [("b0", (32, 64, 160, 256)), ("b1", (64, 128, 320, 512))])
def test_segformer_is_as_wide_as_its_size_says(size: str, widths: tuple[int, ...]) -> None:
    model = model_of("segformer", size=size, width=8)
    assert tuple(stage.linear.in_features for stage in model.decoder.mlp_stage)[::-1] == widths
    assert model.head[0].in_channels == 8


WRONG = [
    ("segformer", {"size": "b9"}, "size is 'b9'. Did you mean 'b5'? Known: b0, b1, b2, b3, b4, b5"),
    ("smp", {"architecture": "unt"}, "no architecture 'unt'. Did you mean 'unet'?"),
    ("smp", {"encoder": "resnet19"}, "no encoder 'resnet19'. Did you mean 'resnet18'?"),
    ("smp", {"encoder": "tu-resnet19"}, "no encoder 'tu-resnet19'. Did you mean 'tu-resnet"),
    ("smp", {"architecture": "dpt"}, "architecture 'dpt' needs a vision transformer of timm, not 'resnet34'"),
    ("smp", {"architecture": "linknet", "encoder": "mit_b0"}, "'linknet' cannot be built on encoder 'mit_b0': "),
    ("timm", {"name": "resnt18"}, "no model 'resnt18'. Did you mean 'resnet18'?"),
    ("timm", {"name": "resnet18.nowhere"}, "timm has 'resnet18', but not with 'nowhere'"),
    ("timm", {"name": "resnet18", "dropout": 1.0}, "dropout is 1.0; a number of at least 0 and below 1 is needed"),
    ("sport_vgg", {"reduced": 0}, "reduced is 0; a whole number of at least 1"),
    ("pixel_frequency", {"side": 0}, "side is 0; a whole number of at least 1"),
    ("unet_transposed", {"depth": 0}, "depth is 0; a whole number of at least 1"),
]


@pytest.mark.parametrize(("name", "args", "said"), WRONG, ids=lambda value: str(value)[:20])
def test_values_that_make_no_model_are_one_line(name: str, args: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError) as caught:
        model_of(name, **args)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", sorted(set(MODELS) - {"smp", "timm", "pixel_frequency", "fcn_resnet50", "segformer"})
)
def test_a_width_below_one_is_refused_by_all(name: str) -> None:
    with pytest.raises(ValueError, match="at least 1 is needed"):
        model_of(name, **({"hidden": 0} if name == "sport_vgg" else {"k": 0}))


def counted(target: Tensor, classes: int, side: int = 4) -> Any:
    model = model_of("pixel_frequency", classes=classes, side=side)
    for part in target.split(2):  # batch by batch
        model.learn(torch.zeros(len(part), 3, 8, 8), part)
    return model


def test_pixel_frequency_gives_the_share_of_each_class_at_each_place() -> None:
    labels = torch.zeros(4, 8, 8, dtype=torch.long)
    labels[:, :4] = 2
    labels[0, :4] = 1
    share = counted(labels, 3)(torch.zeros(1, 3, 4, 4)).softmax(1)[0]
    torch.testing.assert_close(share[:, 0, 0], torch.tensor([0.0, 0.25, 0.75]), atol=1e-3, rtol=0)
    torch.testing.assert_close(share[:, 3, 3], torch.tensor([1.0, 0.0, 0.0]), atol=1e-3, rtol=0)


def test_pixel_frequency_leaves_ignored_pixels_out() -> None:
    labels = torch.full((4, 8, 8), 255)
    labels[0], labels[1] = 0, 1
    share = counted(labels, 2)(torch.zeros(1, 3, 8, 8)).softmax(1)[0]
    torch.testing.assert_close(share, torch.full((2, 8, 8), 0.5), atol=1e-3, rtol=0)


def test_pixel_frequency_of_masks_is_their_mean() -> None:
    masks = (torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.3).float()
    share = counted(masks, 1, side=8)(torch.zeros(2, 3, 8, 8)).sigmoid()
    torch.testing.assert_close(share[0], masks.mean(0), atol=1e-3, rtol=0)
    assert torch.equal(share[0], share[1])


def test_pixel_frequency_enlarges_its_grid_to_the_image() -> None:
    masks = torch.zeros(2, 1, 8, 8)
    masks[..., 4:] = 1
    share = counted(masks, 1)(torch.zeros(1, 3, 33, 47)).sigmoid()[0, 0]
    assert share.shape == (33, 47) and share[0].diff().min() > -1e-6 and share[0, 0] < 0.01 < 0.99 < share[0, -1]


def test_pixel_frequency_beats_knowing_nothing() -> None:
    labels = torch.zeros(4, 8, 8, dtype=torch.long)
    labels[:, 4:] = 1
    before = F.cross_entropy(model_of("pixel_frequency", side=4)(torch.zeros(4, 3, 8, 8)), labels)
    after = F.cross_entropy(counted(labels, 2)(torch.zeros(4, 3, 8, 8)), labels)
    assert float(after) < 0.5 * float(before)


def test_pixel_frequency_has_no_weights_and_keeps_its_counts() -> None:
    model = counted(torch.ones(2, 1, 8, 8), 1)
    assert not list(model.parameters()) and set(model.state_dict()) == {"counts", "seen"}


def test_pixel_frequency_is_finite_where_a_pixel_was_always_found() -> None:
    model = model_of("pixel_frequency", classes=1, side=2)
    model.counts += 1e6
    model.seen += 1e6
    assert model(torch.zeros(1, 3, 4, 4)).isfinite().all()
