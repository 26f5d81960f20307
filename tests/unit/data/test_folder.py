"""The layouts people have, and what is said about folders that are none of them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from helpers.dataset_layouts import make_instances
from helpers.image_folders import make_photos
from PIL import Image

from tuner.data.folder import folder
from tuner.errors import DataError


def put(path: Path) -> Path:
    """A small image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(path)
    return path


def said(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        folder(path)
    return str(caught.value)


@pytest.mark.parametrize(
    "pair",
    [("images", "masks"), ("rgb", "figure_ground"), ("Images", "MASKS"), ("horse", "mask"), ("image", "mask")],
)
def test_images_and_masks_are_paired_by_stem(tmp_path: Path, pair: tuple[str, str]) -> None:
    found = folder(make_photos(tmp_path, 6, *pair))
    assert found.targets == "masks" and len(found.items) == 6
    for item in found.items:
        assert item.image.stem == item.target.stem == item.key
        image, mask = found.read(item)
        assert image.shape == (128, 128, 3) and mask.shape == (128, 128) and set(np.unique(mask)) == {0, 1}


def test_images_and_instance_maps_are_paired_and_their_numbers_put_in_order(tmp_path: Path) -> None:
    found = folder(make_instances(tmp_path, 5))
    assert found.targets == "instances" and found.classes == () and found.reading == ""
    for item in found.items:
        image, labels = found.read(item)
        written = np.asarray(Image.open(item.target))
        assert image.shape == (128, 128, 3) and labels.dtype == np.uint16
        assert np.array_equal(labels, written // 1000) and labels.max() > 3


def test_instance_maps_may_lie_in_splits_be_of_another_size_and_have_an_ending(tmp_path: Path) -> None:
    for split, number in (("train", 3), ("valid", 2), ("test", 1)):
        make_instances(tmp_path / split, number)
    for file in (tmp_path / "train" / "instances").iterdir():
        Image.open(file).resize((64, 65), Image.Resampling.NEAREST).save(file.with_stem(f"{file.stem}_instances"))
        file.unlink()
    found = folder(tmp_path)
    assert found.counts() == "3 train, 2 val, 1 test"
    assert found.read(found.split("train")[0])[1].shape == (65, 64)


def test_an_instance_map_of_another_shape_and_one_that_is_missing_are_named(tmp_path: Path) -> None:
    found = folder(make_instances(tmp_path, 3))
    Image.new("L", (128, 64)).save(found.items[0].target)
    with pytest.raises(DataError, match=r"instance map cell00\.png is 128x64 for an image of 128x128"):
        found.read(found.items[0])
    found.items[1].target.unlink()
    assert "1 images without an instance map: cell01" in said(tmp_path)


@pytest.mark.parametrize("ending", ["_mask", "_Segmentation", "_gt"])
def test_a_mask_may_add_an_ending_to_the_name_of_its_image(tmp_path: Path, ending: str) -> None:
    for stem in ("a", "b"):
        put(tmp_path / "images" / f"{stem}.jpg")
        put(tmp_path / "masks" / f"{stem}{ending}.png")
    assert [item.key for item in folder(tmp_path).items] == ["a", "b"]


def test_an_image_whose_own_name_ends_like_a_mask_is_paired(tmp_path: Path) -> None:
    for stem in ("a_gt", "b_mask"):
        put(tmp_path / "images" / f"{stem}.jpg")
        put(tmp_path / "masks" / f"{stem}.png")
    assert [item.key for item in folder(tmp_path).items] == ["a_gt", "b_mask"]


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_a_given_val_and_test_are_respected(tmp_path: Path, val: str) -> None:
    for split, number in (("train", 5), (val, 3), ("test", 2)):
        make_photos(tmp_path / split, number)
    assert folder(tmp_path, val=0.9).counts() == "5 train, 3 val, 2 test"


def test_without_val_a_part_of_train_is_held_out_and_test_is_not(tmp_path: Path) -> None:
    make_photos(tmp_path / "train", 10)
    make_photos(tmp_path / "test", 4)
    found = folder(tmp_path, val=0.3)
    assert len(found.split("test")) == 4 and found.split("val") and len(found.split("train", "val")) == 10
    assert {item.image.parent.parent.name for item in found.split("test")} == {"test"}


def test_class_folders_are_numbered_by_name(tmp_path: Path) -> None:
    for name in ("horse", "cat", "a dog"):
        for at in range(3):
            put(tmp_path / name / f"{at}.png")
    found = folder(tmp_path)
    assert found.targets == "classes" and found.classes == ("a dog", "cat", "horse")
    assert {(item.image.parent.name, item.target) for item in found.items} == {
        ("a dog", 0),
        ("cat", 1),
        ("horse", 2),
    }
    image, number = found.read(found.items[-1])
    assert image.shape == (8, 8, 3) and number == 2


def test_where_classes_need_another_number_of_validation_images_it_is_said(tmp_path: Path) -> None:
    for name in "abcdef":
        put(tmp_path / name / "1.png"), put(tmp_path / name / "2.png")
    found = folder(tmp_path, split="exact")
    assert found.counts() == "6 train, 6 val"
    assert found.remarks == ("6 images are held out, not 2: each class of two or more has one on each side",)
    assert folder(tmp_path, split="stable").remarks == folder(tmp_path, val=0.5, split="exact").remarks == ()


def test_class_folders_may_lie_in_splits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            put(tmp_path / split / name / "1.png")
    assert folder(tmp_path).counts() == "2 train, 2 val"


@pytest.mark.parametrize("ending", ["", "_labels", "_label"])
def test_label_maps_are_paired_by_stem_in_splits_or_not(tmp_path: Path, ending: str) -> None:
    for split in ("train", "val"):
        for stem in ("a", "b"):
            put(tmp_path / split / "images" / f"{stem}.jpg")
            label = tmp_path / split / "labels" / f"{stem}{ending}.png"
            label.parent.mkdir(exist_ok=True)
            Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) % 3).save(label)
    found = folder(tmp_path)
    assert found.targets == "labels" and found.counts() == "2 train, 2 val" and found.classes == ()
    image, labels = found.read(found.items[0])
    assert image.shape == (8, 8, 3) and labels.dtype == np.uint8 and labels[0].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def make_labels(path: Path) -> Path:
    for stem in ("a", "b"):
        put(path / "images" / f"{stem}.jpg")
        (path / "labels").mkdir(exist_ok=True)
        Image.new("L", (8, 8)).save(path / "labels" / f"{stem}.png")
    return path


