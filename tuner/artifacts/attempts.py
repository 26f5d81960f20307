"""What an attempt at a trial leaves is kept: brought to the next attempt, and dropped when nobody needs it.

Every attempt has a folder of its own in the home. Where hosts do not share the home, a store stands behind it:
what is kept goes there in the background, and an attempt on another host fetches it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tuner.artifacts import snapshots
from tuner.artifacts.store import CHANCE, Store, open_store
from tuner.artifacts.uploader import Uploader, UploadJob, take_snapshot
from tuner.errors import FilesError, writing
from tuner.paths import Home, Run, link_file

T = TypeVar("T")
TRIES = 5  # to bring over what another attempt moves at that moment
PATIENCE = 60.0  # seconds that a trial waits for a store that is away, before it is given back
log = logging.getLogger("tuner")


class AttemptFiles:
    """Where attempts find what earlier ones left. Without a store, the home alone."""

    def __init__(self, home: Home, store: Store | None = None) -> None:
        self.home, self.store = home, store
        self.sent: dict[Path, int] = {}  # how many snapshots of a run there were
        self.uploader: Uploader | None = None  # begun with the first thing to send

    # --- attempts ---

    def begin(self, study: str, key: str, number: int, attempt: int, fresh: bool = False) -> Run:
        """The empty folder of an attempt, with what the newest usable earlier attempt left in it.

        `fresh` says that the trial has not begun yet: whatever stands there is of a deleted trial of that number.
        Killed in the middle, nothing is lost: the earlier attempt's files go when all stands in the new folder.
        """
        trial, run = self.home.run(study, key, number), self.home.run(study, key, number, attempt)
        if fresh:
            trial.clear()
        run.clear()
        run.make()
        if not fresh and not self.bring(study, key, number, attempt):
            return run
        self.drop_earlier(study, key, number, attempt)
        return run

    def bring(self, study: str, key: str, number: int, attempt: int) -> bool:
        """Bring what the newest usable attempt left; the store is asked where it may know of a newer one."""
        run = self.home.run(study, key, number, attempt)
        for _ in range(TRIES):
            here = self.newest(study, key, number, attempt)
            if self.store and here != attempt - 1 and self.bring_from_store(run, after=here, before=attempt):
                return True
            if here is None or link_attempt(self.home.run(study, key, number, here), run):
                return True
        return False

    def newest(self, study: str, key: str, number: int, attempt: int) -> int | None:
        """The newest attempt before this one that can be gone on from, of those in the home."""
        for earlier in self.home.attempts(study, key, number):
            if earlier < attempt and self.home.run(study, key, number, earlier).is_usable:
                return earlier
        return None

    def bring_from_store(self, run: Run, after: int | None, before: int) -> bool:
        """Fill the run from the newest list between these attempts that is whole; False where there is none."""

        def bring() -> bool:
            found = self.known(run)
            newer = [one for one in found if one.attempt < before and (after is None or one.attempt > after)]
            return self.store is not None and snapshots.restore_run(self.store, newer, run)

        return patiently(bring)

    def drop_earlier(self, study: str, key: str, number: int, attempt: int) -> None:
        """Free what attempts before this one left; the trial's own folder, where older versions wrote, stays."""
        for earlier in self.home.attempts(study, key, number):
            run = self.home.run(study, key, number, earlier)
            if 0 < earlier < attempt:
                run.clear()
            elif earlier < attempt:
                run.delete_weights()

    # --- to the store ---

    def keep(self, run: Run) -> None:
        """Send the checkpoint of now, its best weights and the pictures to the store, in the background."""
        if self.store:
            number = self.sent[run.folder] = self.sent.get(run.folder, 0) + 1
            with writing(run.folder):
                taken = take_snapshot(run, number)
            self.give(UploadJob(self.place(run), snapshot=taken, number=number))

    def send(self, path: Path, name: str) -> None:
        """Send a file of its own that never changes, in the background."""
        self.give(UploadJob(name, file=path))

    def settle(self, run: Run, seconds: float) -> bool:
        """Wait until what was kept is in the store; False, with a warning, when the time is over before.

        While the store is away, nobody waits: what was kept stays in the home and is sent when it is back.
        """
        if self.uploader is None or self.uploader.settle(self.place(run), seconds):
            return True
        log.warning("%s is not in the artifact store yet", run.folder)
        return False

    def finish(self, run: Run, weights: bool) -> None:
        """At a trial's end: drop what nobody needs; without `weights`, the checkpoint and the best go too."""
        run.delete_previous()
        if not weights:
            run.delete_weights()
        if self.store:
            self.give(UploadJob(self.place(run), weights=weights))

    def forget(self, run: Run) -> None:
        """A trial that was lost to another worker: what waits to be sent is not sent. Nothing is deleted."""
        if self.uploader:
            self.uploader.forget(self.place(run))

    def close(self, seconds: float) -> bool:
        """Wait a little for what is under way; False when not all of it is in the store."""
        if self.uploader is None or self.uploader.close(seconds):
            return True
        log.warning("not everything is in the artifact store; it is in %s", self.home.folder)
        return False

    def give(self, job: UploadJob) -> None:
        assert self.store
        self.uploader = self.uploader or Uploader(self.store)
        self.uploader.give(job)

    def place(self, run: Run) -> str:
        """Where a run is in the store, ending with a slash: as in the home."""
        return f"{run.folder.relative_to(self.home.folder).as_posix()}/"

    # --- from the store ---

    def fetch(self, study: str, key: str, number: int, attempt: int) -> Run:
        """The run of a finished trial, with its files here where they are to be had at all.

        Trials of older versions are in no store: theirs is attempt 0.
        """
        run = self.home.run(study, key, number, attempt)
        if self.store is None or not attempt or (run.best.is_file() and run.checkpoint.is_file()):
            return run
        found = [one for one in self.known(run) if one.attempt == attempt]
        if found:
            snapshots.restore_run(self.store, found, run.make())
        return run

    def has(self, study: str, key: str, number: int, attempt: int) -> bool:
        """Whether the checkpoint and the best weights of a finished trial are here or in the store."""
        run = self.home.run(study, key, number, attempt)
        here = run.best.is_file() and run.checkpoint.is_file()
        return here or bool(attempt and any(one.attempt == attempt for one in self.known(run)))

    def known(self, run: Run) -> list[snapshots.Manifest]:
        return snapshots.find_manifests(self.store.names(self.place(Run(run.folder.parent)))) if self.store else []

    @property
    def where(self) -> str:
        """Where it looks, for a person."""
        return f"{self.home.folder}{f' or {self.store.shown}' if self.store else ''}"


def open_attempts(home: Home, artifacts: str | None) -> AttemptFiles:
    """The keeper of a home, with the store of that URL behind it; nothing is asked of the store yet."""
    return AttemptFiles(home, open_store(artifacts) if artifacts else None)


def patiently(act: Callable[[], T]) -> T:
    """Ask a store that may be away for a while. A trial that another host began waits for it, but not for ever."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return act()
        except FilesError as error:
            if time.monotonic() > end:
                raise FilesError(f"{error} A trial that another host began cannot go on without.") from error
            time.sleep(CHANCE.uniform(0.5, 1.5))


def link_attempt(earlier: Run, run: Run) -> bool:
    """Link everything of an earlier attempt into a new one; False where it was moved away meanwhile."""
    with writing(run.folder):
        for source, target in zip(earlier.weights, run.weights, strict=True):
            try:
                link_file(source, target)
            except FileNotFoundError:
                if source.exists():
                    raise
    return run.is_usable
