"""Which number format a trial trains in, and on which device."""

from __future__ import annotations

from pathlib import Path

import torch

from tuner.errors import PartError, near

PRECISIONS = ("auto", "fp32", "bf16")


def find_device() -> torch.device:
    """The GPU this worker was pinned to, or the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve(precision: str, device: torch.device) -> torch.dtype:
    """bfloat16 where it is faster ("auto"), or as the recipe insists."""
    if precision not in PRECISIONS:
        raise PartError(
            f"no precision '{precision}'.{near(precision, PRECISIONS)} Known: {', '.join(PRECISIONS)}."
        )
    if precision == "auto":
        return torch.bfloat16 if gains(device) else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def gains(device: torch.device) -> bool:
    """Whether bfloat16 is a matrix format of this hardware, and not an emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and has_amx()


def has_amx() -> bool:
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
