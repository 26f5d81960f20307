"""The configuration of a worker process, sent to it as one line of JSON, and its exit codes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tuner.data.limits import MAX_PIXELS
from tuner.errors import FilesError
from tuner.paths import hash_file
from tuner.registry.own_modules import space_sources
from tuner.wording import typed_options

EXIT_GIVEN_UP = 75  # exit code of a worker that must be replaced: declared dead, or unable to use its GPU
EXIT_GPU_FAILED = 76  # exit code of a worker whose GPU is broken: start no other worker there
# How long torch's threads spin before they sleep. With endless spinning, two processes on the same two cores
# slowed each other down 6 times; without spinning, a single process lost a third of its speed.
SPINS = "20000"
HEARTBEAT_TIMEOUT = 30.0  # seconds without a heartbeat after which a worker counts as dead
HANG_TIMEOUT = 600.0  # seconds without a training step after which a worker counts as hung


@dataclass(frozen=True)
class WorkerSettings:
    """Options of a command that apply to each of its workers."""

    cache_gb: float = 20.0
    keep_gb: float = 50.0  # of checkpoints and weights of paused trials
    max_pixels: int = MAX_PIXELS  # of an image
    checkpoint_minutes: float | None = None  # None: after every epoch
    heartbeat_timeout: float = HEARTBEAT_TIMEOUT
    hang_timeout: float = HANG_TIMEOUT


@dataclass(frozen=True)
class WorkerConfig:
    """The study to work on, the files to use, and the part of this host to run on."""

    storage: str
    study: str
    space: str  # path of the space file; "" if every trial already has its recipe
    home: str
    settings: WorkerSettings = WorkerSettings()
    space_digest: str = ""  # of the file that was checked
    artifacts: str = ""  # URL of the artifact store; "" for none
    worker: str = ""  # unique name; "" to choose one
    cores: list[int] = field(default_factory=list)  # to run on; empty for all
    gpu: str = ""  # name of the GPU; "" to train on the CPU
    gpu_share: float = 1.0  # number of GPUs this worker counts as in the budget of GPU-hours
    typed: dict[str, str] = field(default_factory=lambda: dict(typed_options))  # which its errors repeat

    def to_line(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    @staticmethod
    def from_line(line: str) -> WorkerConfig:
        plain = json.loads(line)
        return WorkerConfig(**{**plain, "settings": WorkerSettings(**plain["settings"])})


def hash_space_file(path: Path) -> str:
    """Return a hash of a space file and of the user's own modules that it needs, or "" if one cannot be read."""
    try:
        space, *own = (hash_file(file) for file in (path, *space_sources(path).values()))
    except FilesError:
        return ""
    return hashlib.sha256("".join([space, *own]).encode()).hexdigest() if own else space
