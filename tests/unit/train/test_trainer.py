"""One optimizer step: on the whole batch or in pieces, the same gradients, and nobody waits for the device."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tuner.data.cache import CachedDataset
from tuner.errors import FailureKind, TrialFailed
from tuner.recipe import Recipe, use
from tuner.train.checkpoint import get_random_states
from tuner.train.losses import TASKS_OF
from tuner.train.memory import MicroBatches
from tuner.train.totals import Totals
from tuner.train.trainer import MEAN, STD, Trainer, make_normalizer

CPU = torch.device("cpu")
BINARY = [name for name, tasks in TASKS_OF.items() if "binary" in tasks and name != "mix"]  # a mix is of others


@pytest.fixture
def micro_batches(tmp_path: Path) -> MicroBatches:
    return MicroBatches(tmp_path / "micro_batches.json")


@pytest.fixture
def batch(toy_data: CachedDataset) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(toy_data.images[:8].copy()), torch.from_numpy(toy_data.targets[:8].copy())


@pytest.fixture
def plain(toy_recipe: Recipe) -> Recipe:
    """Without dropout: a batch in pieces can give the very same gradients."""
    return replace(toy_recipe, model=use("unet", k=4), optimizer=use("adam", lr=1e-2))


def totals(trainer: Trainer) -> Totals:
    return Totals(trainer.task, trainer.device)


def step(trainer: Trainer, batch: tuple[Tensor, Tensor], times: int = 1) -> Totals:
    into = totals(trainer)
    trainer.model.train()
    for _ in range(times):
        trainer.step(*batch, into)
    return into


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


def gradients(trainer: Trainer) -> list[Tensor]:
    return [p.grad.clone() for p in trainer.model.parameters() if p.grad is not None]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_step_changes_every_layer_and_clears_the_gradients(
    plain: Recipe, batch: tuple[Tensor, Tensor], micro_batches: MicroBatches
) -> None:
    trainer = Trainer(plain, CPU, micro_batches)
    before = weights(trainer)
    step(trainer, batch)
    assert not any(torch.equal(value, before[name]) for name, value in weights(trainer).items())
    assert all(p.grad is None for p in trainer.model.parameters())


def test_steps_learn_one_batch(plain: Recipe, batch: tuple[Tensor, Tensor], micro_batches: MicroBatches) -> None:
    trainer = Trainer(plain, CPU, micro_batches)
    first = step(trainer, batch).scores("train_")["train_loss"]
    step(trainer, batch, times=15)
    assert step(trainer, batch).scores("train_")["train_loss"] < 0.8 * first


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before(
    toy_recipe: Recipe, batch: tuple[Tensor, Tensor], micro_batches: MicroBatches
) -> None:
    ends = []
    for noise in range(2):
        torch.manual_seed(noise)
        trainer = Trainer(toy_recipe, CPU, micro_batches)
        step(trainer, batch, times=2)
        ends.append(weights(trainer))
    assert same(*ends)


def test_another_seed_gives_other_weights(toy_recipe: Recipe, micro_batches: MicroBatches) -> None:
    one = Trainer(toy_recipe, CPU, micro_batches)
    other = Trainer(replace(toy_recipe, seed=8), CPU, micro_batches)
    assert not same(weights(one), weights(other))


@pytest.mark.parametrize("micro", [1, 3, 4, 7])
def test_pieces_give_the_gradients_of_the_whole_batch(
    plain: Recipe, batch: tuple[Tensor, Tensor], micro_batches: MicroBatches, micro: int
) -> None:
    whole, pieces = Trainer(plain, CPU, micro_batches), Trainer(plain, CPU, micro_batches)
    pieces.micro = micro
    whole.forward_backward(*batch)
    pieces.forward_backward(*batch)
    torch.testing.assert_close(gradients(pieces), gradients(whole), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("micro", [1, 3, 8])
def test_pieces_give_the_totals_of_the_whole_batch(
    plain: Recipe, batch: tuple[Tensor, Tensor], micro_batches: MicroBatches, micro: int
) -> None:
    trainer = Trainer(plain, CPU, micro_batches)
    trainer.micro = micro
    into = step(trainer, batch)
    expected = step(Trainer(plain, CPU, micro_batches), batch)
    assert into.images == 8
    assert into.counts is not None and expected.counts is not None
    assert int(into.counts[:4].sum()) == int(expected.counts[:4].sum()) == 8 * 32 * 32
    assert into.counts[-1] == expected.counts[-1] == 8
    assert float(into.loss) == pytest.approx(float(expected.loss), rel=1e-5)


@pytest.mark.parametrize("error", ["gpu", "cublas", "cpu", "python"])
def test_out_of_memory_halves_the_pieces_and_keeps_the_step(
    plain: Recipe, batch: tuple[Tensor, Tensor], micro_batches: MicroBatches, own_models: Path, error: str
) -> None:
    tight = Trainer(replace(plain, model=use("mine.nets:net", most=3, error=error)), CPU, micro_batches)
    roomy = Trainer(replace(plain, model=use("mine.nets:net")), CPU, micro_batches)
    assert step(tight, batch).images == step(roomy, batch).images == 8
    assert (tight.micro, roomy.micro) == (2, 8)
    assert {float(state["step"]) for state in tight.optimizer.state.values()} == {1.0}
    torch.testing.assert_close(weights(tight), weights(roomy), rtol=1e-4, atol=1e-5)


def test_a_piece_that_fitted_before_another_failed_is_not_counted_twice(
    plain: Recipe, batch: tuple[Tensor, Tensor], micro_batches: MicroBatches, own_models: Path
) -> None:
    tight = Trainer(replace(plain, model=use("mine.nets:net", fail_at=2)), CPU, micro_batches)
    roomy = Trainer(replace(plain, model=use("mine.nets:net")), CPU, micro_batches)
    tight.micro = 4
    assert step(tight, batch).images == step(roomy, batch).images == 8
    assert tight.micro == 2
    torch.testing.assert_close(weights(tight), weights(roomy), rtol=1e-4, atol=1e-5)


def test_what_did_not_fit_is_remembered_for_the_next_trial(
    plain: Recipe, batch: tuple[Tensor, Tensor], micro_batches: MicroBatches, own_models: Path
) -> None:
    recipe = replace(plain, model=use("mine.nets:net", most=4))
    step(Trainer(recipe, CPU, micro_batches), batch)
    again = Trainer(replace(recipe, seed=99), CPU, MicroBatches(micro_batches.file))
    assert again.micro == 4
    step(again, batch)
    assert again.model.calls == 2  # no attempt was lost
    assert Trainer(plain, CPU, micro_batches).micro == 8  # another model is not concerned


def test_out_of_memory_with_a_single_image_fails_the_trial(
    plain: Recipe, batch: tuple[Tensor, Tensor], micro_batches: MicroBatches, own_models: Path
) -> None:
    trainer = Trainer(replace(plain, model=use("mine.nets:net", most=0)), CPU, micro_batches)
    with pytest.raises(TrialFailed, match="out of memory with a single image of 32 px: CUDA") as failed:
        step(trainer, batch)
    assert failed.value.kind is FailureKind.OUT_OF_MEMORY


def test_an_out_of_memory_without_words_is_told_by_its_kind(
    plain: Recipe, batch: tuple[Tensor, Tensor], micro_batches: MicroBatches, own_models: Path
) -> None:
    trainer = Trainer(replace(plain, model=use("mine.nets:net", most=0, error="python")), CPU, micro_batches)
    with pytest.raises(TrialFailed, match="MemoryError"):
        step(trainer, batch)


def test_any_other_error_comes_through(
    plain: Recipe, batch: tuple[Tensor, Tensor], micro_batches: MicroBatches, own_models: Path
) -> None:
    trainer = Trainer(replace(plain, model=use("mine.nets:net", most=4, error="bug")), CPU, micro_batches)
    with pytest.raises(RuntimeError, match="must match the size"):
        step(trainer, batch)
    assert trainer.micro == 8


def test_validation_that_does_not_fit_goes_on_in_pieces_too(
    plain: Recipe, batch: tuple[Tensor, Tensor], micro_batches: MicroBatches, own_models: Path
) -> None:
    """A training split smaller than the batch never showed that the batch does not fit."""
    trainer = Trainer(replace(plain, model=use("mine.nets:net", most=2)), CPU, micro_batches)
    with torch.inference_mode():
        scored = trainer.validate(*batch)
    assert [len(logits) for _, logits, _ in scored] == [2, 2, 2, 2]


class Waits(TorchDispatchMode):
    """Raises at every operation that reads a value back from the device."""

    SYNCS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique", "index.Tensor")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(name in str(func) for name in self.SYNCS):
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


@pytest.fixture
def nobody_may_wait(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make every way from a tensor to a Python value an error, in Python and below it."""

    def refuse(name: str) -> Any:
        def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
            raise AssertionError(f"Tensor.{name} waits for the device")

        return method

    reads = ("item", "tolist", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__", "__array__")
    for name in reads:
        monkeypatch.setattr(Tensor, name, refuse(name))
    monkeypatch.setattr(torch, "equal", refuse("equal"))
    with Waits():
        yield


def test_the_watch_sees_a_wait(nobody_may_wait: None) -> None:
    for wait in (lambda t: t.item(), lambda t: bool(t), lambda t: float(t), lambda t: t[t > 0]):
        with pytest.raises(AssertionError, match="waits for the device"):
            wait(torch.ones(()))


@pytest.mark.parametrize("loss", BINARY)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_step_waits_for_the_device(
    toy_recipe: Recipe,
    batch: tuple[Tensor, Tensor],
    micro_batches: MicroBatches,
    request: pytest.FixtureRequest,
    loss: str,
    precision: str,
) -> None:
    trainer = Trainer(replace(toy_recipe, loss=use(loss), precision=precision), CPU, micro_batches)
    into = step(trainer, batch)
    request.getfixturevalue("nobody_may_wait")
    trainer.step(*batch, into)
    assert into.images == 16


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("loss", BINARY)
def test_no_step_waits_for_a_gpu(
    toy_recipe: Recipe, batch: tuple[Tensor, Tensor], micro_batches: MicroBatches, loss: str
) -> None:
    trainer = Trainer(replace(toy_recipe, loss=use(loss), precision="auto"), torch.device("cuda"), micro_batches)
    pinned = batch[0].pin_memory(), batch[1].pin_memory()
    into = step(trainer, pinned)
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.step(*pinned, into)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_bf16_computes_in_bfloat16_and_keeps_weights_logits_and_loss_in_fp32(
    plain: Recipe, batch: tuple[Tensor, Tensor], micro_batches: MicroBatches
) -> None:
    trainer = Trainer(replace(plain, precision="bf16"), CPU, micro_batches)
    seen: list[torch.dtype] = []
    trainer.model.register_forward_hook(lambda module, given, output: seen.append(output.dtype))
    ((loss, logits, target),) = trainer.forward_backward(*batch)
    assert seen == [torch.bfloat16]
    assert {loss.dtype, logits.dtype, target.dtype} == {torch.float32}
    assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}


