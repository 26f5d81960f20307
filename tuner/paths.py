"""Every path of the program's own: the home, and in it the runs of each trial, one for each attempt."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from tuner.errors import writing

LONGEST_NAME = 60  # characters: of up to four bytes, where file systems allow 255 bytes
ATTEMPT = "attempt-"  # and its number: the folder of an attempt in its trial's
MARK_KEY = "tuner_best"  # in the head of a file of weights: which epoch and value they are of
LONGEST_HEAD = 100_000_000  # bytes, as safetensors has it


@dataclass(frozen=True)
class Run:
    """What an attempt at a trial leaves: its checkpoints, its best weights, its pictures.

    The best weights may be newer than the checkpoint, where a worker was killed between the two. So each
    checkpoint has a link to those that were the best when it was written, and goes on with them and no others.
    """

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
    def checkpoint_best(self) -> Path:
        """The best weights as they were when the checkpoint was written."""
        return self.folder / "checkpoint.best.safetensors"

    @property
    def previous_best(self) -> Path:
        """The best weights as they were when the previous checkpoint was written."""
        return self.folder / "checkpoint.previous.best.safetensors"

    @property
    def curves(self) -> Path:
        return self.folder / "curves.png"

    @property
    def strip(self) -> Path:
        """One validation image, and what was said of it after every epoch."""
        return self.folder / "strip.png"

    @property
    def predictions(self) -> Path:
        """The worst, median and best validation images."""
        return self.folder / "predictions.png"

    @property
    def explanation(self) -> Path:
        """Where the model looks, of a trial that was the best when it ended."""
        return self.folder / "explanation.png"

    @property
    def quality(self) -> Path:
        """Confusion, ROC, precision-recall, calibration."""
        return self.folder / "quality.png"

    @property
    def details(self) -> Path:
        """The numbers behind the pictures."""
        return self.folder / "details.json"

    @property
    def confusion(self) -> Path:
        """The confusion matrix of the best epoch."""
        return self.folder / "confusion.csv"

    @property
    def weights(self) -> tuple[Path, ...]:
        """All that a trial goes on from, in the order in which it is to be brought.

        Cut anywhere, what came is nothing to go on from or the newest there was: the checkpoint needs those
        before it, and the previous one comes last.
        """
        return (self.best, self.checkpoint_best, self.previous_best, self.checkpoint, self.previous)

    @property
    def pictures(self) -> tuple[Path, ...]:
        """All that there is to look at, in the order in which the dashboard shows it; trials have some of it."""
        return (self.strip, self.predictions, self.explanation, *self.lazy_pictures, self.details, self.confusion)

    @property
    def lazy_pictures(self) -> tuple[Path, ...]:
        """The pictures that are drawn when they are looked at; in the folder with older versions' trials only."""
        return (self.curves, self.quality)

    def make(self) -> Run:
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def delete_weights(self) -> None:
        """A pruned or failed trial will not go on: keep its pictures, free the rest."""
        for file in self.weights:
            file.unlink(missing_ok=True)

    def delete_previous(self) -> None:
        """A finished trial needs its last checkpoint and its best weights, to be trained for longer one day."""
        for file in (self.previous, self.previous_best, self.checkpoint_best):
            file.unlink(missing_ok=True)

    def rotate(self) -> None:
        """The checkpoint becomes the previous one; the next one's best weights are those of now.

        To be called right before a new checkpoint takes its name. Killed anywhere in between, `find_best` still
        finds what belongs to the checkpoint that stands.
        """
        if self.checkpoint.exists():
            self.checkpoint.replace(self.previous)
            if self.checkpoint_best.exists():
                self.checkpoint_best.replace(self.previous_best)
        if self.best.exists():
            link_file(self.best, self.checkpoint_best)

    def restore_best(self, mark: str) -> bool:
        """Put in place the best weights with that mark, a checkpoint's own; False where they are not here.

        Weights of versions that wrote no mark are taken as they are.
        """
        with writing(self.folder):
            for file in (self.best, self.checkpoint_best, self.previous_best):
                if read_mark(file) == mark:
                    if file != self.best:
                        link_file(file, self.best)
                    return True
        return read_mark(self.best) == ""

    @property
    def is_usable(self) -> bool:
        """Whether a trial can go on from here."""
        return is_intact(self.checkpoint) or is_intact(self.previous)


def is_intact(checkpoint: Path) -> bool:
    """Whether every byte of a checkpoint is as it was written. The file is a zip archive with checksums."""
    try:
        with ZipFile(checkpoint) as archive:
            return archive.testzip() is None
    except (OSError, BadZipFile, EOFError, ValueError, NotImplementedError):
        return False


def read_mark(weights: Path) -> str | None:
    """What the head of a file of weights says it is of; "" where it says nothing, None where it is not whole."""
    try:
        with weights.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            head: dict[str, Any] = json.loads(file.read(length)) if length <= LONGEST_HEAD else {}
        notes = head.pop("__metadata__", None) or {}
        end = max((tensor["data_offsets"][1] for tensor in head.values()), default=0)
        return str(notes.get(MARK_KEY, "")) if weights.stat().st_size == 8 + length + end else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def link_file(source: Path, target: Path) -> None:
    """Give a file a second name, replacing what had it; a copy, where the file system has no hard links.

    Whoever reads `target` sees a whole file. Nothing of ours is changed in its place: both stay as they are.
    """
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    try:
        try:
            aside.hardlink_to(source)
        except FileNotFoundError:
            raise
        except OSError:
            shutil.copyfile(source, aside)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def hash_file(path: Path) -> str:
    """The checksum of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def attempt_of(notes: Mapping[str, Any]) -> int:
    """Which attempt finished a trial, from what is noted on it; 0 of a trial of an older version."""
    return int((notes.get("result") or {}).get("attempt", 0))


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
        return self.folder / "logs" / safe_name(study) / f"{worker}.log"

    def run(self, study: str, key: str, number: int, attempt: int = 0) -> Run:
        """The run of an attempt at a trial; `key` keeps studies of one name in different databases apart.

        Nobody but the worker of that attempt writes there. Attempt 0 is the trial's own folder, where older
        versions left everything.
        """
        trial = self.folder / "trials" / f"{safe_name(study)}-{key}" / f"{number:05d}"
        return Run(trial / f"{ATTEMPT}{attempt}" if attempt else trial)

    def attempts(self, study: str, key: str, number: int) -> list[int]:
        """Every attempt at a trial of which there is a folder here, the newest first, 0 always last."""
        folder = self.run(study, key, number).folder
        names = [path.name.removeprefix(ATTEMPT) for path in folder.glob(f"{ATTEMPT}*")]
        return [*sorted((int(name) for name in names if name.isdecimal()), reverse=True), 0]

    def make(self) -> Home:
        """Create the folder and try it: better a clear line now than a lost epoch later."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.artifacts.mkdir(exist_ok=True)
            probe = self.folder / f".probe.{os.getpid()}"
            probe.write_bytes(b"x")
            probe.unlink()
        return self


def safe_name(name: str) -> str:
    """A study's name as a folder name: two studies never share a folder."""
    plain = "".join(c if c.isalnum() or c in "-_.@" else "_" for c in name)[:LONGEST_NAME]
    if name and plain == name and not name.startswith("."):
        return name
    return f"{plain.lstrip('.')}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def git_commit(path: Path) -> str:
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
