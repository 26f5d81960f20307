"""Instances as COCO writes them: one JSON file that lists images, and the outline or the runs of each instance.

{"images": [{"id", "file_name", "width", "height"}],
 "annotations": [{"id", "image_id", "segmentation", "iscrowd", "bbox", "category_id"}]}

A segmentation is a list of polygons (x, y, x, y ... in pixels), or {"size": [height, width], "counts": runs}: how
many pixels are outside, inside, outside ..., down one column after the other; a list, or text that packs it. All
categories count as one. A file is parsed once in a process, and what is in a segmentation is looked at when its
image is.
"""

from __future__ import annotations

import hashlib
import json
import math
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
from tuner.data.source import SPLIT_NAMES, Image, InstanceMap, Item
from tuner.errors import DataError, first_lines, some

KNOWN_NAMES = ("annotations.json", "_annotations.coco.json")  # taken before any other JSON beside it
FOLDER = "annotations"
FILES = "[!.]*.json"
COCO_PREFIX = "instances_"  # COCO's own: instances_train2017.json, beside captions and keypoints
READING = "annotations, the smaller on top"  # change it whenever the same file gives other pixels
MAX_COORDINATE = 1e9  # pixels; no picture is as large
Pixels = NDArray[np.int64]  # where an instance is, as positions in the flat picture


@dataclass(frozen=True)
class AnnotatedImage:
    """An image of a JSON file, and what is said to be in it."""

    file: Path
    size: tuple[int, int]  # width, height; 0 where the file does not say
    names: tuple[str, ...] = ()  # of its instances, for messages
    shapes: str = "[]"  # their segmentations as JSON: a tenth of the memory
    digest: str = ""


@dataclass(frozen=True)
class Annotations:
    """What a JSON file lists, and how much of it is left out, in words."""

    images: Mapping[str, AnnotatedImage]
    remarks: tuple[str, ...]


def annotation_files(path: Path) -> dict[str, Path]:
    """The JSON files of a folder by their splits: in annotations/, or beside the images. None, where it has none.

    One file alone is for training; several must name their splits.
    """
    for place in (path / FOLDER, path):
        files = sorted(filter(Path.is_file, place.glob(FILES)))
        named = [file for file in files if file.name in KNOWN_NAMES] or [
            f for f in files if f.name.startswith(COCO_PREFIX)
        ]
        if len(chosen := named or files) == 1:
            return {"train": chosen[0]}
        if chosen:
            return files_by_split(place, chosen)
    return {}


def has_known_name(path: Path) -> bool:
    """Whether a folder's annotations are named as such, and no other JSON that happens to lie there."""
    return any((path / name).is_file() for name in KNOWN_NAMES) or any((path / FOLDER).glob(FILES))


def split_from_name(file: Path) -> str:
    """The split in a file's name, such as instances_val2017.json, or nothing."""
    words = "".join(letter if letter.isalpha() else " " for letter in file.stem.lower()).split()
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "")


