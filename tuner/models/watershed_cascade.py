"""Deep Watershed in two networks and three stages: directions, then the levels of the watershed from directions.

After Bai and Urtasun, "Deep Watershed Transform for Instance Segmentation" (2017). The first network predicts the
direction to the inside of each pixel's instance, the second one its level: a class of the distance to the border.
Instances are connected pixels of levels above a cut. Unlike there, the first network predicts the mask as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tuner.data.instances import MAX_INSTANCES, Instances, Labels, renumber
from tuner.models.blocks import check_dropout, check_widths, init_weights
from tuner.models.deep_watershed import build_base, object_evidence, resize_map, scaled_area
from tuner.registry import BETWEEN_0_AND_1, COUNT, NOT_NEGATIVE, POSITIVE, Range, check_range

NAME = "watershed_cascade"
HEADS = 3  # mask; direction down and across
BORDERS = (0, 1, 2, 3, 4, 5, 7, 9, 12, 15, 19, 24, 30, 37, 45, 54)  # pixels: level i is above the i-th
GROWTH = 1.2  # of the steps between further borders
LEVELS = Range(least=3, most=64, whole=True)
NUM_LOW = 3  # lowest levels, which decide where instances part; one more has half of their extra weight
REACH = 1  # pixels that instances grow beyond the border of the cut
SHORT = 0.1  # length of a predicted vector that is not sure of its direction
BELOW_1 = 0.999999  # times a dot product, for the gradient of its acos
ROUNDING = 1e-3  # pixels, below any difference of two distances
DIRECTION, WATERSHED = "direction", "watershed"  # what a stage can freeze
Map = NDArray[np.float32]


def watershed_cascade(
    channels: int,
    classes: int,
    *,
    base: str = "unet",
    k: int | None = None,
    args: Mapping[str, Any] | None = None,
    width: int = 64,
    dropout: float = 0.3,
    levels: int = 16,
    scale: float = 1.0,
    low_weight: float = 3.0,
    mask: float = 0.5,
    cut: int = 2,
    min_size: int = 4,
) -> nn.Module:
    """Any segmenter `base` for mask and direction, and a network from directions to levels, trained in stages.

    Stages freeze "watershed" first, then "direction", then nothing. `k` and `args` are those of the base, `width`
    and `dropout` of the second network. Its `levels` are classes of the distance to the border: `scale` times the
    pixels of the paper. `low_weight` is the weight of the lowest ones in the loss. Pixels with a mask above `mask`
    and a level above `cut` form the instances, without pieces smaller than min_size pixels, which then grow back
    to their border.
    """
    owner = f"model '{NAME}'"
    check_range(owner, BETWEEN_0_AND_1, mask=mask)
    check_range(owner, COUNT, min_size=min_size)
    check_range(owner, LEVELS, levels=levels)
    check_range(owner, Range(least=0, most=levels - 2, whole=True), cut=cut)
    check_range(owner, POSITIVE, scale=scale)
    check_range(owner, NOT_NEGATIVE, low_weight=low_weight)
    check_widths(width=width)
    check_dropout(dropout)
    model = build_base(NAME, base, k, args, channels, HEADS)
    others = tuple(name for name, _ in model.named_children())
    borders = level_borders(levels, scale)
    model.add_module(WATERSHED, WatershedNet(width, dropout, borders, low_weight, mask))
    model.register_forward_hook(append_levels)
    # attributes and a hook, so that the weights keep their names
    vars(model).update(
        groups={DIRECTION: others},
        losses=partial(compute_losses, model),
        instances=LevelInstances(mask, cut, min_size, borders[cut + 1] + REACH),
        evidence=partial(object_evidence, model),
        explained=getattr(model, "explained", None) or {name: name for name in others},
    )
    return model


def level_borders(levels: int, scale: float) -> list[float]:
    """Return the distance that each level is above: `scale` times the paper's, at least one pixel apart.

    Distances of pixels begin at 1, so closer borders would leave levels without a pixel.
    """
    borders = [float(border) for border in BORDERS[:levels]]
    while len(borders) < levels:
        borders.append(borders[-1] + GROWTH * (borders[-1] - borders[-2]))
    return [max(scale * border, float(at)) for at, border in enumerate(borders)]


class WatershedNet(nn.Module):
    """A network from unit directions (number x 2 x height x width) to the logits of levels.

    At width 64 its layers are those of the paper; they end at a quarter of the size.
    """

    borders: Tensor
    weights: Tensor

    def __init__(
        self, width: int, dropout: float, borders: Sequence[float], low_weight: float, mask: float
    ) -> None:
        super().__init__()
        double, levels = 2 * width, len(borders)
        widths = (double,) * 5
        self.fine = nn.Sequential(*conv_relu(2, width), *conv_relu(width, double))
        self.coarse = nn.Sequential(*(layer for pair in pairwise(widths) for layer in conv_relu(*pair)))
        self.head = nn.Sequential(*conv_relu(double, double, 1), nn.Dropout(dropout), nn.Conv2d(double, levels, 1))
        self.apply(init_weights)
        self.mask = mask
        self.register_buffer("borders", torch.tensor(borders[1:]), persistent=False)
        low = [low_weight] * NUM_LOW + [(low_weight + 1) / 2]
        self.register_buffer("weights", torch.tensor([*low, *[1.0] * levels][:levels]), persistent=False)

    def forward(self, directions: Tensor) -> Tensor:
        height, width = directions.shape[-2:]
        x = shrink(self.coarse(shrink(self.fine(directions))))
        logits = F.interpolate(self.head(x).float(), scale_factor=4, mode="bilinear", align_corners=False)
        return logits[..., :height, :width]


def conv_relu(channels: int, width: int, side: int = 5) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, side, padding=side // 2), nn.ReLU(inplace=True)]


def shrink(x: Tensor) -> Tensor:
    """Return the mean of each 2 x 2 pixels; the last row or column of an odd size is averaged alone."""
    return F.avg_pool2d(x, 2, ceil_mode=True)


def append_levels(model: nn.Module, _given: object, heads: Tensor) -> Tensor:
    """Return the heads of the base with the logits of levels, computed from its directions inside its mask."""
    net, heads = cast(WatershedNet, model.watershed), heads.float()
    return torch.cat([heads, find_levels(net, heads, heads[:, :1].sigmoid() > net.mask)], 1)


def find_levels(net: WatershedNet, heads: Tensor, inside: Tensor) -> Tensor:
    return cast(Tensor, net(unit_directions(heads[:, 1:HEADS]) * inside))


# --- losses ---


def compute_losses(model: nn.Module, images: Tensor, target: Tensor) -> tuple[dict[str, Tensor], Tensor | None]:
    """Return the losses of mask, direction and levels, each a mean over the batch; in eval mode also the output.

    In training they are those of the stage, 0 for the others. With "direction" frozen, the second network learns
    from the true directions; with nothing frozen, from the predicted ones inside the true mask, without a loss of
    the direction.
    """
    net, inside = cast(WatershedNet, model.watershed), target[:, :1] > 0
    if not model.training:
        output = model(images)
        direction = direction_loss(output[:, 1:HEADS], target)
        levels = level_loss(net, output[:, HEADS:], target)
        return named_losses(target, mask=mask_loss(output, inside), direction=direction, levels=levels), output
    if not is_trained(model, cast(Any, model).groups[DIRECTION]):
        return named_losses(target, levels=level_loss(net, net(target[:, 2:4]), target)), None
    heads = model.forward(images).float()  # without the hook
    mask = mask_loss(heads, inside)
    if not is_trained(model, [WATERSHED]):
        return named_losses(target, mask=mask, direction=direction_loss(heads[:, 1:], target)), None
    levels = level_loss(net, find_levels(net, heads, inside), target)
    return named_losses(target, mask=mask, levels=levels), None


def is_trained(model: nn.Module, names: Sequence[str]) -> bool:
    """Return whether a stage trains any of these modules."""
    return any(p.requires_grad for name in names for p in model.get_submodule(name).parameters())


def named_losses(target: Tensor, **parts: Tensor) -> dict[str, Tensor]:
    """Return all three losses by name; 0 for those that are not given, so that each can always have a weight."""
    return {name: parts.get(name, target.new_zeros(())) for name in ("mask", DIRECTION, "levels")}


def mask_loss(heads: Tensor, inside: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(heads[:, :1], inside.float())


def direction_loss(found: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared angle to the true directions, in radians, where instances have one."""
    true = target[:, 2:4]
    angle = torch.acos((unit_directions(found) * true).sum(1) * BELOW_1)
    return weighted_mean(angle.square(), pixel_weights(target) * (true != 0).any(1))


