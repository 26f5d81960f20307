"""Instances from COCO annotations: one JSON file that lists images and the segmentation of each instance.

{"images": [{"id", "file_name", "width", "height"}],
"annotations": [{"id", "image_id", "segmentation", "iscrowd", "bbox", "category_id"}]}

A segmentation is a list of polygons (x, y, x, y ... in pixels) or run lengths {"size": [height, width], "counts"},
column by column, as a list or as COCO's compressed text. All categories count as one. A file is parsed once per
process; a segmentation is decoded when its image is read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon as inside_of

from tuner.data.images import read_image
from tuner.data.instances import MAX_INSTANCES
from tuner.data.source import Image, InstanceMap, Item
from tuner.data.split import SPLIT_NAMES
from tuner.errors import DataError, first_lines, format_names, printable
from tuner.paths import read_json
from tuner.recipe import is_number
from tuner.wording import pluralize

KNOWN_NAMES = ("annotations.json", "_annotations.coco.json")  # preferred to other JSON files beside them
FOLDER = "annotations"
FILES = "[!.]*.json"
COCO_PREFIX = "instances_"  # such as instances_train2017.json, beside captions and keypoints
# part of the fingerprint: change it when the same file gives other pixels
READING = "annotations, the smaller on top"
MAX_POINTS = 100_000  # of a polygon; each takes time in every row
MAX_COORDINATE = 1e9  # pixels; larger than any image
LONGEST_RUN = 65  # bits of a compressed run length: 13 characters
LONGEST_FILE = 1 << 30  # bytes; COCO's own of 118,000 images has half of that
Pixels = NDArray[np.int64]  # of an instance, as indices into the flattened image


CROWDS = "crowd regions are ignored: they are not single instances"
FLAT = "annotations without area are ignored"


@dataclass(frozen=True)
class AnnotatedImage:
    """An image of a JSON file with its annotations."""

    name: str  # as listed
    file: Path
    size: tuple[int, int]  # width, height; 0 where the file does not state it
    names: tuple[str, ...] = ()  # of its annotations, for messages
    shapes: str = "[]"  # the segmentations as JSON, which takes a tenth of the memory
    digest: str = ""


@dataclass(frozen=True)
class Annotations:
    """The images that a JSON file lists, and remarks about annotations that are left out."""

    images: tuple[AnnotatedImage, ...]
    remarks: tuple[str, ...]


def annotation_files(path: Path) -> dict[str, Path]:
    """Find the JSON files of a folder by split: in annotations/, or beside the images.

    A single file is for training; several must have their split in their name.
    """
    for place in (path / FOLDER, path):
        files = json_files(place)
        named = [file for file in files if file.name in KNOWN_NAMES] or [
            f for f in files if f.name.startswith(COCO_PREFIX)
        ]
        if len(chosen := named or files) == 1:
            return {"train": chosen[0]}
        if chosen:
            return files_by_split(place, chosen)
    return {}


def has_known_name(path: Path) -> bool:
    """Return whether a folder's annotations have a known name, as opposed to an unrelated JSON file."""
    return any(file.name in KNOWN_NAMES for file in json_files(path)) or bool(json_files(path / FOLDER))


def json_files(place: Path) -> list[Path]:
    """Return the JSON files of a folder, also those that cannot be read: the reader tells why."""
    return sorted(file for file in place.glob(FILES) if not file.is_dir())


def split_from_name(file: Path) -> str:
    """Return the split in a file's name, such as "val" of instances_val2017.json, or ""."""
    words = "".join(letter if letter.isalpha() else " " for letter in file.stem.lower()).split()
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "")


