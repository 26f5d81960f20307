"""Every path of the program's own: the home, and in it the run of each trial."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import writing

LONGEST_NAME = 60  # characters: of up to four bytes, where file systems allow 255 bytes


@dataclass(frozen=True)
class Run:
    """What a trial leaves: its checkpoints, its best weights, its pictures."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def previous(self) -> Path:
        """The checkpoint before the last, in case the last was cut short by a power failure."""
        return self.folder / "checkpoint.previous.pt"

    @property
    def best(self) -> Path:
        return self.folder / "best.safetensors"

    @property
    def curves(self) -> Path:
        return self.folder / "curves.png"

    @property
    def predictions(self) -> Path:
        return self.folder / "predictions.png"

    @property
    def confusion(self) -> Path:
        """The confusion matrix of the best epoch."""
        return self.folder / "confusion.csv"

    def make(self) -> Run:
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def drop_weights(self) -> None:
        """A pruned or failed trial will not go on: keep its pictures, free the rest."""
        for file in (self.checkpoint, self.previous, self.best):
            file.unlink(missing_ok=True)

    def drop_previous(self) -> None:
        """A finished trial needs its last checkpoint only, to be trained for longer one day."""
        self.previous.unlink(missing_ok=True)


@dataclass(frozen=True)
class Home:
    """The folder of everything on this host: database, cache, runs, artifacts, logs."""

    folder: Path

    @property
    def database(self) -> str:
        """The URL of the default storage."""
        return f"sqlite:///{(self.folder / 'tuner.db').absolute()}"

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    @property
    def micro_batches(self) -> Path:
        return self.folder / "micro_batches.json"

    def log(self, study: str, worker: str) -> Path:
        return self.folder / "logs" / safe(study) / f"{worker}.log"

    def run(self, study: str, key: str, number: int) -> Run:
        """The run of a trial; `key` keeps studies of one name in different databases apart."""
        return Run(self.folder / "trials" / f"{safe(study)}-{key}" / f"{number:05d}")

    def make(self) -> Home:
        """Create the folder and try it: better a clear line now than a lost epoch later."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.artifacts.mkdir(exist_ok=True)
            probe = self.folder / f".probe.{os.getpid()}"
            probe.write_bytes(b"x")
            probe.unlink()
        return self


def safe(name: str) -> str:
    """A study's name as a folder name: two studies never share a folder."""
    plain = "".join(c if c.isalnum() or c in "-_.@" else "_" for c in name)[:LONGEST_NAME]
    if name and plain == name and not name.startswith("."):
        return name
    return f"{plain.lstrip('.')}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def commit_of(path: Path) -> str:
    """The git commit a file stands in, with '+' when the tree has changes; '' outside a repository."""
    import subprocess

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(path.parent), *args], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return ""
