"""The cascade of Deep Watershed: its losses by hand, its stages, instances from its levels; bad arguments."""

from __future__ import annotations

from dataclasses import replace
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.local_training import Trial, assert_same, stop_after
from helpers.small_models import small
from numpy.typing import NDArray
from torch import Tensor, nn

from tuner.data.cache import CachedDataset
from tuner.data.instances import make_energy_targets, match_instances
from tuner.data.synthetic.cells import draw_culture
from tuner.errors import PartError
from tuner.goal import maximize
from tuner.models.watershed_cascade import (
    HEADS,
    LevelInstances,
    WatershedNet,
    direction_loss,
    extract_levels,
    level_borders,
    level_loss,
    true_levels,
    watershed_cascade,
)
from tuner.recipe import Recipe, Stage, use
from tuner.train.stages import freeze

LEVELS = 16
STAGES = (
    Stage(1, "watershed", judged=False),
    Stage(1, "direction", lr=1e-3, judged=False),
    Stage(1, lr=1e-3),
)


def squares(*boxes: tuple[int, int, int, int], side: int = 32) -> NDArray[np.uint16]:
    """A map with instance 1, 2 ... at these (top, left, bottom, right)."""
    labels = np.zeros((side, side), np.uint16)
    for number, (top, left, bottom, right) in enumerate(boxes, start=1):
        labels[top:bottom, left:right] = number
    return labels


def target(*maps: NDArray[np.uint16]) -> Tensor:
    return torch.from_numpy(make_energy_targets(np.stack(maps)))


def net(**args: Any) -> WatershedNet:
    given = {"width": 4, "dropout": 0.0, "borders": level_borders(LEVELS, 1.0), "low_weight": 3.0, "mask": 0.5}
    return WatershedNet(**{**given, **args})


# --- the loss of directions ---


def turned(truth: Tensor, angle: float) -> Tensor:
    """The true directions, turned and three times as long."""
    down, across = truth[:, 2], truth[:, 3]
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    return 3 * torch.stack([cos * down - sin * across, sin * down + cos * across], 1)


@pytest.mark.parametrize("angle", [0.0, 0.3, -2.0, pi], ids="{:.1f}".format)
def test_directions_cost_their_squared_angle_whatever_their_length(angle: float) -> None:
    truth = target(squares((2, 2, 13, 13), (2, 13, 9, 24)))
    found = turned(truth, angle).requires_grad_()
    loss = direction_loss(found, truth)
    assert float(loss.detach()) == pytest.approx(angle**2, abs=1e-5, rel=3e-3)
    loss.backward()
    assert found.grad is not None and found.grad.isfinite().all()
    assert (found.grad.abs().sum() > 1e-3) == (angle in (0.3, -2.0))
    assert not found.grad[:, :, truth[0, 0] == 0].any()


def test_a_prediction_without_direction_has_a_finite_gradient() -> None:
    truth = target(squares((2, 2, 13, 13)))
    for length in (0.0, 1e-30, 1e-8, 1e-4):
        found = torch.full((1, 2, 32, 32), length).requires_grad_()
        loss = direction_loss(found, truth)
        loss.backward()
        assert float(loss.detach()) == pytest.approx((pi / 2) ** 2, abs=0.01)
        assert found.grad is not None and 0 < found.grad.abs().max() < 10 * pi


def test_a_pixel_weighs_as_one_over_the_root_of_its_instances_area() -> None:
    """So that an instance weighs as the root of its area."""
    truth = target(squares((0, 0, 4, 4), (10, 10, 26, 26)))
    found, known = turned(truth, 0.0), (truth[0, 2:] != 0).any(0)
    small_pixels, large_pixels = (known & (truth[0, 0] == number) for number in (1, 2))
    found[:, :, small_pixels] *= -1
    shares = [float(pixels.sum()) / side for pixels, side in ((small_pixels, 4), (large_pixels, 16))]
    assert float(direction_loss(found, truth)) == pytest.approx(pi**2 * shares[0] / sum(shares), rel=3e-3)


def test_the_mean_is_over_images_and_one_without_instances_costs_nothing() -> None:
    some = squares((2, 2, 13, 13))
    truth = target(some, np.zeros_like(some))
    assert float(direction_loss(-turned(truth, 0.0), truth)) == pytest.approx(pi**2 / 2, rel=3e-3)
    network, logits = net(), torch.randn(2, LEVELS, 32, 32)
    alone = float(level_loss(network, logits[:1], truth[:1]))
    assert float(level_loss(network, logits, truth)) == pytest.approx(alone / 2)


# --- levels ---


