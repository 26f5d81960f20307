"""A FIFO or a device among the files of a dataset is one line, without waiting for it or reading it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.dataset_layouts import make_coco, make_oxford_pet, make_scene
from helpers.image_folders import make_photos

from tuner.data import datasets, folder
from tuner.data.survey import survey
from tuner.errors import DataError
from tuner.space.space import read_about

FIFO = "is a FIFO; a regular file is needed"


def replace_by_fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def said(path: Path, memory: Path) -> str:
    with pytest.raises(DataError) as caught:
        survey(folder.folder(path), memory)
    return str(caught.value)


@pytest.mark.parametrize("name", ["images/photo03.jpg", "masks/photo03.png"])
def test_a_fifo_among_the_images_is_named(name: str, photos: Path, tmp_path: Path) -> None:
    replace_by_fifo(photos / name)
    assert f"1 of 12 items cannot be used. {Path(name).name} {FIFO}" in said(photos, tmp_path)


def test_an_image_that_is_a_link_to_a_device_is_named(photos: Path, tmp_path: Path) -> None:
    (photos / "images" / "photo03.jpg").unlink()
    (photos / "images" / "photo03.jpg").symlink_to("/dev/zero")
    assert "photo03.jpg is a device; a regular file is needed" in said(photos, tmp_path)


def test_class_names_from_a_fifo_are_refused(tmp_path: Path) -> None:
    replace_by_fifo(make_scene(tmp_path, 6) / "classes.txt")
    assert f"classes.txt {FIFO}" in said(tmp_path, tmp_path / "memory")


@pytest.mark.parametrize("name", ["annotations.json", "annotations/instances_train2017.json"])
def test_annotations_from_a_fifo_are_refused(name: str, tmp_path: Path) -> None:
    make_coco(tmp_path / "images", tmp_path / name, 4)
    replace_by_fifo(tmp_path / name)
    assert f"{Path(name).name} {FIFO}" in said(tmp_path, tmp_path / "memory")


def test_a_list_of_images_from_a_fifo_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNER_DATA", str(tmp_path))
    replace_by_fifo(make_oxford_pet(tmp_path / "oxford_pet", 4) / "annotations" / "trainval.txt")
    with pytest.raises(DataError, match=f"trainval.txt {FIFO}"):
        datasets.open_data(datasets.Part("oxford_pet"))


def test_a_space_that_is_a_fifo_is_marked_in_the_list(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.py")
    assert read_about(tmp_path / "a.py") == f"cannot be read: {tmp_path}/a.py {FIFO}."


NOT_UTF8 = os.fsdecode(b"caf\xe9")


def test_names_that_are_not_utf8_are_read(tmp_path: Path) -> None:
    path = make_photos(tmp_path / NOT_UTF8, 4)
    for part, suffix in (("images", ".jpg"), ("masks", ".png")):
        (path / part / f"photo00{suffix}").rename(path / part / f"{NOT_UTF8}{suffix}")
    source = folder.folder(path)
    found = survey(source, tmp_path / "memory")
    assert source.name == r"caf\xe9" and len(found.findings) == 4
    assert survey(source, tmp_path / "memory") == found


def test_a_class_folder_that_is_not_utf8_is_named_with_escapes(tmp_path: Path) -> None:
    for name in ("a", NOT_UTF8):
        make_photos(tmp_path / "made", 3, images=str(tmp_path / "data" / name))
    assert folder.folder(tmp_path / "data").classes == ("a", r"caf\xe9")
