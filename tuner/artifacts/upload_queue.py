"""A background queue of uploads: training never waits, and a new job replaces a waiting one."""

from __future__ import annotations

import logging
import shutil
import threading
from dataclasses import dataclass, replace
from pathlib import Path

from tuner.artifacts import snapshots
from tuner.artifacts.store import Store
from tuner.errors import FilesError, pause_seconds

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds between tries while the store is away
log = logging.getLogger("tuner")


@dataclass(frozen=True)
class UploadJob:
    """An upload of a run: store a snapshot, then delete outdated files.

    `weights` is None while the trial runs; at its end, True to keep its last files and False to delete all.
    """

    place: str  # prefix of the attempt in the store, ending with a slash; or the name of a file
    file: Path | None = None  # to be uploaded unchanged
    snapshot: Path | None = None
    number: int = 0  # of the snapshot
    weights: bool | None = None

    @property
    def trial(self) -> str:
        return self.place.rstrip("/").rpartition("/")[0] + "/"

    def merge(self, newer: UploadJob) -> UploadJob:
        """Return what is left to do when `newer` follows; a job that keeps the last files needs this snapshot."""
        if self.snapshot and newer.weights and not newer.snapshot:
            return replace(self, weights=True)
        self.delete_snapshot()
        return newer

    def delete_snapshot(self) -> None:
        if self.snapshot:
            shutil.rmtree(self.snapshot, ignore_errors=True)


class Uploader:
    """A thread that runs upload jobs, at most one waiting per run, and retries while the store is unavailable."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.changed = threading.Condition()
        self.waiting: dict[str, UploadJob] = {}  # by place, oldest first
        self.current = ""  # place of the running job
        self.warned = False
        self.closed = False
        # started with the first job
        self.thread = threading.Thread(target=self.work, name="uploader", daemon=True)

    def submit(self, job: UploadJob) -> None:
        """Queue a job, merged with a waiting one of the same run."""
        with self.changed:
            before = self.waiting.get(job.place)
            self.waiting[job.place] = before.merge(job) if before else job
            if self.thread.ident is None:
                self.thread.start()
            self.changed.notify_all()

    def forget(self, place: str) -> None:
        """Cancel the waiting job of a run."""
        with self.changed:
            job = self.waiting.pop(place, None)
            self.changed.notify_all()
        if job:
            job.delete_snapshot()

    def settle(self, place: str, seconds: float) -> bool:
        """Wait until all jobs of a run are done; return False on timeout or if the store is unavailable."""

        def is_done() -> bool:
            return place not in self.waiting and place != self.current

        with self.changed:
            self.changed.wait_for(lambda: is_done() or self.warned, seconds)
            return is_done()

    def close(self, seconds: float) -> bool:
        """Wait up to `seconds` for all jobs, then stop the thread; return whether all are done."""
        with self.changed:
            done = self.changed.wait_for(lambda: not self.waiting and not self.current, seconds)
            self.closed = True
            self.changed.notify_all()
        return done

    def work(self) -> None:
        failed = 0  # attempts since the last success
        while job := self.next_job():
            try:
                self.run_job(job)
            except (FilesError, OSError) as error:
                self.put_back(job, error)
                self.pause(pause_seconds(failed, FIRST_PAUSE, LONGEST_PAUSE))
                failed += 1
            else:
                failed = 0
                self.finish_job(job)

    def next_job(self) -> UploadJob | None:
        """Return the oldest job, waiting for one if needed; None after `close`."""
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self.closed)
            if self.closed:
                return None
            self.current = next(iter(self.waiting))
            return self.waiting.pop(self.current)

    def run_job(self, job: UploadJob) -> None:
        if job.file:
            self.store.put(job.file, job.place)
            return
        if job.snapshot and job.weights is not False:
            snapshots.upload_snapshot(self.store, job.snapshot, job.place, job.number)
        most = 2 if job.weights is None else int(job.weights)
        snapshots.delete_outdated(self.store, job.trial, most)

    def finish_job(self, job: UploadJob) -> None:
        if self.warned:
            log.warning("the artifact store %s is back", self.store.location)
            self.warned = False
        job.delete_snapshot()
        with self.changed:
            self.current = ""
            self.changed.notify_all()

    def put_back(self, job: UploadJob, error: Exception) -> None:
        """Queue a failed job again, merged with a newer one of its run. Warn once until the store is back."""
        if not self.warned:
            log.warning("%s Training continues; files are uploaded once the store is back.", error)
        with self.changed:
            self.warned = True
            self.current = ""
            self.changed.notify_all()
            newer = self.waiting.get(job.place)
            self.waiting[job.place] = job.merge(newer) if newer else job

    def pause(self, seconds: float) -> None:
        """Sleep until `seconds` have passed or the uploader is closed."""
        with self.changed:
            self.changed.wait_for(lambda: self.closed, seconds)
