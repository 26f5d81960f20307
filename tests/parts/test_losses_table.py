"""One base test over every loss of the table, for every task it is for."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tuner.data.instances import FIELDS, make_energy_targets
from tuner.errors import PartError
from tuner.recipe import Part, Value
from tuner.registry import build
from tuner.tasks import TASKS
from tuner.train.losses import IGNORED, LOSSES, OWN, TASKS_OF, Loss

ARGS: dict[tuple[str, str], dict[str, Value]] = {  # where the defaults are not for the task
    ("mix", "classification"): {"first": "cross_entropy", "second": "focal"},
}
PAIRS = [(name, mode) for name in LOSSES for mode in TASKS_OF[name] if name != OWN]  # which takes no logits
every_loss = pytest.mark.parametrize(("name", "mode"), PAIRS, ids=[" ".join(pair) for pair in PAIRS])
CLASSES = 4
NUMBER = 3


def loss_of(name: str, mode: str, **args: Value) -> Loss:
    loss: Loss = build(
        "loss", LOSSES, Part(name, {**ARGS.get((name, mode), {}), **args}), mode, lambda: [1 / CLASSES] * CLASSES
    )
    return loss


def target(mode: str, fill: int | None = None) -> Tensor:
    """Squares of the classes, with a corner that is ignored where labels can be; or one value."""
    if mode == "classification":
        return torch.tensor([0, 2, 3]) if fill is None else torch.full((NUMBER,), fill)
    if mode == "instance":
        return torch.from_numpy(make_energy_targets(instances(fill)))
    shape = (NUMBER, 1, 16, 16) if mode == "binary" else (NUMBER, 16, 16)
    kind = torch.float32 if mode == "binary" else torch.int64
    if fill is not None:
        return torch.full(shape, fill, dtype=kind)
    made = torch.zeros(shape, dtype=kind)
    made[..., 4:11, 3:12] = 1
    if mode == "multiclass":
        made[:, 12:], made[:, :, 13:], made[:, :3, :3] = 2, 3, IGNORED
    return made


def instances(fill: int | None) -> NDArray[np.uint16]:
    """Two that touch; or one, or none, everywhere."""
    made = np.full((NUMBER, 16, 16), fill or 0, np.uint16)
    if fill is None:
        made[:, 4:11, 2:7], made[:, 4:11, 7:14] = 1, 2
    return made


def logits(mode: str, scale: float = 1.0, seed: int = 0) -> Tensor:
    shape = (NUMBER, CLASSES) if mode == "classification" else (NUMBER, 1 if mode == "binary" else CLASSES, 16, 16)
    assert CLASSES == FIELDS  # as many as a model of instances says, with the direction
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def perfect(mode: str, truth: Tensor) -> Tensor:
    if mode == "binary":
        return (truth * 2 - 1) * 30
    if mode == "instance":
        inside = (truth[:, :1] > 0).float() * 2 - 1
        return torch.cat([inside * 30, truth[:, 1:2].logit(1e-6), truth[:, 2:] * 30], 1)
    classes = F.one_hot(truth.where(truth != IGNORED, 0), CLASSES).movedim(-1, 1)
    return (classes * 2 - 1) * 30.0


def test_every_loss_says_for_which_tasks_it_is() -> None:
    assert TASKS_OF.keys() == LOSSES.keys()
    assert all(modes and set(modes) <= TASKS.keys() for modes in TASKS_OF.values())


@pytest.mark.parametrize("name", LOSSES)
def test_another_task_is_refused_with_the_losses_for_it(name: str) -> None:
    for mode in set(TASKS) - set(TASKS_OF[name]):
        with pytest.raises(PartError, match=rf"loss '{name}' is not for the task '{mode}'\. For it: .*") as told:
            build("loss", LOSSES, Part(name), mode, lambda: [0.5, 0.5])
        allowed = str(told.value).partition("For it: ")[2].rstrip(".").split(", ")
        assert allowed == ([other for other in LOSSES if mode in TASKS_OF[other]] or ["none"])


@every_loss
def test_it_is_one_finite_number_and_never_negative(name: str, mode: str) -> None:
    for scale, fill, seed in product((0.01, 1.0, 1000.0), (None, 0, 1), range(3)):
        loss = loss_of(name, mode)(logits(mode, scale, seed), target(mode, fill))
        assert loss.shape == () and loss.isfinite() and loss >= 0, (scale, fill, seed)


@every_loss
@pytest.mark.parametrize("fill", [None, 0, 1], ids=["some", "empty", "full"])
def test_perfect_logits_cost_nothing(name: str, mode: str, fill: int | None) -> None:
    truth = target(mode, fill)
    assert 0 <= float(loss_of(name, mode)(perfect(mode, truth), truth)) < 1e-4


@every_loss
def test_the_opposite_of_the_truth_costs_the_most(name: str, mode: str) -> None:
    loss, truth = loss_of(name, mode), target(mode)
    worst = float(loss(-perfect(mode, truth), truth))
    assert worst > float(loss(logits(mode), truth)) > float(loss(perfect(mode, truth), truth))


@every_loss
@pytest.mark.parametrize("fill", [None, 0], ids=["some", "empty"])
def test_its_gradient_is_finite_and_leads_downhill(name: str, mode: str, fill: int | None) -> None:
    """Of a batch without any object too: what is wrongly found there must be unlearned."""
    loss, truth = loss_of(name, mode), target(mode, fill)
    guess = logits(mode).requires_grad_()
    before = loss(guess, truth)
    before.backward()
    assert guess.grad is not None and guess.grad.isfinite().all() and guess.grad.abs().sum() > 1e-3
    step = guess.detach() - 0.1 * guess.grad / guess.grad.norm()
    assert loss(step, truth) < before


@every_loss
def test_a_very_sure_guess_has_a_finite_gradient(name: str, mode: str) -> None:
    """Of what is right, and of what is wrong."""
    for sign, scale in product((-1, 1), (100.0, 1e4)):
        guess = (sign * scale * perfect(mode, target(mode))).requires_grad_()
        loss_of(name, mode)(guess, target(mode)).backward()
        assert guess.grad is not None and guess.grad.isfinite().all(), (sign, scale)


@pytest.mark.parametrize("name", [name for name, mode in PAIRS if mode == "multiclass"])
def test_what_is_ignored_changes_nothing_and_learns_nothing(name: str) -> None:
    loss, truth = loss_of(name, "multiclass"), target("multiclass")
    guess = logits("multiclass").requires_grad_()
    other = torch.where((truth == IGNORED).unsqueeze(1), 7 * guess.detach() + 3, guess.detach())
    value = loss(guess, truth)
    torch.testing.assert_close(loss(other, truth), value.detach())
    value.backward()
    assert guess.grad is not None and guess.grad.movedim(1, -1)[truth == IGNORED].abs().sum() == 0


@pytest.mark.parametrize("name", [name for name, mode in PAIRS if mode == "multiclass"])
@pytest.mark.parametrize("weights", ["none", "frequency"])
def test_a_batch_in_which_all_is_ignored_costs_nothing(name: str, weights: str) -> None:
    args = {"weights": weights} if name == "cross_entropy" else {}
    guess = logits("multiclass").requires_grad_()
    loss = loss_of(name, "multiclass", **args)(guess, target("multiclass", IGNORED))
    loss.backward()
    assert loss == 0 and guess.grad is not None and guess.grad.abs().sum() == 0


@every_loss
def test_the_same_input_gives_the_same_loss(name: str, mode: str) -> None:
    first, second = (loss_of(name, mode)(logits(mode), target(mode)) for _ in range(2))
    assert torch.equal(first, second)


@every_loss
def test_neither_logits_nor_target_are_changed(name: str, mode: str) -> None:
    guess, truth = logits(mode), target(mode)
    loss_of(name, mode)(guess, truth)
    assert torch.equal(guess, logits(mode)) and torch.equal(truth, target(mode))


@every_loss
def test_it_looks_at_no_value_so_that_it_need_not_wait_for_a_device(name: str, mode: str) -> None:
    """Tensors on the meta device have no values."""
    args: dict[str, Value] = {"weights": "frequency"} if name == "cross_entropy" else {}
    guess = logits(mode).to("meta").requires_grad_()
    loss = loss_of(name, mode, **args)(guess, target(mode).to("meta"))
    loss.backward()
    assert loss.shape == () and loss.device.type == "meta"
