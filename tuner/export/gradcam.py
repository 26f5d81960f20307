"""Where a model looked: Grad-CAM for classifiers, Seg-Grad-CAM for segmenters.

A layer's map is the sum of its channels, each weighed by the mean gradient of the score over the places of
the image; what speaks against the score is cut off. The score of a class is its logit; of a segmenter,
the sum of the logits over the pixels that it gives to the class. A model of instances says itself what speaks
for them: its `evidence`, as one of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from tuner.data.instances import Instances, Labels
from tuner.data.source import Image
from tuner.errors import PartError, format_names
from tuner.export.layers import (
    choose_layers,
    device_of,
    eval_mode,
    layers_of,
    replace_tensor,
    select_map,
    to_feature_map,
)
from tuner.train.trainer import make_normalizer

HeatMap = NDArray[np.float32]


@dataclass(frozen=True)
class Explanation:
    """`maps`: a layer's name and, for each pixel of the image, how much spoke for the class, from 0 to 1.

    `logits` is what the model answered, (outputs, height, width) or (outputs,); `target` the class that is
    explained, of a binary mask and of instances 1 for the object. `found` is False where no pixel was given to
    that class: then the whole answer is explained. Of a model of instances, `logits` is its evidence and
    `instances` the label map of what it found.
    """

    maps: Mapping[str, HeatMap]
    logits: HeatMap
    target: int
    found: bool
    instances: Labels | None = None


def explain(
    model: nn.Module,
    images: Sequence[Image],
    layers: Sequence[str] | None = None,
    target: int | None = None,
) -> list[Explanation]:
    """Explain what the model makes of each image, given as bytes (height, width, 3) at the size it was trained on.

    `layers` are names of `tuner.export.layers.layers_of(model)` or paths of modules; without them, all those names
    whose layers give a map. `target` is the number of a class; without it, what the model found: the
    likeliest class of an image, the object of a mask, the most frequent class but the first of a label map.
    PartError where nothing can be explained. The model is left as it was.
    """
    if not len(images):
        return []
    chosen = choose_layers(model, layers) if layers else layers_of(model, min(images[0].shape[:2]))
    return [explain_one(model, image, chosen, bool(layers), target) for image in images]


@torch.inference_mode(False)
@torch.enable_grad()
def explain_one(
    model: nn.Module, image: Image, layers: Mapping[str, nn.Module], strict: bool, target: int | None
) -> Explanation:
    """`strict`: each layer must give a map; otherwise one of them will do."""
    device = device_of(model)
    pixels = make_normalizer(device)(torch.from_numpy(np.array(image)[None]).to(device)).requires_grad_()
    with eval_mode(model), record_outputs(layers) as kept, torch.autocast(device.type, enabled=False):
        answer = getattr(model, "evidence", model)
        logits = answer(pixels.clone())  # a layer that works in place must not meet a leaf
        score, target, found = compute_score(check_logits(logits), target)
        reached = [name for name in layers if name in kept and kept[name].requires_grad]
        inputs = [kept[name] for name in reached]
        grads = torch.autograd.grad(score, inputs, allow_unused=True) if inputs else ()
    size, multiple = image.shape[:2], getattr(model, "multiple", 1)
    both = {name: (kept[name].detach(), grad) for name, grad in zip(reached, grads, strict=True)}
    maps = {name: heat for name in both if (heat := compute_heat_map(*both[name], size, multiple)) is not None}
    if (strict and len(maps) < len(layers)) or not maps:
        raise PartError(no_map_message([name for name in layers if name not in maps], kept, layers_of(model)))
    plain = logits.detach()[0].float().cpu().numpy()
    things = find_instances_in(model, pixels)
    return Explanation(maps, plain, target, found if things is None else found and bool(things.any()), things)


@torch.no_grad()
def find_instances_in(model: nn.Module, pixels: Tensor) -> Labels | None:
    """What a model of instances finds in one image; None for others."""
    find: Callable[[Any], Sequence[Instances]] | None = getattr(model, "instances", None)
    if find is None:
        return None
    with eval_mode(model), torch.autocast(pixels.device.type, enabled=False):
        return find(model(pixels.detach().clone()))[0].labels


@contextmanager
def record_outputs(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """While it lasts, what these layers give is kept; of one that is used several times, the last.

    What goes on through the model is a copy, so that a layer behind that works in place changes nothing kept.
    """
    kept: dict[str, Tensor] = {}

    def attempts(name: str) -> Callable[[nn.Module, Any, Any], Any]:
        def keep(_module: nn.Module, _given: Any, output: Any) -> Any:
            if (found := select_map(output)) is None:
                return output
            kept[name] = found
            return replace_tensor(output, found, found.clone())

        return keep

    hooks = [module.register_forward_hook(attempts(name)) for name, module in layers.items()]
    try:
        yield kept
    finally:
        for hook in hooks:
            hook.remove()


def check_logits(logits: Any) -> Tensor:
    """The model's answer, if it can be explained."""
    if not isinstance(logits, Tensor) or logits.ndim not in (2, 4):
        raise PartError("the model gives neither a row of scores nor a map of them: it cannot be explained.")
    if not logits.requires_grad:
        raise PartError("the model has no gradients: its answer does not come from the image by layers.")
    if not logits.isfinite().all():
        raise PartError("the model's answer is not finite: it cannot be explained.")
    return logits


