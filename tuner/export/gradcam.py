"""Where a model looks: Grad-CAM for classifiers, Seg-Grad-CAM for segmentation models.

The heat map of a layer is the sum of its channels, each weighted by the mean gradient of the score over the
image, without negative values. The score of a class is its logit; for segmentation, the sum of its probabilities
or logits over the pixels predicted as the class. An instance model defines its logits by a method `evidence`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, get_args

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
    forward_hooks,
    layers_of,
    replace_tensor,
    select_map,
    to_feature_map,
)
from tuner.plots.heatmaps import Explanation, Score
from tuner.registry import unknown_choice
from tuner.train.trainer import make_normalizer

HeatMap = NDArray[np.float32]


def explain(
    model: nn.Module,
    images: Sequence[Image],
    layers: Sequence[str] | None = None,
    target: int | None = None,
    score: Score | None = None,
) -> list[Explanation]:
    """Return an explanation for each image, given as uint8 (height, width, 3) at the size of training.

    layers: names in `tuner.export.layers.layers_of(model)` or paths of modules. Default: all these names whose
        outputs are maps.
    target: the number of a class. Default: the predicted class of an image, the object of a mask, the most
        frequent class of a label map except the first.
    score: of a map, what is summed over the pixels predicted as the class: "probability", the default, or "logit".
        Without such pixels, or if none of their probabilities has a gradient, logits are summed.

    PartError if nothing can be explained. The model is left unchanged.
    """
    if not len(images):
        return []
    if score and score not in get_args(Score):
        raise PartError(unknown_choice("score", score, get_args(Score)))
    chosen = choose_layers(model, layers) if layers else layers_of(model, min(images[0].shape[:2]))
    return [explain_one(model, image, chosen, bool(layers), target, score) for image in images]


@torch.inference_mode(False)
@torch.enable_grad()
def explain_one(
    model: nn.Module,
    image: Image,
    layers: Mapping[str, nn.Module],
    strict: bool,
    target: int | None,
    score: Score | None,
) -> Explanation:
    """Explain one image. With `strict` each layer must have a map, otherwise at least one."""
    device = device_of(model)
    pixels = make_normalizer(device)(torch.from_numpy(np.array(image)[None]).to(device)).requires_grad_()
    with eval_mode(model), record_outputs(layers) as kept, torch.autocast(device.type, enabled=False):
        answer = getattr(model, "evidence", model)
        logits = answer(pixels.clone())  # in-place layers must not modify a leaf tensor
        target, found = choose_target(check_logits(logits, score), target)
        reached = [name for name in layers if name in kept and kept[name].requires_grad]
        inputs = [kept[name] for name in reached]
        grads, saturated = compute_gradients(logits, target, score or "probability", inputs)
    size, multiple = image.shape[:2], getattr(model, "multiple", 1)
    both = {name: (kept[name].detach(), grad) for name, grad in zip(reached, grads, strict=True)}
    maps = {name: heat for name in both if (heat := compute_heat_map(*both[name], size, multiple)) is not None}
    if (strict and len(maps) < len(layers)) or not maps:
        raise PartError(no_map_message([name for name in layers if name not in maps], kept, layers_of(model)))
    plain = logits.detach()[0].float().cpu().numpy()
    things = find_instances_in(model, pixels)
    found = found if things is None else found and bool(things.any())
    return Explanation(maps, plain, target, found, things, saturated)


@torch.no_grad()
def find_instances_in(model: nn.Module, pixels: Tensor) -> Labels | None:
    """Return the label map that an instance model predicts for one image; None for other models."""
    find: Callable[[Any], Sequence[Instances]] | None = getattr(model, "instances", None)
    if find is None:
        return None
    with eval_mode(model), torch.autocast(pixels.device.type, enabled=False):
        return find(model(pixels.detach().clone()))[0].labels


@contextmanager
def record_outputs(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of these layers, of a layer that runs several times the last.

    The model continues with a copy, so that later in-place layers do not change what was recorded.
    """
    kept: dict[str, Tensor] = {}

    def keep(name: str, output: Any) -> Any:
        if (found := select_map(output)) is None:
            return output
        kept[name] = found
        return replace_tensor(output, found, found.clone())

    with forward_hooks(layers, keep):
        yield kept


