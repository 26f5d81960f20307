"""Where a model looked: right on planted cases, for every model of the table, and the model is left as it was."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.made_studies import make_bundle
from helpers.small_models import ARCHITECTURES, CLASSIFIERS, small
from PIL import Image
from torch import Tensor, nn

from tuner.data.cache import CachedDataset
from tuner.data.instances import Instances, renumber
from tuner.errors import BundleError, DataError, PartError
from tuner.export.bundle import open_bundle
from tuner.export.explain import explain_files, list_layers
from tuner.export.gradcam import Explanation, explain
from tuner.export.layers import layers_of
from tuner.models import INSTANCE_MODELS, MODELS
from tuner.plots.heatmaps import Score, draw_cells, explanation_cells, overlay_heat
from tuner.recipe import Part, Recipe, use
from tuner.registry import build
from tuner.search.trial_pictures import draw_explanations
from tuner.tasks import find_task
from tuner.train.trainer import build_model, make_normalizer

CORNER = slice(0, 16)  # of 32 pixels: what the planted models look at


def noise(side: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (side, side, 3)).astype(np.uint8)


def only(
    model: nn.Module,
    layers: Sequence[str] | None = None,
    target: int | None = None,
    score: Score | None = None,
) -> Explanation:
    (seen,) = explain(model, [noise()], layers, target, score)
    return seen


class Corner(nn.Module):
    """Sees nothing but one corner of the image."""

    def forward(self, image: Tensor) -> Tensor:
        mask = torch.zeros_like(image)
        mask[..., CORNER, CORNER] = 1
        return image.abs() * mask


def in_corner(heat: np.ndarray) -> bool:
    """The brightest place is in the corner, and nearly all the heat."""
    brightest = np.unravel_index(heat.argmax(), heat.shape)
    return bool(max(brightest) < 16 and heat[CORNER, CORNER].sum() > 0.8 * heat.sum() and heat.max() == 1)


def positive(model: nn.Module) -> nn.Module:
    """All that is seen speaks for the object, and nothing else does."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.zeros_like(weight) if name.endswith("bias") else weight.abs())
    return model


# --- planted cases ---


@pytest.mark.parametrize("classes", [1, 3])
def test_a_unet_that_sees_one_corner_lights_up_that_corner_at_each_layer(classes: int) -> None:
    model = positive(small("unet", classes=classes))
    model.register_forward_pre_hook(lambda _, given: Corner()(*given))
    (seen,) = explain(model, [noise(96)])
    assert list(seen.maps) == ["x1", "x2", "x3", "x4", "x5", "x6"]
    for heat in seen.maps.values():
        assert max(np.unravel_index(heat.argmax(), heat.shape)) < 16 and heat.max() == 1
        assert heat[:48, :48].sum() > 0.95 * heat.sum()  # what a convolution of the bottleneck sees is 24 pixels


def test_a_classifier_that_sees_one_corner_lights_up_that_corner() -> None:
    body = nn.Sequential(Corner(), nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    model = positive(nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)))
    seen = only(model, ["0", "0.1", "0.2"])
    assert all(in_corner(heat) for heat in seen.maps.values())
    assert seen.target == int(seen.logits.argmax())


