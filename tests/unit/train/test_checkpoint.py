"""Checkpoints are whole or not there, and nothing in them is run."""

from __future__ import annotations

import io
import os
import pickle
import random
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tuner.errors import FilesError
from tuner.paths import Run
from tuner.train import checkpoint
from tuner.train.checkpoint import load, load_weights, restore_random, save, save_weights, seed_all

CPU = torch.device("cpu")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path / "run").make()


def state(number: int, size: int = 1000) -> dict[str, Any]:
    return {"number": number, "weights": torch.full((size,), float(number))}


def number_of(loaded: dict[str, Any] | None) -> int | None:
    return None if loaded is None else int(loaded["number"])


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """The system itself refuses to write more than `size` bytes to a file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_loads_back(run: Run) -> None:
    save(run, state(1))
    loaded = load(run)
    assert number_of(loaded) == 1 and loaded is not None
    assert torch.equal(loaded["weights"], torch.ones(1000))


def test_without_a_checkpoint_there_is_none(run: Run) -> None:
    assert load(run) is None


def test_the_one_before_is_kept(run: Run) -> None:
    for number in (1, 2, 3):
        save(run, state(number))
    assert number_of(load(run)) == 3
    run.checkpoint.unlink()
    assert number_of(load(run)) == 2


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_of_a_checkpoint_cut_short_the_one_before_is_used(run: Run, kept: float) -> None:
    save(run, state(1))
    save(run, state(2))
    whole = run.checkpoint.read_bytes()
    run.checkpoint.write_bytes(whole[: int(len(whole) * kept)])
    assert number_of(load(run)) == 1


def test_a_damaged_byte_is_noticed(run: Run) -> None:
    save(run, state(1, size=50_000))
    save(run, state(2, size=50_000))
    content = bytearray(run.checkpoint.read_bytes())
    content[len(content) // 2] ^= 0xFF
    run.checkpoint.write_bytes(content)
    assert number_of(load(run)) == 1


@pytest.mark.parametrize(("at", "field"), [(8, b"\x01\x00"), (10, b"\x08\x00")], ids=["encrypted", "deflated"])
def test_a_damaged_header_is_noticed(run: Run, at: int, field: bytes) -> None:
    """A flag or a kind of compression for which zipfile raises another error."""
    save(run, state(1))
    save(run, state(2))
    content = bytearray(run.checkpoint.read_bytes())
    first = content.index(b"PK\x01\x02")  # of the directory at the end
    content[first + at : first + at + 2] = field
    run.checkpoint.write_bytes(content)
    assert number_of(load(run)) == 1


@pytest.mark.parametrize(
    "stray", [torch.ones(3), [1, 2], 5, {"version": 99}], ids=["tensor", "list", "number", "old"]
)
def test_a_file_of_another_kind_is_passed_over(run: Run, stray: object) -> None:
    save(run, state(1))
    save(run, state(2))
    torch.save(stray, run.checkpoint)
    assert number_of(load(run)) == 1


@pytest.mark.parametrize("room", [0, 2000])
def test_a_write_that_dies_in_the_middle_leaves_the_former_checkpoint(run: Run, room: int) -> None:
    save(run, state(1))
    with files_up_to(room), pytest.raises(FilesError, match="the disk is full"):
        save(run, state(2))
    assert number_of(load(run)) == 1
    assert [file.name for file in run.folder.iterdir()] == ["checkpoint.pt"]


def test_a_process_killed_between_the_two_renames_loses_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    save(run, state(1))

    def killed(self: Path, target: Path) -> Path:
        if target == run.checkpoint:
            raise KeyboardInterrupt
        return self.rename(target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save(run, state(2))
    assert not run.checkpoint.exists()
    assert number_of(load(run)) == 1


class Evil:
    """Runs a command when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("write", [torch.save, lambda evil, path: path.write_bytes(pickle.dumps(evil))])
def test_a_malicious_pickle_is_refused(run: Run, tmp_path: Path, write: Any) -> None:
    save(run, state(1))
    save(run, state(2))
    mark = tmp_path / "was-here"
    write({"version": checkpoint.VERSION, "number": Evil(mark)}, run.checkpoint)
    pickle.loads(pickle.dumps(Evil(tmp_path / "proof")))
    assert (tmp_path / "proof").exists()  # it does harm where it is unpickled
    assert number_of(load(run)) == 1
    assert not mark.exists()


def test_every_generator_goes_on_where_it_was(run: Run) -> None:
    def drawn() -> list[float]:
        return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.normal(), float(torch.rand(()))]

    seed_all(3)
    random.gauss(0, 1), np.random.normal()  # both keep a second number for the next call
    save(run, state(1))
    expected = drawn()
    seed_all(4)
    loaded = load(run)
    assert loaded is not None
    restore_random(loaded["random"])
    assert drawn() == expected


def test_a_seed_of_any_size_starts_every_generator(run: Run) -> None:
    draws = []
    for seed in (2**31 - 1, 2**40 + 1, 2**31 - 1):
        seed_all(seed)
        draws.append((random.random(), np.random.rand(), float(torch.rand(()))))
    assert draws[0] == draws[2] != draws[1]


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 1, 1))
    return model.to(memory_format=torch.channels_last)


def test_weights_load_back_bitwise_with_their_buffers(run: Run) -> None:
    one, other = net(1), net(2)
    one(torch.randn(2, 3, 8, 8))  # moves the running statistics
    save_weights(one, run.best)
    load_weights(other, run.best)
    loaded = other.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in one.state_dict().items())


def test_weights_shared_by_two_layers_are_kept(run: Run) -> None:
    def tied(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        model[1].weight = model[0].weight
        return model

    one, other = tied(1), tied(2)
    save_weights(one, run.best)
    load_weights(other, run.best)
    assert torch.equal(other(torch.ones(1, 4)), one(torch.ones(1, 4)))


def test_weights_that_cannot_be_written_leave_the_former_ones(run: Run) -> None:
    save_weights(net(1), run.best)
    before = run.best.read_bytes()
    with files_up_to(100), pytest.raises(FilesError, match="the disk is full"):
        save_weights(net(2), run.best)
    assert run.best.read_bytes() == before
    assert [file.name for file in run.folder.iterdir()] == ["best.safetensors"]


def test_an_error_that_is_not_the_disks_comes_through(run: Run) -> None:
    with pytest.raises(RuntimeError, match="a bug"), checkpoint.create_tensor_file(run.checkpoint):
        raise RuntimeError("a bug")
    assert list(run.folder.iterdir()) == []


def test_tensors_and_plain_values_are_all_a_checkpoint_holds(run: Run) -> None:
    save(run, state(1))
    torch.load(io.BytesIO(run.checkpoint.read_bytes()), weights_only=True)
