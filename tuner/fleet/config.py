"""The configuration that a fleet sends to its workers, as one line of JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

EXIT_GIVEN_UP = 75  # exit code of a worker that was declared dead: start another in its slot
EXIT_GPU_FAILED = 76  # exit code of a worker whose GPU is broken: start no other there
HEARTBEAT_TIMEOUT = 30.0  # seconds without a heartbeat after which a worker counts as dead
HANG_TIMEOUT = 600.0  # seconds without a training step after which a worker counts as hung


@dataclass(frozen=True)
class WorkerConfig:
    """The study, the paths and the resources of one worker."""

    storage: str
    study: str
    space: str  # the path of its file; "" where every trial has its recipe already
    home: str
    cache_gb: float
    space_digest: str = ""  # of the file that was checked
    cores: list[int] = field(default_factory=list)  # to run on; empty for all
    artifacts: str = ""  # URL of the artifact store; "" where the home is shared or alone
    checkpoint_minutes: float | None = None  # None: after every epoch
    heartbeat_timeout: float = HEARTBEAT_TIMEOUT
    hang_timeout: float = HANG_TIMEOUT
    worker: str = ""  # the name given by its fleet; "" to generate one
    gpu: str = ""  # the GPU as CUDA_VISIBLE_DEVICES names it; "" for the CPU
    gpu_share: float = 1.0  # number of GPUs that this worker counts as in the budget of GPU-hours

    def to_line(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    @staticmethod
    def from_line(line: str) -> WorkerConfig:
        return WorkerConfig(**json.loads(line))


def hash_space_file(path: Path) -> str:
    """Return the SHA-256 hash of a space file, or "" if it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
