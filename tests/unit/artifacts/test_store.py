"""Stores: folders and buckets behave alike, and a problem is reported in one line before training."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from helpers.object_store import bucket, buckets

from tuner.artifacts.s3_store import S3Store
from tuner.artifacts.store import FolderStore, Store, open_store, probe_store
from tuner.errors import FilesError

__all__ = ["bucket", "buckets"]


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store") if request.param == "folder" else request.getfixturevalue("bucket"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3000))
    return path


def test_what_is_put_comes_back(store: Store, file: Path, tmp_path: Path) -> None:
    store.put(file, "a/b/c")
    store.get("a/b/c", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()


def test_the_last_file_put_replaces_the_others(store: Store, file: Path, tmp_path: Path) -> None:
    store.put(file, "a")
    file.write_bytes(b"newer")
    store.put(file, "a")
    store.get("a", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"newer" and store.names("") == ["a"]


def test_large_files_come_back(store: Store, file: Path, tmp_path: Path) -> None:
    """Beyond eight megabytes, boto3 sends and gets in parts."""
    file.write_bytes(os.urandom(9_000_001))
    store.put(file, "large")
    store.get("large", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()


def test_names_are_those_below_a_prefix(store: Store, file: Path) -> None:
    assert store.names("") == store.names("x/") == []
    for name in ("x/1", "x/y/2", "xx/3", "4"):
        store.put(file, name)
    assert sorted(store.names("x/")) == ["x/1", "x/y/2"] and len(store.names("")) == 4


def test_deleting_takes_one_and_can_be_done_twice(store: Store, file: Path) -> None:
    store.put(file, "x/y/1"), store.put(file, "x/2")
    store.delete("x/y/1"), store.delete("x/y/1")
    assert store.names("") == ["x/2"]


def test_all_below_a_prefix_are_deleted_and_counted(store: Store, file: Path) -> None:
    for name in ("x/y/1", "x/2", "xx/3"):
        store.put(file, name)
    assert store.delete_all("x/") == 6000 and store.names("") == ["xx/3"]
    assert store.delete_all("x/") == 0


def test_a_missing_file_is_reported_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        store.get("nothing/here", tmp_path / "copy")
    assert not [path for path in tmp_path.iterdir() if "copy" in path.name]


def test_a_place_that_works_passes_its_probe_and_is_left_empty(store: Store) -> None:
    probe_store(store), probe_store(store)
    assert store.names("") == []


def test_a_folder_is_left_without_empty_folders(tmp_path: Path, file: Path) -> None:
    store = FolderStore(tmp_path / "store")
    store.put(file, "x/y/1"), store.delete("x/y/1")
    assert list(store.folder.iterdir()) == []


# --- URLs ---


def test_a_url_says_which_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert open_store("s3://bucket") == S3Store("bucket", "")
    assert open_store("s3://bucket/") == S3Store("bucket", "")
    assert open_store("s3://bucket/a/b/") == S3Store("bucket", "a/b/")
    assert open_store("shared/runs") == FolderStore(tmp_path / "shared/runs")
    assert open_store("~/runs") == FolderStore(tmp_path / "me/runs")
    assert open_store("file:///mnt/my%20runs") == FolderStore(Path("/mnt/my runs"))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "gs://bucket/a",
            "no artifact store of the kind 'gs://'. It may be a folder that all hosts see, or s3://",
        ),
        ("https://host/bucket", "no artifact store of the kind 'https://'"),
        ("s3://", "has no bucket. Write s3://BUCKET/PREFIX"),
        ("s3:///prefix", "has no bucket"),
        ("s3://key:secret@bucket/a", "must be s3://BUCKET/PREFIX and nothing more"),
        ("s3://bucket?secret=1", "must be s3://BUCKET/PREFIX and nothing more"),
        ("file://host/folder", "must be a folder that all hosts see"),
        ("  ", "must be a folder that all hosts see"),
    ],
)
def test_an_invalid_url_is_reported_without_its_password(url: str, message: str) -> None:
    with pytest.raises(FilesError) as caught:
        open_store(url)
    assert message in str(caught.value) and "secret" not in str(caught.value)


def test_without_boto3_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(FilesError, match=r"pip install 'tuner\[s3\]'"):
        open_store("s3://bucket")


def test_a_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "store", Path("/proc/store")):
        with pytest.raises(FilesError, match=str(place)):
            probe_store(FolderStore(place))
