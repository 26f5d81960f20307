"""What a model costs: parameters, multiply-adds, the memory of a training step, the time for one image.

All but the time follow from the model on the meta device, before anything is trained.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tuner.recipe import Recipe
from tuner.tasks import Task
from tuner.train.memory import release
from tuner.train.precision import resolve_dtype
from tuner.train.stages import freeze
from tuner.train.trainer import CHANNELS, build_model

GIGABYTE = 1e9
NUM_WARM, FEWEST_RUNS, MOST_RUNS, RUN_SECONDS = 3, 5, 50, 1.0  # of a model, to measure its latency


class MacCounter(TorchDispatchMode):
    """Counts the multiply-adds of convolutions and matrix products while it is active."""

    def __init__(self) -> None:
        super().__init__()
        from torch.utils.flop_counter import flop_registry  # takes 0.3 s

        self.formulas: dict[Any, Callable[..., int]] = flop_registry
        self.macs = 0

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if formula := self.formulas.get(function._overloadpacket):
            self.macs += formula(*args, **kwargs, out_val=result) // 2
        return result


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Set a model to evaluation without gradients, and back."""
    was_training = model.training
    try:
        with torch.no_grad():
            yield model.eval()  # type: ignore[misc]
    finally:
        model.train(was_training)


def count_params(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, size: int) -> int:
    """Return the multiply-adds for one image; of the part that runs on any image if the model names one.

    The model is on the meta device.
    """
    with eval_mode(model), MacCounter() as counter:
        getattr(model, "probe", model)(torch.empty(1, CHANNELS, size, size, device="meta"))
    return counter.macs


def predict_memory(model: nn.Module, recipe: Recipe, batch: int, dtype: torch.dtype) -> float:
    """Return the GB of a training step: weights, gradients, and what is kept for the backward pass.

    That is the least: the state of the optimizer and buffers of the libraries come on top. The model is on the
    meta device, where everything is fp32; with a smaller type, what is kept is taken as that much smaller.
    """
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    kept = 0.0
    try:
        for frozen in dict.fromkeys(stage.frozen for stage in recipe.resolved_stages):
            freeze(model, frozen, trainable)
            own = [*model.parameters(), *model.buffers()]
            saved = saved_storages(model, batch, recipe.image_size) - {each.untyped_storage() for each in own}
            gradients = sum(p.nbytes for p in model.parameters() if p.requires_grad)
            share = dtype.itemsize / torch.float32.itemsize
            kept = max(kept, gradients + share * sum(storage.nbytes() for storage in saved))
    finally:
        freeze(model, (), trainable)
    return (sum(parameter.nbytes for parameter in model.parameters()) + kept) / GIGABYTE


def saved_storages(model: nn.Module, batch: int, size: int) -> set[Any]:
    """Return what a forward pass keeps for the backward pass."""
    saved: set[Any] = set()

    def keep(tensor: Tensor) -> Tensor:
        saved.add(tensor.untyped_storage())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        getattr(model, "probe", model)(torch.empty(batch, CHANNELS, size, size, device="meta"))
    return saved


def measure_latency(recipe: Recipe, task: Task, device: torch.device) -> float:
    """Return the median milliseconds of a model for one image, with random weights and in the recipe's precision.

    The model runs a few times before. Its weights are drawn, so seed afterwards.
    """
    milliseconds = 1000 * median(time_model(build_model(recipe, task).to(device), recipe, device))
    release(device)
    return milliseconds


def time_model(model: nn.Module, recipe: Recipe, device: torch.device) -> list[float]:
    """Return the seconds of some runs of a model on one image."""
    dtype, size = resolve_dtype(recipe.precision, device), recipe.image_size
    model.to(memory_format=torch.channels_last)
    image = torch.zeros(1, CHANNELS, size, size, device=device).to(memory_format=torch.channels_last)

    def run() -> float:
        began = time.perf_counter()
        model(image)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    with eval_mode(model), torch.autocast(device.type, dtype, enabled=dtype is not torch.float32):
        for _ in range(NUM_WARM):
            run()
        seconds = [run()]
        while len(seconds) < FEWEST_RUNS or (len(seconds) < MOST_RUNS and sum(seconds) < RUN_SECONDS):
            seconds.append(run())
    return seconds
