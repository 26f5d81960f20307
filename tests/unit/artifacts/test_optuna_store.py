"""Pictures of trials: written at home and sent on, found at home or in a store, and never outside of either."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from optuna.artifacts.exceptions import ArtifactNotFound

from tuner.artifacts.attempts import AttemptFiles
from tuner.artifacts.optuna_store import TrialArtifacts, open_trial_artifacts
from tuner.artifacts.store import FolderStore
from tuner.paths import Home


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def written(artifacts: TrialArtifacts, name: str) -> None:
    artifacts.write(name, io.BytesIO(b"picture"))


def read(artifacts: TrialArtifacts, name: str) -> bytes:
    with artifacts.open_reader(name) as file:
        return file.read()


def test_without_a_store_pictures_are_at_home(home: Path) -> None:
    artifacts = open_trial_artifacts(AttemptFiles(Home(home).make()))
    written(artifacts, "abc")
    assert read(artifacts, "abc") == b"picture" and [path.name for path in (home / "artifacts").iterdir()] == [
        "abc"
    ]


def test_another_host_finds_them_in_the_store(tmp_path: Path, store: FolderStore) -> None:
    attempts = AttemptFiles(Home(tmp_path / "one").make(), store)
    written(open_trial_artifacts(attempts), "abc")
    assert attempts.close(60)
    other = TrialArtifacts(Home(tmp_path / "other").make(), [FolderStore(tmp_path / "empty"), store])
    assert read(other, "abc") == b"picture"
    store.delete("artifacts/abc")
    assert read(other, "abc") == b"picture"  # it was kept


def test_what_is_nowhere_is_not_found(tmp_path: Path, home: Path, store: FolderStore) -> None:
    (tmp_path / "secret").write_text("secret")
    artifacts = TrialArtifacts(Home(home).make(), [store])
    for name in ("abc", "../../secret", "../store/x", str(tmp_path / "secret"), "", ".", "..", ".hidden"):
        with pytest.raises(ArtifactNotFound):
            artifacts.open_reader(name)


def test_nothing_is_written_outside(home: Path) -> None:
    with pytest.raises(ArtifactNotFound):
        written(TrialArtifacts(Home(home).make()), "../outside")
    assert not (home / "outside").exists()


def test_removing_takes_a_picture_everywhere_and_can_be_done_twice(tmp_path: Path, store: FolderStore) -> None:
    attempts = AttemptFiles(Home(tmp_path / "one").make(), store)
    artifacts = open_trial_artifacts(attempts)
    written(artifacts, "abc")
    assert attempts.close(60) and store.names("") == ["artifacts/abc"]
    artifacts.remove("abc"), artifacts.remove("abc")
    assert store.names("") == []
    with pytest.raises(ArtifactNotFound):
        artifacts.open_reader("abc")