def test_levels_are_the_classes_of_the_paper() -> None:
    borders = torch.tensor(level_borders(LEVELS, 1.0)[1:])
    distances = torch.tensor([1, 1.5, 2, 2.5, 5, 5.5, 7, 7.5, 54, 55, 1000])
    assert torch.bucketize(distances, borders).tolist() == [0, 1, 1, 2, 4, 5, 5, 6, 14, 15, 15]


def test_a_level_is_read_from_the_distance_to_the_border_of_the_instance() -> None:
    """Two squares of 11 and 5 pixels that touch, with depths of 6 and 3, in the second of two images."""
    labels = squares((2, 2, 13, 13), (2, 13, 7, 18))
    levels = true_levels(net().borders, target(np.zeros_like(labels), labels))
    assert not levels[0].any() and levels.dtype == torch.int64
    assert levels[1, 7, 2:13].tolist() == [0, 1, 2, 3, 4, 5, 4, 3, 2, 1, 0]
    assert levels[1, 4, 13:18].tolist() == [0, 1, 2, 1, 0]


def test_an_instance_that_fills_the_image_is_deep_and_a_single_pixel_is_not() -> None:
    borders = net().borders
    assert (true_levels(borders, target(np.ones((16, 16), np.uint16))) == LEVELS - 1).all()
    assert not true_levels(borders, target(np.zeros((16, 16), np.uint16))).any()
    assert not true_levels(borders, target(squares((5, 5, 6, 6)))).any()


def test_borders_are_scaled_but_never_within_a_pixel_of_each_other() -> None:
    assert level_borders(5, 1.0) == [0, 1, 2, 3, 4]
    assert level_borders(9, 0.5) == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert level_borders(16, 0.5)[-3:] == [18.5, 22.5, 27]
    assert level_borders(6, 2.0) == [0, 2, 4, 6, 8, 10]
    longer = level_borders(20, 1.0)
    assert longer[:16] == level_borders(16, 1.0)
    assert np.diff(longer)[15:].tolist() == pytest.approx([10.8, 12.96, 15.552, 18.6624])


def test_low_levels_have_the_weights_of_the_paper() -> None:
    assert net().weights.tolist() == [3, 3, 3, 2, *[1] * 12]
    assert net(borders=[0, 1, 2], low_weight=1.0).weights.tolist() == [1, 1, 1]
    assert not net().state_dict().keys() & {"borders", "weights"}


def test_the_loss_of_levels_is_that_of_a_loop_over_pixels() -> None:
    labels = squares((2, 2, 10, 12), (2, 12, 8, 16), side=16)
    truth, network = target(labels), net()
    logits = torch.randn(1, LEVELS, 16, 16, generator=torch.Generator().manual_seed(2))
    chances = logits[0].double().softmax(0).numpy()
    levels, weights, total, whole = true_levels(network.borders, truth)[0], network.weights.tolist(), 0.0, 0.0
    for y, x in np.argwhere(labels):
        weight = 1 / np.sqrt((labels == labels[y, x]).sum())
        for level, chance in enumerate(chances[:, y, x]):
            chosen = chance if level == levels[y, x] else 1 - chance
            total -= weight * weights[level] * np.log(chosen)
        whole += weight
    assert float(level_loss(network, logits, truth)) == pytest.approx(total / whole, rel=1e-4)


def test_a_level_that_is_surely_wrong_has_a_finite_loss_and_gradient() -> None:
    truth, network = target(squares((2, 2, 10, 12))), net()
    logits = torch.zeros(1, LEVELS, 32, 32)
    logits[:, -1] = 200
    logits.requires_grad_()
    loss = level_loss(network, logits, truth)
    loss.backward()
    assert loss.isfinite() and loss > 100
    assert logits.grad is not None and logits.grad.isfinite().all() and logits.grad.any()


# --- stages ---


def moved(model: nn.Module) -> set[str]:
    """Which of the two networks has gradients."""
    has = {name.startswith("watershed.") for name, p in model.named_parameters() if p.grad is not None}
    return {"watershed" if of_watershed else "direction" for of_watershed in has}


