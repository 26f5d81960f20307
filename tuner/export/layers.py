"""The layers of a model that can be explained, and their outputs as maps of the image.

A model names its layers in an attribute `explained`, a dict from short names to module paths. Without it, layers
are found by running the model once. Any other module can be named by its path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from tuner.errors import PartError, did_you_mean, format_names

SIDE = 64  # pixels of the image on which layers are found
CHANNELS = 3
MAX_PREFIX_TOKENS = 5  # tokens of a transformer that are not image patches: class token and registers


def layers_of(model: nn.Module, side: int = SIDE) -> dict[str, nn.Module]:
    """Return the layers that are explained by default, in the order of the forward pass."""
    paths: dict[str, str] = dict(getattr(model, "explained", None) or {}) or find_layers(model, side)
    known = dict(model.named_modules())
    if wrong := [path for path in paths.values() if path not in known]:
        close = did_you_mean(wrong[0], known)
        raise PartError(f"the model's `explained` names {format_names(wrong)}; it has no such module.{close}")
    return {name: known[path] for name, path in paths.items()}


def choose_layers(model: nn.Module, names: Sequence[str], side: int = SIDE) -> dict[str, nn.Module]:
    """Return the layers of these names; PartError lists all unknown names."""
    short = layers_of(model, side)
    known = {**{path: module for path, module in model.named_modules() if path}, **short}
    if wrong := [name for name in names if name not in known]:
        hints = "".join(suggest_layer(name, short, known) for name in wrong[:5])
        listed = ", ".join([*short, "each of its modules by its path"]) + "; --list-layers lists them"
        raise PartError(f"the model has no layer {format_names(map(repr, wrong))}.{hints} Known: {listed}.")
    return {name: known[name] for name in names}


def suggest_layer(name: str, short: Iterable[str], known: Iterable[str]) -> str:
    """Return a hint: a nested module of that name, or the most similar name."""
    inner = next((path for path in known if path.endswith(f".{name}")), None)
    return f" Did you mean '{inner}'?" if inner else did_you_mean(name, short) or did_you_mean(name, known)


def find_layers(model: nn.Module, side: int) -> dict[str, str]:
    """Find layers by running the model once: the smallest map, and the last map of each larger size after it.

    Modules with one channel per class are left out: they are the head, equal to the output.
    """
    seen: list[tuple[str, torch.Size]] = []

    def record(path: str, output: Any) -> None:
        if (found := select_map(output)) is not None:
            seen.append((path, found.shape))

    named = {path: module for path, module in model.named_modules() if path}
    with forward_hooks(named, record), eval_mode(model), torch.no_grad():
        answer = model(torch.zeros(1, CHANNELS, side, side, device=device_of(model)))
    if not isinstance(answer, Tensor):  # a detector, which must name its layers itself
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


@contextmanager
def forward_hooks(modules: Mapping[str, nn.Module], hook: Callable[[str, Any], Any]) -> Iterator[None]:
    """Call `hook` with the name and the output of each module that runs; what it returns replaces the output."""
    handles = [
        module.register_forward_hook(lambda _module, _given, output, name=name: hook(name, output))
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode, and restore the mode of each module afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def device_of(model: nn.Module) -> torch.device:
    return next((t.device for t in chain(model.parameters(), model.buffers())), torch.device("cpu"))


# --- the outputs of layers ---


def list_tensors(output: Any) -> list[Tensor]:
    """Return every tensor in a module's output, in order: some modules return lists of features."""
    if isinstance(output, Tensor):
        return [output]
    inner = output.values() if isinstance(output, dict) else output if isinstance(output, list | tuple) else ()
    return [tensor for item in inner for tensor in list_tensors(item)]


def select_map(output: Any) -> Tensor | None:
    """Return the last map in a module's output, or the last token sequence; encoders return the deepest last."""
    floats = [tensor for tensor in list_tensors(output) if tensor.is_floating_point()]
    for dims in (4, 3):
        if found := [tensor for tensor in floats if tensor.ndim == dims]:
            return found[-1]
    return floats[-1] if floats else None


def replace_tensor(output: Any, old: Tensor, new: Tensor) -> Any:
    if output is old:
        return new
    if isinstance(output, dict):
        return type(output)((key, replace_tensor(value, old, new)) for key, value in output.items())
    if type(output) in (list, tuple):
        return type(output)(replace_tensor(item, old, new) for item in output)
    return output


def to_feature_map(values: Tensor, height: int, width: int) -> Tensor | None:
    """Return a layer's output for one image as (channels, rows, columns); None if it is not a map of the image.

    Tokens are reshaped to the grid of patches; maps with channels last are transposed.
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
    """Reshape tokens (1, number, channels) to the grid of patches, without class and register tokens."""
    number = values.shape[1]
    for prefix in range(MAX_PREFIX_TOKENS + 1):
        places = number - prefix
        rows = isqrt(max(0, round(places * height / width)))
        if rows * rows * width == places * height and places > 1:
            return values[0, prefix:].T.unflatten(1, (rows, places // rows))
    return None
