"""The table of optimizers. A builder takes the parameters, or groups of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn, optim

from tuner.deprecated import renamed_names
from tuner.errors import PartError
from tuner.registry import FRACTION, NOT_NEGATIVE, POSITIVE, check_range

OPTIMIZERS = {name: f"tuner.train.optimizers:{name}" for name in ("adam", "adamw", "sgd")}
Params = Iterable[nn.Parameter] | Iterable[dict[str, Any]]
FUSED = {"cpu", "cuda"}


def adam(params: Params, *, lr: float = 1e-3, weight_decay: float = 0.0) -> optim.Optimizer:
    """Adam, fused: one pass over the weights instead of a dozen."""
    check_rates("adam", lr, weight_decay)
    return make_fused(optim.Adam, params, lr=lr, weight_decay=weight_decay)


def adamw(
    params: Params, *, lr: float = 1e-3, weight_decay: float = 1e-2, amsgrad: bool = False
) -> optim.Optimizer:
    """Adam with decoupled weight decay; with amsgrad, effective step sizes never increase."""
    check_rates("adamw", lr, weight_decay)
    return make_fused(optim.AdamW, params, lr=lr, weight_decay=weight_decay, amsgrad=amsgrad)


def sgd(
    params: Params, *, lr: float = 1e-2, momentum: float = 0.9, nesterov: bool = False, weight_decay: float = 0.0
) -> optim.Optimizer:
    """Stochastic gradient descent with momentum."""
    check_rates("sgd", lr, weight_decay)
    check_range("optimizer 'sgd'", FRACTION, momentum=momentum)
    if nesterov and not momentum:
        raise PartError("optimizer 'sgd' with nesterov=True needs a momentum above 0.")
    return make_fused(optim.SGD, params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)


def make_fused(kind: Callable[..., optim.Optimizer], params: Params, **args: Any) -> optim.Optimizer:
    """Return an optimizer, fused where the device of all weights allows it; the meta device of checks does not."""
    given = [{**each, "params": list(each["params"])} if isinstance(each, dict) else each for each in params]
    weights = [p for each in given for p in (each["params"] if isinstance(each, dict) else [each])]
    fused = all(weight.device.type in FUSED and weight.is_floating_point() for weight in weights)
    return kind(given, fused=fused, **args)


def check_rates(name: str, lr: float, weight_decay: float) -> None:
    check_range(f"optimizer '{name}'", POSITIVE, lr=lr)
    check_range(f"optimizer '{name}'", NOT_NEGATIVE, weight_decay=weight_decay)


__getattr__ = renamed_names(__name__)