@pytest.mark.parametrize(
    ("frozen", "learned", "zero"),
    [
        ("watershed", {"direction"}, {"levels"}),
        ("direction", {"watershed"}, {"mask", "direction"}),
        ((), {"watershed", "direction"}, {"direction"}),
    ],
    ids=["first", "second", "third"],
)
def test_each_stage_has_its_losses_and_gradients(frozen: Any, learned: set[str], zero: set[str]) -> None:
    model, truth = small("watershed_cascade", width=4), target(squares((2, 2, 13, 13), (2, 13, 9, 24)))
    freeze(model, Stage(1, frozen).frozen, {name for name, _ in model.named_parameters()})
    inputs: list[Tensor] = []
    model.watershed.register_forward_pre_hook(lambda module, given: inputs.append(given[0].detach()))
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    parts, answer = model.losses(images, truth)  # type: ignore[operator]
    assert answer is None and list(parts) == ["mask", "direction", "levels"]
    assert {name for name, part in parts.items() if not part} == zero
    sum(parts.values()).backward()
    assert moved(model) == learned
    if frozen == "watershed":
        assert not inputs  # the second network is not even computed
    elif frozen == "direction":
        assert torch.equal(inputs[0], truth[:, 2:4])
    else:
        lengths, inside = inputs[0].norm(dim=1), truth[:, 0] > 0
        assert not lengths[~inside].any() and 0.7 < lengths[inside].mean() <= 1
    with torch.no_grad():
        parts, answer = model.eval().losses(images, truth)  # type: ignore[operator]
    assert all(part > 0 for part in parts.values()) and answer.shape == (1, HEADS + LEVELS, 32, 32)


def test_the_output_is_that_of_the_base_with_levels_from_directions_inside_the_mask() -> None:
    model = small("watershed_cascade", width=4).eval()
    images, inputs = torch.randn(2, 3, 33, 47), []
    model.watershed.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    with torch.no_grad():
        output, heads = model(images), model.forward(images)
    assert heads.shape == (2, HEADS, 33, 47) and torch.equal(output[:, :HEADS], heads)
    inside = (heads[:, 0] > 0).float()
    assert 0 < inside.mean() < 1 and not inputs[0][(inside == 0)[:, None].expand(-1, 2, -1, -1)].any()
    assert torch.equal(inputs[0], nn.functional.normalize(heads[:, 1:], dim=1, eps=0.1) * inside[:, None])


@pytest.fixture
def trial(toy_cells: CachedDataset, instance_recipe: Recipe, tmp_path: Path) -> Trial:
    model, loss = use("watershed_cascade", k=4, width=4), use("own", weights={"direction": 0.5, "levels": 2.0})
    recipe = replace(instance_recipe, model=model, loss=loss, stages=STAGES, epochs=3)
    return Trial(recipe, toy_cells, tmp_path / "run", maximize("pq"))


def test_a_trial_goes_through_the_three_stages(trial: Trial) -> None:
    outcome = trial.train()
    assert outcome.end == "finished" and list(trial.reports) == [1, 2, 3]
    assert all(np.isfinite(list(report.metrics.values())).all() for report in trial.reports.values())
    assert [report.lr for report in trial.reports.values()] == pytest.approx([3e-3, 1e-3, 1e-3])


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "epochs"), [(4, 1), (6, 2)], ids=["second", "third"])
def test_a_trial_stopped_in_a_stage_goes_on_as_if_it_had_not(trial: Trial, asked: int, epochs: int) -> None:
    broken = Trial(trial.recipe, trial.data, trial.run.folder.parent / "broken", trial.goal)
    trial.train()
    assert broken.train(stop_after(asked)).end == "stopped" and len(broken.reports) == epochs
    assert broken.go_on().end == "finished"
    assert_same(broken, trial)


def test_an_encoder_keeps_its_name_and_its_weights() -> None:
    model = watershed_cascade(3, 1, base="smp", args={"encoder": "resnet18"}, width=4)
    names = set(model.state_dict())
    assert any(name.startswith("encoder.") for name in names) and getattr(model, "pretrained", None) is not None
    assert {name.partition(".")[0] for name in names} == {"encoder", "decoder", "head", "watershed"}
    assert model.groups == {"direction": ("encoder", "decoder", "head")}


# --- instances ---


def output(labels: NDArray[np.uint16]) -> Tensor:
    """What a perfect model says of these instances."""
    truth = target(labels)
    levels = torch.nn.functional.one_hot(true_levels(net().borders, truth), LEVELS).movedim(-1, 1)
    return torch.cat([(truth[:, :1] > 0) * 20.0 - 10, truth[:, 2:4], levels * 20.0], 1)


def finder(cut: int = 2, min_size: int = 4) -> LevelInstances:
    return LevelInstances(0.5, cut, min_size, level_borders(LEVELS, 1.0)[cut + 1] + 1)


@pytest.mark.parametrize("cut", [0, 1, 2, 4])
def test_perfect_levels_give_back_touching_cells(cut: int) -> None:
    pairs = others = 0
    for number in range(6):
        _, labels = draw_culture(np.random.default_rng([number, 13]))
        (found,) = finder(cut)(output(labels))
        compared = match_instances(found.labels, labels)
        pairs += len(compared.pairs)
        others += len(compared.wrong) + len(compared.missed)
        assert found.scores.dtype == np.float32 and len(found.scores) == found.labels.max()
        assert ((found.scores > 0.9) & (found.scores <= 1)).all()
        assert (found.labels > 0)[labels == 0].mean() < 1e-3
    assert pairs > 30 and 2 * pairs / (2 * pairs + others) > 0.95


