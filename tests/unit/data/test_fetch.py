"""Public datasets come from a server; the rest is told step by step."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.dataset_layouts import make_isic, make_oxford_pet, make_penn_fudan
from helpers.file_server import Mirror, mirror

from tuner.data import fetch as module
from tuner.data.datasets import DATASETS, GENERATED, ISIC, open_data
from tuner.data.fetch import MANUAL_STEPS, PUBLIC, fetch_dataset
from tuner.data.locate import FOLDERS
from tuner.errors import DataError, FilesError
from tuner.recipe import use


@contextmanager
def no_bar(title: str) -> Iterator[object]:
    yield lambda done, of: None


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TUNER_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "mine"


@pytest.fixture
def server(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """The public datasets, packed as they are in the world, from files of the same layout."""
    pets, lesions = make_oxford_pet(tmp_path / "pets", 6), make_isic(tmp_path / "lesions", 4)
    people = make_penn_fudan(tmp_path / "people", 5)
    files = {}
    for name in ("images", "annotations"):
        with tarfile.open(tmp_path / f"{name}.tar.gz", "w:gz") as packed:
            packed.add(pets / name, name)
        files[f"/sets/{name}.tar.gz"] = (tmp_path / f"{name}.tar.gz").read_bytes()
    for name, folder in {**dict.fromkeys(ISIC, lesions), "PennFudanPed": people}.items():
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as packed_zip:
            for file in filter(Path.is_file, (folder / name).rglob("*")):
                packed_zip.write(file, file.relative_to(folder))
        files[f"/sets/{name}.zip"] = (tmp_path / f"{name}.zip").read_bytes()
    sums = {path: f"md5:{hashlib.md5(body).hexdigest()}" for path, body in files.items()}
    archives = [replace(archive, digest=sums[f"/sets/{archive.name}"]) for archive in PUBLIC["oxford_pet"]]
    monkeypatch.setitem(module.PUBLIC, "oxford_pet", archives)
    with mirror(files=files) as served:
        monkeypatch.setenv("TUNER_MIRROR", f"{served.url}/sets/")
        yield served


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".lock")


COUNTS = [("oxford_pet", 6, 3), ("isic2016", 4, 2), ("penn_fudan", 5, 0)]


@pytest.mark.parametrize(("name", "number", "test"), COUNTS)
def test_a_public_dataset_is_fetched_and_can_be_opened(
    server: Mirror, root: Path, name: str, number: int, test: int
) -> None:
    assert fetch_dataset(name, None, no_bar) == f"{name} is now at {root / name}"
    source = open_data(use(name, val=0.001))
    assert len(source.split("train", "val")) == number and len(source.split("test")) == test
    assert names(root) == [name] and names(root / name) == sorted(archive.holds for archive in PUBLIC[name])
    asked = len(server.asked)
    assert (
        fetch_dataset(name, None, no_bar) == f"{name} is complete at {root / name}" and len(server.asked) == asked
    )


def test_the_two_readings_of_pets_are_one_folder(server: Mirror, root: Path) -> None:
    fetch_dataset("oxford_pet_trimap", None, no_bar)
    assert "complete at" in fetch_dataset("oxford_pet", None, no_bar) and names(root) == ["oxford_pet"]


def test_what_is_there_is_not_fetched_again(server: Mirror, root: Path) -> None:
    fetch_dataset("oxford_pet", None, no_bar)
    shutil.rmtree(root / "oxford_pet" / "annotations")
    server.asked.clear()
    fetch_dataset("oxford_pet", None, no_bar)
    assert {path for _, path, _ in server.asked} == {"/sets/annotations.tar.gz"}


def test_a_cut_download_goes_on_in_the_next_command(server: Mirror, root: Path) -> None:
    server.cuts = [500] * 5
    with pytest.raises(FilesError, match="run the command again to continue"):
        fetch_dataset("isic2016", None, no_bar)
    assert names(root / "isic2016") == [".download"]
    server.asked.clear()
    fetch_dataset("isic2016", None, no_bar)
    assert ("GET", f"/sets/{ISIC[0]}.zip", "bytes=2500-") in server.asked and len(names(root / "isic2016")) == 4


def test_a_file_that_is_not_the_published_one_is_refused(server: Mirror, root: Path) -> None:
    server.files["/sets/images.tar.gz"] = server.files["/sets/annotations.tar.gz"]
    with pytest.raises(FilesError, match="the file is damaged or not the expected one: its md5 is"):
        fetch_dataset("oxford_pet", None, no_bar)
    assert not (root / "oxford_pet" / "images").exists()


def test_a_damaged_zip_is_refused_by_its_own_sums_and_fetched_anew(server: Mirror, root: Path) -> None:
    path = f"/sets/{ISIC[0]}.zip"
    whole = server.files[path]
    server.files[path] = whole[:1000] + bytes(byte ^ 0xFF for byte in whole[1000:1010]) + whole[1010:]
    with pytest.raises(FilesError, match="is not a complete archive"):
        fetch_dataset("isic2016", None, no_bar)
    server.files[path] = whole
    assert "is now at" in fetch_dataset("isic2016", None, no_bar)


def test_an_archive_of_something_else_is_named(server: Mirror, root: Path) -> None:
    server.files[f"/sets/{ISIC[0]}.zip"] = server.files[f"/sets/{ISIC[1]}.zip"]
    with pytest.raises(FilesError, match=rf"does not contain a folder {ISIC[0]}/"):
        fetch_dataset("isic2016", None, no_bar)


def test_too_little_room_is_told_before_anything_is_fetched(server: Mirror, root: Path) -> None:
    server.claims = 10**18
    with pytest.raises(FilesError, match="8000000000000 MB are needed"):
        fetch_dataset("isic2016", None, no_bar)
    assert {method for method, _, _ in server.asked} == {"HEAD"} and not root.exists()


def test_it_goes_where_it_is_told_or_where_one_may_write(
    server: Mirror, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch_dataset("isic2016", tmp_path / "there", no_bar)
    assert len(names(tmp_path / "there" / "isic2016")) == 4 and not root.exists()
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUNER_DATA", str(tmp_path / "file"))
    fetch_dataset("isic2016", None, no_bar)
    assert len(names(tmp_path / "data" / "isic2016")) == 4


def test_remains_of_a_killed_unpacking_are_removed(server: Mirror, root: Path) -> None:
    (root / ".isic2016.12345" / "half").mkdir(parents=True)
    fetch_dataset("isic2016", None, no_bar)
    assert names(root) == ["isic2016"]


@pytest.mark.parametrize("name", MANUAL_STEPS)
def test_what_cannot_be_fetched_is_told_step_by_step(name: str, root: Path) -> None:
    with pytest.raises(DataError) as caught:
        fetch_dataset(name, None, no_bar)
    lines = str(caught.value).splitlines()
    assert "cannot be downloaded automatically" in lines[0] and lines[1].startswith("  1. ")
    assert any(str(root / name) in line for line in lines) and lines[-1].endswith(f"tuner data {name}")
    assert not root.exists()


def test_every_dataset_is_public_or_by_hand_or_generated() -> None:
    assert {FOLDERS.get(name, name) for name in DATASETS} == {*PUBLIC, *MANUAL_STEPS, *GENERATED}
    for name, words in (("shapes", "is generated"), ("oxford_pets", "Did you mean 'oxford_pet'")):
        with pytest.raises(DataError, match=words):
            fetch_dataset(name, None, no_bar)