class Detectors(nn.Module):
    """Class 0 is red, class 1 is blue: each speaks for itself and against the other."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.features.weight.copy_(torch.tensor([[1.0, 0, -1], [-1, 0, 1]])[..., None, None])

    def forward(self, image: Tensor) -> Tensor:
        red, blue = self.features(image).relu().mean((2, 3)).unbind(1)
        return torch.stack([red - blue, blue - red], dim=1)


def test_each_class_lights_up_its_own_corner() -> None:
    picture = np.full((32, 32, 3), 100, np.uint8)
    picture[:8, :8] = (255, 0, 0)
    picture[-8:, -8:] = (0, 0, 255)
    for target, here in ((0, np.s_[:8, :8]), (1, np.s_[-8:, -8:])):
        heat = explain(Detectors(), [picture], ["features"], target)[0].maps["features"]
        inside = np.zeros_like(heat, dtype=bool)
        inside[here] = True
        assert heat[inside].min() > 0.9 and heat[~inside].max() < 0.5


def test_the_map_is_the_sum_of_the_channels_weighed_by_their_mean_gradients() -> None:
    """Behind a mean over the image the weights of a class are its gradients: worked out by hand."""
    torch.manual_seed(0)
    conv, last = nn.Conv2d(3, 5, 3, padding=1), nn.Linear(5, 4)
    model = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last)
    seen = only(model, ["0"], target=2)
    with torch.no_grad():
        features = conv(make_normalizer(torch.device("cpu"))(torch.from_numpy(noise())[None]))[0]
        expected = torch.einsum("k,khw->hw", last.weight[2], features).relu()
    assert np.allclose(seen.maps["0"], (expected / expected.max()).numpy(), atol=1e-5)


class Painter(nn.Module):
    """Its logits are its only feature, the brightness, above a bias."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.feature, self.bias = nn.Conv2d(3, 2, 1, bias=False), bias
        with torch.no_grad():
            self.feature.weight.copy_(torch.tensor([1.0, -1.0])[:, None, None, None].expand(2, 3, 1, 1) / 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.feature(image)[:, :1] + self.bias


def test_where_nothing_is_found_the_whole_answer_is_explained_and_said_so() -> None:
    something, nothing = (only(Painter(bias), ["feature"]) for bias in (0.0, -100.0))
    assert (something.found, nothing.found) == (True, False)
    assert np.allclose(something.maps["feature"], nothing.maps["feature"], atol=1e-5)  # one feature, one map
    assert nothing.maps["feature"].max() == 1


def expected_map(model: nn.Sequential, probabilities: Tensor, inside: Tensor) -> np.ndarray:
    """Work out Grad-CAM at the first layer by hand, from the score of each pixel and where the class was found."""
    pixels = make_normalizer(torch.device("cpu"))(torch.from_numpy(noise())[None])
    features = model[0](pixels).detach().requires_grad_()
    with torch.no_grad():
        chosen = inside(model[1](features))
    score = probabilities(model[1](features))[chosen].sum()
    (grad,) = torch.autograd.grad(score, features)
    heat = (grad[0].mean((1, 2), keepdim=True) * features.detach()[0]).sum(0).relu()
    return (heat / heat.max()).numpy()


BY_HAND: dict[str, dict[str, tuple[int, int | None, Any, Any]]] = {
    "mask": {
        "probability": (1, 1, lambda x: x[0, 0].sigmoid(), lambda x: x[0, 0] > 0),
        "logit": (1, 1, lambda x: x[0, 0], lambda x: x[0, 0] > 0),
    },
    "background": {
        "probability": (1, 0, lambda x: 1 - x[0, 0].sigmoid(), lambda x: x[0, 0] < 0),
        "logit": (1, 0, lambda x: -x[0, 0], lambda x: x[0, 0] < 0),
    },
    "labels": {
        "probability": (3, 2, lambda x: x[0].softmax(0)[2], lambda x: x[0].argmax(0) == 2),
        "logit": (3, 2, lambda x: x[0, 2], lambda x: x[0].argmax(0) == 2),
    },
}


@pytest.mark.parametrize("score", ["probability", "logit"])
@pytest.mark.parametrize("kind", BY_HAND)
def test_the_score_sums_the_probabilities_or_the_logits_of_the_predicted_pixels(kind: str, score: Score) -> None:
    classes, target, value, inside = BY_HAND[kind][score]
    torch.manual_seed(1)
    head = nn.Conv2d(6, classes, 3, padding=1)
    with torch.no_grad():
        head.weight.mul_(20)  # certain of some pixels
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.Sequential(nn.ReLU(), head))
    seen = only(model, ["0"], target, score)
    assert seen.found and not seen.saturated
    assert np.allclose(seen.maps["0"], expected_map(model, value, inside), atol=1e-5)
    other = only(model, ["0"], target, "logit" if score == "probability" else "probability")
    assert not np.allclose(seen.maps["0"], other.maps["0"], atol=1e-3)
    by_default = only(model, ["0"], target)
    assert np.array_equal(by_default.maps["0"], (seen if score == "probability" else other).maps["0"])