def test_fp32_computes_in_fp32_with_weights_and_images_laid_out_channels_last(
    plain: Recipe, batch: tuple[Tensor, Tensor], micro_batches: MicroBatches
) -> None:
    trainer = Trainer(plain, CPU, micro_batches)
    seen: list[Tensor] = []
    trainer.model.register_forward_hook(lambda module, given, output: seen.extend([given[0], output]))
    trainer.compute_loss(*batch)
    assert {each.dtype for each in seen} == {torch.float32}
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert trainer.model.down2[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_images_are_normalised_as_pretrained_encoders_expect() -> None:
    pixel = torch.tensor(MEAN).round().byte().view(1, 1, 1, 3)
    off = (torch.tensor(MEAN).round() - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(make_normalizer(CPU)(pixel).flatten(), off, rtol=1e-4, atol=1e-6)
    white = make_normalizer(CPU)(torch.full((1, 2, 2, 3), 255, dtype=torch.uint8))
    assert white.shape == (1, 3, 2, 2) and 2.2 < float(white.min()) < float(white.max()) < 2.7


def test_a_trainer_goes_on_bitwise_from_its_saved_state(
    toy_recipe: Recipe, batch: tuple[Tensor, Tensor], micro_batches: MicroBatches
) -> None:
    trainer = Trainer(toy_recipe, CPU, micro_batches)
    trainer.micro = 3
    step(trainer, batch, times=2)
    file = io.BytesIO()
    torch.save({**trainer.state(), "random": get_random_states(), "progress": {"epoch": 1}}, file)
    step(trainer, batch, times=2)
    other = Trainer(replace(toy_recipe, seed=99), CPU, micro_batches)
    file.seek(0)
    other.restore(torch.load(file, weights_only=True))
    assert other.micro == 3
    step(other, batch, times=2)
    assert same(weights(trainer), weights(other))


def test_a_batch_norm_that_sees_one_value_fails_the_trial_with_what_would_do(
    toy_recipe: Recipe, tmp_path: Path
) -> None:
    trainer = Trainer(
        replace(toy_recipe, batch_size=1), torch.device("cpu"), MicroBatches(tmp_path / "micro.json")
    )
    trainer.model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3))
    trainer.set_train_mode()
    images, masks = torch.zeros(1, 32, 32, 3, dtype=torch.uint8), torch.zeros(1, 32, 32, dtype=torch.uint8)
    with pytest.raises(TrialFailed, match=r"batch norm with one value per channel .* larger batches") as failed:
        trainer.step(images, masks, Totals(trainer.task, trainer.device))
    assert failed.value.kind is FailureKind.BATCH_NORM


def test_pieces_are_as_equal_as_can_be(toy_recipe: Recipe, tmp_path: Path) -> None:
    trainer = Trainer(toy_recipe, torch.device("cpu"), MicroBatches(tmp_path / "micro.json"))
    images, masks = torch.zeros(9, 2, 2, 3), torch.zeros(9, 2, 2)
    assert [len(piece) for piece, _ in trainer.split_batch(images, masks)] == [9]  # the batch with one more
    trainer.micro = 4
    assert [len(piece) for piece, _ in trainer.split_batch(images, masks)] == [3, 3, 3]
