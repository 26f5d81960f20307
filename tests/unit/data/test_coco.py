"""Instances from COCO's JSON: where it may lie, what its shapes cover, and what is said of one that is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.dataset_layouts import make_coco, runs
from PIL import Image
from pycocotools import mask as official

from tuner.data import coco
from tuner.data.coco import segmentation_pixels
from tuner.data.folder import folder
from tuner.data.source import Source
from tuner.data.survey import survey
from tuner.errors import LONGEST_LINE, DataError

WIDTH, HEIGHT = 30, 20
SQUARE = [2, 3, 6, 3, 6, 8, 2, 8]  # 4 wide and 5 high
Entry = dict[str, Any]


def shape(image: int, segmentation: Any, **more: Any) -> Entry:
    return {"image_id": image, "category_id": 1, "iscrowd": 0, "segmentation": segmentation, **more}


def write(path: Path, annotations: list[Any], number: int = 2, **changes: Any) -> Path:
    """`number` noisy pictures a.png, b.png ... beside a JSON file with these annotations, their ids from 1 on."""
    images = path / "images"
    images.mkdir(parents=True, exist_ok=True)
    listed = []
    for at in range(number):
        name = f"{'abcdefgh'[at]}.png"
        noise = np.random.default_rng(at).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(noise).save(images / name)
        listed.append({"id": at + 1, "file_name": name, "width": WIDTH, "height": HEIGHT})
    marked = [{"id": at, **one} if isinstance(one, dict) else one for at, one in enumerate(annotations, start=1)]
    whole = {"images": listed, "annotations": marked, **changes}
    (path / "annotations.json").write_text(json.dumps(whole))
    return path


def both(*annotations: Entry) -> list[Entry]:
    """These of the first image, and a square in the second."""
    return [*annotations, shape(2, [SQUARE])]


def maps(source: Source) -> dict[str, np.ndarray]:
    return {item.key: np.asarray(source.read(item)[1]) for item in source.items}


def said(path: Path, memory: Path | None = None) -> list[str]:
    """The lines of the refusal, by the opening or, with a `memory`, by the survey."""
    with pytest.raises(DataError) as caught:
        source = folder(path)
        assert memory, "the opening refuses it"
        survey(source, memory)
    return str(caught.value).replace(f"{path}/", "").replace(str(path), "HERE").split("\n  - ")


# --- where it may lie ---

LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "beside images/": lambda at: make_coco(at / "images", at / "annotations.json", 5),
    "beside the images": lambda at: make_coco(at, at / "_annotations.coco.json", 5),
    "any name": lambda at: make_coco(at / "images", at / "my cells.json", 5),
    "any name, any folder": lambda at: make_coco(at / "JPEGImages", at / "export.json", 5),
    "in annotations/": lambda at: (
        make_coco(at / "images", at / "annotations" / "instances_default.json", 5).parent
    ),
    "COCO's own": lambda at: make_coco(at / "val2017", at / "annotations" / "instances_val2017.json", 5).parent,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_json_file_and_its_images_are_found(name: str, tmp_path: Path) -> None:
    path = LAYOUTS[name](tmp_path / "data")
    source = folder(path)
    assert source.targets == "instances" and source.where == str(path) and source.remarks == ()
    assert len(source.split("train")) == 4 and len(source.split("val")) == 1
    assert sorted(maps(source)) == [f"cell{at:02d}" for at in range(5)]
    assert all(labels.dtype == np.uint16 and labels.max() > 3 for labels in maps(source).values())


def test_the_files_of_coco_are_the_splits_and_others_beside_them_are_left_alone(tmp_path: Path) -> None:
    for split, number in (("train", 4), ("val", 2), ("test", 1)):
        file = tmp_path / "annotations" / f"instances_{split}2017.json"
        make_coco(tmp_path / f"{split}2017", file, number, seed=len(split))  # the same names, other pictures
        (tmp_path / "annotations" / f"captions_{split}2017.json").write_text('{"info": 1}')
    source = folder(tmp_path)
    assert source.counts() == "4 train, 2 val, 1 test"
    assert {item.image.parent.name for item in source.split("val")} == {"val2017"}
    first = {split: source.read(source.split(split)[0]) for split in ("train", "val")}
    assert not np.array_equal(first["train"][1], first["val"][1])


@pytest.mark.parametrize("places", ["images/{}", "{}", "images"])
def test_images_may_lie_in_a_folder_of_the_split(tmp_path: Path, places: str) -> None:
    for split, number in (("train", 4), ("val", 2)):
        make_coco(tmp_path / places.format(split), tmp_path / "annotations" / f"{split}.json", number, stem=split)
    assert folder(tmp_path).counts() == "4 train, 2 val"


def test_every_split_folder_may_have_its_own_json(tmp_path: Path) -> None:
    for split, number in (("train", 4), ("valid", 2), ("test", 1)):
        make_coco(tmp_path / split, tmp_path / split / "_annotations.coco.json", number)
    assert folder(tmp_path).counts() == "4 train, 2 val, 1 test"


def test_a_json_of_another_purpose_changes_no_layout_of_before(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "a.png")
        Image.new("RGB", (8, 8)).save(tmp_path / name / "b.png")
    for name in ("metadata.json", "more.json"):
        (tmp_path / name).write_text("{}")
    assert folder(tmp_path).targets == "classes"


def test_files_that_name_no_split_or_the_same_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, both())
    for name in ("train.json", "val.json"):
        (path / name).write_text("{}")
    assert folder(path).counts() == "1 train, 1 val"  # annotations.json comes first
    (path / "annotations.json").rename(path / "more.json")
    assert "more.json has no split. Keep one, or name them instances_train.json" in said(path)[0]
    (path / "more.json").rename(path / "more_val.json")
    assert "holds both more_val.json and val.json. Keep one for val." in said(path)[0]
    (path / "train.json").unlink()
    (path / "val.json").rename(path / "test.json")
    assert "has JSON files for test, val but none for train" in said(path)[0]


def test_split_folders_must_all_have_annotations(tmp_path: Path) -> None:
    make_coco(tmp_path / "train", tmp_path / "train" / "_annotations.coco.json", 4)
    for name in ("images", "instances"):
        (tmp_path / "val" / name).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "val" / name / "a.png")
    assert "mixes COCO annotations and instance maps between its splits" in said(tmp_path)[0]


def test_an_image_in_two_splits_is_named(tmp_path: Path) -> None:
    """A model would be scored on what it was trained on."""
    path = write(tmp_path, both())
    for split in ("train", "val"):
        (path / f"{split}.json").write_text((path / "annotations.json").read_text())
    (path / "annotations.json").unlink()
    assert said(path) == ["HERE: images are listed in several splits: a.png, b.png. Keep each in one JSON file."]


def test_hidden_files_are_no_annotations(tmp_path: Path) -> None:
    path = write(tmp_path, both())
    (path / "._annotations.json").write_bytes(b"\0\5\26\7")
    (path / "annotations").mkdir()
    (path / "annotations" / "._instances.json").write_bytes(b"\0\5\26\7")
    assert len(folder(path).items) == 2


@pytest.mark.parametrize("written", ["{}", "images/{}", "images\\{}", "/data/cells/{}", "../somewhere/{}"])
def test_an_image_may_be_written_with_the_folder_it_once_lay_in(tmp_path: Path, written: str) -> None:
    path = write(tmp_path, both(shape(1, [SQUARE])))
    whole = json.loads((path / "annotations.json").read_text())
    for one in whole["images"]:
        one["file_name"] = written.format(one["file_name"])
    (path / "annotations.json").write_text(json.dumps(whole), encoding="utf-8-sig")
    assert [item.image for item in folder(path).items] == [path / "images" / "a.png", path / "images" / "b.png"]


def test_two_images_of_one_stem_keep_their_endings(tmp_path: Path) -> None:
    path = write(tmp_path, both(), number=2)
    (path / "images" / "b.png").rename(path / "images" / "a.bmp")
    text = (path / "annotations.json").read_text()
    (path / "annotations.json").write_text(text.replace("b.png", "a.bmp"))
    assert sorted(item.key for item in folder(path).items) == ["a.bmp", "a.png"]


# --- what shapes cover ---


def test_a_square_covers_its_pixels_and_no_more(tmp_path: Path) -> None:
    labels = maps(folder(write(tmp_path, both(shape(1, [SQUARE])))))["a"]
    assert labels.dtype == np.uint16 and (labels[3:8, 2:6] == 1).all() and labels.sum() == 20


def test_several_polygons_are_one_instance_and_a_shape_may_reach_out_of_the_picture(tmp_path: Path) -> None:
    pieces = [SQUARE, [10, 3, 14, 3, 14, 8, 10, 8]]
    beyond = [-50.5, 15, 1000, 15, 1000, 90, -50.5, 90]
    labels = maps(folder(write(tmp_path, both(shape(1, pieces), shape(1, [beyond])))))["a"]
    assert (labels == 1).sum() == 40 and labels[4, 3] == labels[4, 12] == 1
    assert (labels[15:] == 2).all() and (labels == 2).sum() == 5 * WIDTH


@pytest.mark.parametrize("order", [1, -1])
def test_the_smaller_of_two_that_overlap_lies_on_top(tmp_path: Path, order: int) -> None:
    large = [0, 0, WIDTH, 0, WIDTH, HEIGHT, 0, HEIGHT]
    shapes = [shape(1, [large]), shape(1, [SQUARE])][::order]
    labels = maps(folder(write(tmp_path, both(*shapes))))["a"]
    assert (labels > 0).all() and (labels == labels[4, 3]).sum() == 20


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools
def test_polygons_are_nearly_what_coco_makes_of_them() -> None:
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(100):
        angles, reach = np.sort(rng.uniform(0, 2 * np.pi, 8)), rng.uniform(6, 30, 8)
        points = np.stack([40 + reach * np.cos(angles), 30 + reach * np.sin(angles)], 1).ravel().tolist()
        theirs = official.decode(official.frPyObjects([points], 60, 80))[..., 0].astype(bool)
        ours = np.zeros((60, 80), bool)
        ours.flat[segmentation_pixels([points], (60, 80))] = True
        if theirs.sum() > 200:
            compared += 1
            assert (ours & theirs).sum() / (ours | theirs).sum() > 0.93
    assert compared > 50


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
def test_runs_packed_or_not_are_exactly_the_mask(share: float) -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        mask = (rng.random(rng.integers(1, 70, 2)) < share).astype(np.uint8)
        mask[: mask.shape[0] // 2] = mask[0, 0]  # long runs too
        packed = official.encode(np.asfortranarray(mask))
        text = {"size": packed["size"], "counts": packed["counts"].decode()}
        for segmentation in (text, runs(mask)):
            assert np.array_equal(segmentation_pixels(segmentation, mask.shape), np.flatnonzero(mask))


# --- what is left out, and told ---


def test_crowds_and_what_has_no_area_are_left_out_and_counted(tmp_path: Path) -> None:
    crowd = shape(1, runs(np.ones((HEIGHT, WIDTH), np.uint8)), iscrowd=1)
    flat = [shape(1, [], bbox=[3, 3, 0, 5]), {"image_id": 2, "bbox": [1, 1, 4, 0]}]
    source = folder(write(tmp_path / "data", both(crowd, *flat, shape(1, [SQUARE]))))
    assert (maps(source)["a"] > 0).sum() == 20
    assert survey(source, tmp_path / "memory").notices()[:2] == [
        "annotations.json: 1 crowd regions are ignored: they are not single instances",
        "annotations.json: 2 annotations without area are ignored",
    ]


def test_what_ends_without_a_pixel_is_counted_for_its_image(tmp_path: Path) -> None:
    line, dot = [4, 4, 9, 4, 4, 4], [20.2, 5.2, 20.3, 5.2, 20.3, 5.3]
    shapes = [shape(1, [points]) for points in (SQUARE, SQUARE, line, line, dot)]
    source = folder(write(tmp_path / "data", both(*shapes)))
    assert len(np.unique(maps(source)["a"])) == 2
    assert survey(source, tmp_path / "memory").notices() == [
        "a.png: 4 of its 5 annotations have no pixels: no area, too small, or hidden by others"
    ]


def test_an_image_without_any_instance_is_kept(tmp_path: Path) -> None:
    source = folder(write(tmp_path / "data", [shape(1, [SQUARE]), shape(2, [SQUARE])], number=6))
    assert len(source.items) == 6 and maps(source)["c"].max() == 0
    told = survey(source, tmp_path / "memory").notices()
    assert [one for one in told if "no instance" in one] == ["no instance: 4 images, such as c.png and d.png"]


def test_images_that_no_json_lists_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, both())
    Image.new("L", (8, 8)).save(path / "images" / "z.png")
    assert folder(path).remarks == ("1 image ignored, in no JSON file: z.png",)


# --- what is wrong, all at once ---


def test_everything_wrong_in_the_lists_is_named_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, [
        shape(99, [SQUARE]), {"image_id": 1, "bbox": [1, 1, 5, 5]}, {"image_id": 1}, "text", {"image_id": [1]},
    ])  # fmt: skip
    whole = json.loads((path / "annotations.json").read_text())
    whole["images"] += [
        {"id": 3, "file_name": "gone.png"}, {"id": 1, "file_name": "b.png"}, {"id": 5, "file_name": "a.png"},
        {"id": 6}, {"file_name": "a.png"}, None, {"id": 7, "file_name": "x" * 5000}, {"id": 8, "file_name": "\0"},
    ]  # fmt: skip
    (path / "annotations.json").write_text(json.dumps(whole))
    assert said(path) == [
        "annotations.json: 13 of its entries cannot be used.",
        "gone.png is listed but does not exist",
        "a.png and b.png have the same id, 1",
        "a.png is listed twice, with the ids 1 and 5",
        "image number 6 has no id or no file_name",
        "image number 7 has no id or no file_name",
        "image number 8 has no id or no file_name",
        f"{'x' * 80} is listed but does not exist",
        r"\x00 is listed but does not exist",
        "annotation 1 belongs to image 99, which is not listed",
        "annotation 2 of a.png has only a box; a segmentation is needed",
        "annotation 3 of a.png has nothing; a segmentation is needed",
        "annotation number 4 is not an object",
        "annotation 5 belongs to image [1], which is not listed",
    ]


BROKEN: dict[str, Any] = {
    "has a polygon of 2 points: at least 3 are needed": [[1, 1, 5, 5]],
    "has a polygon of 0 points: at least 3 are needed": [SQUARE, []],
    "has a polygon of 7 coordinates: an even number is needed": [[1, 1, 5, 5, 9, 9, 9]],
    "has a polygon with a value that is not a number": [[1, 1, "5", 5, 9, 9]],
    "has coordinates that are not in a polygon: [[x, y, x, y, ...]] is needed": SQUARE,
    "has a polygon outside its image of 30x20": [[100, 100, 120, 100, 120, 120]],
    "has neither polygons nor run lengths": "polygon",
    "has run lengths for the size [30, 20]; its image has [20, 30]": {"size": [30, 20], "counts": [600]},
    "has run lengths of 599 pixels; its image has 600": {"size": [20, 30], "counts": [599]},
    "has run lengths that are not whole numbers": {"size": [20, 30], "counts": [-1, 601]},
    "has truncated compressed run lengths": {"size": [20, 30], "counts": "o"},
    "has compressed run lengths with a number of more than 65 bits": {"size": [20, 30], "counts": "o" * 20_000},
    "has compressed run lengths with an invalid character": {"size": [20, 30], "counts": "é"},
}


@pytest.mark.parametrize("words", BROKEN)
def test_a_broken_shape_is_named_with_its_image(words: str, tmp_path: Path) -> None:
    path = write(tmp_path / "data", both(shape(1, [SQUARE]), shape(1, BROKEN[words])))
    assert said(path, tmp_path / "memory") == [f"HERE: 1 of 2 items cannot be used. a.png: annotation 2 {words}"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**19, True, None, [1]])
def test_coordinates_that_are_none_are_named(value: object, tmp_path: Path) -> None:
    path = write(tmp_path / "data", both(shape(1, [[1, 1, value, 5, 9, 9]])))
    assert "annotation 1 has a polygon with a value that is not a number" in said(path, tmp_path / "memory")[0]


@pytest.mark.parametrize("digits", [400, 4300])
@pytest.mark.parametrize("place", ["width", "height", "run", "size"])
def test_a_number_of_hundreds_of_digits_is_one_line(place: str, digits: int, tmp_path: Path) -> None:
    large = 10 ** (digits - 1)
    runs = {"size": [large if place == "size" else 20, 30], "counts": [large if place == "run" else 600]}
    path = write(tmp_path / "data", both(shape(1, runs)))
    whole = json.loads((path / "annotations.json").read_text())
    whole["images"][0] |= {place: large}
    (path / "annotations.json").write_text(json.dumps(whole))
    (line,) = said(path, tmp_path / "memory")
    assert line.startswith("annotations.json holds the number 1000") and len(line) <= LONGEST_LINE
    assert line.endswith("; numbers of at most 20 digits are read.")


def test_every_image_with_broken_shapes_is_named_at_once(tmp_path: Path) -> None:
    two_points, outside = [[1, 1, 5, 5]], [[-9, -9, -2, -9, -2, -2]]
    annotations = [shape(1, two_points), shape(1, outside, id="mine"), shape(2, two_points), shape(3, [SQUARE])]
    assert said(write(tmp_path / "data", annotations, number=3), tmp_path / "memory") == [
        "HERE: 2 of 3 items cannot be used.",
        "a.png: annotation 1 has a polygon of 2 points: at least 3 are needed, "
        "annotation mine has a polygon outside its image of 30x20",
        "b.png: annotation 3 has a polygon of 2 points: at least 3 are needed",
    ]


def test_an_image_of_another_size_than_the_json_says_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "data", both(shape(1, [SQUARE])))
    Image.new("RGB", (60, 40)).save(path / "images" / "a.png")
    words = "a.png is 60x40, but its annotations are for an image of 30x20"
    assert said(path, tmp_path / "memory") == [f"HERE: 1 of 2 items cannot be used. {words}"]


def test_a_json_without_sizes_is_taken_by_its_images(tmp_path: Path) -> None:
    listed = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png", "width": 0, "height": None}]
    path = write(tmp_path / "data", both(shape(1, [SQUARE])), images=listed)
    assert (maps(folder(path))["a"] > 0).sum() == 20


NO_COCO = {
    "": "is not valid JSON (Expecting value",
    "{": "is not valid JSON (Expecting property name",
    "[" * 100_000: "is not valid JSON (",
    "[]": "is not a COCO file",
    '{"images": []}': "is not a COCO file",
    '{"images": {}, "annotations": []}': "is not a COCO file",
    '{"images": [], "annotations": []}': "lists no image",
}


@pytest.mark.parametrize("text", NO_COCO, ids=lambda text: text[:10])
def test_what_is_no_coco_file_is_named(text: str, tmp_path: Path) -> None:
    path = write(tmp_path, both())
    (path / "annotations.json").write_text(text)
    (line,) = said(path)
    assert line.startswith(f"annotations.json {NO_COCO[text]}") and "\n" not in line


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, both())
    (path / "annotations.json").write_bytes(b"\xff\xfe\x00\x01" * 9)
    assert said(path)[0].startswith("annotations.json is not valid JSON (")


# --- content ---


def test_a_file_is_parsed_once_in_a_process_and_again_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, both(shape(1, [SQUARE])))
    opened: list[Path] = []
    monkeypatch.setattr(coco, "load_json", lambda file, real=coco.load_json: opened.append(file) or real(file))
    for _ in range(3):
        maps(folder(path))
    assert len(opened) == 1
    write(path, both(shape(1, [SQUARE]), shape(1, [[10, 10, 15, 10, 15, 15]])))
    assert maps(folder(path))["a"].max() == 2 and len(opened) == 2


def test_the_fingerprint_is_of_the_shapes_of_each_image(tmp_path: Path) -> None:
    """Written anew with other ids, or beside other files, it is the same; a corner moved, it is another."""

    def seen(**changes: Any) -> tuple[str, list[str]]:
        path = write(tmp_path / "data", changes.pop("annotations"), **changes)
        found = survey(folder(path), tmp_path / "memory")
        return found.fingerprint, [finding.digest for finding in found.findings.values()]

    first = seen(annotations=both(shape(1, [SQUARE])))
    same = seen(annotations=both(shape(1, [SQUARE], id=77, score=0.5)), info={"year": 2020})
    moved = seen(annotations=both(shape(1, [[*SQUARE[:-1], 9]])))
    assert same == first and moved[0] != first[0]
    assert sum(a != b for a, b in zip(first[1], moved[1], strict=True)) == 1


def test_the_json_is_not_read_once_an_image_and_a_second_look_decodes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "data", both(shape(1, [SQUARE])))
    source = folder(path)
    assert {item.target for item in source.items} == {None}  # no file to be hashed beside each image
    first = survey(source, tmp_path / "memory")
    for file in (path / "images").iterdir():  # the bytes go, the length and the time of change stay
        kept = file.stat()
        file.write_bytes(b"\0" * kept.st_size)
        os.utime(file, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert survey(folder(path), tmp_path / "memory") == first