def test_logits_are_explained_where_every_pixel_is_certain_and_it_is_said(
    toy_recipe: Recipe, tmp_path: Path
) -> None:
    certain, by_logit = (only(Painter(1000.0), ["feature"], score=score) for score in (None, "logit"))
    assert certain.found and certain.saturated and not by_logit.saturated
    assert np.array_equal(certain.maps["feature"], by_logit.maps["feature"]) and certain.maps["feature"].max() == 1
    names = [name for name, _ in explanation_cells(noise(), certain, toy_recipe)]
    assert names == ["image", "prediction; logits", "feature"]
    sure = make_bundle(toy_recipe, tmp_path / "sure", bias=1000.0)
    (told,) = explain_files(sure, [picture(tmp_path / "photo.png")], tmp_path / "out", ["x2"])
    assert "(no probability of these pixels has a gradient: the maps explain their logits)" in told


def test_what_is_not_a_map_has_no_choice_of_a_score() -> None:
    with pytest.raises(PartError, match=r"not a map: it is always explained by its logit; leave the score out"):
        only(Detectors(), ["features"], score="probability")
    with pytest.raises(PartError, match=r"score is 'logits'\. Did you mean 'logit'\?"):
        only(Painter(0.0), ["feature"], score="logits")  # type: ignore[arg-type]