def files_by_split(place: Path, files: Iterable[Path]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        split = split_from_name(file)
        if not split:
            raise DataError(
                f"{place} holds several JSON files, and {file.name} names no split. Keep one, or name them "
                "instances_train.json, instances_val.json and instances_test.json."
            )
        if split in found:
            raise DataError(f"{place} holds both {found[split].name} and {file.name}. Keep one for {split}.")
        found[split] = file
    if "train" not in found:
        raise DataError(f"{place} has {some(sorted(found))} but no JSON file for train.")
    return found


def load_annotations(file: Path, root: Path, split: str) -> tuple[list[Item], Annotations]:
    """The items of a JSON file, whose images lie beside it or in a folder of the split; never none."""
    found = parse_file(file, root, split, *file_stamp(file))
    if not found.images:
        raise DataError(f"{file} lists no image.")
    stems = Counter(str(Path(name).with_suffix("")) for name in found.images)
    items = []
    for name, image in sorted(found.images.items()):
        stem = str(Path(name).with_suffix(""))
        key = stem if stems[stem] == 1 else name
        items.append(Item(key, split, image.file, content=image.digest, named=len(image.names)))
    return items, found


def file_stamp(file: Path) -> tuple[int, int]:
    return file.stat().st_size, file.stat().st_mtime_ns


@lru_cache(maxsize=8)
def parse_file(file: Path, root: Path, split: str, size: int, changed: int) -> Annotations:
    """What a JSON file lists, as long as it does not change; DataError names everything that is wrong in it."""
    plain = load_json(file)
    wrong: list[str] = []
    images = list_images(plain["images"], list(image_folders(file, root, split)), wrong)
    shapes: dict[Any, list[tuple[str, Any]]] = {key: [] for key in images}
    crowds = flat = 0
    for at, one in enumerate(plain["annotations"]):
        if problem := annotation_problem(one, at, images):
            wrong.append(problem)
        elif one.get("iscrowd") in (1, True):
            crowds += 1
        elif not one.get("segmentation"):
            flat += 1
        else:
            shapes[one["image_id"]].append((annotation_name(one, at), one["segmentation"]))
    if wrong:
        raise DataError(f"{file}: {len(wrong)} of its entries cannot be used.{first_lines(wrong)}")
    whole = {name: add_segmentations(image, shapes[key]) for key, (name, image) in images.items()}
    return Annotations(whole, tuple(make_remarks(file, crowds, flat)))


def load_json(file: Path) -> dict[str, list[Any]]:
    """The JSON, if it has the two lists that make it COCO's."""
    try:
        plain = json.loads(file.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is no JSON ({error}).") from error
    if not isinstance(plain, dict) or not all(isinstance(plain.get(name), list) for name in ("images", FOLDER)):
        raise DataError(
            f'{file} is no COCO file: an object with a list of "images" and a list of "annotations" is needed.'
        )
    return plain


def image_folders(file: Path, root: Path, split: str) -> Iterator[Path]:
    """The folders in which its images may be, the likeliest first."""
    own = next((word for word in file.stem.split("_") if split_from_name(Path(word))), split)  # such as train2017
    yield from (place for name in ("images", own, f"images/{own}") if (place := root / name).is_dir())
    others = [
        p for p in root.iterdir() if p.is_dir() and p.name not in ("images", FOLDER) and p.name[0] not in "._"
    ]
    yield from others if len(others) == 1 else []  # of several, another split's picture might have the name
    yield root


def list_images(
    plain: Iterable[Any], places: Sequence[Path], wrong: list[str]
) -> dict[Any, tuple[str, AnnotatedImage]]:
    """The images by their ids, each with its name; what is wrong is added to `wrong`."""
    found: dict[Any, tuple[str, AnnotatedImage]] = {}
    names: dict[Path, Any] = {}
    for at, one in enumerate(plain):
        key, name = (one.get("id"), one.get("file_name")) if isinstance(one, dict) else (None, None)
        if not is_id(key) or not isinstance(name, str) or not name:
            wrong.append(f"image number {at + 1} has no id or no file_name")
            continue
        file = find_image(name, places)
        if file is None:
            wrong.append(f"{name[:80]} is listed and not there")
        elif key in found:
            wrong.append(f"{found[key][0]} and {name} have the same id, {key}")
        elif file in names:
            wrong.append(f"{name} is listed twice, with the ids {names[file]} and {key}")
        if key not in found:
            found[key] = (name, AnnotatedImage(file or Path(name), listed_size(one)))
        if file:
            names.setdefault(file, key)
    return found


def find_image(name: str, places: Sequence[Path]) -> Path | None:
    """The file of an image: as the JSON names it, or, where it was moved, by its last name."""
    plain = Path(name.replace("\\", "/"))
    tries = [plain.name] if plain.is_absolute() or ".." in plain.parts else [str(plain), plain.name]
    return next((place / one for one in tries for place in places if is_file(place / one)), None)


def is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name longer than any file's, or with a zero in it
        return False


def is_id(key: Any) -> bool:
    return isinstance(key, int | str) and not isinstance(key, bool)


def listed_size(one: Mapping[str, Any]) -> tuple[int, int]:
    width, height = one.get("width"), one.get("height")
    good = isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0
    return (width, height) if good else (0, 0)  # type: ignore[return-value]


def annotation_problem(one: Any, at: int, images: Mapping[Any, tuple[str, AnnotatedImage]]) -> str:
    """What is wrong with an annotation, or nothing; what its segmentation holds is looked at later."""
    if not isinstance(one, dict):
        return f"annotation number {at + 1} is no object"
    key = one.get("image_id")
    if not is_id(key) or key not in images:
        return f"{annotation_name(one, at)} is of the image {key}, which is not listed"
    if one.get("segmentation") or one.get("iscrowd") in (1, True) or has_no_area(one.get("bbox")):
        return ""
    held = "only a box" if one.get("bbox") else "nothing"
    return f"{annotation_name(one, at)} of {images[key][0]} has {held}; a segmentation is needed"


def has_no_area(box: Any) -> bool:
    """Whether a box [x, y, width, height] has no area."""
    good = isinstance(box, list) and len(box) == 4 and all(isinstance(side, int | float) for side in box)
    return good and min(box[2:]) <= 0


def annotation_name(one: Mapping[str, Any], at: int) -> str:
    return f"annotation {one['id']}" if is_id(one.get("id")) else f"annotation number {at + 1}"


def add_segmentations(image: AnnotatedImage, shapes: list[tuple[str, Any]]) -> AnnotatedImage:
    """The image with what is in it, and a hash of that."""
    text = json.dumps([shape for _, shape in shapes], sort_keys=True)
    digest = hashlib.sha256(f"{image.size}{text}".encode()).hexdigest()[:16]
    return replace(image, names=tuple(name for name, _ in shapes), shapes=text, digest=digest)


def make_remarks(file: Path, crowds: int, flat: int) -> Iterator[str]:
    if crowds:
        yield f"{file.name}: {crowds} crowd regions are left out: they are no single instance"
    if flat:
        yield f"{file.name}: {flat} annotations of no area are left out"


def read_annotated(images: Mapping[Path, AnnotatedImage], item: Item) -> tuple[Image, InstanceMap]:
    """The image and its label map; DataError says all that is wrong with its segmentations."""
    assert item.image is not None
    image, given = read_image(item.image), images[item.image]
    height, width = image.shape[:2]
    if given.size not in ((width, height), (0, 0)):
        said = "x".join(map(str, given.size))
        raise DataError(f"{item.image.name} is {width}x{height}, and its annotations are of an image of {said}")
    return image, draw_labels(given, (height, width))


def draw_labels(given: AnnotatedImage, shape: tuple[int, int]) -> InstanceMap:
    """The label map: where two overlap, the smaller lies on top. What has no pixel is not in it."""
    wrong, found = [], []
    for name, segmentation in zip(given.names, json.loads(given.shapes), strict=True):
        try:
            found.append(segmentation_pixels(segmentation, shape))
        except DataError as error:
            wrong.append(f"{name} {error}")
    if wrong:
        raise DataError(f"{given.file.name}: {some(wrong, 3)}")
    if len(found) > MAX_INSTANCES:
        raise DataError(f"{given.file.name} has {len(found)} instances; {MAX_INSTANCES} are the most")
    labels = np.zeros(shape, np.uint16)
    for number in sorted(range(len(found)), key=lambda at: -len(found[at])):
        labels.flat[found[number]] = number + 1
    return labels


def segmentation_pixels(segmentation: Any, shape: tuple[int, int]) -> Pixels:
    """The pixels of one instance: of all its polygons together, or of its runs."""
    if isinstance(segmentation, dict):
        return rle_pixels(segmentation, shape)
    if not isinstance(segmentation, list):
        raise DataError("has neither polygons nor runs")
    return np.unique(np.concatenate([polygon_pixels(one, shape) for one in segmentation]))


def polygon_pixels(points: Any, shape: tuple[int, int]) -> Pixels:
    """The pixels whose middle lies in a polygon."""
    if not isinstance(points, list):
        raise DataError("has coordinates in no polygon: [[x, y, x, y, ...]] is needed")
    if not all(is_coordinate(value) for value in points):
        raise DataError("has a polygon with something that is no number")
    if len(points) % 2:
        raise DataError(f"has a polygon of {len(points)} coordinates: each point needs two")
    if len(points) < 6:
        raise DataError(f"has a polygon of {len(points) // 2} points; three are the least")
    across, down = np.asarray(points, float).reshape(-1, 2).T
    if across.max() < 0 or down.max() < 0 or across.min() > shape[1] or down.min() > shape[0]:
        raise DataError(f"has a polygon outside of its image of {shape[1]}x{shape[0]}")
    return np.ravel_multi_index(inside_of(down - 0.5, across - 0.5, shape), shape)


def is_coordinate(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MAX_COORDINATE


def rle_pixels(segmentation: Mapping[str, Any], shape: tuple[int, int]) -> Pixels:
    """The pixels of runs down the columns, which must fill the image exactly."""
    if segmentation.get("size") != list(shape):
        raise DataError(f"has runs for the size {segmentation.get('size')}; its image has {list(shape)}")
    counts = segmentation.get("counts")
    runs = decode_rle(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise DataError("has runs that are no lengths")
    if sum(runs) != math.prod(shape):
        raise DataError(f"has runs of {sum(runs)} pixels; its image has {math.prod(shape)}")
    flat = np.repeat(np.arange(len(runs)) % 2 > 0, runs)
    return np.flatnonzero(flat.reshape(shape[::-1]).T)


def decode_rle(text: str) -> list[int]:
    """Runs from COCO's text: five bits a letter, the lowest first; from the fourth on, how a run differs from the
    last of its kind. Written out here, for a library in C reads past the end of a text that was cut.
    """
    runs: list[int] = []
    value = shift = 0
    for letter in text.encode():
        bits = letter - 48
        if not 0 <= bits < 64:
            raise DataError("has packed runs with a letter that they cannot have")
        value, shift = value | (bits & 31) << shift, shift + 5
        if bits & 32:  # more to come
            continue
        value -= 1 << shift if bits & 16 else 0  # less than the last of its kind
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise DataError("has packed runs that were cut short")
    return runs
