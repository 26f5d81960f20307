"""Memory: the peak use of a trial, and the micro-batch that fits when a batch does not."""

from __future__ import annotations

import ctypes
import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from tuner.errors import FailureKind, TrialFailed, atomic_write, first_line, writing
from tuner.recipe import Recipe

# Messages of out-of-memory errors that are plain RuntimeErrors, of the CPU allocator, CUDA and its libraries
OOM_MESSAGES = ("can't allocate memory", "not enough memory", "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")

# Parameters of glibc's mallopt
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
GIGABYTE = 2**30


def keep_pages() -> None:
    """Let the CPU allocator keep freed memory for the next step.

    By default it returns every large tensor to the system, which clears the pages again: a fifth of the time of a
    step at 256 pixels. `release` returns them between trials.
    """
    with suppress(AttributeError, OSError):  # not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_THRESHOLD, GIGABYTE)
        libc.mallopt(TRIM_THRESHOLD, 2 * GIGABYTE - 1)


def return_pages() -> None:
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether this error means that the batch was too large for the device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in OOM_MESSAGES)


@contextmanager
def fail_trial_on_oom(recipe: Recipe) -> Iterator[None]:
    """Fail only the trial when it runs out of memory where a smaller batch does not help."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        message = f"out of memory with {recipe.model}, {recipe.image_size} px: {first_line(error)}"
        raise TrialFailed(FailureKind.OUT_OF_MEMORY, message) from error


def release(device: torch.device) -> None:
    """Free the memory of dead tensors, so that the next attempt or trial starts clean."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return_pages()


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):  # Linux only
            Path("/proc/self/clear_refs").write_text("5")


def peak_bytes(device: torch.device) -> int:
    """Return the peak memory since `reset_peak`: of the GPU, or of this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


@dataclass(frozen=True)
class MicroBatches:
    """The micro-batches that fit, by model, image size and device; shared by all trials of a home."""

    file: Path

    def size_for(self, recipe: Recipe, device: torch.device) -> int:
        """Return the micro-batch to start with: the whole batch unless a smaller one was needed before."""
        return min(recipe.batch_size, self.read_sizes().get(shape_key(recipe, device), recipe.batch_size))

    def remember(self, recipe: Recipe, device: torch.device, size: int) -> None:
        with writing(self.file), atomic_write(self.file) as beside:
            beside.write_text(json.dumps(self.read_sizes() | {shape_key(recipe, device): size}, indent=1))

    def read_sizes(self) -> dict[str, int]:
        with suppress(OSError, ValueError, TypeError):
            return dict(json.loads(self.file.read_text()))
        return {}


def shape_key(recipe: Recipe, device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return f"{recipe.model} {recipe.image_size}px {name}"
