"""The number format and the device of a training."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from tuner.registry import check_choice
from tuner.wording import pluralize

PRECISIONS = ("auto", "fp32", "bf16")


def find_device() -> torch.device:
    """Return the GPU this worker was assigned, or the CPU."""
    if torch.cuda.is_available():
        torch.backends.cudnn.benchmark = True  # every batch of a trial has the same shape
        return torch.device("cuda")
    return torch.device("cpu")


def device_name(device: torch.device) -> str:
    """Return the GPU's name, or the CPU with its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {pluralize(torch.get_num_threads(), 'thread')}"


def pin_to_cores(cores: list[int]) -> None:
    """Run on these cores only, with a thread for each."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    torch.set_num_threads(len(cores))


def resolve_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype of a precision: for "auto", bfloat16 where the hardware supports it."""
    check_choice("precision", precision, PRECISIONS)
    is_bf16 = precision == "bf16" or (precision == "auto" and has_fast_bf16(device))
    return torch.bfloat16 if is_bf16 else torch.float32


def has_fast_bf16(device: torch.device) -> bool:
    """Return whether the hardware multiplies bfloat16 matrices natively."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and has_amx()


def has_amx() -> bool:
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
