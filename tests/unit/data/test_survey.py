"""Every file is looked at once; what is wrong is named all at once; the fingerprint follows the content."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.image_folders import make_photos
from PIL import Image

from tuner.data.folder import folder
from tuner.data.survey import survey
from tuner.data.synthetic.shapes import shapes
from tuner.errors import DataError, FilesError


@pytest.fixture
def fingerprint(tmp_path: Path) -> Callable[[Path], str]:
    return lambda path: survey(folder(path), tmp_path / "memory").fingerprint


def darken(path: Path) -> None:
    Image.fromarray(np.asarray(Image.open(path)) // 2).save(path)


def test_everything_wrong_is_named_at_once(photos: Path, tmp_path: Path) -> None:
    files = sorted((photos / "images").iterdir())
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[: files[1].stat().st_size // 2])
    files[2].write_text("some text")
    (photos / "masks" / "photo03.png").write_bytes(b"\x89PNG")
    Image.new("L", (128, 64)).save(photos / "masks" / "photo04.png")
    files[5].unlink()
    files[5].symlink_to(tmp_path / "gone.jpg")
    with pytest.raises(DataError) as caught:
        survey(folder(photos), tmp_path / "memory")
    lines = str(caught.value).split("\n  - ")
    assert lines[0] == f"{photos}: 6 of 12 items cannot be used."
    assert len(lines) == 7
    for line, start in zip(
        lines[1:],
        [
            "photo00.jpg is empty (0 bytes)",
            "photo01.jpg cannot be read (image file is truncated",
            "photo02.jpg is not an image file",
            "photo03.png is not an image file",
            "mask photo04.png is 128x64 for an image of 128x128",
            "photo05.jpg cannot be read (No such file or directory)",
        ],
        strict=True,
    ):
        assert line.startswith(start)


def test_a_hundred_bad_files_are_counted_and_the_first_named(tmp_path: Path) -> None:
    for at in range(100):
        for part in ("images", "masks"):
            (tmp_path / part).mkdir(exist_ok=True)
            (tmp_path / part / f"{at:03d}.png").touch()
    with pytest.raises(DataError, match=r"100 of 100 items") as caught:
        survey(folder(tmp_path), tmp_path / "memory")
    lines = str(caught.value).splitlines()
    assert len(lines) == 22 and lines[-1] == "  - ... and 80 more"


def test_a_repaired_file_is_looked_at_again(photos: Path, tmp_path: Path) -> None:
    file = photos / "images" / "photo00.jpg"
    whole = file.read_bytes()
    file.write_bytes(b"")
    with pytest.raises(DataError):
        survey(folder(photos), tmp_path / "memory")
    file.write_bytes(whole)
    assert len(survey(folder(photos), tmp_path / "memory").findings) == 12


def test_the_second_look_decodes_nothing(photos: Path, tmp_path: Path) -> None:
    source, first = folder(photos), survey(folder(photos), tmp_path / "memory")
    for file in photos.rglob("*.*"):  # the bytes go, the length and the time of change stay
        kept = file.stat()
        file.write_bytes(b"\0" * kept.st_size)
        os.utime(file, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert survey(source, tmp_path / "memory") == first


def test_the_fingerprint_is_of_the_content_and_not_of_the_place(photos: Path, tmp_path: Path, fingerprint) -> None:
    before = fingerprint(photos)
    shutil.copytree(photos, tmp_path / "elsewhere")
    assert fingerprint(tmp_path / "elsewhere") == before


@pytest.mark.parametrize("part", ["images/photo03.jpg", "masks/photo03.png"])
def test_the_fingerprint_changes_when_a_file_changes(photos: Path, fingerprint, part: str) -> None:
    before = fingerprint(photos)
    darken(photos / part)
    assert fingerprint(photos) != before


def test_the_fingerprint_changes_with_a_file_more_and_with_the_split(photos: Path, tmp_path: Path) -> None:
    before = survey(folder(photos), tmp_path).fingerprint
    assert survey(folder(photos, val=0.6), tmp_path).fingerprint != before
    make_photos(photos, 13)
    assert survey(folder(photos), tmp_path).fingerprint != before


def test_the_fingerprint_does_not_depend_on_the_test_split(tmp_path: Path, fingerprint) -> None:
    for part in ("train", "test"):
        make_photos(tmp_path / "data" / part, 4)
    before = fingerprint(tmp_path / "data")
    darken(tmp_path / "data" / "test" / "images" / "photo00.jpg")
    assert fingerprint(tmp_path / "data") == before


def test_generated_data_has_a_fingerprint_without_files(tmp_path: Path) -> None:
    found = survey(shapes(), tmp_path / "memory")
    assert len(found.fingerprint) == 16 and not (tmp_path / "memory").exists()
    assert survey(shapes(split_seed=1), tmp_path).fingerprint != found.fingerprint


def test_pictures_of_one_colour_and_empty_masks_are_noticed(photos: Path, tmp_path: Path) -> None:
    Image.new("RGB", (128, 128), (200, 10, 10)).save(photos / "images" / "photo01.jpg")
    Image.new("L", (128, 128)).save(photos / "masks" / "photo02.png")
    notices = survey(folder(photos), tmp_path).notices()
    assert notices == ["photo01.jpg: an image of a single color", "photo02.jpg: an empty mask"]


def test_a_damaged_memory_is_forgotten(photos: Path, tmp_path: Path) -> None:
    first = survey(folder(photos), tmp_path / "memory")
    (notes,) = (tmp_path / "memory").iterdir()
    for damaged in ("", "{", "[1]", '{"a": {"b": 1}}', '{"a": 5}', "\x00\xff"):
        notes.write_text(damaged, encoding="latin-1")
        assert survey(folder(photos), tmp_path / "memory") == first


def test_a_memory_that_cannot_be_written_is_a_clear_error(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "memory").write_text("a file in place of the folder")
    with pytest.raises(FilesError, match="is a file where a folder is needed"):
        survey(folder(photos), tmp_path / "memory")
    with pytest.raises(FilesError, match="could not write /proc/nowhere"):
        survey(folder(photos), Path("/proc/nowhere"))


def test_progress_counts_to_the_end(photos: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    survey(folder(photos), tmp_path / "memory", lambda done, of: seen.append((done, of)))
    assert seen == [(at, 12) for at in range(1, 13)]


def label_maps(path: Path, *maps: list[int], split: str = "train") -> Path:
    """Label maps of one row of pixels each, with pictures that are not of one colour."""
    for at, values in enumerate(maps):
        for part in ("images", "labels"):
            (path / split / part).mkdir(parents=True, exist_ok=True)
        row = np.array([values], np.uint8)
        noise = np.random.default_rng(at).integers(0, 256, (*row.shape, 3), np.uint8)
        Image.fromarray(noise).save(path / split / "images" / f"{at}.png")
        Image.fromarray(row).save(path / split / "labels" / f"{at}.png")
    return path


def test_labels_without_names_are_numbered_up_to_the_highest_of_any_split(tmp_path: Path) -> None:
    data = label_maps(tmp_path / "data", [0, 1, 255], [1, 1, 1], [0, 0, 2])
    label_maps(data, [4, 0, 0], split="test")
    found = survey(folder(data), tmp_path / "memory")
    assert found.classes == ("0", "1", "2", "3", "4")
    assert [finding.values for finding in found.findings.values()] == [[0, 4], [0, 1, 255], [1], [0, 2]]
    assert survey(folder(data), tmp_path / "memory") == found


def test_a_label_outside_the_classes_is_named_with_its_file_also_from_memory(tmp_path: Path) -> None:
    data = label_maps(tmp_path / "data", [0, 1, 2], [0, 3, 7], [0, 1, 255], [9, 0, 0])
    survey(folder(data), tmp_path / "memory")
    (data / "classes.txt").write_text("sky\nroad\ntree\n")
    with pytest.raises(DataError) as caught:
        survey(folder(data), tmp_path / "memory")
    assert str(caught.value).splitlines() == [
        f"{data}: 2 of 4 items cannot be used.",
        "  - label map 1.png holds 3, 7; the 3 classes are 0 to 2, and 255 is ignored",
        "  - label map 3.png holds 9; the 3 classes are 0 to 2, and 255 is ignored",
    ]


@pytest.mark.parametrize(("values", "held"), [([0, 255, 0], "the class 0 only"), ([255, 255, 255], "no class")])
def test_label_maps_of_one_class_are_refused(tmp_path: Path, values: list[int], held: str) -> None:
    data = label_maps(tmp_path / "data", values, values)
    with pytest.raises(DataError, match=f"its label maps hold {held}; at least two classes are needed"):
        survey(folder(data), tmp_path / "memory")


def test_a_label_map_with_every_pixel_ignored_is_noticed_and_one_of_class_0_is_not(tmp_path: Path) -> None:
    data = label_maps(tmp_path / "data", [255, 255, 255], [0, 0, 0], [0, 1, 2])
    of_files = [notice for notice in survey(folder(data), tmp_path).notices() if ".png" in notice]
    assert of_files == ["0.png: a label map with every pixel ignored"]


def test_a_memory_from_before_label_maps_is_unknown_and_not_a_crash(tmp_path: Path) -> None:
    data = label_maps(tmp_path / "data", [0, 1, 2], [0, 1, 1])
    first = survey(folder(data), tmp_path / "memory")
    (notes,) = (tmp_path / "memory").iterdir()
    old = {
        key: {k: v for k, v in found.items() if k != "values"}
        for key, found in json.loads(notes.read_text()).items()
    }
    notes.write_text(json.dumps(old))
    assert survey(folder(data), tmp_path / "memory") == first
    assert "values" in notes.read_text()


def test_the_fingerprint_depends_on_the_names_of_the_classes(tmp_path: Path, fingerprint) -> None:
    data = label_maps(tmp_path / "data", [0, 1, 1], [0, 1, 0])
    seen = {fingerprint(data)}
    for names in ("sky\nroad\n", "road\nsky\n", "sky\nroad\ntree\n"):
        (data / "classes.txt").write_text(names)
        seen.add(fingerprint(data))
    assert len(seen) == 4


def test_the_fingerprint_depends_on_what_is_read_from_the_files(photos: Path, tmp_path: Path) -> None:
    source = folder(photos)
    other = replace(source, reading="upside down")
    assert survey(source, tmp_path).fingerprint != survey(other, tmp_path).fingerprint


def instance_maps(path: Path, *maps: list[list[int]], split: str = "train") -> Path:
    """Small instance maps, with pictures that are not of one colour."""
    for at, values in enumerate(maps):
        for part in ("images", "instances"):
            (path / split / part).mkdir(parents=True, exist_ok=True)
        numbers = np.array(values, np.uint16)
        noise = np.random.default_rng(at).integers(0, 256, (*numbers.shape, 3), np.uint8)
        Image.fromarray(noise).save(path / split / "images" / f"{at}.png")
        Image.fromarray(numbers).save(path / split / "instances" / f"{at}.png")
    return path


TOUCH, APART, NONE = [[7, 7, 9], [7, 7, 0]], [[300, 300, 0, 0, 5, 5]], [[0, 0], [0, 0]]


def test_instances_are_counted_also_from_memory(tmp_path: Path) -> None:
    data = instance_maps(tmp_path / "data", TOUCH, APART, NONE)
    instance_maps(data, APART, split="val")
    found = survey(folder(data), tmp_path / "memory")
    assert [one.things for one in found.findings.values()] == [
        [2, 2, 1, 4],
        [2, 0, 2, 2],
        [0, 0, 0, 0],
        [2, 0, 2, 2],
    ]
    assert found.notices() == ["0.png: 1 of its 2 instances of one pixel only", "2.png: no instance"]
    assert found.classes == () and survey(folder(data), tmp_path / "memory") == found


def test_the_same_files_as_label_maps_and_as_instances_are_told_apart(tmp_path: Path) -> None:
    data = instance_maps(tmp_path / "data", [[0, 1, 2]], [[0, 1, 1]])
    first = survey(folder(data), tmp_path / "memory")
    (data / "train" / "instances").rename(data / "train" / "labels")
    second = survey(folder(data), tmp_path / "memory")
    assert second.fingerprint != first.fingerprint and second.classes == ("0", "1", "2")
    (data / "train" / "labels").rename(data / "train" / "instances")
    assert survey(folder(data), tmp_path / "memory") == first


def test_training_images_without_any_instance_are_refused(tmp_path: Path) -> None:
    data = instance_maps(tmp_path / "data", NONE, NONE)
    instance_maps(data, APART, split="val")
    with pytest.raises(DataError, match="no training image has an instance; nothing can be learned"):
        survey(folder(data), tmp_path / "memory")


def test_validation_without_an_instance_and_masks_in_place_of_numbers_are_noticed(tmp_path: Path) -> None:
    data = instance_maps(tmp_path / "data", [[255, 255, 0, 255, 255]])
    instance_maps(data, NONE, split="val")
    assert survey(folder(data), tmp_path / "memory").notices() == [
        "no validation image has an instance",
        "no image has more than one instance; black and white masks belong in masks/",
        "0.png: no instance",
    ]


def test_everything_wrong_with_instance_maps_is_named_at_once(tmp_path: Path) -> None:
    data = instance_maps(tmp_path / "data", TOUCH, APART, TOUCH, TOUCH)
    maps = data / "train" / "instances"
    Image.fromarray(np.full((2, 6), 70000, np.int32)).save(maps / "0.tif")
    (maps / "0.png").unlink()
    Image.new("RGB", (6, 1), (1, 2, 3)).save(maps / "1.png")
    Image.new("L", (3, 9), 1).save(maps / "2.png")
    with pytest.raises(DataError) as caught:
        survey(folder(data), tmp_path / "memory")
    lines = str(caught.value).split("\n  - ")
    assert lines[0] == f"{data}: 3 of 4 items cannot be used." and len(lines) == 4
    assert lines[1].startswith("instance map 0.tif holds 70000 to 70000")
    assert lines[2].startswith("instance map 1.png has colors")
    assert lines[3].startswith("instance map 2.png is 3x9 for an image of 3x2")


def test_a_class_that_only_validation_shows_is_noticed(tmp_path: Path) -> None:
    """A model is asked for what it was never shown: the score of that class can only be 0."""
    data = label_maps(tmp_path / "maps", [0, 1], [1, 0], split="train")
    label_maps(tmp_path / "maps", [0, 2], split="val")
    found = survey(folder(data), tmp_path / "memory")
    assert found.unlearnable == ("2",)
    assert "class '2' is in validation and in no training image" in found.notices()
