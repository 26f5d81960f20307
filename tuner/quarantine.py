"""GPUs that no worker is sent to any more, because they failed."""

from __future__ import annotations

from dataclasses import dataclass, field

MOST_DEATHS = 3  # workers in a row that may die on one GPU, each on another trial, before it counts as broken


@dataclass
class Quarantine:
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
