"""Counts, losses and augmented batches as they are used beside a GPU. Skipped where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tuner.data import augment_pool
from tuner.data.batches import Batches
from tuner.data.cache import load_cached
from tuner.data.synthetic.shapes import shapes
from tuner.recipe import use
from tuner.registry import build
from tuner.train import metrics
from tuner.train.losses import LOSSES

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]
COUNTS = {
    "binary": metrics.binary_counts,
    "multiclass": metrics.label_counts,
    "classification": metrics.class_counts,
}
LOSS_OF = {"binary": "dice_bce", "multiclass": "cross_entropy", "classification": "focal"}


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """An error on whatever waits for the device."""
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


def inputs(task: str) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    if task == "classification":
        return torch.randn(32, 7, generator=generator), torch.randint(0, 7, (32,), generator=generator)
    labels = torch.randint(0, 5, (4, 40, 40), generator=generator)
    if task == "binary":
        return torch.randn(4, 1, 40, 40, generator=generator), (labels > 2).unsqueeze(1).float()
    labels[:, :9] = metrics.IGNORED
    return torch.randn(4, 5, 40, 40, generator=generator), labels


@pytest.mark.parametrize("task", COUNTS)
def test_counts_and_losses_are_those_of_the_processor_and_wait_for_nothing(task: str, no_waiting: None) -> None:
    torch.cuda.set_sync_debug_mode("default")
    logits, target = inputs(task)
    there = logits.cuda().requires_grad_(), target.cuda()
    loss = build("loss", LOSSES, use(LOSS_OF[task]), task)
    loss(*there)  # constants are copied to the device once
    torch.cuda.set_sync_debug_mode("error")
    counts, value = COUNTS[task](there[0].detach(), there[1]), loss(*there)
    value.backward()
    full = COUNTS[task](there[0].detach(), there[1], True)
    torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(counts.cpu(), COUNTS[task](logits, target))
    torch.testing.assert_close(value.detach().cpu(), loss(logits, target), rtol=1e-5, atol=1e-6)
    whole = COUNTS[task](logits, target, True).sum()  # a rounding may move one to the next bin
    torch.testing.assert_close(full.sum().cpu(), whole)


def test_processes_beside_a_gpu_make_the_same_batches(tmp_path: Path) -> None:
    data = load_cached(shapes(), "cuda", 128, tmp_path)
    plain = Batches(data, 16, 1, use("pet"))
    beside = replace(plain, pin=True, num_processes=2)
    augment_pool.start_pool(2).result()
    for (images, targets), expected in zip(beside.train(1), plain.train(1), strict=True):
        assert images.is_pinned() and targets.is_pinned()
        assert torch.equal(images, expected[0]) and torch.equal(targets, expected[1])