def files_by_split(place: Path, files: Iterable[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        split = split_from_name(file)
        if not split:
            raise DataError(
                f"{place} holds several JSON files, and the name {file.name} has no split. Keep one, or name them "
                "instances_train.json, instances_val.json and instances_test.json."
            )
        if split in found:
            raise DataError(f"{place} holds both {found[split].name} and {file.name}. Keep one for {split}.")
        found[split] = file
    if "train" not in found:
        raise DataError(f"{place} has JSON files for {format_names(sorted(found))} but none for train.")
    return found


def load_annotations(file: Path, root: Path, split: str) -> tuple[list[Item], Annotations]:
    """Return the items of a JSON file, whose images lie beside it or in a folder of the split; at least one."""
    state = file.stat()
    found = parse_file(file, root, split, state.st_size, state.st_mtime_ns)
    stems = Counter(str(Path(image.name).with_suffix("")) for image in found.images)
    items = []
    for image in sorted(found.images, key=lambda image: image.name):
        stem = str(Path(image.name).with_suffix(""))
        key = stem if stems[stem] == 1 else image.name
        items.append(Item(key, split, image.file, content=image.digest, named=len(image.names)))
    return items, found


@lru_cache(maxsize=8)
def parse_file(file: Path, root: Path, split: str, size: int, changed: int) -> Annotations:
    """Return the contents of a JSON file, cached until it changes; DataError lists everything wrong in it."""
    plain = load_json(file)
    wrong: list[str] = []
    images = list_images(plain["images"], list(image_folders(file, root, split)), wrong)
    shapes: dict[Any, list[tuple[str, Any]]] = {key: [] for key in images}
    ignored = Counter({CROWDS: 0, FLAT: 0})
    for at, one in enumerate(plain["annotations"]):
        if problem := annotation_problem(one, at, images):
            wrong.append(problem)
        elif one.get("iscrowd") in (1, True):
            ignored[CROWDS] += 1
        elif not one.get("segmentation"):
            ignored[FLAT] += 1
        else:
            shapes[one["image_id"]].append((annotation_name(one, at), one["segmentation"]))
    if wrong:
        raise DataError(f"{file}: {len(wrong)} of its entries cannot be used.{first_lines(wrong)}")
    if not images:
        raise DataError(f"{file} lists no image.")
    remarks = tuple(f"{file.name}: {number} {why}" for why, number in ignored.items() if number)
    return Annotations(tuple(add_segmentations(image, shapes[key]) for key, image in images.items()), remarks)


def load_json(file: Path) -> dict[str, list[Any]]:
    """Read the JSON and check that it has the two lists of a COCO file."""
    plain = read_json(file, DataError, LONGEST_FILE)
    if not isinstance(plain, dict) or not all(isinstance(plain.get(name), list) for name in ("images", FOLDER)):
        raise DataError(
            f'{file} is not a COCO file: an object with a list of "images" and a list of "annotations" is needed.'
        )
    return plain


def image_folders(file: Path, root: Path, split: str) -> Iterator[Path]:
    """Yield the folders in which its images may be, the likeliest first."""
    own = next((word for word in file.stem.split("_") if split_from_name(Path(word))), split)  # such as train2017
    yield from (place for name in ("images", own, f"images/{own}") if (place := root / name).is_dir())
    others = [
        p for p in root.iterdir() if p.is_dir() and p.name not in ("images", FOLDER) and p.name[0] not in "._"
    ]
    if len(others) == 1:  # with several, an image of another split might have the same name
        yield from others
    yield root


def list_images(plain: Iterable[Any], places: Sequence[Path], wrong: list[str]) -> dict[Any, AnnotatedImage]:
    """Return the images by id, without annotations; append problems to `wrong`."""
    found: dict[Any, AnnotatedImage] = {}
    names: dict[Path, Any] = {}
    for at, one in enumerate(plain):
        key, name = (one.get("id"), one.get("file_name")) if isinstance(one, dict) else (None, None)
        if not is_id(key) or not isinstance(name, str) or not name:
            wrong.append(f"image number {at + 1} has no id or no file_name")
            continue
        file = find_image(name, places)
        if file is None:
            wrong.append(f"{name[:80]} is listed but does not exist")
        elif key in found:
            wrong.append(f"{found[key].name} and {name} have the same id, {key}")
        elif file in names:
            wrong.append(f"{name} is listed twice, with the ids {names[file]} and {key}")
        if key not in found:
            found[key] = AnnotatedImage(name, file or Path(name), listed_size(one))
        if file:
            names.setdefault(file, key)
    return found


def find_image(name: str, places: Sequence[Path]) -> Path | None:
    """Find the file of an image by the name in the JSON, or, where it was moved, by its last component."""
    plain = Path(name.replace("\\", "/"))
    tries = [plain.name] if plain.is_absolute() or ".." in plain.parts else [str(plain), plain.name]
    return next((place / one for one in tries for place in places if os.path.isfile(place / one)), None)  # noqa: PTH113


def is_id(key: Any) -> bool:
    return isinstance(key, int | str) and not isinstance(key, bool)


def listed_size(one: Mapping[str, Any]) -> tuple[int, int]:
    width, height = one.get("width"), one.get("height")
    good = isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0
    return (width, height) if good else (0, 0)  # type: ignore[return-value]


def annotation_problem(one: Any, at: int, images: Mapping[Any, AnnotatedImage]) -> str:
    """Return what is wrong with an annotation, or ""; its segmentation is checked when it is read."""
    if not isinstance(one, dict):
        return f"annotation number {at + 1} is not an object"
    key = one.get("image_id")
    if not is_id(key) or key not in images:
        return f"{annotation_name(one, at)} belongs to image {key}, which is not listed"
    if one.get("segmentation") or one.get("iscrowd") in (1, True) or has_no_area(one.get("bbox")):
        return ""
    held = "only a box" if one.get("bbox") else "nothing"
    return f"{annotation_name(one, at)} of {images[key].name} has {held}; a segmentation is needed"


def has_no_area(box: Any) -> bool:
    """Return whether a box [x, y, width, height] has no area."""
    good = isinstance(box, list) and len(box) == 4 and all(isinstance(side, int | float) for side in box)
    return good and min(box[2:]) <= 0


def annotation_name(one: Mapping[str, Any], at: int) -> str:
    return f"annotation {one['id']}" if is_id(one.get("id")) else f"annotation number {at + 1}"


def add_segmentations(image: AnnotatedImage, shapes: list[tuple[str, Any]]) -> AnnotatedImage:
    """Return the image with its segmentations and a hash of them."""
    text = json.dumps([shape for _, shape in shapes], sort_keys=True)
    digest = hashlib.sha256(f"{image.size}{text}".encode()).hexdigest()[:16]
    return replace(image, names=tuple(name for name, _ in shapes), shapes=text, digest=digest)


def read_annotated(images: Mapping[Path, AnnotatedImage], item: Item) -> tuple[Image, InstanceMap]:
    """Return the image and its label map; DataError lists all problems of its segmentations."""
    assert item.image is not None
    image, given = read_image(item.image), images[item.image]
    height, width = image.shape[:2]
    if given.size not in ((width, height), (0, 0)):
        size = "x".join(map(str, given.size))
        raise DataError(f"{item.image.name} is {width}x{height}, but its annotations are for an image of {size}")
    return image, draw_labels(given, (height, width))


def draw_labels(given: AnnotatedImage, shape: tuple[int, int]) -> InstanceMap:
    """Draw the label map: where instances overlap, the smaller one is on top. Hidden ones are not in it."""
    wrong, found = [], []
    for name, segmentation in zip(given.names, json.loads(given.shapes), strict=True):
        try:
            found.append(segmentation_pixels(segmentation, shape))
        except DataError as error:
            wrong.append(f"{name} {error}")
    if wrong:
        raise DataError(f"{given.file.name}: {format_names(wrong, 3)}")
    if len(found) > MAX_INSTANCES:
        raise DataError(f"{given.file.name} has {len(found)} instances; at most {MAX_INSTANCES} are possible")
    labels = np.zeros(shape, np.uint16)
    for number in sorted(range(len(found)), key=lambda at: -len(found[at])):
        labels.flat[found[number]] = number + 1
    return labels


def segmentation_pixels(segmentation: Any, shape: tuple[int, int]) -> Pixels:
    """Return the pixels of one instance: the union of its polygons, or its run lengths decoded."""
    if isinstance(segmentation, dict):
        return rle_pixels(segmentation, shape)
    if not isinstance(segmentation, list):
        raise DataError("has neither polygons nor run lengths")
    return np.unique(np.concatenate([polygon_pixels(one, shape) for one in segmentation]))


def polygon_pixels(points: Any, shape: tuple[int, int]) -> Pixels:
    """Return the pixels whose centre lies in a polygon."""
    if not isinstance(points, list):
        raise DataError("has coordinates that are not in a polygon: [[x, y, x, y, ...]] is needed")
    if not all(is_number(value) and abs(value) < MAX_COORDINATE for value in points):
        raise DataError("has a polygon with a value that is not a number")
    if len(points) % 2:
        raise DataError(f"has a polygon of {len(points)} coordinates: an even number is needed")
    if len(points) > 2 * MAX_POINTS:
        raise DataError(f"has a polygon of {len(points) // 2:,} points: at most {MAX_POINTS:,} are drawn")
    if len(points) < 6:
        raise DataError(f"has a polygon of {pluralize(len(points) // 2, 'point')}: at least 3 are needed")
    across, down = np.asarray(points, float).reshape(-1, 2).T
    if across.max() < 0 or down.max() < 0 or across.min() > shape[1] or down.min() > shape[0]:
        raise DataError(f"has a polygon outside its image of {shape[1]}x{shape[0]}")
    return np.ravel_multi_index(inside_of(down - 0.5, across - 0.5, shape), shape)


def rle_pixels(segmentation: Mapping[str, Any], shape: tuple[int, int]) -> Pixels:
    """Return the pixels of run lengths, column by column; these must fill the image exactly."""
    if segmentation.get("size") != list(shape):
        size = printable(segmentation.get("size"))
        raise DataError(f"has run lengths for the size {size}; its image has {list(shape)}")
    counts = segmentation.get("counts")
    runs = decode_rle(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise DataError("has run lengths that are not whole numbers")
    if sum(runs) != math.prod(shape):
        raise DataError(f"has run lengths of {sum(runs)} pixels; its image has {math.prod(shape)}")
    flat = np.repeat(np.arange(len(runs)) % 2 > 0, runs)
    return np.flatnonzero(flat.reshape(shape[::-1]).T)


def decode_rle(text: str) -> list[int]:
    """Decode COCO's compressed run lengths.

    Five bits per character, lowest first; from the fourth run on, differences to the run before the previous one.
    Written here because the C library reads past the end of truncated text.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text.encode():
        bits = letter - 48
        if not 0 <= bits < 64:
            raise DataError("has compressed run lengths with an invalid character")
        value, shift = value | (bits & 31) << shift, shift + 5
        if shift > LONGEST_RUN:
            raise DataError(f"has compressed run lengths with a number of more than {LONGEST_RUN} bits")
        if bits & 32:  # continued in the next character
            continue
        value -= 1 << shift if bits & 16 else 0  # negative
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise DataError("has truncated compressed run lengths")
    return runs
