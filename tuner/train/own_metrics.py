"""Metrics of the user's own, named by "package.module:function" and computed on the host for each validation.

A function of the prediction and target of one image returns a number: its mean over the images is the metric,
without those that are nan. Or a class, or a function without arguments, makes an object with
`update(prediction, target)` and `compute()`, such as a metric of torchmetrics, which gets tensors.

The prediction is probabilities: height x width for masks, classes x height x width for label maps, one for each
class for classification, and `tuner.data.instances.Instances` for instances. The target is as the dataset has it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tuner.data.instances import Instances
from tuner.errors import FailureKind, TrialFailed, locate_error
from tuner.recipe import is_number
from tuner.registry import count_positional, find_builder
from tuner.tasks import Task
from tuner.train.instance_metrics import true_label_maps

SIDE, NUM_THINGS = 64, 2  # of the example that a metric is tried with


class OwnMetrics:
    """The metrics of a recipe over one pass of a split."""

    def __init__(self, names: Iterable[str], task: Task) -> None:
        self.task = task
        self.metrics = [OwnMetric(name) for name in names]

    def add(self, output: Any, target: Tensor) -> None:
        """Add a batch: the model's output, or the instances found in it, and its target."""
        if self.metrics:
            for prediction, truth in split_images(output, target, self.task):
                self.add_image(prediction, truth)

    def add_image(self, prediction: Any, target: Any) -> None:
        for metric in self.metrics:
            metric.add(prediction, target)

    def scores(self) -> dict[str, float]:
        return {metric.name: metric.compute() for metric in self.metrics}


class OwnMetric:
    """One metric; TrialFailed names it if it raises, or returns anything but a number."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.function: Callable[..., Any] = find_builder("metric", {}, name)
        self.values: list[float] = []
        is_maker = inspect.isclass(self.function) or count_positional(self.function) == 0
        self.state: Any = self.call(self.function) if is_maker else None
        if self.state and not all(hasattr(self.state, method) for method in ("update", "compute")):
            kind = type(self.state).__name__
            raise self.failed(f"it makes a {kind}, which has no update(prediction, target) and compute()")

    def add(self, prediction: Any, target: Any) -> None:
        if self.state is None:
            self.values.append(self.to_number(self.call(self.function, prediction, target)))
        else:
            given = (prediction, target)
            is_torch = isinstance(self.state, torch.nn.Module)  # of torchmetrics
            self.call(self.state.update, *(map(to_tensor, given) if is_torch else given))

    def compute(self) -> float:
        if self.state is not None:
            return self.to_number(self.call(self.state.compute))
        known = [value for value in self.values if not math.isnan(value)]
        return math.fsum(known) / len(known) if known else math.nan

    def call(self, function: Callable[..., Any], *given: Any) -> Any:
        try:
            with torch.inference_mode(False):
                return function(*given)
        except Exception as error:
            file = inspect.getsourcefile(inspect.unwrap(self.function)) or ""
            raise self.failed(locate_error(error, Path(file))) from error

    def to_number(self, value: Any) -> float:
        is_array = isinstance(value, np.generic | np.ndarray | Tensor)
        plain = value.tolist() if is_array else value
        if not (is_number(plain) or isinstance(plain, float)):
            raise self.failed(f"it returned {plain!r}; a number is needed")
        return float(plain)

    def failed(self, reason: str) -> TrialFailed:
        return TrialFailed(FailureKind.EXCEPTION, f"metric '{self.name}': {reason}.")


def to_tensor(value: Any) -> Any:
    return torch.as_tensor(value) if isinstance(value, np.ndarray | int) else value


def split_images(output: Any, target: Tensor, task: Task) -> Iterator[tuple[Any, Any]]:
    """Yield prediction and target of each image of a batch, as a metric gets them."""
    if task.has_instances:
        yield from zip(output, true_label_maps(target), strict=True)
        return
    masks = task.targets == "masks"
    shares = output[:, 0].sigmoid() if masks else output.softmax(1)
    truths = target[:, 0].round().byte() if masks else target
    for prediction, truth in zip(shares.float().cpu().numpy(), truths.cpu().numpy(), strict=True):
        yield prediction, int(truth) if task.targets == "classes" else truth


def try_metric(name: str, task: Task, classes: Sequence[str]) -> None:
    """Compute a metric once, for a random example; raise ValueError if it returns no number."""
    random = np.random.default_rng(0)
    shape = (SIDE, SIDE)
    number = max(len(classes), 2)
    prediction: Any
    target: Any
    if task.has_instances:
        target = np.zeros(shape, np.int32)
        for at in range(NUM_THINGS):
            target[8:24, 8 + 24 * at : 24 + 24 * at] = at + 1
        prediction = Instances(target, np.ones(NUM_THINGS, np.float32))
    elif task.targets == "classes":
        prediction, target = random.dirichlet(np.ones(number)).astype(np.float32), 0
    elif task.targets == "labels":
        prediction = random.dirichlet(np.ones(number), shape).transpose(2, 0, 1).astype(np.float32)
        target = random.integers(number, size=shape)
    else:
        prediction, target = random.random(shape, np.float32), random.integers(2, size=shape, dtype=np.uint8)
    try:
        metrics = OwnMetrics([name], task)
        metrics.add_image(prediction, target)
        metrics.scores()
    except TrialFailed as failed:
        raise ValueError(str(failed).removeprefix(f"metric '{name}': ")) from failed
