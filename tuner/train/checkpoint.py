"""Checkpoints: everything an interrupted trial needs to continue exactly where it stopped."""

from __future__ import annotations

import errno
import logging
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model
from torch import nn

from tuner.errors import PartError, atomic_write, first_line, format_names, printable, writing
from tuner.paths import MARK_KEY, Run, is_intact, utf8_path

VERSION = 1
TYPES = {  # as safetensors names them
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
log = logging.getLogger("tuner")


@contextmanager
def create_tensor_file(path: Path) -> Iterator[Path]:
    """Yield the temporary path of `atomic_write`; raise FilesError for the errors of torch and safetensors too."""
    with writing(path):
        try:
            with atomic_write(path) as beside:
                yield beside
        except (RuntimeError, SafetensorError) as error:  # they wrap the system's error in their own
            raise find_os_error(error, path) from error


def find_os_error(error: BaseException, path: Path) -> BaseException:
    """Return the operating system's error behind a library's error, or that error itself."""
    if isinstance(error.__context__, OSError):
        return error.__context__
    text = str(error)
    full = "No space left" in text or "File too large" in text or shutil.disk_usage(path.parent).free < 2**20
    return OSError(errno.ENOSPC, text) if full or "unexpected pos" in text else error


def save(run: Run, state: dict[str, Any]) -> None:
    """Keep the last checkpoint as the previous one and put the new one in its place."""
    with create_tensor_file(run.checkpoint) as beside:
        torch.save({"version": VERSION, "random": get_random_states(), **state}, beside)
        run.rotate()


def load(run: Run, has_best: Callable[[dict[str, Any]], bool] = lambda state: True) -> dict[str, Any] | None:
    """Return the newest readable checkpoint whose best weights exist, in main memory, or None.

    Only tensors and plain values are unpickled.
    """
    for path, then in ((run.checkpoint, "trying the previous one"), (run.previous, "starting from scratch")):
        state = read_checkpoint(path)
        if state is not None and has_best(state):
            return state
        if path.exists():
            log.warning("%s cannot be used, it is truncated or altered: %s", path, then)
    return None


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return a checkpoint of this program; None if it does not exist or is incomplete."""
    try:
        if not is_intact(path):  # torch does not verify the checksums it wrote
            return None
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        return None
    return state if isinstance(state, dict) and state.get("version") == VERSION else None


def get_random_states() -> dict[str, Any]:
    """Return the state of every random generator a model or loss may use."""
    version, keys, gauss = random.getstate()
    name, state, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [version, list(keys), gauss],
        "numpy": [str(name), torch.from_numpy(np.asarray(state)), int(position), int(has_gauss), float(cached)],
    }


def restore_random(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
    version, keys, gauss = states["python"]
    random.setstate((version, tuple(keys), gauss))
    name, state, *rest = states["numpy"]
    np.random.set_state((name, state.numpy(), *rest))


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def save_weights(model: nn.Module, path: Path, mark: str = "") -> None:
    """Write the weights, with the mark in the metadata of the file."""
    with create_tensor_file(path) as beside, utf8_path(beside) as writable:
        save_model(model, str(writable), {MARK_KEY: mark})


def load_weights(model: nn.Module, path: Path) -> None:
    """Load the weights that `save_weights` wrote; PartError as `check_weights`."""
    check_weights(model, path)
    with utf8_path(path) as readable:
        missing, unexpected = load_model(model, str(readable), strict=False)
    if missing or unexpected:  # of tensors that share their memory in another way than when they were saved
        raise PartError(f"{path} does not fit the model: {format_names([*missing, *unexpected], 3)}.")


def check_weights(model: nn.Module, path: Path) -> None:
    """Raise PartError with the tensors of a weights file that are not those of the model, or if it is damaged.

    The model may be on the meta device. Of tensors that share their memory, the file needs only one.
    """
    wanted, found = dict(model.state_dict()), read_tensor_kinds(path)
    both = {name: (found[name], tensor) for name, tensor in wanted.items() if name in found}
    storages = {storage_of(tensor) for _, tensor in both.values()}
    kinds = {
        "Missing": [name for name in wanted if name not in found and storage_of(wanted[name]) not in storages],
        "Not of the model": [name for name in found if name not in wanted],
        "Of another shape": [
            f"{n} is {has}, needed {tuple(t.shape)}" for n, ((_, has), t) in both.items() if has != t.shape
        ],
        "Of another type": [
            f"{n} is {has}, needed {TYPES[t.dtype]}"
            for n, ((has, _), t) in both.items()
            if has != TYPES.get(t.dtype, has)
        ],
    }
    if parts := [f"{kind}: {printable(format_names(names, 3))}." for kind, names in kinds.items() if names]:
        fits = sum(has == t.shape and kind == TYPES.get(t.dtype, kind) for (kind, has), t in both.values())
        raise PartError(f"{path} does not fit the model: {fits} of {len(wanted)} tensors fit. {' '.join(parts)}")


def read_tensor_kinds(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return the type and shape of each tensor of a weights file, without reading the numbers."""
    try:
        with utf8_path(path) as readable, safe_open(readable, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is not a dict
            return {name: (each.get_dtype(), tuple(each.get_shape())) for name, each in slices.items()}
    except SafetensorError as error:
        raise PartError(f"weights {path} cannot be read: {first_line(error)}.") from error


def storage_of(tensor: torch.Tensor) -> int:
    """Return what is the same for tensors that share memory, also on the meta device, which has no addresses."""
    return int(tensor.untyped_storage()._cdata)
