"""The layers of a model that can be explained: their names, and what each gives as a map of the image.

A model says which ones matter by an attribute `explained`: short names, and the paths of its modules. For
one that says nothing they are found by running it once. Any other of its modules may be named by its path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from tuner.errors import PartError, did_you_mean, format_names

SIDE = 64  # pixels of the image that shows what a model's layers give
CHANNELS = 3
MAX_PREFIX_TOKENS = 5  # tokens of a transformer that are no place of the image: its class, and registers


def layers_of(model: nn.Module, side: int = SIDE) -> dict[str, nn.Module]:
    """The layers that are explained when none are named, in the order of the forward pass."""
    paths: dict[str, str] = dict(getattr(model, "explained", None) or {}) or find_layers(model, side)
    known = dict(model.named_modules())
    if wrong := [path for path in paths.values() if path not in known]:
        raise PartError(
            f"the model's `explained` names {format_names(wrong)}, which it has not."
            f"{did_you_mean(wrong[0], known)}"
        )
    return {name: known[path] for name, path in paths.items()}


def choose_layers(model: nn.Module, names: Sequence[str], side: int = SIDE) -> dict[str, nn.Module]:
    """The layers of these names; one PartError for all that the model has not."""
    short = layers_of(model, side)
    known = {**{path: module for path, module in model.named_modules() if path}, **short}
    if wrong := [name for name in names if name not in known]:
        hints = "".join(suggest_layer(name, short, known) for name in wrong[:5])
        raise PartError(
            f"the model has no layer {format_names(map(repr, wrong))}.{hints} Known: "
            f"{', '.join([*short, 'each of its modules by its path'])}; --list-layers lists them."
        )
    return {name: known[name] for name in names}


def suggest_layer(name: str, short: Iterable[str], known: Iterable[str]) -> str:
    """A hint: a module of that name further in, or else the nearest name."""
    inner = next((path for path in known if path.endswith(f".{name}")), None)
    return f" Did you mean '{inner}'?" if inner else did_you_mean(name, short) or did_you_mean(name, known)


def find_layers(model: nn.Module, side: int) -> dict[str, str]:
    """By running the model once: its deepest map, and the last map of each larger size behind it.

    What has a channel for each class of a mask is the head, and says nothing that the answer does not.
    """
    seen: list[tuple[str, torch.Size]] = []
    hooks = [
        module.register_forward_hook(shape_recorder(path, seen)) for path, module in model.named_modules() if path
    ]
    try:
        with eval_mode(model), torch.no_grad():
            answer = model(torch.zeros(1, CHANNELS, side, side, device=device_of(model)))
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(answer, Tensor):  # things that it found: which of its maps are of the image, it must say
        return {}
    maps = [(path, size[-1]) for path, size in seen if len(size) == 4 and size[-1] > 1]
    if answer.ndim == 4:
        heads = {path for path, size in seen if size[1] == answer.shape[1]}
        maps = [(path, size) for path, size in maps if path not in heads]
    if not maps:
        return {}
    deepest = min(size for _, size in maps)
    last = max(at for at, (_, size) in enumerate(maps) if size == deepest)
    by_size = {size: path for path, size in maps[last:]}
    ordered = sorted(by_size) if answer.ndim == 4 else [deepest]
    return {by_size[size]: by_size[size] for size in ordered}


def shape_recorder(path: str, seen: list[tuple[str, torch.Size]]) -> Callable[[nn.Module, Any, Any], None]:
    def record(_module: nn.Module, _given: Any, output: Any) -> None:
        if (found := select_map(output)) is not None:
            seen.append((path, found.shape))

    return record


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """The model in eval mode for a while; each of its parts gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def device_of(model: nn.Module) -> torch.device:
    """Where a model is; one that counts instead of descending has buffers alone."""
    return next((t.device for t in chain(model.parameters(), model.buffers())), torch.device("cpu"))


# --- what a layer gives ---


def list_tensors(output: Any) -> list[Tensor]:
    """Every tensor of what a module gave, in order: some give lists of features."""
    if isinstance(output, Tensor):
        return [output]
    inner = output.values() if isinstance(output, dict) else output if isinstance(output, list | tuple) else ()
    return [tensor for item in inner for tensor in list_tensors(item)]


def select_map(output: Any) -> Tensor | None:
    """Of what a module gave the last map, or the last rows of tokens; encoders give the deepest last."""
    floats = [tensor for tensor in list_tensors(output) if tensor.is_floating_point()]
    for dims in (4, 3):
        if found := [tensor for tensor in floats if tensor.ndim == dims]:
            return found[-1]
    return floats[-1] if floats else None


def replace_tensor(output: Any, old: Tensor, new: Tensor) -> Any:
    """What a module gave, with one of its tensors replaced by another."""
    if output is old:
        return new
    if isinstance(output, dict):
        return type(output)((key, replace_tensor(value, old, new)) for key, value in output.items())
    if type(output) in (list, tuple):
        return type(output)(replace_tensor(item, old, new) for item in output)
    return output


def to_feature_map(values: Tensor, height: int, width: int) -> Tensor | None:
    """(channels, rows, columns) from what a layer gave for one image of that size; None where it has no places.

    Tokens of a transformer become the grid they were cut from; maps with their channels last are turned.
    """
    if values.ndim == 3:
        return tokens_to_map(values, height, width)
    if values.ndim != 4:
        return None
    first, rows, columns = values.shape[1:]
    turned = height == width and rows != columns and first == rows
    found = values[0].movedim(-1, 0) if turned else values[0]
    return found if found.shape[1] * found.shape[2] > 1 else None


def tokens_to_map(values: Tensor, height: int, width: int) -> Tensor | None:
    """The grid of (1, number, channels) tokens: what is left of the number without its first few."""
    number = values.shape[1]
    for prefix in range(MAX_PREFIX_TOKENS + 1):
        places = number - prefix
        rows = isqrt(max(0, round(places * height / width)))
        if rows * rows * width == places * height and places > 1:
            return values[0, prefix:].T.unflatten(1, (rows, places // rows))
    return None
