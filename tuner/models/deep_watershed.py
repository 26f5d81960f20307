"""Deep Watershed: a segmenter that also predicts the depth of each pixel in its instance, and a watershed of it.

After Bai and Urtasun, "Deep Watershed Transform for Instance Segmentation" (2017), with one network for all heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tuner.data.instances import Instances, renumber
from tuner.errors import PartError
from tuner.models import INSTANCE_MODELS, MODELS
from tuner.recipe import Part
from tuner.registry import BETWEEN_0_AND_1, COUNT, build, check_range

HEADS, DIRECTION = 2, 2  # mask and energy; down and across
Map = NDArray[np.float32]


def deep_watershed(
    channels: int,
    classes: int,
    *,
    base: str = "unet",
    k: int | None = None,
    args: Mapping[str, Any] | None = None,
    direction: bool = False,
    mask: float = 0.5,
    energy: float = 0.5,
    min_size: int = 4,
) -> nn.Module:
    """Any segmenter `base` with heads for mask, energy and optionally direction, and a watershed.

    `k` and `args` are those of the base. The watershed floods pixels with a mask above `mask` from basins with an
    energy above `energy`; instances smaller than min_size pixels are dropped.
    """
    check_range("model 'deep_watershed'", BETWEEN_0_AND_1, mask=mask, energy=energy)
    check_range("model 'deep_watershed'", COUNT, min_size=min_size)
    model = build_base("deep_watershed", base, k, args, channels, HEADS + DIRECTION * bool(direction))
    flood = WatershedInstances(mask, energy, min_size)
    # attributes, so that the weights keep their names
    vars(model).update(instances=flood, evidence=partial(object_evidence, model))
    return model


def build_base(
    name: str, base: str, k: int | None, args: Mapping[str, Any] | None, channels: int, outputs: int
) -> nn.Module:
    """Return the segmenter `base` with so many output maps; PartError if model `name` cannot be built on it."""
    if base in INSTANCE_MODELS:
        raise PartError(f"base of model '{name}' is '{base}'; a segmenter is needed, such as 'unet'.")
    if not isinstance(args, Mapping | None):
        raise PartError(f"args of model '{name}' are {args!r}; write args={{'name': value}}.")
    width = {} if k is None else {"k": k}
    model: nn.Module = build("model", MODELS, Part(base, {**(args or {}), **width}), channels, outputs)
    if hasattr(model, "learn"):
        raise PartError(f"base of model '{name}' is '{base}'; a segmenter trained by gradient descent is needed.")
    return model


def object_evidence(model: nn.Module, image: Tensor) -> Tensor:
    """Return the evidence for an object at each pixel: the logits of the mask."""
    return cast(Tensor, model(image)[:, :1])


@dataclass(frozen=True)
class WatershedInstances:
    """Turns the heads (number x 2 or more x height x width, logits of mask and energy) into instances."""

    mask: float
    energy: float
    min_size: int  # pixels at the size of the model's input

    def __call__(self, logits: Tensor, sizes: Sequence[tuple[int, int]] | None = None) -> list[Instances]:
        """Return the instances of each image; with `sizes`, at these heights and widths."""
        found = []
        for at, heads in enumerate(logits[:, :HEADS].float()):
            heads = resize_map(heads, None if sizes is None else sizes[at])
            min_size = scaled_area(self.min_size, heads[0].numel() / logits[0, 0].numel())
            mask, energy = heads.sigmoid().cpu().numpy()
            found.append(extract_instances(mask, energy, self.mask, self.energy, min_size))
        return found


def resize_map(maps: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Return channels x height x width at another height and width, or unchanged."""
    if size is None:
        return maps
    return F.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]


def scaled_area(pixels: int, scale: float) -> int:
    """Return a number of pixels of the model's input as that of an image of `scale` times as many, at least 1."""
    return max(1, round(pixels * scale))


def extract_instances(mask: Map, energy: Map, least_mask: float, least_energy: float, min_size: int) -> Instances:
    """Return instances from the object probability and the energy of each pixel.

    A connected piece of the mask is one instance unless it has several basins, which are then flooded. The score
    is the mean mask probability times the maximum energy.
    """
    inside = mask > least_mask
    number, basins = cv2.connectedComponents((inside & (energy > least_energy)).astype(np.uint8), connectivity=4)
    num_pieces, pieces = cv2.connectedComponents(inside.astype(np.uint8), connectivity=4)
    home = np.zeros(number, np.int64)  # the piece of each basin
    home[basins[inside]] = pieces[inside]
    home[0] = 0
    held = np.bincount(home[1:], minlength=num_pieces)  # number of basins in each piece
    names = np.arange(num_pieces) * (held < 2)
    labels = names[pieces] + flood_basins(-energy, basins, (held > 1)[pieces], num_pieces)
    sizes = np.bincount(labels.ravel())
    labels = renumber(labels * (sizes >= min_size)[labels])
    return Instances(labels, instance_scores(labels, mask, energy))


def flood_basins(
    height: Map, basins: NDArray[np.int32], where: NDArray[np.bool_], above: int
) -> NDArray[np.int64]:
    """Return a watershed of the pixels in `where`, with instances numbered from `above`; 0 elsewhere."""
    from skimage.segmentation import watershed

    if not where.any():
        return np.zeros(where.shape, np.int64)
    found = watershed(height, basins * where, mask=where, connectivity=1)
    return np.where(found > 0, found + above, 0)


def instance_scores(labels: NDArray[np.int32], mask: Map, energy: Map) -> Map:
    inside = labels > 0
    owners = labels[inside]
    sizes = np.bincount(owners)
    deepest = np.zeros(len(sizes), np.float32)
    np.maximum.at(deepest, owners, energy[inside])
    return np.asarray((np.bincount(owners, mask[inside]) / np.maximum(sizes, 1) * deepest)[1:], np.float32)
