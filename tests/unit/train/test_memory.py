"""How much memory was taken, and what is remembered of batches that did not fit."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tuner.errors import FailureKind, FilesError, TrialFailed
from tuner.recipe import Recipe, use
from tuner.train.memory import (
    MicroBatches,
    fail_trial_on_oom,
    is_out_of_memory,
    peak_bytes,
    release,
    reset_peak,
)

CPU = torch.device("cpu")
SOME = 16 * 2**20  # bytes, well above what else is going on


@pytest.fixture
def notes(tmp_path: Path) -> MicroBatches:
    return MicroBatches(tmp_path / "micro_batches.json")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
    ids=str,
)
def test_every_way_of_saying_out_of_memory_is_known(error: Exception) -> None:
    assert is_out_of_memory(error)


def test_a_real_failed_allocation_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("CUDA error: device-side assert triggered"), ValueError("out of memory"), OSError(12, "")],
)
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not is_out_of_memory(error)


def test_weights_that_do_not_fit_fail_the_trial_and_name_the_model(toy_recipe: Recipe) -> None:
    words = r"out of memory with unet\(k=4, dropout=0.2\), 32 px: too much"
    with pytest.raises(TrialFailed, match=words) as failed, fail_trial_on_oom(toy_recipe):
        raise torch.OutOfMemoryError("too much")
    assert failed.value.kind is FailureKind.OUT_OF_MEMORY


def test_what_is_no_lack_of_memory_passes_by(toy_recipe: Recipe) -> None:
    with pytest.raises(RuntimeError, match="a bug"), fail_trial_on_oom(toy_recipe):
        raise RuntimeError("a bug")


def test_nothing_is_known_at_first(notes: MicroBatches, toy_recipe: Recipe) -> None:
    assert notes.size_for(toy_recipe, CPU) == toy_recipe.batch_size


def test_it_is_remembered_by_model_and_size(notes: MicroBatches, toy_recipe: Recipe) -> None:
    notes.remember(toy_recipe, CPU, 2)
    assert notes.size_for(replace(toy_recipe, seed=5, loss=use("dice")), CPU) == 2
    assert notes.size_for(replace(toy_recipe, model=use("unet", k=6)), CPU) == 8
    assert notes.size_for(replace(toy_recipe, data=use("shapes", image_size=64)), CPU) == 8


def test_a_smaller_batch_is_never_made_larger(notes: MicroBatches, toy_recipe: Recipe) -> None:
    notes.remember(toy_recipe, CPU, 4)
    assert notes.size_for(replace(toy_recipe, batch_size=2), CPU) == 2


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "null", "\x00\xff"])
def test_a_broken_note_is_as_none(notes: MicroBatches, toy_recipe: Recipe, content: str) -> None:
    notes.file.write_text(content)
    assert notes.size_for(toy_recipe, CPU) == 8
    notes.remember(toy_recipe, CPU, 4)
    assert notes.size_for(toy_recipe, CPU) == 4


def test_nothing_is_left_beside_the_note(notes: MicroBatches, toy_recipe: Recipe) -> None:
    notes.remember(toy_recipe, CPU, 4)
    assert [file.name for file in notes.file.parent.iterdir()] == ["micro_batches.json"]


def test_a_note_that_cannot_be_written_is_one_clear_line(tmp_path: Path, toy_recipe: Recipe) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(FilesError, match="is a file where a folder is needed"):
        MicroBatches(tmp_path / "home" / "micro_batches.json").remember(toy_recipe, CPU, 4)


def test_a_reader_never_sees_half_a_note(notes: MicroBatches, toy_recipe: Recipe) -> None:
    notes.remember(toy_recipe, CPU, 4)
    done = threading.Event()

    def write() -> None:
        for size in range(100):
            notes.remember(replace(toy_recipe, model=use("unet", k=size + 1)), CPU, 4)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert len(json.loads(notes.file.read_text())) >= 1
    writer.join()


def take(size: int) -> Callable[[], None]:
    return lambda: torch.ones(size, dtype=torch.uint8).sum().item() and None


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can forget a process's peak")
def test_the_peak_is_this_trials_own() -> None:
    take(4 * SOME)()
    before = peak_bytes(CPU)
    reset_peak(CPU)
    rest = peak_bytes(CPU)
    assert rest <= before - 2 * SOME
    take(2 * SOME)()
    assert rest + SOME < peak_bytes(CPU) < before


def test_release_frees_what_hangs_in_a_cycle() -> None:
    import weakref

    class Held:
        me: object

    held = Held()
    held.me = held
    gone = weakref.ref(held)
    del held
    release(CPU)
    assert gone() is None
