"""Keep the files of trial attempts, pass them on to the next attempt, and delete those that are not needed.

Each attempt has its own folder in the home. Where hosts do not share the home, an artifact store holds copies:
files are uploaded in the background, and an attempt on another host downloads them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tuner.artifacts import snapshots
from tuner.artifacts.deletion import delete_below
from tuner.artifacts.store import Store, open_store
from tuner.artifacts.upload_queue import Uploader, UploadJob
from tuner.errors import FilesError, retry, writing
from tuner.paths import Home, Run, link_file

TRIES = 5  # to link files that another attempt is moving at the same time
PATIENCE = 60.0  # seconds that a trial waits for an unavailable store before it is put back
log = logging.getLogger("tuner")


class AttemptFiles:
    """The files of all attempts: in the home and, if there is a store, in the store."""

    def __init__(self, home: Home, store: Store | None = None) -> None:
        self.home, self.store = home, store
        self.num_snapshots: dict[Path, int] = {}  # by run folder
        self.uploader = Uploader(store) if store else None

    # --- attempts ---

    def begin(self, study: str, key: str, number: int, attempt: int, fresh: bool = False) -> Run:
        """Create the folder of an attempt, with the files of the newest usable earlier attempt.

        `fresh` means that the trial has not started yet: files in its folder belong to a deleted trial with the
        same number. If the process is killed, nothing is lost: the earlier attempt's files are deleted only after
        all of them are in the new folder.
        """
        trial, run = self.home.run(study, key, number), self.home.run(study, key, number, attempt)
        if fresh:
            trial.clear()
        run.clear()
        run.make()
        if not fresh and not self.restore(study, key, number, attempt):
            return run
        self.drop_earlier(study, key, number, attempt)
        return run

    def restore(self, study: str, key: str, number: int, attempt: int) -> bool:
        """Link or download the files of the newest usable attempt, if any; return False if they kept moving.

        The store is queried only if it may hold a newer attempt than the home.
        """
        run = self.home.run(study, key, number, attempt)
        for _ in range(TRIES):
            here = self.newest(study, key, number, attempt)
            if self.store and here != attempt - 1 and self.restore_from_store(self.store, run, here, attempt):
                return True
            if here < 0 or link_attempt(self.home.run(study, key, number, here), run):
                return True
        return False

    def newest(self, study: str, key: str, number: int, attempt: int) -> int:
        """Return the newest usable attempt in the home before this one; -1 if there is none."""
        earlier = (at for at in self.home.attempts(study, key, number) if at < attempt)
        return next((at for at in earlier if self.home.run(study, key, number, at).is_usable), -1)

    def restore_from_store(self, store: Store, run: Run, after: int, before: int) -> bool:
        """Restore the run from the newest complete manifest between these attempts; return whether it exists.

        Retry for up to a minute while the store is unavailable; then raise FilesError.
        """

        def restore() -> bool:
            newer = [one for one in self.find_manifests(run) if after < one.attempt < before]
            return snapshots.restore_run(store, newer, run)

        end = time.monotonic() + PATIENCE
        try:
            return retry(restore, lambda e, _: isinstance(e, FilesError) and time.monotonic() <= end, first=1.0)
        except FilesError as error:
            raise FilesError(f"{error} A trial that another host began cannot continue without it.") from error

    def drop_earlier(self, study: str, key: str, number: int, attempt: int) -> None:
        """Delete the files of earlier attempts; of the trial's own folder (older versions) only the weights."""
        for earlier in self.home.attempts(study, key, number):
            run = self.home.run(study, key, number, earlier)
            if 0 < earlier < attempt:
                run.clear()
            elif earlier < attempt:
                run.delete_weights()

    # --- to the store ---

    def keep(self, run: Run) -> None:
        """Upload the current checkpoint, its best weights and the pictures to the store, in the background."""
        if self.uploader:
            number = self.num_snapshots[run.folder] = self.num_snapshots.get(run.folder, 0) + 1
            with writing(run.folder):
                taken = snapshots.take_snapshot(run, number)
            self.uploader.submit(UploadJob(self.place(run), snapshot=taken, number=number))

    def send(self, path: Path, name: str) -> None:
        """Upload a single file that never changes, in the background, if there is a store."""
        if self.uploader:
            self.uploader.submit(UploadJob(name, file=path))

    def settle(self, run: Run, seconds: float) -> bool:
        """Wait until the run is uploaded; return False, with a warning, after `seconds`.

        While the store is unavailable, return at once: the files stay in the home and are uploaded later.
        """
        if self.uploader is None or self.uploader.settle(self.place(run), seconds):
            return True
        log.warning("%s is not in the artifact store yet", run.folder)
        return False

    def finish(self, run: Run, weights: bool) -> None:
        """Delete files that a finished trial does not need; without `weights`, also its weights and checkpoint."""
        run.delete_previous()
        if not weights:
            run.delete_weights()
        if self.uploader:
            self.uploader.submit(UploadJob(self.place(run), weights=weights))

    def size(self, run: Run) -> int:
        """Return the bytes of the files from which a trial goes on."""
        return sum(file.stat().st_size for file in run.weights if file.is_file())

    def drop(self, study: str, key: str, number: int) -> None:
        """Delete the checkpoints and weights of all attempts at a trial, here and in the store."""
        for attempt in self.home.attempts(study, key, number):
            self.home.run(study, key, number, attempt).delete_weights()
        if self.uploader:
            self.uploader.submit(UploadJob(self.place(self.home.run(study, key, number, 1)), weights=False))

    def forget(self, run: Run) -> None:
        """Cancel pending uploads of a trial that was lost to another worker. Delete nothing."""
        if self.uploader:
            self.uploader.forget(self.place(run))

    def close(self, seconds: float) -> bool:
        """Wait up to `seconds` for pending uploads; return False, with a warning, if some remain."""
        if self.uploader is None or self.uploader.close(seconds):
            return True
        log.warning("not everything is in the artifact store; it is in %s", self.home.folder)
        return False

    def place(self, run: Run) -> str:
        """Return the run's prefix in the store, ending with a slash; same layout as in the home."""
        return f"{run.folder.relative_to(self.home.folder).as_posix()}/"

    # --- from the store ---

    def fetch(self, study: str, key: str, number: int, attempt: int) -> Run:
        """Return the run of a finished trial, downloading its files if they are not here.

        Trials of older versions (attempt 0) are not in a store.
        """
        run = self.home.run(study, key, number, attempt)
        if self.store is None or not attempt or run.has_files:
            return run
        found = [one for one in self.find_manifests(run) if one.attempt == attempt]
        if found:
            snapshots.restore_run(self.store, found, run.make())
        return run

    def has_files(self, study: str, key: str, number: int, attempt: int) -> bool:
        """Return whether a finished trial's checkpoint and best weights are in the home or in the store."""
        run = self.home.run(study, key, number, attempt)
        return run.has_files or bool(attempt and any(one.attempt == attempt for one in self.find_manifests(run)))

    def find_manifests(self, run: Run) -> list[snapshots.Manifest]:
        return snapshots.find_manifests(self.store.names(self.place(Run(run.folder.parent)))) if self.store else []

    @property
    def where(self) -> str:
        """The places that are searched, for messages."""
        return f"{self.home.folder}{f' or {self.store.location}' if self.store else ''}"


