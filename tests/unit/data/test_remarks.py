"""What `tuner data` says of a folder as a whole: sizes of classes, identical files, images too deep."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tuner.cli.data import data_command
from tuner.data.folder import folder
from tuner.data.remarks import (
    class_size_remarks,
    identical_remarks,
    join_notices,
    pixel_remarks,
    pixel_shares,
)
from tuner.data.survey import survey
from tuner.errors import DataError


def put(path: Path, number: int = 1) -> None:
    """Write small images of noise, different in each folder."""
    path.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(list(str(path).encode()))
    for at in range(number):
        Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).save(path / f"{at}.png")


def sizes(path: Path) -> list[str]:
    source = folder(path)
    found = survey(source, path.parent / "memory")
    return list(class_size_remarks(source, found.findings, found.classes))


def make_pets(path: Path, **numbers: int) -> Path:
    for name, number in numbers.items():
        put(path / "train" / name, number)
        put(path / "val" / name)
    return path


def test_uneven_and_tiny_classes_are_counted(tmp_path: Path) -> None:
    assert sizes(make_pets(tmp_path / "pets", cat=44, cow=3, dog=40)) == [
        "1 class of fewer than 5 training images: cow (3)",
        "classes of very different size: 'cow' has 3 training images, 'cat' 44; "
        "1 of 3 below a tenth of the median, 40",
    ]


def test_of_small_classes_only_some_are_counted(tmp_path: Path) -> None:
    assert sizes(make_pets(tmp_path / "pets", cat=60, cow=5, dog=6))[-1] == (
        "classes of very different size: 'cow' has 5 training images, 'cat' 60"
    )


def test_even_classes_are_not_mentioned(tmp_path: Path) -> None:
    assert sizes(make_pets(tmp_path / "pets", cat=6, dog=7)) == []


def test_a_named_class_in_no_label_map_is_told_but_not_the_ignored_number(tmp_path: Path) -> None:
    for split, number in (("train", 5), ("val", 1)):
        put(tmp_path / "maps" / split / "images", number)
        (tmp_path / "maps" / split / "labels").mkdir()
        for at in range(number):
            labels = np.repeat(np.array([0, 1, 3], np.uint8), [3, 3, 2])
            Image.fromarray(np.tile(labels, (8, 1))).save(tmp_path / "maps" / split / "labels" / f"{at}.png")
    (tmp_path / "maps" / "classes.txt").write_text("ignore=0\nsky\nroad\ncar\n")
    assert sizes(tmp_path / "maps") == ["1 class without a training image: road"]


def make_maps(path: Path, width: int, car: int) -> Path:
    """Write label maps of sky and road, half of each, with so many pixels of a car in the first of ten."""
    for split, number in (("train", 10), ("val", 1)):
        for part in ("images", "labels"):
            (path / split / part).mkdir(parents=True)
        for at in range(number):
            image = np.random.default_rng(at + len(split) * 99).integers(0, 255, (width, width, 3), np.uint8)
            labels = np.zeros((width, width), np.uint8)
            labels[:, width // 2 :] = 1
            labels[0, :car] = 2 if at == 0 and split == "train" else 0
            Image.fromarray(image).save(path / split / "images" / f"{at}.png")
            Image.fromarray(labels).save(path / split / "labels" / f"{at}.png")
    (path / "classes.txt").write_text("sky\nroad\ncar\nignore=11\n")
    return path


def pixels(path: Path) -> list[str]:
    source = folder(path)
    found = survey(source, path.parent / "memory")
    return list(pixel_remarks(source, found.findings, found.classes))


def test_classes_of_hardly_any_pixel_are_told_with_their_share(tmp_path: Path) -> None:
    assert pixels(make_maps(tmp_path / "few", 20, 3)) == [
        "1 class below 0.1% of the training pixels: car (0.075%)"  # 3 of 4,000
    ]
    assert pixels(make_maps(tmp_path / "enough", 20, 4)) == []  # just 0.1 %


def test_ignored_pixels_have_no_share(tmp_path: Path) -> None:
    path = make_maps(tmp_path / "maps", 20, 3)
    for file in (path / "train" / "labels").iterdir():
        labels = np.asarray(Image.open(file)).copy()
        labels[10:] = 11
        Image.fromarray(labels).save(file)
    source = folder(path)
    shares = pixel_shares(source, survey(source, tmp_path / "memory").findings)
    assert shares == {0: 997 / 2000, 1: 0.5, 2: 3 / 2000}


def test_a_survey_of_an_earlier_version_is_made_again(tmp_path: Path) -> None:
    path = make_maps(tmp_path / "maps", 20, 3)
    told = pixels(path)
    (notes,) = (tmp_path / "memory").glob("survey-*.json")
    plain = json.loads(notes.read_text())
    for found in plain.values():
        del found["pixels"], found["image"]
    notes.write_text(json.dumps(plain))
    assert pixels(path) == told != []


def test_identical_images_are_found_by_what_the_survey_has_read(tmp_path: Path) -> None:
    path = make_pets(tmp_path / "pets", cat=5, dog=5)
    shutil.copy(path / "train" / "cat" / "0.png", path / "val" / "cat" / "copy.png")
    source = folder(path)
    findings = survey(source, tmp_path / "memory").findings
    told = list(identical_remarks(source))
    os.truncate(path / "train" / "cat" / "0.png", 0)  # which is not read again
    sizes = (path / "val" / "cat" / "copy.png").stat().st_size
    os.truncate(path / "train" / "cat" / "0.png", sizes)
    assert list(identical_remarks(source, findings)) == told != []
    assert list(identical_remarks(source)) == []


def test_identical_images_are_told_by_where_they_are(tmp_path: Path) -> None:
    path = make_pets(tmp_path / "pets", cat=4, dog=4)
    train = path / "train"
    assert list(identical_remarks(folder(path))) == []
    shutil.copy(train / "cat" / "0.png", path / "val" / "cat" / "copy.png")
    shutil.copy(train / "cat" / "1.png", train / "dog" / "copy.png")
    for name in "abc":
        shutil.copy(train / "dog" / "2.png", train / "dog" / f"2{name}.png")
    assert list(identical_remarks(folder(path))) == [
        "1 pair of identical images in two splits, which makes scores too high: cat/0 (train) = cat/copy (val)",
        "1 pair of identical images in two classes, of which one is wrong: cat/1 (train) = dog/copy (train)",
        "3 pairs of identical images in the same split: dog/2 (train) = dog/2a (train), "
        "dog/2a (train) = dog/2b (train) and 1 more",
    ]


def test_tuner_data_prints_them(tmp_path: Path) -> None:
    path = make_pets(tmp_path / "pets", cat=5, dog=2)
    shutil.copy(path / "train" / "cat" / "0.png", path / "val" / "cat" / "copy.png")
    done = CliRunner().invoke(data_command, [str(path), "--home", str(tmp_path / "home")])
    assert "notice: 1 class of fewer than 5 training images: dog (2)" in done.output
    assert "notice: 1 pair of identical images in two splits" in done.output


def test_more_than_two_notices_of_one_kind_become_one_line() -> None:
    empty = [(f"{at}.png", "an empty mask") for at in range(3)]
    dots = [(f"{at}.png", f"{at} of its 9 instances of one pixel only") for at in range(1, 4)]
    assert list(join_notices([*empty, *dots, ("a.png", "no instance"), ("b.png", "no instance")])) == [
        "an empty mask: 3 images, such as 0.png and 1.png",
        "3 images such as 1.png (1 of its 9 instances of one pixel only) "
        "and 2.png (2 of its 9 instances of one pixel only)",
        "a.png: no instance",
        "b.png: no instance",
    ]


@pytest.mark.parametrize(
    ("folders", "words"),
    [
        (
            ("cat/siam", "dog/pug"),
            "holds no images; 4 images one level deeper, in cat/siam/ (2), dog/pug/ (2); a class",
        ),
        (("cat", "dog/pug"), "without an image: dog; 2 images one level deeper, in dog/pug/ (2); a class folder"),
        (("images/train", "labels/train"), "split folders go outside: train/images/"),
        (("images/a", "masks/a"), "in images/a/ (2), masks/a/ (2); move them into images/"),
    ],
)
def test_images_one_level_too_deep_are_counted_with_what_to_do(
    tmp_path: Path, folders: tuple[str, ...], words: str
) -> None:
    for name in folders:
        put(tmp_path / name, 2)
    with pytest.raises(DataError) as caught:
        folder(tmp_path)
    assert words in str(caught.value)