def unit_directions(found: Tensor) -> Tensor:
    """Return vectors of length 1; those shorter than SHORT keep a part of it, so that gradients have a limit."""
    return F.normalize(found, dim=1, eps=SHORT)


def level_loss(net: WatershedNet, logits: Tensor, target: Tensor) -> Tensor:
    """Return the cross-entropy of each level against all others, low levels weighted up, mean inside instances."""
    chosen, weights = logits.float().log_softmax(1), net.weights[:, None, None]
    others = torch.log1p(-chosen.exp().clamp(max=1 - 1e-6))
    true = true_levels(net.borders, target)[:, None]
    at_true = ((others - chosen) * weights).gather(1, true)[:, 0]
    return weighted_mean(at_true - (others * weights).sum(1), pixel_weights(target))


def true_levels(borders: Tensor, target: Tensor) -> Tensor:
    """Return the level of each pixel from `make_energy_targets`, number x height x width; 0 for the background.

    The outermost pixels of an instance have the distance 1, so that the distance of its other pixels in pixels is
    the energy, divided by its minimum in the instance. An instance that fills the image has no border.
    """
    owners, energy = pixel_owners(target), target[:, 1]
    least = energy.new_ones(len(target) * (MAX_INSTANCES + 1))
    least = least.scatter_reduce(0, owners.flatten(), energy.flatten(), "amin")
    distance = energy / least[owners].clamp(min=1e-6)
    fills = (instance_sizes(target) == energy[0].numel()) & (target[:, 0] > 0)
    return torch.bucketize(distance.masked_fill(fills, torch.inf) - ROUNDING, borders)