class RedRatherThanGreen(nn.Module):
    """Red is enough to be found; green counts where no red is, and does not suffice. Channels last, or not."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.last, self.turned = last, nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        colours = image[:, :2].relu()
        turned = self.turned(colours.movedim(1, -1) if self.last else colours)
        red, green = turned.movedim(-1, 1).unbind(1) if self.last else turned.unbind(1)
        return (2 * red + green * (red == 0) - 3)[:, None]


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_only_the_pixels_that_were_found_count(last: bool) -> None:
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:8, :8], picture[-8:, :8] = (255, 0, 0), (0, 255, 0)
    (seen,) = explain(RedRatherThanGreen(last), [picture], ["turned"])
    assert (seen.logits[0] > 0).sum() == 64 and (seen.logits[0, -8:, :8] > -1).all()
    heat = seen.maps["turned"]
    assert (heat[:8, :8] == 1).all() and heat.sum() == 64


def test_the_background_is_explained_by_what_speaks_against_the_object() -> None:
    seen = only(Painter(0.0), ["feature"], target=0)
    brightness = noise().mean(2)
    assert seen.maps["feature"][brightness > 200].max() == 0
    assert seen.maps["feature"][brightness < 60].min() > 0


def test_a_label_map_is_explained_by_its_most_frequent_class_but_the_first() -> None:
    head = nn.Conv2d(4, 3, 1)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), head)
    with torch.no_grad():
        head.bias.copy_(torch.tensor([10.0, 0, 5]))
    assert (only(model, ["0"]).target, only(model, ["0"], target=1).found) == (0, False)
    with torch.no_grad():
        head.bias.copy_(torch.tensor([-10.0, 0, 5]))
    assert only(model, ["0"]).target == 2


# --- instances ---


class Squares(nn.Module):
    """Says at each pixel whether it is red, and which of the two halves of the image it is in."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.asked = nn.Conv2d(3, 2, 1, bias=False), 0
        with torch.no_grad():
            self.features.weight.copy_(torch.tensor([[1.0, 0, -1], [-1, 0, 1]])[..., None, None])

    def evidence(self, image: Tensor) -> Tensor:
        red, blue = self.features(image).relu().unbind(1)
        return (red - blue - 0.5)[:, None]

    def forward(self, image: Tensor) -> Tensor:
        self.asked += 1
        return self.evidence(image).repeat(1, 2, 1, 1)

    def instances(self, answer: Tensor, sizes: object = None) -> list[Instances]:
        wide = answer[0].shape[-1]
        halves = (torch.arange(wide) >= wide // 2).int() + 1
        labels = [(one[0] > 0).int() * halves for one in answer]
        return [Instances(renumber(one.numpy()), np.ones(2, np.float32)) for one in labels]


class Judge(Squares):
    """Says of all instances together how much speaks for them."""

    def evidence(self, image: Tensor) -> Tensor:
        return super().evidence(image).relu().sum((2, 3))

    def forward(self, image: Tensor) -> Any:
        return [Squares.evidence(self, one[None])[0].detach() for one in image]  # no tensor: as many as there are


@pytest.mark.parametrize("kind", [Squares, Judge])
def test_instances_light_up_where_they_were_found_and_are_shown(kind: type[Squares]) -> None:
    picture = np.full((32, 32, 3), 124, np.uint8)
    picture[4:12, 4:12] = picture[20:28, 20:28] = (255, 0, 0)
    picture[4:12, 20:28] = (0, 0, 255)
    (seen,) = explain(kind(), [picture], ["features"])
    assert seen.target == 1 and seen.found and seen.instances is not None
    assert sorted(np.unique(seen.instances)) == [0, 1, 2] and (seen.instances[4:12, 4:12] == 1).all()
    heat = seen.maps["features"]
    assert heat[seen.instances > 0].min() > 0.9 and heat[4:12, 20:28].max() < 0.1
    (nothing,) = explain(kind(), [np.full((32, 32, 3), (0, 0, 255), np.uint8)], ["features"])
    assert not nothing.found and nothing.instances is not None and not nothing.instances.any()


@pytest.mark.parametrize("kind", [Squares, Judge])
def test_the_background_of_instances_is_what_speaks_against_them(kind: type[Squares]) -> None:
    picture = np.full((32, 32, 3), (0, 0, 255), np.uint8)
    picture[4:12, 4:12] = (255, 0, 0)
    (seen,) = explain(kind(), [picture], ["features"], 0)
    heat = seen.maps["features"]
    assert seen.target == 0 and heat[4:12, 4:12].max() < 0.1 < heat[20:].min()


def test_the_layers_of_a_finder_are_those_it_names() -> None:
    """A model whose output is not a map, so that its shape says nothing."""
    model = Judge()
    assert layers_of(model) == {}
    with pytest.raises(PartError, match="no layer whose output is a map"):
        only(model)
    model.explained = {"deep": "features"}  # type: ignore[assignment]
    assert list(only(model).maps) == ["deep"]


def test_a_corner_that_alone_is_seen_lights_up_in_a_watershed() -> None:
    model = positive(small("deep_watershed"))
    model.register_forward_pre_hook(lambda _, given: Corner()(*given))
    (seen,) = explain(model, [noise(96)])
    assert list(seen.maps) == ["x1", "x2", "x3", "x4", "x5", "x6"] and seen.logits.shape == (1, 96, 96)
    for heat in seen.maps.values():
        assert heat.max() == 1 and heat[:48, :48].sum() > 0.95 * heat.sum()


def test_a_cascade_on_a_base_without_names_is_explained_by_the_parts_of_the_base(own_models: Path) -> None:
    """The network of levels, which the mask does not depend on, has no heat map."""
    model = build("model", MODELS, use("watershed_cascade", base="mine.nets:parted", width=4), 3, 1)
    (seen,) = explain(model, [noise(32)])
    assert seen.maps and "watershed" not in {name.partition(".")[0] for name in seen.maps}


# --- every model ---


@pytest.mark.parametrize("name", [name for name in MODELS if name != "pixel_frequency"])
@pytest.mark.parametrize(("classes", "side"), [(1, 32), pytest.param(3, 64, marks=pytest.mark.slow)])
def test_every_model_of_the_table_is_explained(name: str, classes: int, side: int) -> None:
    model = small(name, classes=classes)
    (seen,) = explain(model, [noise(side)])
    assert seen.maps and set(seen.maps) <= set(layers_of(model))
    for heat in seen.maps.values():
        assert heat.shape == (side, side) and heat.dtype == np.float32
        assert np.isfinite(heat).all() and heat.min() >= 0 and heat.max() in (0, 1)
    assert (seen.instances is not None) == (name in INSTANCE_MODELS)
    if name in INSTANCE_MODELS:
        assert seen.instances is not None and seen.instances.shape == (side, side)
        assert seen.logits.shape in ((1,), (1, side, side))
    else:
        assert seen.logits.shape == ((classes,) if name in CLASSIFIERS else (classes, side, side))


@pytest.mark.parametrize(
    "architecture",
    [
        pytest.param(name, marks=() if name in ("unet", "pan", "dpt") else pytest.mark.slow)
        for name in ARCHITECTURES
    ],
)
def test_every_architecture_of_smp_is_explained(architecture: str) -> None:
    encoder = "tu-test_vit" if architecture == "dpt" else "tu-test_resnet"
    model = small("smp", architecture=architecture, encoder=encoder)
    (seen,) = explain(model, [noise(160 if architecture == "pan" else 64)])
    assert set(seen.maps) == set(layers_of(model)) and {"encoder"} < set(seen.maps)


@pytest.mark.parametrize("name", ["test_vit", "test_convnext", "test_efficientnet"])
def test_classifiers_of_every_kind_are_explained(name: str) -> None:
    model = positive_head(small("timm", classes=4, name=name))
    (seen,) = explain(model, [noise(64)])
    assert len(seen.maps) == 2 and any(heat.max() == 1 for heat in seen.maps.values())


def positive_head(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for weight in model.get_submodule("head").parameters():
            weight.abs_()
    return model


def test_the_unet_is_explained_at_the_six_features_of_its_forward_pass() -> None:
    model = small("unet")
    parts = [model.down1, model.down2, model.down3, model.bottleneck, model.up3, model.up2]
    assert layers_of(model) == dict(zip(["x1", "x2", "x3", "x4", "x5", "x6"], parts, strict=True))


def test_a_short_name_and_its_path_are_one_layer() -> None:
    seen = only(small("unet"), ["x4", "bottleneck"])
    assert np.array_equal(seen.maps["x4"], seen.maps["bottleneck"])


def test_maps_of_a_padded_image_are_cut_back_as_the_answer_is() -> None:
    """At 40 pixels a model of stride 32 sees 64; a corner must stay where it is."""
    model = build("model", MODELS, Part("unet_transposed", {"k": 4, "depth": 4, "batch_norm": False}), 3, 1)
    picture = np.full((40, 40, 3), 124, np.uint8)
    picture[24:32, 24:32] = 255
    heat = explain(positive(model), [picture], ["up4"])[0].maps["up4"]
    assert heat.shape == (40, 40)
    rows, columns = np.unravel_index(heat.argmax(), heat.shape)
    assert 22 <= rows < 34 and 22 <= columns < 34


# --- the user's own ---


class Own(nn.Module):
    """As people write them: works in place, keeps the head apart, has a part that is never used."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(inplace=True))
        self.up = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3, padding=1))
        self.head, self.spare, self.pool = nn.Conv2d(4, classes, 1), nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1)

    def forward(self, image: Tensor) -> Tensor:
        up = self.up(self.down(image))
        return self.head(torch.relu_(up) + self.pool(up))


def test_the_layers_of_a_users_own_model_are_found() -> None:
    assert list(layers_of(Own())) == ["down", "up"]
    assert list(layers_of(Detectors())) == ["features"]


def test_a_users_own_model_may_name_its_layers() -> None:
    model = Own()
    model.explained = {"first": "down.1"}  # type: ignore[assignment]
    assert list(only(model).maps) == ["first"]
    model.explained = {"first": "dwon"}  # type: ignore[assignment]
    with pytest.raises(PartError, match=r"`explained` names dwon; it has no such module. Did you mean 'down'"):
        only(model)


def test_what_works_in_place_behind_a_layer_changes_nothing_of_its_map() -> None:
    torch.manual_seed(0)
    conv, last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 1, 1)
    inplace, plain = (nn.Sequential(conv, nn.ReLU(inplace=kind), last) for kind in (True, False))
    assert np.array_equal(only(inplace, ["0"]).maps["0"], only(plain, ["0"]).maps["0"])


def test_frozen_weights_and_a_caller_without_gradients_change_nothing() -> None:
    model = small("unet")
    before = only(model).maps["x2"]
    model.requires_grad_(False)
    for without in (torch.no_grad, torch.inference_mode):
        with without():
            assert np.array_equal(only(model).maps["x2"], before)


class Tokens(nn.Module):
    """A transformer's layout: a token for the class, then one for each place."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 6, 8, stride=8)
        self.mixed, self.head = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.cut(image).flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1)
        return self.head(self.mixed(tokens).mean(1))


def test_tokens_become_the_grid_they_were_cut_from() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(Corner(), positive(Tokens()))
    assert in_corner(only(model, ["1.mixed"]).maps["1.mixed"])


# --- nothing of the model changes ---


@pytest.mark.parametrize("train", [True, False])
def test_a_model_is_left_as_it_was(train: bool) -> None:
    model = small("resnet18_unet").train(train)
    model.encoder.eval()  # one part in a mode of its own
    modes = [part.training for part in model.modules()]
    before = deepcopy(model.state_dict())
    first, again = only(model), only(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert [part.training for part in model.modules()] == modes
    assert not any(part._forward_hooks for part in model.modules())
    assert all(np.array_equal(first.maps[name], again.maps[name]) for name in first.maps)


def test_after_a_failure_too() -> None:
    model = small("unet").train()
    with pytest.raises(ValueError, match="too small"):
        explain(model, [noise(4)])
    assert model.training and not any(part._forward_hooks for part in model.modules())


# --- refusals ---


@pytest.mark.parametrize(
    ("layers", "told"),
    [
        (["x7"], r"no layer 'x7'. Did you mean 'x\d'\? Known: x1, x2, x3, x4, x5, x6, each of its modules"),
        (["x1", "botleneck", "dwon1"], r"no layer 'botleneck', 'dwon1'. Did you mean 'bottleneck'\?"),
        (["X 9"], "no layer 'X 9'"),
        (["0"], r"no layer '0'. Did you mean 'down1.0'\?"),
    ],
)
def test_layers_that_the_model_has_not_are_told_at_once(layers: list[str], told: str) -> None:
    with pytest.raises(PartError, match=told):
        only(small("unet"), layers)


@pytest.mark.parametrize(
    ("layer", "told"),
    [("pool", r"'pool' gives 4 x 1 x 1. Take another, such as down, up"), ("spare", "is not run")],
)
def test_a_layer_that_is_no_map_is_told(layer: str, told: str) -> None:
    with pytest.raises(PartError, match=told):
        only(Own(), ["up", layer])


def test_a_model_without_gradients_is_told() -> None:
    with pytest.raises(PartError, match="the model has no gradients"):
        only(small("pixel_frequency"))


def test_an_answer_that_is_not_finite_is_told() -> None:
    model = small("unet")
    with torch.no_grad():
        model.head.bias.fill_(float("nan"))
    with pytest.raises(PartError, match="not finite"):
        only(model)


def test_the_example_of_the_docs_works(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[3] / "docs" / "explain.md").read_text(encoding="utf-8")
    code = page.split("## In Python")[1].split("```python\n")[1].split("```")[0]
    picture(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {}
    exec(code, given)
    side = given["bundle"].recipe.image_size
    assert given["explanation"].maps["x4"].shape == (side, side) and (tmp_path / "panel.png").is_file()


def test_no_images_no_explanations() -> None:
    assert explain(small("unet"), []) == []


# --- pictures ---


def drawn(data: CachedDataset, recipe: Recipe, path: Path, number: int = 3) -> tuple[int, int]:
    model = build_model(recipe, find_task(recipe.task))
    truths = list(np.asarray(data.targets[:number]))
    assert draw_explanations(model, recipe, list(data.images[:number]), truths, path)
    return size_of(path)


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_masks_are_drawn_with_their_truths(toy_data: CachedDataset, toy_recipe: Recipe, tmp_path: Path) -> None:
    width, height = drawn(toy_data, toy_recipe, tmp_path / "explanation.png")
    assert (width, height) == (9 * 134 + 6, 3 * 152 + 6)  # image, truth, prediction, x1 to x6
    assert [file.name for file in tmp_path.iterdir()] == ["explanation.png"]


def test_labels_are_drawn_with_their_truths(
    toy_scenes: CachedDataset, label_recipe: Recipe, tmp_path: Path
) -> None:
    assert drawn(toy_scenes, label_recipe, tmp_path / "explanation.png", 2) == (9 * 134 + 6, 2 * 152 + 6)


def test_instances_are_drawn_in_the_colours_of_their_truths(
    toy_cells: CachedDataset, instance_recipe: Recipe, tmp_path: Path
) -> None:
    assert drawn(toy_cells, instance_recipe, tmp_path / "explanation.png") == (9 * 134 + 6, 3 * 152 + 6)
    true = np.zeros((64, 64), np.uint16)
    true[8:24, 8:24], true[40:56, 40:56] = 1, 2
    found = np.where(true > 0, 3 - true.astype(np.int32), 0)
    logits, heat = np.zeros((1, 64, 64), np.float32), {"x": np.zeros((64, 64), np.float32)}
    cells = explanation_cells(noise(64) // 2, Explanation(heat, logits, 1, True, found), instance_recipe, true)
    assert [name for name, _ in cells] == ["image", "truth", "prediction", "x: nothing"]
    assert np.array_equal(cells[1][1], cells[2][1]) and not np.array_equal(cells[0][1], cells[1][1])
    none = explanation_cells(noise(64), Explanation(heat, logits, 1, False, found * 0), instance_recipe)
    assert [name for name, _ in none] == ["image", "nothing found", "x: nothing"]


def test_classes_are_drawn_with_their_verdicts(
    toy_badges: CachedDataset, class_recipe: Recipe, tmp_path: Path
) -> None:
    assert drawn(toy_badges, class_recipe, tmp_path / "explanation.png", 2) == (2 * 134 + 6, 2 * 152 + 6)


def test_nothing_is_drawn_of_a_model_that_cannot_be_explained(
    toy_data: CachedDataset, toy_recipe: Recipe, tmp_path: Path
) -> None:
    model, images = small("pixel_frequency"), list(toy_data.images[:2])
    assert not draw_explanations(model, toy_recipe, images, list(toy_data.targets[:2]), tmp_path / "x.png")
    assert not draw_explanations(small("unet"), toy_recipe, [], [], tmp_path / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_heat_goes_from_blue_to_red() -> None:
    picture = np.zeros((2, 4, 3), np.uint8)
    cold, hot = (overlay_heat(picture, np.full((1, 1), value, np.float32))[0, 0] for value in (0, 1))
    assert cold.argmax() == 2 and hot.argmax() == 0 and cold[0] == hot[2] == 0


def test_a_caption_is_shortened_to_its_picture(tmp_path: Path) -> None:
    picture = np.full((40, 60, 3), 200, np.uint8)
    draw_cells([[("a very long name of a layer", picture), ("", picture)]], tmp_path / "x.png")
    drawn = np.asarray(Image.open(tmp_path / "x.png").convert("L"))
    assert drawn[:20, 6:66].min() < 100 and drawn[:20, 66:].min() == 245  # nothing beside its own picture


# --- files, with a bundle alone ---


@pytest.fixture
def bundle(tmp_path: Path, toy_recipe: Recipe) -> Path:
    return make_bundle(toy_recipe, tmp_path / "best")


def picture(path: Path, size: tuple[int, int] = (60, 40)) -> Path:
    Image.fromarray(noise(max(size))[: size[1], : size[0]]).save(path)
    return path


@pytest.mark.parametrize("size", [(1, 1), (300, 8), (31, 33), (640, 480)], ids=str)
def test_an_image_of_any_size_gets_a_panel_in_its_own_shape(
    bundle: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    (told,) = explain_files(bundle, [picture(tmp_path / "photo.png", size)], tmp_path / "out")
    wide, high = (round(side * 256 / max(size)) for side in size)
    assert told.startswith(str(tmp_path / "out" / "photo_explanation.png"))
    assert size_of(tmp_path / "out" / "photo_explanation.png") == (4 * (wide + 6) + 6, 2 * (high + 24) + 6)


def test_the_panel_holds_the_picture_and_the_models_own_maps(bundle: Path, tmp_path: Path) -> None:
    path = picture(tmp_path / "photo.png", (256, 256))
    list(explain_files(bundle, [path], tmp_path / "out", ["x2"]))
    panel = np.asarray(Image.open(tmp_path / "out" / "photo_explanation.png"))
    shown, heat = panel[24:280, 6:262], panel[24:280, 6 + 2 * 262 : 6 + 2 * 262 + 256]
    assert np.array_equal(shown, np.asarray(Image.open(path)))
    assert not np.array_equal(heat, shown)


def test_what_was_not_found_is_told(tmp_path: Path, toy_recipe: Recipe) -> None:
    blind = make_bundle(toy_recipe, tmp_path / "blind", bias=-100.0)
    (told,) = explain_files(blind, [picture(tmp_path / "photo.png")], tmp_path / "out")
    assert "(no object found: the maps explain the whole output" in told


def test_another_class_is_explained_by_its_name(tmp_path: Path, label_recipe: Recipe) -> None:
    bundle = make_bundle(label_recipe, tmp_path / "labels")
    path = picture(tmp_path / "photo.png")
    panels = []
    for name in label_recipe.classes[:2]:
        list(explain_files(bundle, [path], tmp_path / "out", ["x2"], name))
        panels.append((tmp_path / "out" / "photo_explanation.png").read_bytes())
    assert panels[0] != panels[1]


def test_a_class_that_the_bundle_has_not_is_told(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(PartError, match=r"no class 'objct'. Did you mean 'object'\? Known: background, object"):
        list(explain_files(bundle, [tmp_path / "absent.png"], tmp_path / "out", (), "objct"))


def test_a_users_own_classifier_is_explained(tmp_path: Path, class_recipe: Recipe) -> None:
    bundle = open_bundle(make_bundle(class_recipe, tmp_path / "own"), trust=True)
    assert next(list_layers(bundle)) == "head"
    list(explain_files(bundle, [picture(tmp_path / "photo.png")], tmp_path / "out", ["encoder", "encoder.0"]))
    assert size_of(tmp_path / "out" / "photo_explanation.png")[0] == 3 * 262 + 6


def test_a_model_without_gradients_is_refused_in_one_line(tmp_path: Path, toy_recipe: Recipe) -> None:
    bundle = make_bundle(replace(toy_recipe, model=use("pixel_frequency", side=8)), tmp_path / "counts")
    with pytest.raises(PartError, match="the model has no gradients"):
        list(explain_files(bundle, [picture(tmp_path / "photo.png")], tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_all_that_is_wrong_is_told_before_anything_is_written(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    images = [picture(tmp_path / "good.png"), tmp_path / "empty.png", tmp_path / "absent.png"]
    with pytest.raises(DataError, match="1 of 1 image cannot be read"):
        list(explain_files(bundle, images[1:2], tmp_path / "out"))
    with pytest.raises(PartError, match="no layer 'x9'"):
        list(explain_files(bundle, images, tmp_path / "out", ["x9"]))
    with (bundle / "weights.safetensors").open("ab") as file:
        file.write(b"more")
    with pytest.raises(BundleError, match=r"altered: weights.safetensors"):
        list(explain_files(bundle, images, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_folder_is_explained_and_a_broken_file_does_not_cancel_the_others(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "below").mkdir(parents=True)
    (tmp_path / "photos" / "a.png").touch()
    picture(tmp_path / "photos" / "b.png")
    picture(tmp_path / "photos" / "below" / "b.png")
    told = explain_files(bundle, [tmp_path / "photos"], tmp_path / "out", ["x2"])
    assert [next(told).split(" ")[0] for _ in range(2)] == [
        str(tmp_path / "out" / "b_explanation.png"),
        str(tmp_path / "out" / "below" / "b_explanation.png"),
    ]
    with pytest.raises(
        DataError, match=r"1 of 3 images cannot be read; the results of the others are in .*a\.png"
    ):
        next(told)


def test_no_two_panels_have_one_name(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    images = [picture(tmp_path / "photo.png"), picture(tmp_path / "other" / "photo.png")]
    list(explain_files(bundle, images, tmp_path / "out", ["x2"]))
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == ["photo_2_explanation.png", "photo_explanation.png"]


def test_the_layers_of_a_bundle_are_listed(bundle: Path) -> None:
    lines = list(list_layers(bundle))
    assert lines[:3] == ["x1 = down1", "x2 = down2", "x3 = down3"] and lines[-1] == "  head"