def open_attempts(home: Home, artifacts: str | None) -> AttemptFiles:
    """Return the attempt files of a home, with the store at that URL; does not connect to the store."""
    return AttemptFiles(home, open_store(artifacts) if artifacts else None)


def link_attempt(earlier: Run, run: Run) -> bool:
    """Link all weights of an earlier attempt into a new one; return False if they were moved meanwhile."""
    with writing(run.folder):
        for source, target in zip(earlier.weights, run.weights, strict=True):
            try:
                link_file(source, target)
            except FileNotFoundError:
                if source.exists():
                    raise
    return run.is_usable


def delete_study_files(home: Home, stores: Sequence[Store], study: str, key: str) -> tuple[int, list[str]]:
    """Delete the run folders of a study; return the bytes that are free now, and why others were not deleted.

    Nothing else is touched: exported models and the files of other studies of this name have other folders. A
    study without a key, of an early version, keeps its files, since others of its name may have them too.
    """
    if not key.isalnum():
        return 0, [f"the files of study '{study}' stay where they are: it has no key that tells them from others"]
    folder = home.run(study, key, 0).folder.parent
    prefix = f"{folder.relative_to(home.folder).as_posix()}/"
    freed, kept = 0, []
    places: list[Callable[[], int]] = [partial(delete_below, home.folder, folder)]
    places += [partial(store.delete_all, prefix) for store in stores]
    for delete in places:
        try:
            freed += delete()
        except FilesError as error:
            kept.append(str(error))
    return freed, kept