def check_logits(logits: Any, score: Score | None) -> Tensor:
    """Return the model's output if it can be explained, else raise PartError."""
    if not isinstance(logits, Tensor) or logits.ndim not in (2, 4):
        raise PartError("the model's output is neither class scores nor a map of scores: it cannot be explained.")
    if not logits.requires_grad:
        raise PartError("the model has no gradients from its output to the image: it cannot be explained.")
    if not logits.isfinite().all():
        raise PartError("the model's output is not finite: it cannot be explained.")
    if score and logits.ndim == 2:
        raise PartError(
            "the model's output is not a map: it is always explained by its logit; leave the score out."
        )
    return logits


def choose_target(logits: Tensor, target: int | None) -> tuple[int, bool]:
    """Return the class that is explained, and whether it was predicted."""
    if target is None:
        target = default_target(logits)
    return target, logits.ndim == 2 or bool(class_logits(logits, target)[1].any())


def default_target(logits: Tensor) -> int:
    if logits.shape[1] == 1:
        return 1
    labels = logits[0].argmax(0)
    return int(labels) if logits.ndim == 2 else most_frequent_class(labels, logits.shape[1])


def compute_gradients(
    logits: Tensor, target: int, score: Score, inputs: Sequence[Tensor]
) -> tuple[Sequence[Tensor | None], bool]:
    """Return the gradients of a class's score, and whether those of its probabilities are all zero.

    Then the gradients of the logits are returned.
    """
    if not inputs:
        return (), False
    grads = torch.autograd.grad(compute_score(logits, target, score), inputs, retain_graph=True, allow_unused=True)
    if score == "logit" or any(grad is not None and grad.any() for grad in grads):
        return grads, False
    plain = torch.autograd.grad(compute_score(logits, target, "logit"), inputs, allow_unused=True)
    return plain, any(grad is not None and bool(grad.any()) for grad in plain)


def compute_score(logits: Tensor, target: int, score: Score) -> Tensor:
    """Return the score of a class: its logit, or the sum over the pixels predicted as the class.

    Without such pixels it is the sum of all its logits: a probability near 0 has no gradient.
    """
    values, inside = class_logits(logits, target)
    if values.ndim == 0:
        return values
    if not inside.any():
        return values.sum()
    if score == "probability":
        values = values.sigmoid() if logits.shape[1] == 1 else logits[0].softmax(0)[target]
    return values[inside].sum()


def class_logits(logits: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """Return the logits of a class, of a mask's background with the sign reversed, and where it is predicted."""
    if logits.shape[1] == 1:  # of a mask, or one number for all instances together
        values = logits[0, 0] if target else -logits[0, 0]
        return values, values > 0
    return logits[0, target], logits[0].argmax(0) == target


def most_frequent_class(labels: Tensor, classes: int) -> int:
    """Return the most frequent class except the first, usually the background; the first if it is the only one."""
    counts = labels.flatten().bincount(minlength=classes)[1:]
    return int(counts.argmax()) + 1 if counts.any() else 0


def compute_heat_map(values: Tensor, grad: Tensor | None, size: tuple[int, int], multiple: int) -> HeatMap | None:
    """Return the heat map of one layer at the image's size; None if its output is not a map of the image.

    Models that pad images to a multiple have maps of the padded image, which are cropped like their output.
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
    if not wrong:
        return "the model has no layer whose output is a map of the image: it cannot be explained."
    shapes = {name: " x ".join(map(str, kept[name].shape[1:])) for name in wrong if name in kept}
    given = [f"'{name}' gives {shapes[name]}" if name in shapes else f"'{name}' is not run" for name in wrong]
    others = [name for name in known if name not in wrong]
    take = f" Take another, such as {format_names(others)}." if others else ""
    needed = "a layer's output must be a map of the image that affects the model's output"
    return f"{needed}: {format_names(given)}.{take}"