def pixel_weights(target: Tensor) -> Tensor:
    """Return one over the root of the area of each pixel's instance; 0 outside."""
    return instance_sizes(target).clamp(min=1).rsqrt() * (target[:, 0] > 0)


def instance_sizes(target: Tensor) -> Tensor:
    """Return the number of pixels of each pixel's instance."""
    owners = pixel_owners(target)
    sizes = target.new_zeros(len(target) * (MAX_INSTANCES + 1))
    return sizes.scatter_add(0, owners.flatten(), torch.ones_like(target[:, 0]).flatten())[owners]


def pixel_owners(target: Tensor) -> Tensor:
    """Return the number of each pixel's instance, different in every image of the batch."""
    first = torch.arange(len(target), device=target.device) * (MAX_INSTANCES + 1)
    return target[:, 0].long() + first[:, None, None]


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over the images of the weighted means over their pixels; 0 for an image without weight."""
    return ((values * weights).sum((1, 2)) / weights.sum((1, 2)).clamp(min=1e-6)).mean()


# --- instances ---


@dataclass(frozen=True)
class LevelInstances:
    """Turns the output (logits of the mask, two of the direction, logits of levels) into instances."""

    mask: float
    cut: int
    min_size: int  # pixels at the size of the model's input
    reach: float

    def __call__(self, logits: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> list[Instances]:
        """Return the instances of each image; with `sizes`, at these heights and widths."""
        found = []
        for at, heads in enumerate(logits.float()):
            levels = heads[HEADS:]
            lead = levels[self.cut + 1 :].amax(0) - levels[: self.cut + 1].amax(0)
            sure = levels.softmax(0)[self.cut + 1 :].sum(0)
            maps = resize_map(torch.stack([heads[0].sigmoid(), lead, sure]), None if sizes is None else sizes[at])
            scale = maps[0].numel() / heads[0].numel()
            least = scaled_area(self.min_size, scale)
            mask, lead, sure = maps.cpu().numpy()
            found.append(extract_levels(mask, lead, sure, self.mask, least, self.reach * scale**0.5))
        return found


def extract_levels(mask: Map, lead: Map, sure: Map, least_mask: float, min_size: int, reach: float) -> Instances:
    """Return instances from the object probability, the lead of the levels above the cut, and their probability.

    Each connected piece of pixels in the mask with a lead above 0 is an instance; it then grows by `reach` pixels,
    inside the mask and no further than half-way to the next. The score is the product of the mean probabilities.
    """
    from skimage.segmentation import expand_labels

    inside = mask > least_mask
    _, pieces = cv2.connectedComponents((inside & (lead > 0)).astype(np.uint8), connectivity=4)
    sizes = np.bincount(pieces.ravel())
    pieces = renumber(pieces * (sizes >= min_size)[pieces])
    owners = pieces[pieces > 0]
    means = [np.bincount(owners, values[pieces > 0])[1:] / np.bincount(owners)[1:] for values in (mask, sure)]
    labels = keep_inside(np.asarray(expand_labels(pieces, reach), np.int32), inside, min_size)
    return Instances(labels, np.asarray(means[0] * means[1], np.float32).clip(0, 1))


def keep_inside(labels: Labels, inside: NDArray[np.bool_], min_size: int) -> Labels:
    """Return the labels inside the mask and in holes of fewer than min_size pixels that have a single label."""
    _, holes = cv2.connectedComponents((~inside).astype(np.uint8), connectivity=4)
    sizes = np.bincount(holes.ravel())
    small = (sizes < min_size)[holes] & ~inside
    lowest, highest = np.full(len(sizes), MAX_INSTANCES + 1), np.zeros(len(sizes), np.int64)
    np.minimum.at(lowest, holes[small], labels[small])
    np.maximum.at(highest, holes[small], labels[small])
    return labels * (inside | (small & (lowest == highest)[holes]))
