"""The named datasets on small files of their real layouts; what is half there is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.dataset_layouts import (
    MAKERS,
    make_cityscapes,
    make_isic,
    make_oxford_pet,
    make_penn_fudan,
    make_scene,
    make_sports,
)
from helpers.image_folders import make_photos
from PIL import Image

from tuner.data.cityscapes import CLASSES, TO_TRAIN_ID
from tuner.data.datasets import open_data
from tuner.data.locate import FOLDERS, how_to_get
from tuner.data.source import Source
from tuner.data.survey import survey
from tuner.errors import DataError
from tuner.recipe import Part, use


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder in which named datasets are looked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TUNER_DATA", str(tmp_path / "mine"))
    return tmp_path / "mine"


def said(name: str) -> str:
    with pytest.raises(DataError) as caught:
        open_data(use(name))
    return str(caught.value)


def read_all(source: Source) -> tuple[np.ndarray, np.ndarray]:
    images, targets = zip(*(source.read(item) for item in source.items), strict=True)
    return np.stack(images), np.stack(targets)


COUNTS = {
    "oxford_pet": ("masks", 10, 5, 0),
    "oxford_pet_trimap": ("labels", 10, 5, 3),
    "isic2016": ("masks", 10, 5, 0),
    "penn_fudan": ("instances", 10, 0, 0),
    "cityscapes": ("labels", 15, 0, 19),
    "scene": ("labels", 10, 0, 4),
    "sports100": ("classes", 72, 6, 6),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_real_layout_is_read_and_surveyed(name: str, root: Path, tmp_path: Path) -> None:
    targets, search, test, classes = COUNTS[name]
    MAKERS[name](root / FOLDERS.get(name, name), 10)
    source = open_data(Part(name, {"val": 0.3, "image_size": 32}))
    assert (source.name, source.targets, len(source.classes)) == (name, targets, classes)
    assert (
        len(source.split("train", "val")) == search and len(source.split("test")) == test and source.split("val")
    )
    found = survey(source, tmp_path / "memory")
    assert found.classes == source.classes and len(found.findings) == search + test and found.notices() == []


def test_the_lists_of_oxford_pet_are_its_splits_and_its_trimaps_are_read_both_ways(root: Path) -> None:
    make_oxford_pet(root / "oxford_pet", 6)
    binary, three = open_data(use("oxford_pet")), open_data(use("oxford_pet_trimap"))
    assert [item.split for item in binary.items] == [item.split for item in three.items]
    listed = (root / "oxford_pet" / "annotations" / "test.txt").read_text().splitlines()
    assert [item.key for item in binary.split("test")] == [line.split()[0] for line in listed]
    masks, labels = read_all(binary)[1], read_all(three)[1]
    trimaps = np.stack([np.asarray(Image.open(item.target)) for item in three.items])
    assert set(np.unique(trimaps)) == {1, 2, 3} and np.array_equal(labels, trimaps - 1)
    assert np.array_equal(masks, np.isin(trimaps, (1, 3)))


def test_the_two_readings_of_oxford_pet_are_remembered_apart(root: Path, tmp_path: Path) -> None:
    make_oxford_pet(root / "oxford_pet", 4)
    found = [survey(open_data(use(name)), tmp_path / "memory") for name in ("oxford_pet", "oxford_pet_trimap")]
    assert found[0].fingerprint != found[1].fingerprint and len(list((tmp_path / "memory").iterdir())) == 2


def test_every_listed_file_that_is_missing_is_named(root: Path) -> None:
    pets = make_oxford_pet(root / "oxford_pet", 4)
    (pets / "images" / "beagle_2.jpg").unlink()
    (pets / "annotations" / "trimaps" / "Maine_Coon_6.png").unlink()
    assert said("oxford_pet").splitlines() == [
        f"oxford_pet at {pets}: 2 missing files.",
        "  - images/beagle_2.jpg, listed in annotations/trainval.txt",
        "  - annotations/trimaps/Maine_Coon_6.png, listed in annotations/test.txt",
    ]


def test_a_trimap_of_other_values_is_named(root: Path, tmp_path: Path) -> None:
    pets = make_oxford_pet(root / "oxford_pet", 4)
    Image.new("L", (128, 128), 7).save(pets / "annotations" / "trimaps" / "beagle_2.png")
    with pytest.raises(DataError, match=r"trimap beagle_2\.png holds 7; a trimap has 1 \(pet\)"):
        survey(open_data(use("oxford_pet_trimap")), tmp_path / "memory")


@pytest.mark.parametrize("pair", [("rgb", "figure_ground"), ("horse", "mask")])
@pytest.mark.parametrize("inside", ["", "weizmann_horse_db"])
def test_the_horses_are_read_in_both_layouts_also_one_folder_deeper(
    root: Path, pair: tuple[str, str], inside: str
) -> None:
    make_photos(root / "weizmann_horse" / inside, 5, *pair)
    (root / "weizmann_horse" / inside / "notes").mkdir()
    source = open_data(use("weizmann_horse", split="exact"))
    assert (source.counts(), source.targets, source.remarks, source.reading) == ("4 train, 1 val", "masks", (), "")
    assert {item.image.parent.name for item in source.items} == {pair[0]}


@pytest.mark.parametrize(("there", "missing"), [("rgb", "figure_ground"), ("horse", "mask"), ("notes", "rgb")])
def test_the_missing_half_of_the_horses_is_named(root: Path, there: str, missing: str) -> None:
    (root / "weizmann_horse" / there).mkdir(parents=True)
    assert f"has no {missing}; expected rgb, figure_ground, or horse, mask. " in said("weizmann_horse")


@pytest.mark.parametrize("content", [b"", b"# only a remark\n"])
def test_an_empty_list_is_named(root: Path, content: bytes) -> None:
    pets = make_oxford_pet(root / "oxford_pet", 4)
    (pets / "annotations" / "test.txt").write_bytes(content)
    assert said("oxford_pet") == f"{pets / 'annotations' / 'test.txt'} lists no images."


@pytest.mark.parametrize("train_ids", [False, True], ids=["ids", "train ids"])
def test_cityscapes_is_read_by_train_id_and_the_rest_is_ignored(root: Path, train_ids: bool) -> None:
    make_cityscapes(root / "cityscapes", 4, train_ids)
    source = open_data(use("cityscapes"))
    assert source.counts() == "4 train, 2 val"
    assert set(np.unique(read_all(source)[1])) == {0, 10, 11, 13, 255}
    assert [CLASSES[at] for at in (0, 10, 11, 13, 18)] == ["road", "sky", "person", "car", "bicycle"]
    assert (TO_TRAIN_ID != 255).sum() == 19 and TO_TRAIN_ID[[7, 26, 33, 0, 29]].tolist() == [0, 13, 18, 255, 255]


def test_a_street_without_its_label_map_is_named(root: Path) -> None:
    streets = make_cityscapes(root / "cityscapes", 4)
    name = "gtFine/val/lindau/lindau_000001_000019_gtFine_labelIds.png"
    (streets / name).unlink()
    assert said("cityscapes") == f"cityscapes at {streets}: 1 missing file. {name}"


def test_lesions_of_the_test_folders_are_for_testing(root: Path) -> None:
    make_isic(root / "isic2016", 4)
    source = open_data(use("isic2016"))
    assert {item.image.parent.name for item in source.split("test")} == {"ISBI2016_ISIC_Part1_Test_Data"}
    assert set(np.unique(read_all(source)[1])) == {0, 1}


def test_pedestrians_are_found_with_and_without_the_folder_of_the_archive(root: Path) -> None:
    inner = make_penn_fudan(root / "penn_fudan", 4) / "PennFudanPed"
    source = open_data(use("penn_fudan"))
    assert source.where == str(inner) and len(source.split("train", "val")) == 4
    assert {item.key for item in source.items} == {f"FudanPed{at:05d}" for at in range(1, 5)}
    first = read_all(source)[1]
    assert first.dtype == np.uint16 and first.max() > 3
    for part in list(inner.iterdir()):
        part.rename(root / "penn_fudan" / part.name)
    inner.rmdir()
    assert np.array_equal(read_all(open_data(use("penn_fudan")))[1], first)
    shutil.rmtree(root / "penn_fudan" / "PedMasks")
    assert said("penn_fudan").startswith(f"penn_fudan at {root / 'penn_fudan'} has no PedMasks; expected PNG")


def test_sports_are_numbered_alike_in_all_splits(root: Path) -> None:
    make_sports(root / "sports100", 2)
    source = open_data(use("sports100"))
    assert source.counts() == "12 train, 12 val, 6 test" and source.classes[0] == "bar ball"
    for item in source.items:
        assert source.classes[item.target] == item.image.parent.name


def test_scenes_may_lie_in_splits_and_have_no_names(root: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        make_scene(root / "scene" / split, 2, names="")
    found = survey(open_data(use("scene")), tmp_path / "memory")
    assert found.classes == ("0", "1", "2", "3")


def test_masks_are_no_scenes(root: Path) -> None:
    make_scene(root / "scene" / "train", 2)
    (root / "scene" / "train" / "labels").rename(root / "scene" / "train" / "masks")
    for file in (root / "scene" / "train" / "masks").iterdir():
        file.rename(file.with_stem(file.stem.removesuffix("_labels")))
    assert "holds masks; label maps in labels/ are needed" in said("scene")


LACKING = {
    "oxford_pet": ["images", "annotations/trimaps", "annotations/trainval.txt", "annotations/test.txt"],
    "oxford_pet_trimap": ["annotations/test.txt"],
    "isic2016": ["ISBI2016_ISIC_Part1_Training_GroundTruth", "ISBI2016_ISIC_Part1_Test_Data"],
    "penn_fudan": ["PennFudanPed/PNGImages", "PennFudanPed/PedMasks"],
    "cityscapes": ["leftImg8bit/val", "gtFine/train"],
    "sports100": ["train", "test"],
    "scene": ["labels"],
}


@pytest.mark.parametrize(("name", "part"), [(name, part) for name, parts in LACKING.items() for part in parts])
def test_a_layout_half_there_names_the_first_missing_thing(name: str, part: str, root: Path) -> None:
    where = MAKERS[name](root / FOLDERS.get(name, name), 2)
    (where / part).unlink() if (where / part).is_file() else shutil.rmtree(where / part)
    message = said(name)
    assert message.startswith(f"{name} at {where} has no {part}; expected ") and how_to_get(name) in message
    assert "\n" not in message


def test_an_empty_street_folder_is_named(root: Path) -> None:
    for part in ("leftImg8bit", "gtFine"):
        for split in ("train", "val"):
            (root / "cityscapes" / part / split).mkdir(parents=True)
    assert "has no leftImg8bit/train/CITY/NAME_leftImg8bit.png" in said("cityscapes")
