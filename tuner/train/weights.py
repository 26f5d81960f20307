"""Initial weights from an earlier training: which tensors are loaded, which are not, and why."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor, nn

from tuner.errors import PartError, first_line, format_names
from tuner.models import ENCODER
from tuner.models.pretrained import imagenet_tensors, load_tensors
from tuner.recipe import Recipe
from tuner.tasks import find_task
from tuner.train.trainer import build_model

log = logging.getLogger("tuner")
PARTS = ("encoder", "all")
COUNTER = "num_batches_tracked"  # of batch norms: missing in older files, and not used
OTHER_CLASSES = 19  # of the model with the random initial weights of a rehearsal
Tensors = dict[str, Tensor]


def load_initial_weights(model: nn.Module, recipe: Recipe, source: Path | None) -> str:
    """Load the weights that the recipe names into a new model; return a summary line."""
    if recipe.weights.name == "none":
        return ""
    tensors, summary = match_tensors(model, recipe, source)
    model.load_state_dict({**model.state_dict(), **tensors})
    log.info("weights: %s", summary)
    return summary


def match_tensors(model: nn.Module, recipe: Recipe, source: Path | None) -> tuple[Tensors, str]:
    """Return the tensors to load and a summary; PartError names the differences to another architecture's file."""
    tensors, where = read_source(model, recipe, source)
    part = recipe.weights_part
    wanted = {k: v for k, v in model.state_dict().items() if part == "all" or k.startswith(ENCODER)}
    if not wanted:
        raise PartError(f'weights from {where}: {recipe.model.name} has no part named encoder. Use part="all".')
    if part == "encoder" and not any(name.startswith(ENCODER) for name in tensors):
        tensors = {ENCODER + name: value for name, value in tensors.items()}  # a file of an encoder alone
    fits = {k: v for k, v in tensors.items() if k in wanted and v.shape == wanted[k].shape}
    if wrong := describe_differences(wanted, tensors):
        raise PartError(
            f"weights from {where} do not fit {recipe.model}: {len(fits)} of {len(wanted)} tensors fit. "
            f"{wrong}{encoder_hint(part, wanted, fits)}"
        )
    return fits, (
        f"{len(fits)} tensors{' of the encoder' * (part == 'encoder')} loaded from {where}; "
        f"{len(tensors) - len(fits)} of the file not used, "
        f"{len(model.state_dict()) - len(fits)} of the model newly initialized"
    )


def read_source(model: nn.Module, recipe: Recipe, source: Path | None) -> tuple[Tensors, str]:
    """Return the available tensors under the model's own names, and their origin."""
    if recipe.weights.name == "imagenet":
        return imagenet_tensors(model)
    if recipe.weights.name == "random":
        return random_weights(recipe), "random weights"
    if source is None:
        raise PartError(f"weights '{recipe.weights.name}' were not found.")
    return read_weights(source), str(source)


def random_weights(recipe: Recipe) -> Tensors:
    """Return random weights for a rehearsal, of the same model with another number of classes."""
    other = recipe
    if recipe.classes and recipe.weights_part == "encoder":
        other = replace(recipe, classes=tuple(map(str, range(OTHER_CLASSES))))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed + 1)
        return dict(build_model(other, find_task(recipe.task)).state_dict())


def read_weights(path: Path) -> Tensors:
    """Return the tensors of a .safetensors file, or of one that torch saved; only tensors are unpickled."""
    try:
        plain = load_tensors(path)
    except UnpicklingError as error:  # torch's message advises to unpickle it anyway
        raise PartError(
            f"weights {path} cannot be read: the file is damaged, or holds objects other than tensors, "
            "which are not unpickled. Save model.state_dict() alone."
        ) from error
    except Exception as error:
        raise PartError(f"weights {path} cannot be read: {first_line(error)}") from error
    for key in ("state_dict", "model"):  # what training scripts wrap them in
        plain = plain[key] if isinstance(plain, dict) and isinstance(plain.get(key), dict) else plain
    tensors = {k: v for k, v in plain.items() if isinstance(v, Tensor)} if isinstance(plain, dict) else {}
    if not tensors:
        raise PartError(f"weights {path} holds no named tensors.")
    return tensors


def describe_differences(wanted: Tensors, tensors: Tensors) -> str:
    """Return what the file lacks or has in another shape; "" if everything wanted fits."""
    missing = [k for k in wanted if k not in tensors and not k.endswith(COUNTER)]
    odd = [
        f"{k} is {tuple(tensors[k].shape)}, needed {tuple(v.shape)}"
        for k, v in wanted.items()
        if k in tensors and tensors[k].shape != v.shape
    ]
    parts = {"Missing": missing, "With another shape": odd}
    return " ".join(f"{what}: {format_names(names, 3)}." for what, names in parts.items() if names)


def encoder_hint(part: str, wanted: Tensors, fits: Tensors) -> str:
    """Return a hint to use part="encoder" where the encoder alone fits."""
    inner = {k for k in wanted if k.startswith(ENCODER) and not k.endswith(COUNTER)}
    return ' Its encoder fits: use part="encoder".' if part == "all" and inner and inner <= fits.keys() else ""
