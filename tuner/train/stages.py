"""Training stages: which modules are frozen, and the learning rate of the others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from tuner.errors import PartError, did_you_mean, format_names
from tuner.models import ENCODER
from tuner.recipe import Part, Stage
from tuner.registry import build
from tuner.train.optimizers import OPTIMIZERS

FROZEN = re.compile(r"([\w.]+)(?:\[(-?\d*):(-?\d*)\])?")  # "encoder", "encoder[:-10]"


def find_modules(model: nn.Module, name: str) -> list[nn.Module]:
    """Return the modules that a stage names: one of the model, one of its `groups`, or a slice of its layers."""
    found = FROZEN.fullmatch(name)
    if not found:
        raise PartError(
            f"a stage freezes {name!r}; the name of a module is needed, or its layers: 'encoder[:-10]'."
        )
    path, first, last = found.groups()
    known = dict(model.named_modules())
    groups: Mapping[str, Sequence[str]] = getattr(model, "groups", {})
    if path not in known and path not in groups:
        own = [*(child for child, _ in model.named_children()), *groups]
        raise PartError(
            f"a stage freezes '{path}', which the model does not have.{did_you_mean(path, own)} "
            f"It has: {format_names(own, 12)}."
        )
    if first is None and path in known:
        return [known[path]]
    layers = list(known[path].children()) if path in known else [known[name] for name in groups[path]]
    chosen = layers[slice(int(first) if first else None, int(last) if last else None)]
    if not chosen:
        raise PartError(f"a stage freezes '{name}', which selects none of the {len(layers)} layers of '{path}'.")
    return chosen


def freeze(model: nn.Module, names: Sequence[str], trainable: set[str]) -> list[nn.Module]:
    """Freeze the named modules, make the other trainable parameters learn, and return the frozen modules."""
    resting = [module for name in names for module in find_modules(model, name)]
    still = {id(parameter) for module in resting for parameter in module.parameters()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trainable and id(parameter) not in still)
        parameter.grad = None
    return resting


def make_optimizer(model: nn.Module, part: Part, stage: Stage) -> Any:
    """Return the optimizer of a stage; the encoder may have its own parameter group and learning rate."""
    if stage.lr is not None:
        part = Part(part.name, {**part.args, "lr": stage.lr})
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not learning and any(True for _ in model.parameters()):
        raise PartError(f"a stage freezes everything: {', '.join(stage.frozen)}. Leave something to train.")
    if not learning:  # a model that counts, without parameters
        return build("optimizer", OPTIMIZERS, part, [nn.Parameter(next(model.buffers()).new_zeros(()))])
    if stage.encoder_lr is None:
        return build("optimizer", OPTIMIZERS, part, list(learning.values()))
    if not any(name.startswith(ENCODER) for name in dict(model.named_parameters())):
        raise PartError("a stage sets encoder_lr, but the model has no part named encoder.")
    encoder = [p for name, p in learning.items() if name.startswith(ENCODER)]
    if not encoder:
        raise PartError("a stage sets encoder_lr and freezes the whole encoder; remove one of the two.")
    rest = [p for name, p in learning.items() if not name.startswith(ENCODER)]
    groups = [{"params": rest}] * bool(rest) + [{"params": encoder, "lr": stage.encoder_lr}]
    return build("optimizer", OPTIMIZERS, part, groups)
