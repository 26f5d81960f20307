"""What goes to the store goes in the background: training never waits, and the newest replaces what waits."""

from __future__ import annotations

import logging
import shutil
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from tuner.artifacts import snapshots
from tuner.artifacts.store import CHANCE, Store
from tuner.errors import FilesError
from tuner.paths import Run, link_file

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds between tries while the store is away
log = logging.getLogger("tuner")


@dataclass(frozen=True)
class UploadJob:
    """What is to be done for a run: send a snapshot of it, then tidy up behind it.

    `weights` says how its trial ended: None while it goes on, True when its last files stay, False when none do.
    """

    place: str  # of the attempt in the store, ending with a slash; or the name of a file
    file: Path | None = None  # to be put there as it is
    snapshot: Path | None = None
    number: int = 0  # of the snapshot
    weights: bool | None = None

    @property
    def trial(self) -> str:
        return self.place.rstrip("/").rpartition("/")[0] + "/"


class Uploader:
    """One thread that does errands, one for each run at most; while the store is away, it tries and tries."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.changed = threading.Condition()
        self.waiting: dict[str, UploadJob] = {}  # by place, the one that waits longest first
        self.doing = ""
        self.warned = False
        self.closed = False
        self.thread = threading.Thread(target=self.work, name="sender", daemon=True)
        self.thread.start()

    def give(self, job: UploadJob) -> None:
        """Have it done soon. A snapshot replaces one of the same run that still waits; an end comes after it."""
        with self.changed:
            before = self.waiting.get(job.place)
            if before and before.snapshot and (job.snapshot or job.weights is False):
                shutil.rmtree(before.snapshot, ignore_errors=True)
            elif before and before.snapshot:
                job = replace(before, weights=job.weights)
            self.waiting[job.place] = job
            self.changed.notify_all()

    def forget(self, place: str) -> None:
        """What waits for this run is not to be done."""
        with self.changed:
            job = self.waiting.pop(place, None)
            self.changed.notify_all()
        if job and job.snapshot:
            shutil.rmtree(job.snapshot, ignore_errors=True)

    def settle(self, place: str, seconds: float) -> bool:
        """Wait until all for a run is done; False when the time is over before, or the store is away."""

        def is_done() -> bool:
            return place not in self.waiting and place != self.doing

        with self.changed:
            self.changed.wait_for(lambda: is_done() or self.warned, seconds)
            return is_done()

    def close(self, seconds: float) -> bool:
        """Wait a little for what is under way, then end."""
        with self.changed:
            done = self.changed.wait_for(lambda: not self.waiting and not self.doing, seconds)
            self.closed = True
            self.changed.notify_all()
        return done

    def work(self) -> None:
        pause = FIRST_PAUSE
        while job := self.next():
            try:
                self.do(job)
            except (FilesError, OSError) as error:
                self.put_back(job, error)
                self.rest(pause * CHANCE.uniform(0.5, 1.5))
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                pause = FIRST_PAUSE
                self.done(job)

    def next(self) -> UploadJob | None:
        """The errand that waits longest, or None when no more will come."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.closed)
            if self.closed:
                return None
            self.doing = next(iter(self.waiting))
            return self.waiting.pop(self.doing)

    def do(self, job: UploadJob) -> None:
        if job.file:
            self.store.put(job.file, job.place)
        elif job.snapshot and job.weights is not False:
            snapshots.upload_snapshot(self.store, job.snapshot, job.place, job.number)
            snapshots.delete_outdated(self.store, job.trial, most=1 if job.weights else 2)
        elif job.weights:
            snapshots.delete_outdated(self.store, job.trial, most=1)
        elif job.weights is False:
            snapshots.delete_snapshots(self.store, job.trial)

    def done(self, job: UploadJob) -> None:
        if self.warned:
            log.warning("the artifact store %s is back", self.store.shown)
            self.warned = False
        if job.snapshot:
            shutil.rmtree(job.snapshot, ignore_errors=True)
        with self.changed:
            self.doing = ""
            self.changed.notify_all()

    def put_back(self, job: UploadJob, error: Exception) -> None:
        """It waits again, unless something newer of its run does by now. Said once until the store is back."""
        if not self.warned:
            log.warning("%s Training goes on; what it leaves is sent once the store is back.", error)
        with self.changed:
            self.warned = True
            self.doing = ""
            self.changed.notify_all()
            newer = self.waiting.get(job.place)
            if newer is None:
                self.waiting[job.place] = job
            elif newer.snapshot is None and newer.weights:
                self.waiting[job.place] = replace(job, weights=True)
            elif job.snapshot:
                shutil.rmtree(job.snapshot, ignore_errors=True)

    def rest(self, seconds: float) -> None:
        """A pause that the end cuts short."""
        with self.changed:
            self.changed.wait_for(lambda: self.closed, seconds)


def take_snapshot(run: Run, number: int) -> Path:
    """The run's checkpoint with its own best weights, and its pictures, as they are now: as links, at once."""
    folder = run.folder / f".sending-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    best = run.checkpoint_best if run.checkpoint_best.is_file() else run.best
    for source, name in ((best, run.best.name), *((f, f.name) for f in (run.checkpoint, *run.pictures))):
        if source.is_file():
            link_file(source, folder / name)
    return folder