def compute_score(logits: Tensor, target: int | None) -> tuple[Tensor, int, bool]:
    """What to descend from, the class it stands for, and whether that class was found at all."""
    if logits.shape[1:] == (1,):  # one number for all instances together
        target = 1 if target is None else target
        return logits[0, 0] * (1 if target else -1), target, True
    if logits.ndim == 2:
        target = int(logits[0].argmax()) if target is None else target
        return logits[0, target], target, True
    if logits.shape[1] == 1:
        target = 1 if target is None else target
        evidence = logits[0, 0] if target else -logits[0, 0]
        inside = evidence > 0
    else:
        labels = logits[0].argmax(0)
        target = most_frequent_class(labels, logits.shape[1]) if target is None else target
        evidence, inside = logits[0, target], labels == target
    found = bool(inside.any())
    return (evidence[inside] if found else evidence).sum(), target, found


def most_frequent_class(labels: Tensor, classes: int) -> int:
    """The class of most pixels, the first one (as a rule what is behind everything) only where it is alone."""
    counts = labels.flatten().bincount(minlength=classes)[1:]
    return int(counts.argmax()) + 1 if counts.any() else 0


def compute_heat_map(values: Tensor, grad: Tensor | None, size: tuple[int, int], multiple: int) -> HeatMap | None:
    """The map of one layer at the image's size; None where its values have no place in the image.

    A model that pads images to a multiple has maps of the padded image; they are cut back as its answer is.
    """
    height, width = size
    padded = (height + -height % multiple, width + -width % multiple)
    features = to_feature_map(values, *padded)
    slopes = None if grad is None else to_feature_map(grad, *padded)
    if features is None or slopes is None:
        return None
    weights = slopes.float().mean((1, 2), keepdim=True)
    heat = (weights * features.float()).sum(0).relu()
    heat = F.interpolate(heat[None, None], size=padded, mode="bilinear", align_corners=False)[0, 0]
    heat = heat[:height, :width]
    highest = heat.max()
    return (heat / highest if highest > 0 else heat).cpu().numpy()


def no_map_message(wrong: Sequence[str], kept: Mapping[str, Tensor], known: Mapping[str, nn.Module]) -> str:
    """Why these layers cannot be explained."""
    if not wrong:
        return "the model has no layer whose output is a map of the image: it cannot be explained."
    shapes = {name: " x ".join(map(str, kept[name].shape[1:])) for name in wrong if name in kept}
    said = [f"'{name}' gives {shapes[name]}" if name in shapes else f"'{name}' is not run" for name in wrong]
    others = [name for name in known if name not in wrong]
    take = f" Take another, such as {format_names(others)}." if others else ""
    return f"a layer must give a map of the image that its answer depends on: {format_names(said)}.{take}"