def test_instances_can_be_asked_for_at_any_size() -> None:
    _, labels = draw_culture(np.random.default_rng([3, 13]))
    (found,) = finder()(output(labels), [(256, 384)])
    assert found.labels.shape == (256, 384)
    compared = match_instances(found.labels, np.kron(labels, np.ones((2, 3), np.uint16)))
    assert len(compared.pairs) > 0.9 * labels.max()


def test_pieces_that_are_too_small_are_dropped_before_they_grow_and_small_holes_are_filled() -> None:
    mask, lead = np.ones((20, 20), np.float32), np.full((20, 20), -1, np.float32)
    mask[10, 4], mask[0:4, 10:14] = 0, 0
    lead[8:13, 2:7], lead[15, 15] = 1, 1
    mask[8, 2] = 0.76
    found = extract_levels(mask, lead, np.full_like(mask, 0.5), 0.5, 4, 2.0)
    assert found.labels[10, 4] == 1 and found.labels.max() == 1 and found.labels[15, 15] == 0
    assert found.labels[6, 4] == 1 and found.labels[5, 4] == 0  # grown by two pixels
    assert found.scores.tolist() == pytest.approx([(23 + 0.76) / 24 * 0.5])
    both = extract_levels(mask, lead, np.full_like(mask, 0.5), 0.5, 1, 2.0)
    assert both.labels[10, 4] == 0 and both.labels[15, 15] == 2 and len(both.scores) == 2


def test_a_hole_between_two_instances_belongs_to_neither() -> None:
    mask, lead = np.ones((9, 20), np.float32), np.ones((9, 20), np.float32)
    lead[:, 8:12], mask[4, 9:11] = -1, 0
    found = extract_levels(mask, lead, mask, 0.5, 4, 5.0)
    assert found.labels[4, 8] == 1 and found.labels[4, 11] == 2 and not found.labels[4, 9:11].any()


def test_growing_instances_meet_half_way_and_stay_in_the_mask() -> None:
    mask, lead = np.zeros((8, 20), np.float32), np.full((8, 20), -1, np.float32)
    mask[2:6] = 1
    lead[3:5, 2:5], lead[3:5, 14:17] = 1, 1
    found = extract_levels(mask, lead, mask, 0.5, 1, 30.0)
    assert (found.labels[2:6, :9] == 1).all() and (found.labels[2:6, 10:] == 2).all()
    assert not found.labels[:2].any() and not found.labels[6:].any()


def test_nothing_is_found_in_an_empty_mask_or_without_levels_above_the_cut() -> None:
    none, one = np.zeros((16, 16), np.float32), np.ones((16, 16), np.float32)
    for mask, lead in ((none, one), (one, -one), (none, none)):
        found = extract_levels(mask, lead, one, 0.5, 1, 3.0)
        assert not found.labels.any() and found.scores.shape == (0,) and found.labels.dtype == np.int32


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"base": "mask_rcnn"}, r"base of model 'watershed_cascade' is 'mask_rcnn'; a segmenter"),
        (
            {"base": "pixel_frequency"},
            r"base of model 'watershed_cascade' is 'pixel_frequency'; a segmenter trained",
        ),
        ({"levels": 2}, r"levels of model 'watershed_cascade' is 2; a whole number of at least 3 and at most 64"),
        ({"levels": "16"}, r"levels of model 'watershed_cascade' is '16'"),
        (
            {"levels": 5, "cut": 4},
            r"cut of model 'watershed_cascade' is 4; a whole number of at least 0 and at most 3",
        ),
        ({"cut": 1.5}, r"cut of model 'watershed_cascade' is 1\.5"),
        ({"scale": 0}, r"scale of model 'watershed_cascade' is 0; a number above 0"),
        ({"low_weight": -1}, r"low_weight of model 'watershed_cascade' is -1; a number of at least 0"),
        ({"mask": 1.0}, r"mask of model 'watershed_cascade' is 1\.0; a number above 0 and below 1"),
        ({"min_size": 0}, r"min_size of model 'watershed_cascade' is 0; a whole number of at least 1"),
    ],
)
def test_a_bad_argument_is_told(args: dict[str, Any], told: str) -> None:
    with pytest.raises(PartError, match=told):
        watershed_cascade(3, 1, **args)


@pytest.mark.parametrize("args", [{"width": 0}, {"dropout": 1.0}], ids=["width", "dropout"])
def test_a_bad_width_or_dropout_is_told(args: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(args))} is .* is needed"):
        watershed_cascade(3, 1, **args)
