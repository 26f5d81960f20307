"""Turn the placement options into worker slots on GPUs, CPUs or a Ray cluster; reject contradictions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tuner.errors import FleetError, printable
from tuner.fleet import fork_server, gpus
from tuner.fleet.local import LocalSlot, WorkerSlot, local_slots
from tuner.paths import Home
from tuner.recipe import parse_whole
from tuner.wording import pluralize


@dataclass(frozen=True)
class PlacementRequest:
    """The options of `tuner run` that place workers; None where an option was not given."""

    workers: int | None = None
    gpus: str | None = None
    per_gpu: str | None = None
    ray: str | None = None
    gpus_per_worker: float | None = None


@dataclass(frozen=True)
class Placement:
    """The initial slots, and a function that returns slots to add, if any."""

    slots: Sequence[WorkerSlot]
    grow: Callable[[dict[str, int]], Sequence[WorkerSlot]] | None = None


def foresee_nothing() -> int:
    """Return 0: nothing is known about the memory that recipes will take."""
    return 0


@contextmanager
def open_placement(
    wanted: PlacementRequest,
    home: Home,
    storage: str,
    space: Path | None,
    say: Callable[[str], None],
    foresee: Callable[[], int] = foresee_nothing,
) -> Iterator[Placement]:
    """Provide the requested slots, which `check_placement` has accepted, for the duration of the context.

    `foresee` returns the bytes of GPU memory that the largest recipe is predicted to take.
    """
    if wanted.ray is None:
        yield place_local(wanted, home, say, foresee)
        return
    from tuner.fleet.ray_cluster import ray_slots

    with ray_slots(wanted.ray, home, storage, wanted.workers, wanted.gpus_per_worker, space, say) as slots:
        yield Placement(slots)


def check_placement(wanted: PlacementRequest) -> None:
    """Raise FleetError if the workers cannot be placed; call this before anything is created."""
    refuse_conflicts(wanted)
    if wanted.ray is None:
        place_local(wanted, Home(Path()), lambda line: None, foresee_nothing)
        return
    if find_spec("ray") is None:
        raise FleetError('--ray needs Ray, which is not installed: pip install "tuner[ray]"')
    from tuner.fleet.ray_cluster import check_gpu_share, check_reachable

    check_gpu_share(wanted.gpus_per_worker)
    check_reachable(wanted.ray)


@contextmanager
def prepare_workers(wanted: PlacementRequest) -> Iterator[None]:
    """Check the placement, then start the imports of the workers of this host, beside the checks of the command.

    At the end, however the command ends, the server with these imports is stopped: a notebook lives on after it.
    """
    check_placement(wanted)
    try:
        if wanted.ray is None:
            fork_server.start_server()
        yield
    finally:
        fork_server.stop_server()


def refuse_conflicts(wanted: PlacementRequest) -> None:
    """Raise FleetError for options that contradict each other."""
    if wanted.ray is None and wanted.gpus_per_worker is not None:
        raise FleetError(
            "--gpus-per-worker belongs to --ray. On this host, --per-gpu N puts N workers on each GPU."
        )
    if wanted.ray is not None and wanted.gpus is not None:
        raise FleetError("--ray places the workers itself: leave out --gpus, or leave out --ray.")
    if wanted.ray is not None and wanted.per_gpu is not None:
        raise FleetError("--per-gpu is for this host. With --ray, say --gpus-per-worker 0.5 for two on each GPU.")
    if wanted.per_gpu == "auto" and wanted.workers is not None:
        raise FleetError(
            "--per-gpu auto finds the number of workers itself: leave out --workers, or give --per-gpu N."
        )


def place_local(
    wanted: PlacementRequest, home: Home, say: Callable[[str], None], foresee: Callable[[], int]
) -> Placement:
    if wanted.per_gpu != "auto":
        per_gpu = None if wanted.per_gpu is None else parse_per_gpu(wanted.per_gpu)
        return Placement(local_slots(home, wanted.workers, wanted.gpus, per_gpu))
    slots = local_slots(home, only=wanted.gpus, per_gpu=1)
    memory = {slot.gpu: gpus.read_memory(slot.gpu) for slot in slots}
    return Placement(slots, GpuSharing(home, say, memory, len(slots), foresee).grow)


def parse_per_gpu(per_gpu: str) -> int:
    number = parse_whole(per_gpu)
    if not number:
        raise FleetError(f"--per-gpu {printable(per_gpu)}: give a number of workers from 1 up, or auto.")
    return number


FREE = 0.1  # of a GPU's memory, kept free
MOST = 8  # workers on one GPU: more would only slow each other down
CONTEXT = 500 * gpus.MEBI  # approximate memory of a CUDA context, in addition to tensors
GIGA = 2**30


@dataclass
class GpuSharing:
    """Adds slots to GPUs that start with one worker; the number for each GPU is decided once."""

    home: Home
    say: Callable[[str], None]
    undecided: dict[str, gpus.GpuMemory | None]  # by GPU: its memory before our first worker
    next_number: int
    foresee: Callable[[], int]  # returns the bytes that the largest recipe is predicted to take

    def grow(self, peaks: dict[str, int]) -> list[LocalSlot]:
        """Return the slots to add, given the peak memory of a worker on each GPU in bytes."""
        ready = [gpu for gpu in self.undecided if peaks.get(gpu)]
        return [slot for gpu in ready for slot in self.decide(gpu, peaks[gpu])]

    def decide(self, gpu: str, peak: int) -> list[LocalSlot]:
        """Return the slots to add to one GPU, and report the number of its workers."""
        before, now = self.undecided.pop(gpu), gpus.read_memory(gpu)
        if before is None or now is None:
            self.say(f"GPU {gpu}: one worker, its memory cannot be read (nvidia-smi). Say --per-gpu N for more.")
            return []
        each = max(max(peak, self.foresee()) + CONTEXT, now.used - before.used)
        number = count_fitting(before, each)
        self.say(
            f"GPU {gpu}: {pluralize(number, 'worker')}. One takes up to {format_gb(each)} of "
            f"{format_gb(now.total)}, others take {format_gb(before.used)}, {FREE:.0%} stays free"
        )
        # The first worker counts as the whole GPU in the budget of GPU-hours, so those beside it count nothing.
        slots = [LocalSlot(self.next_number + i, self.home, gpu, share=0.0) for i in range(number - 1)]
        self.next_number += len(slots)
        return slots


def count_fitting(before: gpus.GpuMemory, each: int) -> int:
    """Return how many workers that use `each` bytes fit; at least 1, the existing one."""
    return max(1, min(MOST, int(((1 - FREE) * before.total - before.used) // each)))


def format_gb(size: int) -> str:
    return f"{size / GIGA:.1f} GB"
