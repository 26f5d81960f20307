"""Worker slots, each for one worker process: those of this host. For a Ray cluster, see `ray_cluster`.

A local slot is pinned to a GPU by CUDA_VISIBLE_DEVICES, or to a share of the CPU cores.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from tuner.errors import FleetError, writing
from tuner.fleet import fork_server, gpus
from tuner.fleet.config import SPINS, WorkerConfig
from tuner.fleet.fork_server import ForkedWorker
from tuner.paths import Home
from tuner.wording import pluralize

EXIT_SLOT_LOST = 254  # instead of an exit code: the slot itself was lost (a cluster node) together with its worker


class WorkerSlot(Protocol):
    """A slot for one worker process. No method blocks for long, except `kill`."""

    @property
    def name(self) -> str:
        """The name in messages, such as 'worker 0'."""

    @property
    def gpu(self) -> str:
        """The GPU its worker is pinned to; '' for the CPU, or while unknown."""

    @property
    def waiting(self) -> bool:
        """Whether a started worker has no place yet: a cluster may be full, or still growing."""

    @property
    def log(self) -> str:
        """The path of the worker's log."""

    def start(self, config: WorkerConfig) -> None:
        """Start a worker; call only if none is running."""

    def poll(self) -> int | None:
        """Return the worker's exit code (negative for a signal), or None while it runs or waits."""

    def terminate(self) -> None:
        """Send SIGTERM: the worker saves, puts its trial back and exits."""

    def kill(self) -> None:
        """Send SIGKILL, and wait until the process has ended."""

    def last_words(self) -> str:
        """Return the error that an ended worker reported, or "". Call once, after its end."""

    def leave(self) -> None:
        """Release the place while no worker is needed, so that others can use it."""


@dataclass
class LocalSlot:
    """A slot on this host; `start` may be called again after its worker has ended."""

    number: int
    home: Home
    gpu: str = ""
    cores: list[int] = field(default_factory=list)
    share: float = 1.0  # number of GPUs it counts as
    env: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None  # working directory; None for the current one
    forks: bool = True  # from the fork server, where there is one
    process: subprocess.Popen[str] | ForkedWorker | None = None
    log: str = ""  # its path
    waiting: bool = False

    @property
    def name(self) -> str:
        return f"worker {self.number}"

    def start(self, config: WorkerConfig) -> None:
        """Start the worker in a new process session, so that Ctrl-C reaches only the fleet."""
        config = replace(config, cores=self.cores, gpu=self.gpu, gpu_share=self.share)
        path = self.home.log(config.study, f"worker-{self.number}")
        self.log = str(path)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a", encoding="utf-8")
        with file:  # the worker has it open by itself
            self.process = self.start_process(file.fileno())
        assert self.process.stdin
        with suppress(BrokenPipeError):  # it has ended already: the next `poll` returns its exit code
            self.process.stdin.write(config.to_line())
            self.process.stdin.flush()

    def start_process(self, log: int) -> subprocess.Popen[str] | ForkedWorker:
        """Fork the worker from the server, or start an interpreter where there is none or it was killed."""
        if self.forks and (server := fork_server.start_server()):
            try:
                return ForkedWorker(server, self.environment(), self.folder, log)
            except FleetError:
                self.forks = False
        return subprocess.Popen(
            [sys.executable, "-P", "-m", fork_server.WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=self.environment(),
            cwd=self.folder,
            start_new_session=True,
        )

    def environment(self) -> dict[str, str]:
        """Return the environment; PCI order makes CUDA number the GPUs as nvidia-smi does."""
        env = {"GOMP_SPINCOUNT": SPINS, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", **os.environ, **self.env}
        if self.gpu:
            env["CUDA_VISIBLE_DEVICES"] = self.gpu
        if self.cores:
            env["OMP_NUM_THREADS"] = str(len(self.cores))
        return env

    def poll(self) -> int | None:
        process = self.process
        return process.poll() if process else None

    def terminate(self) -> None:
        if process := self.process:
            process.terminate()

    def kill(self) -> None:
        if process := self.process:
            process.kill()
            process.wait()

    def last_words(self) -> str:
        assert self.process and self.process.stdout and self.process.stdin
        lines = [line for line in self.process.stdout.read().splitlines() if line.startswith("{")]
        self.process.stdout.close()
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process = None
        last = json.loads(lines[-1]) if lines else {}
        if "bug" in last:
            bug = f"a worker failed with a bug: {last['bug']}. The trial was marked as failed"
            return f"{bug}; the traceback is in {self.log}"
        return str(last.get("error", ""))

    def leave(self) -> None:
        """Do nothing: local places are not shared."""


def local_slots(
    home: Home, workers: int | None = None, only: str | None = None, per_gpu: int | None = None
) -> list[LocalSlot]:
    """Return one slot or `per_gpu` slots for each GPU; without a GPU, one for all cores or several sharing them.

    `workers` sets the number of slots instead; they are then distributed over the GPUs in turn.
    """
    names = gpus.select_gpus(only)
    if per_gpu is not None:
        workers = count_slots(names, workers, per_gpu)
    number = workers or max(1, len(names))
    if not names:
        return cpu_slots(home, number)
    places = [names[i % len(names)] for i in range(number)]
    crowd = Counter(places)
    return [LocalSlot(i, home, gpu, share=1 / crowd[gpu]) for i, gpu in enumerate(places)]


def count_slots(names: list[str], workers: int | None, per_gpu: int) -> int:
    """Return the number of workers for --per-gpu; raise FleetError if --workers contradicts it."""
    if not names:
        raise FleetError(f"--per-gpu: no GPU is visible here ({gpus.explain_no_gpu()}). Say --workers N instead.")
    number = len(names) * per_gpu
    if workers not in (None, number):
        raise FleetError(
            f"--per-gpu {per_gpu} on {pluralize(len(names), 'GPU')} makes {pluralize(number, 'worker')}, "
            f"--workers asks for {workers}: "
            "give one of the two."
        )
    return number


def cpu_slots(home: Home, number: int) -> list[LocalSlot]:
    """Return CPU slots: one with all cores, or several with a share each."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if number == 1 or not cores:
        return [LocalSlot(i, home) for i in range(number)]
    shares = [cores[i * len(cores) // number : (i + 1) * len(cores) // number] for i in range(number)]
    return [LocalSlot(i, home, cores=share or [cores[i % len(cores)]]) for i, share in enumerate(shares)]
