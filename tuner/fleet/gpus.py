"""List the visible GPUs, read their memory, and recognize broken ones.

The information comes from nvidia-smi, because importing torch takes seconds. GPUs are named as in
CUDA_VISIBLE_DEVICES: by number, or by the UUID of a GPU or of a MIG instance.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tuner.errors import FleetError
from tuner.recipe import parse_whole

SMI_SECONDS = 20  # timeout of nvidia-smi: it can hang if the driver has a problem
MEBI = 2**20

# CUDA messages when the GPU, its driver or its connection no longer works; other trials there would fail too.
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
# Messages after an invalid kernel operation: the GPU works, but this process can no longer use it.
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
    """The memory of a whole GPU in bytes; `used` counts every process on it."""

    total: int
    used: int


def is_broken(error: BaseException) -> bool:
    """Return whether the GPU itself has failed, so that no more trials should run there."""
    return any(sign in text for text in cuda_messages(error) for sign in BROKEN)


def is_process_unusable(error: BaseException) -> bool:
    """Return whether this process can no longer use its GPU, while a new process can."""
    return any(sign in text for text in cuda_messages(error) for sign in UNUSABLE)


def cuda_messages(error: BaseException) -> Iterator[str]:
    """Yield the messages of an error and its causes that are about CUDA.

    Only RuntimeErrors count, because torch raises those; other types come from the user's own code.
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
    """Return the GPUs this process may use, in order, as CUDA_VISIBLE_DEVICES names them.

    Like CUDA, stop at the first entry that does not name a GPU.
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


def parse_gpu_list(output: str) -> list[str]:
    """Parse the output of `nvidia-smi -L`: each GPU's number, or the UUIDs of its MIG instances."""
    parts: dict[str, list[str]] = {}
    for line in output.splitlines():
        if line.startswith("GPU "):
            parts[line.split()[1].rstrip(":")] = []
        elif line.strip().startswith("MIG ") and "UUID: " in line and parts:
            parts[list(parts)[-1]].append(line.split("UUID: ")[1].rstrip(") "))
    return [name for gpu, divided in parts.items() for name in divided or [gpu]]


def select_gpus(given: str | None) -> list[str]:
    """Return the GPUs selected by --gpus: all, or some by index or UUID; raise FleetError for unknown ones."""
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
    """Return one visible GPU by index or by a unique UUID prefix; raise FleetError if there is none."""
    if (index := parse_whole(name)) is not None and index < len(names):
        return names[index]
    alike = [known for known in names if not name.isdecimal() and len(name) > 4 and known.startswith(name)]
    if len(alike) == 1:  # CUDA accepts unique UUID prefixes too
        return alike[0]
    places = "0" if len(names) == 1 else f"0 to {len(names) - 1}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    among = f" (CUDA_VISIBLE_DEVICES={visible})" if visible is not None else ""
    raise FleetError(f"--gpus {given}: no GPU '{name}'. Visible here{among}: {places}. Or say --gpus all.")


def explain_no_gpu() -> str:
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return f"CUDA_VISIBLE_DEVICES='{given}'"
    return "nvidia-smi lists none" if has_driver() else "nvidia-smi was not found"


def has_driver() -> bool:
    """Return whether this host has the NVIDIA driver: then a GPU worker without CUDA has a broken GPU."""
    return Path("/proc/driver/nvidia/version").exists()


def read_memory(gpu: str) -> GpuMemory | None:
    """Return the memory of a GPU, or None if unknown: no driver, or a MIG instance."""
    if gpu.startswith("MIG"):
        return None
    output = run_nvidia_smi("-i", gpu, "--query-gpu=memory.total,memory.used", "--format=csv,noheader,nounits")
    numbers = [part.strip() for part in output.partition("\n")[0].split(",")]
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        return None
    total, used = map(int, numbers)
    return GpuMemory(total * MEBI, used * MEBI)


def run_nvidia_smi(*arguments: str) -> str:
    """Return the output of nvidia-smi, or "" if it fails or is not installed."""
    try:
        output = subprocess.run(
            ["nvidia-smi", *arguments], capture_output=True, text=True, timeout=SMI_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return output.stdout


MAX_DEATHS = 3  # consecutive worker deaths on one GPU, each on another trial, before it counts as broken


@dataclass
class GpuQuarantine:
    """Counts worker deaths per GPU. Repeated deaths on the same trial do not count against the GPU."""

    deaths: dict[str, list[object]] = field(default_factory=dict)  # by GPU: the trials that workers died on
    closed: dict[str, str] = field(default_factory=dict)  # by GPU: the reason

    def record_success(self, gpu: str) -> None:
        """Reset the count of a GPU: a worker there ended a trial."""
        self.deaths.pop(gpu, None)

    def record_death(self, gpu: str, trial: int | None) -> bool:
        """Count a worker death, on a trial or before it had one; return whether the GPU is closed now."""
        row = self.deaths.setdefault(gpu, [])
        row.append(object() if trial is None else trial)
        if len(set(row)) >= MAX_DEATHS:
            self.close(gpu, f"{MAX_DEATHS} workers in a row died on it, each on another trial")
        return gpu in self.closed

    def close(self, gpu: str, why: str) -> None:
        self.closed.setdefault(gpu, why)

    def closing_message(self, gpu: str, num_others: int) -> str:
        """Return the message about a closed GPU; `num_others` is the number of workers left on other GPUs."""
        rest = f"The other {num_others} go on" if num_others > 1 else "The other one goes on"
        return (
            f"GPU {gpu} is broken or busy: {self.closed[gpu]}. Its workers were closed, their trials put back. "
            f"{rest if num_others else 'No GPU is left'}. Look at it with nvidia-smi and dmesg (lines with Xid); "
            "reset it, or leave it out with --gpus."
        )
