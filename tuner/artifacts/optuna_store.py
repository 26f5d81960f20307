"""The pictures of trials, as Optuna and its dashboard ask for them: in the home, and in the store behind it."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tuner.artifacts.attempts import AttemptFiles
from tuner.artifacts.store import Store
from tuner.errors import FilesError, writing
from tuner.paths import Home

PLACE = "artifacts/"  # of the pictures, in a store


@dataclass(frozen=True)
class TrialArtifacts:
    """An artifact store of Optuna's.

    A picture is written into the home and sent on in the background, so that the end of a trial waits for no
    network. What is asked for and is not in the home comes from the first store that has it, and stays.
    """

    home: Home
    stores: Sequence[Store] = ()
    send: Callable[[Path, str], None] | None = None

    def path(self, artifact_id: str) -> Path:
        """Where a picture is in the home. A name that is none, such as one that leads out of it, is not there."""
        if not artifact_id or Path(artifact_id).name != artifact_id or artifact_id.startswith("."):
            raise self.missing(artifact_id)
        return self.home.artifacts / artifact_id

    def open_reader(self, artifact_id: str) -> BinaryIO:
        path = self.path(artifact_id)
        if not path.is_file():
            self.fetch(artifact_id, path)
        try:
            return path.open("rb")
        except FileNotFoundError:
            raise self.missing(artifact_id) from None

    def fetch(self, artifact_id: str, path: Path) -> None:
        for store in self.stores:
            try:
                store.get(PLACE + artifact_id, path)
                return
            except (FileNotFoundError, FilesError):  # the dashboard shows an empty frame, and asks again
                continue

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        path = self.path(artifact_id)
        aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as file:
                shutil.copyfileobj(content_body, file)
            aside.replace(path)
        if self.send:
            self.send(path, PLACE + artifact_id)

    def remove(self, artifact_id: str) -> None:
        """Whether it was there or not: a trial whose worker died may name a picture that never came."""
        self.path(artifact_id).unlink(missing_ok=True)
        for store in self.stores:
            store.delete(PLACE + artifact_id)

    @staticmethod
    def missing(artifact_id: str) -> Exception:
        from optuna.artifacts.exceptions import ArtifactNotFound

        return ArtifactNotFound(f"no artifact '{artifact_id}'")


def open_trial_artifacts(attempts: AttemptFiles) -> TrialArtifacts:
    """The pictures of a worker's trials: beside what else it keeps."""
    return TrialArtifacts(
        attempts.home, [attempts.store] if attempts.store else [], attempts.send if attempts.store else None
    )