def test_classes_txt_names_the_numbers_in_their_order(tmp_path: Path) -> None:
    names = "\ufeffsky\r\n wet ground \n\nété\n"
    (make_labels(tmp_path) / "classes.txt").write_bytes(names.encode())
    assert folder(tmp_path).classes == ("sky", "wet ground", "été")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "lists 0 classes; 2 to 255"),
        (b"one\n", "lists 1 classes"),
        (b"\n".join(b"%d" % at for at in range(256)), "lists 256 classes"),
        (b"sky\nroad\nsky\n", "lists a class twice: sky"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
    ],
    ids=["empty", "one", "256", "twice", "binary"],
)
def test_a_classes_txt_that_cannot_be_meant_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (make_labels(tmp_path) / "classes.txt").write_bytes(content)
    assert f"{tmp_path / 'classes.txt'} {words}" in said(tmp_path)


def test_images_without_a_label_map_are_named_as_such(tmp_path: Path) -> None:
    put(make_labels(tmp_path) / "images" / "lone.jpg")
    (tmp_path / "labels" / "a.txt").touch()  # as other programs write boxes
    assert "1 images without a label map: lone" in said(tmp_path)


def test_splits_that_hold_other_classes_are_named(tmp_path: Path) -> None:
    for at in ("train/cat", "train/dog", "val/cat", "val/cow"):
        put(tmp_path / at / "1.png")
    assert "train and val hold different classes: cow (only in val), dog (only in train)." in said(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert said(tmp_path / "gone") == f"folder {tmp_path / 'gone'} does not exist."


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    assert said(put(tmp_path / "a.png")).startswith(
        f"{tmp_path / 'a.png'} is a file; a folder of images is needed"
    )


@pytest.mark.parametrize(
    "inside", [(), ("images", "masks"), ("train", "val"), ("cat", "dog"), (".git", "__MACOSX")]
)
def test_an_empty_folder_says_what_is_expected(tmp_path: Path, inside: tuple[str, ...]) -> None:
    for name in inside:
        (tmp_path / name).mkdir()
    message = said(tmp_path)
    assert "holds no images. Expected images/ + masks/" in message and "one folder per class" in message


def test_an_empty_val_is_named_and_not_taken_for_another_layout(tmp_path: Path) -> None:
    make_photos(tmp_path / "train", 3)
    (tmp_path / "val").mkdir()
    assert said(tmp_path).startswith(f"{tmp_path / 'val'} holds no images")


def test_loose_images_are_counted(tmp_path: Path) -> None:
    put(tmp_path / "a.png"), put(tmp_path / "b.png")
    assert "holds 2 images outside any class folder" in said(tmp_path)


def test_one_class_is_none(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "a.png"), put(tmp_path / "cat" / "b.png")
    assert "holds one folder of images, cat/" in said(tmp_path)


def test_a_class_without_an_image_is_named(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "a.png"), put(tmp_path / "dog" / "a.png")
    (tmp_path / "cow").mkdir()
    assert "class folders without an image: cow" in said(tmp_path)


def test_images_without_masks_and_masks_without_images_are_counted_and_named_at_once(tmp_path: Path) -> None:
    make_photos(tmp_path, 3)
    for at in range(7):
        put(tmp_path / "images" / f"lone{at}.jpg")
    put(tmp_path / "masks" / "ghost.png")
    message = said(tmp_path)
    assert "7 images without a mask: lone0, lone1, lone2, lone3, lone4 and 2 more" in message
    assert "1 masks without an image: ghost" in message


HALVES = [
    ("images", "masks/ or labels/ or instances/ or annotations.json"),
    ("masks", "images/"),
    ("labels", "images/"),
    ("instances", "images/"),
    ("rgb", "figure_ground/"),
    ("PedMasks", "PNGImages/"),
]


@pytest.mark.parametrize(("here", "missing"), HALVES)
def test_half_of_a_layout_says_which_half_is_missing(tmp_path: Path, here: str, missing: str) -> None:
    put(tmp_path / here / "a.png")
    assert said(tmp_path) == f"{tmp_path} has {here}/ but no {missing} beside it."


def test_val_without_train_is_named(tmp_path: Path) -> None:
    make_photos(tmp_path / "val", 2)
    assert "has val but no train folder" in said(tmp_path)


def test_two_folders_of_one_split_are_named(tmp_path: Path) -> None:
    for name in ("train", "val", "validation"):
        make_photos(tmp_path / name, 2)
    assert "has both val/ and validation/" in said(tmp_path)


def test_masks_in_one_split_and_classes_in_another_are_named(tmp_path: Path) -> None:
    make_photos(tmp_path / "train", 2)
    put(tmp_path / "val" / "cat" / "a.png"), put(tmp_path / "val" / "dog" / "a.png")
    assert "mixes class folders and masks" in said(tmp_path)


def test_two_files_of_one_stem_are_named(tmp_path: Path) -> None:
    make_photos(tmp_path, 2)
    put(tmp_path / "images" / "photo00.png")
    assert "holds both photo00.jpg and photo00.png" in said(tmp_path)


def test_one_image_is_too_few(tmp_path: Path) -> None:
    assert "at least two images outside test/ are needed" in said(make_photos(tmp_path, 1))


def test_hidden_files_and_other_files_are_passed_over(tmp_path: Path) -> None:
    make_photos(tmp_path, 3)
    for name in (".DS_Store", "Thumbs.db", "._photo00.jpg", "notes.txt", "desktop.ini"):
        (tmp_path / "images" / name).write_bytes(b"not an image")
    (tmp_path / "masks" / "old.png").mkdir()
    (tmp_path / ".cache" / "x").mkdir(parents=True)
    assert len(folder(tmp_path).items) == 3


def test_suffixes_may_be_upper_case_and_differ(tmp_path: Path) -> None:
    for stem, suffix in (("a", ".JPG"), ("b", ".PNG"), ("c", ".Tiff")):
        put(tmp_path / "images" / f"{stem}{suffix}")
        put(tmp_path / "masks" / f"{stem}.png")
    assert [item.key for item in folder(tmp_path).items] == ["a", "b", "c"]


def test_names_with_spaces_and_accents_are_paired_however_they_are_encoded(tmp_path: Path) -> None:
    for stem in ("été à la mer", "馬 2", "a.b c"):
        put(tmp_path / "images" / f"{unicodedata.normalize('NFD', stem)}.jpg")
        put(tmp_path / "masks" / f"{unicodedata.normalize('NFC', stem)}.png")
    assert {item.key for item in folder(tmp_path).items} == {"été à la mer", "馬 2", "a.b c"}


def test_a_dot_is_named_by_the_folder_it_stands_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(make_photos(tmp_path / "photos", 2))
    assert folder(Path()).name == "photos"
