"""Folders that can be read in two ways: which one is taken, what is said about the other, how to ask for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.dataset_layouts import make_coco
from PIL import Image

from tuner.data.folder import folder
from tuner.data.layouts import layout_problem
from tuner.data.source import Source
from tuner.data.survey import survey
from tuner.errors import DataError

CLASSES = "class folders: --layout classes"
LABELS = "images/ + labels/ (labels): --layout labels"


def make(path: Path, *names: str, number: int = 5, start: str = "") -> Path:
    """Folders of images of one name each; those that sound like masks hold black and white."""
    for name in names:
        (path / name).mkdir(parents=True, exist_ok=True)
        for at in range(number):
            shades = np.arange(64, dtype=np.uint8).reshape(8, 8)
            is_target = any(word in name for word in ("mask", "label", "truth", "instances", "ground"))
            pixels = shades % 2 if is_target else np.random.default_rng(at).integers(0, 255, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(path / name / f"{start or name * (start is None)}{at}.png")
    return path


def said(path: Path, layout: str = "") -> str:
    with pytest.raises(DataError) as caught:
        folder(path, layout=layout)
    return str(caught.value).replace(str(path), "HERE")


TWO_WAYS = {
    ("images", "masks"): ("masks", ""),
    ("Horse", "MASK"): ("masks", f"read as Horse/ + MASK/ (masks); it can also be read as {CLASSES}"),
    ("image", "mask"): ("masks", ""),
    ("images", "labels", "masks"): (
        "masks",
        f"read as images/ + masks/ (masks); it can also be read as {LABELS}",
    ),
    ("images", "masks", "rgb", "figure_ground"): (
        "masks",
        "read as images/ + masks/ (masks); it can also be read as rgb/ + figure_ground/ (masks): "
        "--layout masks=rgb,figure_ground",
    ),
    ("images", "masks", "cat"): (
        "masks",
        f"read as images/ + masks/ (masks); it can also be read as {CLASSES}",
    ),
    ("images", "masks", "labels", "cat"): (
        "masks",
        f"read as images/ + masks/ (masks); it can also be read as {LABELS} or {CLASSES}",
    ),
    ("horse", "mask", "cat"): (
        "classes",
        "read as class folders; it can also be read as horse/ + mask/ (masks): --layout masks",
    ),
    ("horse", "cat"): (
        "classes",
        "read as the classes cat and horse, whose files have the same names. If horse/ holds masks of cat/: "
        "--layout masks=cat,horse (labels and instances likewise)",
    ),
    ("photos", "truth"): (
        "classes",
        "read as the classes photos and truth, whose files have the same names. If truth/ holds masks of photos/: "
        "--layout masks=photos,truth (labels and instances likewise)",
    ),
    ("cat", "cow", "dog"): ("classes", ""),
}


@pytest.mark.parametrize("inside", ["", "train"])
@pytest.mark.parametrize("names", TWO_WAYS, ids="+".join)
def test_the_way_that_is_taken_is_said_where_there_is_another(
    names: tuple[str, ...], inside: str, tmp_path: Path
) -> None:
    make(tmp_path / inside, *names)
    if names == ("horse", "cat"):  # of two folders, the larger one has the images
        for file in (tmp_path / inside / "cat").iterdir():
            Image.effect_noise((64, 64), 50).save(file)
    targets, remark = TWO_WAYS[names]
    found = folder(tmp_path)
    assert (found.targets, found.remarks) == (targets, (remark,) if remark else ())


def test_annotations_beside_masks_are_another_way(tmp_path: Path) -> None:
    make_coco(tmp_path / "images", tmp_path / "annotations.json", 4)
    (tmp_path / "masks").mkdir()
    for file in (tmp_path / "images").iterdir():
        Image.new("L", (128, 128)).save(tmp_path / "masks" / f"{file.stem}.png")
    remark = "read as images/ + masks/ (masks); it can also be read as COCO annotations: --layout coco"
    assert folder(tmp_path).remarks == (remark,)
    found = folder(tmp_path, layout="coco")
    assert (found.targets, found.remarks, len(found.items)) == ("instances", (), 4)


def test_folders_without_images_are_no_other_way(tmp_path: Path) -> None:
    make(tmp_path, "images", "masks")
    make(tmp_path, "labels", number=0)
    (tmp_path / "labels" / "boxes.txt").touch()
    assert folder(tmp_path).remarks == ()


def test_classes_whose_files_have_other_names_are_no_pair(tmp_path: Path) -> None:
    make(tmp_path, "photos", "truth", start=None)
    assert folder(tmp_path).remarks == ()


ASKED = {
    "masks": ("masks", 5),
    "labels": ("labels", 5),
    "masks=images,labels": ("masks", 5),
    "labels=images,masks": ("labels", 5),
    "instances=images,masks": ("instances", 5),
    "masks= Other , MASKS/": ("masks", 5),
    "classes": ("classes", 20),
}


@pytest.mark.parametrize("layout", ASKED)
def test_a_folder_is_read_as_it_is_asked_for(layout: str, tmp_path: Path) -> None:
    make(tmp_path / "train", "images", "labels", "masks", "other")
    make(tmp_path / "val", "images", "labels", "masks", "other", number=2)
    found = folder(tmp_path, layout=layout)
    targets, number = ASKED[layout]
    assert (found.targets, len(found.split("train")), found.remarks) == (targets, number, ())
    found.read(found.items[0])


def test_the_same_files_are_surveyed_for_each_kind(tmp_path: Path) -> None:
    make(tmp_path / "data", "photos", "truth")

    def look(layout: str) -> tuple[Source, tuple[str, ...]]:
        source = folder(tmp_path / "data", layout=f"{layout}=photos,truth")
        return source, survey(source, tmp_path / "memory").classes

    assert [look(layout)[1] for layout in ("masks", "labels", "masks")] == [(), ("0", "1"), ()]
    assert len({look(layout)[0].reading for layout in ("masks", "labels", "instances")}) == 3


def test_known_pairs_are_cached_as_before(tmp_path: Path) -> None:
    make(tmp_path, "images", "masks")
    assert folder(tmp_path, layout="masks").reading == folder(tmp_path, layout="masks=images,masks").reading == ""


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("mask", "layout is 'mask'. Did you mean 'masks'? Known: masks, labels, instances, coco, classes."),
        ("mask=a,b", "layout is 'mask'. Did you mean 'masks'? Known: masks, labels, instances, coco, classes."),
        (
            "masks=a",
            "layout is 'masks=a'; the folders of the images and of the masks are needed: masks=images,masks.",
        ),
        (
            "masks=a,",
            "layout is 'masks=a,'; the folders of the images and of the masks are needed: masks=images,masks.",
        ),
        ("classes=a,b", "layout is 'classes=a,b'; classes has no pair of folders: write 'classes'."),
        (3, "layout is 3. Known: masks, labels, instances, coco, classes."),
        ([], "layout is []. Known: masks, labels, instances, coco, classes."),
        ("", ""),
        ("labels=a,b", ""),
    ],
)
def test_a_layout_that_cannot_be_meant_is_named(layout: object, message: str) -> None:
    assert layout_problem(layout) == message


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (
            "masks",
            "--layout masks: HERE has no pair of folders for it; it has a/, b/. "
            "Name them: --layout masks=IMAGES,TARGETS",
        ),
        ("masks=a,c", "--layout masks=a,c: HERE has no c/; it has a/, b/."),
        ("coco", "--layout coco: HERE has no JSON file of annotations."),
    ],
)  # fmt: skip
def test_folders_that_a_layout_needs_are_named(layout: str, message: str, tmp_path: Path) -> None:
    assert said(make(tmp_path, "a", "b"), layout) == message


@pytest.mark.parametrize("inside", ["archive", "a/b", "a/train"])
def test_the_folder_inside_is_named_if_it_can_be_read(inside: str, tmp_path: Path) -> None:
    make(tmp_path / "given" / inside, "horse", "mask")
    place = Path(inside).parent if inside.endswith("train") else Path(inside)
    assert said(tmp_path / "given").endswith(f"Did you mean HERE/{place}?")
    assert "Did you mean" not in said(make(tmp_path / "other", "a/b/c/d/images", "a/b/c/d/masks"))
