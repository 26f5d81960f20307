"""From what a user typed to seats: GPUs, processors or a Ray cluster; what contradicts itself is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tuner import gpus
from tuner.errors import FleetError
from tuner.runs import Home
from tuner.seats import Seat, local_seats
from tuner.sharing import Sharing


@dataclass(frozen=True)
class Wanted:
    """The options of `tuner run` that place workers; None where nothing was said."""

    workers: int | None = None
    gpus: str | None = None
    per_gpu: str | None = None
    ray: str | None = None
    gpus_per_worker: float | None = None


@dataclass(frozen=True)
class Crew:
    """Seats to begin with, and who adds more, if anybody does."""

    seats: Sequence[Seat]
    grow: Callable[[dict[str, int]], Sequence[Seat]] | None = None


@contextmanager
def crew(
    wanted: Wanted, home: Home, storage: str, space: Path | None, say: Callable[[str], None]
) -> Iterator[Crew]:
    """The seats asked for, for as long as they are needed; FleetError where that cannot be."""
    check(wanted)
    if wanted.ray is None:
        yield local(wanted, home, say)
        return
    from tuner.ray_seats import ray_seats

    with ray_seats(wanted.ray, home, storage, wanted.workers, wanted.gpus_per_worker, space, say) as seats:
        yield Crew(seats)


def check(wanted: Wanted) -> None:
    """FleetError where the crew cannot be made, before anything else is done."""
    refuse_mixed(wanted)
    if wanted.ray is None:
        local(wanted, Home(Path()), lambda line: None)
        return
    if find_spec("ray") is None:
        raise FleetError('--ray needs Ray, which is not installed: pip install "tuner[ray]"')
    from tuner.ray_seats import knock, share

    share(wanted.gpus_per_worker)
    knock(wanted.ray)


def refuse_mixed(wanted: Wanted) -> None:
    """FleetError for options that contradict each other."""
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


def local(wanted: Wanted, home: Home, say: Callable[[str], None]) -> Crew:
    if wanted.per_gpu != "auto":
        per_gpu = None if wanted.per_gpu is None else as_number(wanted.per_gpu)
        return Crew(local_seats(home, wanted.workers, wanted.gpus, per_gpu))
    seats = local_seats(home, only=wanted.gpus, per_gpu=1)
    names = gpus.chosen(wanted.gpus)
    return Crew(seats, Sharing(home, say, names, len(seats)).grow)


def as_number(per_gpu: str) -> int:
    if not per_gpu.isdecimal() or int(per_gpu) < 1:
        raise FleetError(f"--per-gpu {per_gpu}: give a number of workers from 1 up, or auto.")
    return int(per_gpu)
