"""A line ignore=NUMBER in classes.txt: the pixels of this number are ignored wherever label maps are read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.image_folders import make_photos
from PIL import Image

from tuner.data.folder import folder
from tuner.data.survey import Survey, survey
from tuner.errors import DataError


def make_maps(path: Path, numbers: tuple[int, ...], names: str = "") -> Path:
    """Write four images with label maps of stripes of these numbers, and a classes.txt."""
    for part in ("images", "labels"):
        (path / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for at in range(4):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(path / "images" / f"{at}.png")
        stripes = np.resize(np.repeat(np.array(numbers, np.uint8), 2), 16)
        Image.fromarray(np.tile(stripes, (16, 1))).save(path / "labels" / f"{at}.png")
    if names:
        (path / "classes.txt").write_text(names)
    return path


def surveyed(path: Path) -> Survey:
    return survey(folder(path), path.parent / "memory")


def values(path: Path) -> list[int]:
    source = folder(path)
    return np.unique(source.read(source.items[0])[1]).tolist()


def test_an_ignored_number_above_the_names_is_read_as_255(tmp_path: Path) -> None:
    path = make_maps(tmp_path / "maps", (0, 1, 11), "sky\nroad\nignore=11\n")
    assert values(path) == [0, 1, 255]
    found = surveyed(path)
    assert found.classes == ("sky", "road") and found.unlearnable == ()
    assert found.remarks == ("classes.txt says ignore=11: pixels of this number are ignored, as those of 255 are",)


def test_without_names_the_classes_are_the_numbers_up_to_the_highest_not_ignored(tmp_path: Path) -> None:
    assert surveyed(make_maps(tmp_path / "maps", (0, 2, 11), " IGNORE = 11 \n")).classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("ignore=0\nsky\nroad\n", ("ignored", "sky", "road")),
        ("sky\nignore=1\nroad\n", ("sky", "ignored", "road")),
        ("ignore=3\na\nb\nc\n", ("a", "b", "c")),
        ("a\nb\nignore=2\n", ("a", "b")),
    ],
)
def test_the_other_classes_keep_their_numbers(tmp_path: Path, text: str, classes: tuple[str, ...]) -> None:
    ignored = int(text.partition("=")[2].split()[0])
    path = make_maps(tmp_path / "maps", (*range(len(classes)), ignored), text)
    assert surveyed(path).classes == classes
    assert values(path) == [number for number in range(len(classes)) if number != ignored] + [255]


def test_a_survey_and_a_cache_made_before_the_line_are_not_used(tmp_path: Path) -> None:
    path = make_maps(tmp_path / "maps", (0, 1, 2))
    before = surveyed(path)
    (path / "classes.txt").write_text("ignore=2\n")
    after = surveyed(path)
    assert (before.classes, after.classes) == (("0", "1", "2"), ("0", "1"))
    assert before.fingerprint != after.fingerprint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\nb\nignore=255\n", "says ignore=255; a class number from 0 to 254 is needed"),
        ("a\nb\nignore=-1\n", "says ignore=-1; a class number from 0 to 254 is needed"),
        ("a\nb\nignore=void\n", "says ignore=void; a class number"),
        ("a\nb\nignore=1\n", "says ignore=1, and 1 is also the class 'b'"),
        ("ignore=1\na\nb\n", "write ignore=1 in the place of this name"),
        ("ignore=4\nignore=5\na\nb\n", "has 2 lines ignore=NUMBER; one is allowed"),
        ("a\nignore=5\n", "lists 1 classes"),
    ],
)
def test_a_line_that_cannot_be_meant_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        folder(make_maps(tmp_path / "maps", (0, 1), text))
    assert f"{tmp_path / 'maps' / 'classes.txt'} " in str(caught.value) and words in str(caught.value)


def test_other_numbers_above_the_names_are_still_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds 12; the 2 classes are 0 to 1"):
        surveyed(make_maps(tmp_path / "maps", (0, 1, 11, 12), "sky\nroad\nignore=11\n"))


@pytest.mark.parametrize(("other", "words"), [("masks", "masks"), ("classes", "class folders")])
def test_other_targets_have_no_number_to_ignore(tmp_path: Path, other: str, words: str) -> None:
    path = make_photos(tmp_path / "photos", 4)
    if other == "classes":
        (path / "images").rename(path / "cat")
        (path / "masks").rename(path / "dog")
    (path / "classes.txt").write_text("ignore=1\n")
    with pytest.raises(DataError, match=f"says ignore=1, which needs label maps; .* holds {words}"):
        folder(path)
