"""Pictures of trials behind Optuna's artifact-store interface: in the home, and in the artifact store."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tuner.artifacts.attempts import AttemptFiles
from tuner.artifacts.store import Store
from tuner.errors import FilesError, create_file
from tuner.paths import Home

PLACE = "artifacts/"  # prefix of the pictures in a store


@dataclass(frozen=True)
class TrialArtifacts:
    """An implementation of Optuna's artifact-store protocol.

    A picture is written into the home and uploaded in the background, so that the end of a trial does not wait
    for the network. A requested picture that is not in the home is downloaded from the first store that has it.
    """

    home: Home
    stores: Sequence[Store] = ()
    send: Callable[[Path, str], None] | None = None

    def path(self, artifact_id: str) -> Path:
        """Return the path of a picture in the home; raise ArtifactNotFound for an invalid name, such as "../x"."""
        if not artifact_id or Path(artifact_id).name != artifact_id or artifact_id.startswith("."):
            raise self.missing(artifact_id)
        return self.home.artifacts / artifact_id

    def open_reader(self, artifact_id: str) -> BinaryIO:
        path = self.path(artifact_id)
        for store in () if path.is_file() else self.stores:
            with suppress(FileNotFoundError, FilesError):  # the dashboard shows an empty frame and retries
                store.get(PLACE + artifact_id, path)
                break
        try:
            return path.open("rb")
        except FileNotFoundError:
            raise self.missing(artifact_id) from None

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        path = self.path(artifact_id)
        with create_file(path) as beside, beside.open("wb") as file:
            shutil.copyfileobj(content_body, file)
        if self.send:
            self.send(path, PLACE + artifact_id)

    def remove(self, artifact_id: str) -> None:
        """Delete an artifact; do nothing if it does not exist (its worker may have died before writing it)."""
        self.path(artifact_id).unlink(missing_ok=True)
        for store in self.stores:
            store.delete(PLACE + artifact_id)

    @staticmethod
    def missing(artifact_id: str) -> Exception:
        from optuna.artifacts.exceptions import ArtifactNotFound

        return ArtifactNotFound(f"no artifact '{artifact_id}'")


def open_trial_artifacts(attempts: AttemptFiles) -> TrialArtifacts:
    """Return the picture store of a worker's trials, on top of its attempt files."""
    return TrialArtifacts(attempts.home, [attempts.store] if attempts.store else [], attempts.send)
