"""How many workers a GPU has room for, once the first one there has shown what it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tuner import gpus
from tuner.runs import Home
from tuner.seats import LocalSeat

FREE = 0.1  # of a GPU's memory, kept free
MOST = 8  # workers on one GPU: beyond that they wait for each other
CONTEXT = 500 * gpus.MEBI  # what CUDA takes for a process beside its tensors, about
GIGA = 2**30


@dataclass
class Sharing:
    """Begins with one worker a GPU; `grow` answers the seats to add. Each GPU is decided about once."""

    home: Home
    say: Callable[[str], None]
    names: list[str]  # of the GPUs
    next_number: int
    before: dict[str, gpus.Memory | None] = field(default_factory=dict)  # when no worker of ours was there yet
    decided: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.before = {gpu: gpus.memory(gpu) for gpu in self.names}

    def grow(self, peaks: dict[str, int]) -> list[LocalSeat]:
        """The seats to add, from the most memory that a worker on each GPU has taken so far, in bytes."""
        ready = [gpu for gpu in self.names if peaks.get(gpu) and gpu not in self.decided]
        return [seat for gpu in ready for seat in self.decide(gpu, peaks[gpu])]

    def decide(self, gpu: str, peak: int) -> list[LocalSeat]:
        self.decided.add(gpu)
        before, now = self.before[gpu], gpus.memory(gpu)
        if before is None or now is None:
            self.say(f"GPU {gpu}: one worker, its memory cannot be read (nvidia-smi). Say --per-gpu N for more.")
            return []
        each = max(peak + CONTEXT, now.used - before.used)
        number = room(before, each)
        workers = "1 worker" if number == 1 else f"{number} workers"
        self.say(
            f"GPU {gpu}: {workers}. One takes up to {giga(each)} of {giga(now.total)}, "
            f"others take {giga(before.used)}, {FREE:.0%} stays free"
        )
        # The first worker counts as the whole GPU in the budget of GPU-hours, so those beside it count nothing.
        seats = [LocalSeat(self.next_number + i, self.home, gpu, share=0.0) for i in range(number - 1)]
        self.next_number += len(seats)
        return seats


def room(before: gpus.Memory, each: int) -> int:
    """How many workers fit that take `each` bytes; at least the one that is there."""
    return max(1, min(MOST, int(((1 - FREE) * before.total - before.used) // each)))


def giga(size: int) -> str:
    return f"{size / GIGA:.1f} GB"
