"""Which GPUs there are, how much memory they have, and whether one is broken.

Asked of the driver's own tool, nvidia-smi: loading torch to ask it would take seconds. A GPU is called as
CUDA_VISIBLE_DEVICES calls it: by its number, or the UUID of a GPU or of a part of one (MIG).
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tuner.errors import FleetError

ASK_SECONDS = 20  # a driver in trouble can take for ever
MEBI = 2**20

# What CUDA says when the GPU, its driver or its connection no longer works; another trial there would meet it too.
BROKEN = (
    "initialization error",
    "cuda-capable device(s) is/are busy or unavailable",
    "devices are busy or unavailable",
    "no cuda-capable device is detected",
    "no cuda gpus are available",
    "startup failure in cuda runtime",
    "uncorrectable ecc error",
    "uncorrectable nvlink error",
    "exclusive-thread device already in use",
    "hardware error",
    "system not yet initialized",
    "mps client failed to connect",
    "mps client has been terminated",
    "fallen off the bus",
    "gpu is lost",
    "gpu requires reset",
    "cuda error: unknown error",
    "cuda unknown error",
)
# What it says after a kernel did something impossible: the GPU is sound, but this process can use it no more.
UNUSABLE = (
    "device-side assert",
    "illegal memory access",
    "unspecified launch failure",
    "hardware stack error",
    "illegal instruction was encountered",
    "misaligned address",
    "operation not supported on global/shared address space",
    "invalid program counter",
    "the launch timed out and was terminated",
    "context is destroyed",
    "invalid device context",
    "cublas_status_execution_failed",
    "cudnn_status_execution_failed",
)


@dataclass(frozen=True)
class GpuMemory:
    """Of a whole GPU, in bytes; `used` counts every process on it."""

    total: int
    used: int


def is_broken(error: BaseException) -> bool:
    """Whether the GPU itself has failed, so that no further trial should be sent there."""
    return any(sign in text for text in cuda_messages(error) for sign in BROKEN)


def is_process_unusable(error: BaseException) -> bool:
    """Whether this process can no longer use its GPU, while a new process can."""
    return any(sign in text for text in cuda_messages(error) for sign in UNUSABLE)


def cuda_messages(error: BaseException) -> Iterator[str]:
    """What an error and those that led to it say, as far as they speak of CUDA.

    torch raises RuntimeErrors; what the user's own code says in other kinds of errors is about other things.
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        text = str(link).lower()
        if isinstance(link, RuntimeError) and ("cuda" in text or "gpu" in text or "cudnn" in text):
            yield text
        link = link.__cause__ or link.__context__


def visible_gpus() -> list[str]:
    """The GPUs this process may use, in order, as CUDA_VISIBLE_DEVICES would name them.

    CUDA itself ends that list at the first name that is none.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return parse_gpu_list(run_nvidia_smi("-L"))
    names: list[str] = []
    for name in (part.strip() for part in given.split(",")):
        if name in ("", "-1", "NoDevFiles", "none"):
            break
        names.append(name)
    return names


def parse_gpu_list(told: str) -> list[str]:
    """From the output of `nvidia-smi -L`: each GPU's number, or, where one is divided, the UUIDs of its parts."""
    parts: dict[str, list[str]] = {}
    for line in told.splitlines():
        if line.startswith("GPU "):
            parts[line.split()[1].rstrip(":")] = []
        elif line.strip().startswith("MIG ") and "UUID: " in line and parts:
            parts[list(parts)[-1]].append(line.split("UUID: ")[1].rstrip(") "))
    return [name for gpu, divided in parts.items() for name in divided or [gpu]]


def select_gpus(given: str | None) -> list[str]:
    """The GPUs a user asked for: all, or some by their place among those visible or by their UUID."""
    names = visible_gpus()
    if given is None or (given.strip() == "all" and names):
        return names
    if not names:
        raise FleetError(
            f"--gpus {given}: no GPU is visible here ({explain_no_gpu()}). "
            "Leave --gpus out to train on the processor."
        )
    picked = [find_gpu(name.strip(), names, given) for name in given.split(",")]
    for name in picked:
        if picked.count(name) > 1:
            raise FleetError(f"--gpus {given} names GPU {name} twice. --per-gpu 2 puts two workers on each.")
    return picked


def find_gpu(name: str, names: list[str], given: str) -> str:
    """One GPU of those visible."""
    if name.isdecimal() and int(name) < len(names):
        return names[int(name)]
    alike = [known for known in names if not name.isdecimal() and len(name) > 4 and known.startswith(name)]
    if len(alike) == 1:  # as CUDA does, by as much of a UUID as is needed
        return alike[0]
    places = "0" if len(names) == 1 else f"0 to {len(names) - 1}"
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    among = f" (CUDA_VISIBLE_DEVICES={shown})" if shown is not None else ""
    raise FleetError(f"--gpus {given}: no GPU '{name}'. Visible here{among}: {places}. Or say --gpus all.")


def explain_no_gpu() -> str:
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return f"CUDA_VISIBLE_DEVICES='{given}'"
    return "nvidia-smi lists none" if has_driver() else "nvidia-smi was not found"


def has_driver() -> bool:
    """Whether this host has NVIDIA's driver: then a worker on a GPU that sees no CUDA met a broken one."""
    return Path("/proc/driver/nvidia/version").exists()


def read_memory(gpu: str) -> GpuMemory | None:
    """The memory of a GPU, or None where it cannot be told: no driver, or a part of a divided GPU."""
    if gpu.startswith("MIG"):
        return None
    told = run_nvidia_smi("-i", gpu, "--query-gpu=memory.total,memory.used", "--format=csv,noheader,nounits")
    numbers = [part.strip() for part in told.partition("\n")[0].split(",")]
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        return None
    total, used = map(int, numbers)
    return GpuMemory(total * MEBI, used * MEBI)


def run_nvidia_smi(*question: str) -> str:
    """The answer of nvidia-smi; nothing where there is none."""
    try:
        told = subprocess.run(
            ["nvidia-smi", *question], capture_output=True, text=True, timeout=ASK_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.stdout


MOST_DEATHS = 3  # workers in a row that may die on one GPU, each on another trial, before it counts as broken


@dataclass
class GpuQuarantine:
    """Counts deaths on each GPU. A trial that kills its workers is no fault of the GPU, however often it does."""

    deaths: dict[str, list[object]] = field(default_factory=dict)  # the trials that workers died on
    closed: dict[str, str] = field(default_factory=dict)  # the GPU and why

    def lived(self, gpu: str) -> None:
        """A worker there ended a trial."""
        self.deaths.pop(gpu, None)

    def died(self, gpu: str, trial: int | None) -> bool:
        """A worker died there while it had that trial, or before it had any; whether the GPU is closed now."""
        row = self.deaths.setdefault(gpu, [])
        row.append(object() if trial is None else trial)
        if len(set(row)) >= MOST_DEATHS:
            self.close(gpu, f"{MOST_DEATHS} workers in a row died on it, each on another trial")
        return gpu in self.closed

    def close(self, gpu: str, why: str) -> None:
        self.closed.setdefault(gpu, why)

    def line(self, gpu: str, num_others: int) -> str:
        """What a person must know and do; `num_others`: workers that are left, on other GPUs."""
        rest = f"The other {num_others} go on" if num_others > 1 else "The other one goes on"
        return (
            f"GPU {gpu} is broken or busy: {self.closed[gpu]}. Its workers were closed, their trials put back. "
            f"{rest if num_others else 'No GPU is left'}. Look at it with nvidia-smi and dmesg (lines with Xid); "
            "reset it, or leave it out with --gpus."
        )
