"""A folder is deleted with all that is in it, and nothing that a link leads to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tuner.artifacts.attempts import delete_study_files
from tuner.artifacts.deletion import delete_below
from tuner.artifacts.store import FolderStore, open_store
from tuner.errors import FilesError
from tuner.paths import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Return a home with a trial of two studies of one name, which two attempts and a link to a folder are in."""
    home = Home(tmp_path / "home")
    for key in ("abc123", "def456"):
        for attempt in (1, 2):
            home.run("horses", key, 0, attempt).make().best.write_bytes(bytes(1000))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").write_bytes(bytes(50))
    (home.run("horses", "abc123", 0, 1).folder / "link").symlink_to(tmp_path / "elsewhere")
    return home


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_run_folders_of_one_study_go_and_of_no_other(home: Home, tmp_path: Path) -> None:
    link = len(os.fsencode(tmp_path / "elsewhere"))  # which a link is long
    freed, kept = delete_study_files(home, [], "horses", "abc123")
    assert kept == [] and 2000 <= freed <= 2000 + link
    assert names(home.folder / "trials") == ["horses-def456"] and names(tmp_path / "elsewhere") == ["kept"]
    assert delete_study_files(home, [], "horses", "abc123") == (0, [])  # once more


def test_files_with_another_name_elsewhere_are_not_counted_as_free(home: Home, tmp_path: Path) -> None:
    run = home.run("horses", "def456", 0, 1)
    (tmp_path / "best.safetensors").hardlink_to(run.best)
    assert delete_study_files(home, [], "horses", "def456") == (1000, [])
    assert (tmp_path / "best.safetensors").stat().st_size == 1000
    both = home.run("horses", "abc999", 0, 1).make()
    both.best.write_bytes(bytes(300)), both.checkpoint_best.hardlink_to(both.best)
    assert delete_study_files(home, [], "horses", "abc999") == (300, [])  # one file of two names


@pytest.mark.parametrize("key", ["", "../..", "x/../../..", "."])
def test_without_a_key_that_can_be_one_nothing_is_deleted(home: Home, key: str) -> None:
    freed, (why,) = delete_study_files(home, [], "horses", key)
    assert freed == 0 and "the files of study 'horses' stay where they are" in why
    assert names(home.folder / "trials") == ["horses-abc123", "horses-def456"]


@pytest.mark.parametrize("name", ["", "trials", "trials/horses-abc123"])
def test_a_link_on_the_way_is_not_followed(home: Home, tmp_path: Path, name: str) -> None:
    """The home itself may be a link: it is what the user named."""
    real = home.folder / name
    moved = real.rename(tmp_path / "moved")
    real.symlink_to(moved)
    freed, kept = delete_study_files(home, [], "horses", "abc123")
    if name:
        assert freed == 0 and kept == [f"{real} is a link; what it leads to was not deleted. Delete it by hand."]
        assert (moved / "horses-abc123" if name == "trials" else moved).is_dir()
    else:
        assert freed >= 2000 and kept == [] and names(moved / "trials") == ["horses-def456"]


def test_only_what_is_below_the_root_can_be_deleted(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir(), (tmp_path / "beside").mkdir()
    for folder in (tmp_path / "root", tmp_path / "root" / ".." / "beside"):
        with pytest.raises(FilesError, match="is not inside"):
            delete_below(tmp_path / "root", folder)
    assert names(tmp_path) == ["beside", "root"]


def test_copies_in_a_store_go_too_and_one_that_cannot_be_used_is_told(home: Home, tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path / 'store'}")
    assert isinstance(store, FolderStore)
    file = home.run("horses", "def456", 0, 1).best
    for name in ("trials/horses-abc123/00000/a", "trials/horses-def456/00000/a", "artifacts/b"):
        store.put(file, name)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "trials").symlink_to(tmp_path / "elsewhere")
    freed, kept = delete_study_files(home, [store, FolderStore(tmp_path / "other")], "horses", "abc123")
    assert freed >= 3000 and kept == [
        f"{tmp_path / 'other' / 'trials'} is a link; what it leads to was not deleted. Delete it by hand."
    ]
    assert sorted(store.names("")) == ["artifacts/b", "trials/horses-def456/00000/a"]
