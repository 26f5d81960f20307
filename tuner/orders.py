"""What a fleet tells its workers, as one line of JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Orders:
    """Where to work, on what, and with how much of this host."""

    storage: str
    study: str
    space: str  # the path of its file; "" where every trial has its recipe already
    home: str
    cache_gb: float
    space_digest: str = ""  # of the file that was checked
    cores: list[int] = field(default_factory=list)  # to run on; empty for all

    def to_line(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    @staticmethod
    def from_line(line: str) -> Orders:
        return Orders(**json.loads(line))


def digest(path: Path) -> str:
    """The hash of a space file, or nothing when it is gone."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""
