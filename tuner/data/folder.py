"""Read a folder as a dataset: image and mask folders, label maps, or one folder per class, split or not.

images/ masks/          or  rgb/ figure_ground/        paired by the stem of the file names
images/ labels/         and maybe classes.txt          a class number for each pixel
images/ instances/      or  PNGImages/ PedMasks/       an instance number for each pixel
images/ and a JSON      or images beside it            COCO annotations of instances
CLASS/ CLASS/ ...                                      the folder is the class
train/ val/ test/       around any of them; "valid" and "validation" are val
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tuner.data.coco import (
    READING,
    Annotations,
    annotation_files,
    has_known_name,
    load_annotations,
    read_annotated,
)
from tuner.data.images import check_aspect, read_image, read_instances, read_labels, read_mask
from tuner.data.layouts import (
    LAYOUTS,
    MASK_ENDING,
    PAIRS,
    POSSIBLE_CLASSES,
    Layout,
    describe_deeper,
    find_layouts,
    image_files,
    is_known_pair,
    layout_remarks,
    nested_hint,
    parse_layout,
    resolve_layout,
    subfolders,
)
from tuner.data.source import IGNORED, NO_CLASS, Image, Item, Source, Target
from tuner.data.split import SPLIT_NAMES, hold_out, hold_out_per_class
from tuner.deprecated import renamed_names
from tuner.errors import DataError, bullets, escape, format_names
from tuner.paths import read_text
from tuner.wording import pluralize

TARGET_WORDS = {"masks": "mask", "labels": "label map", "instances": "instance map"}
KINDS = {kind: f"{word}s" for kind, word in TARGET_WORDS.items()} | {
    "annotations": "COCO annotations",
    "classes": "class folders",
}
CLASS_NAMES = "classes.txt"
MOST_CLASSES = IGNORED  # 0 to 254
IGNORE_LINE = re.compile(r"ignore\s*=", re.IGNORECASE)  # of classes.txt


@dataclass(frozen=True)
class SplitContent:
    """The items below one split folder, and their kind."""

    kind: str
    items: list[Item]
    classes: tuple[str, ...] = ()
    annotations: tuple[Annotations, ...] = ()
    remarks: tuple[str, ...] = ()  # about other ways to read the folder


def folder(
    path: Path,
    *,
    name: str = "",
    image_size: int = 256,
    val: float = 0.2,
    split_seed: int = 0,
    split: str = "stable",
    layout: str = "",
    ignore: int = IGNORED,
) -> Source:
    """Open a folder as a dataset. Existing val/ and test/ are kept; without val/, part of train is held out.

    Of several layouts in which it can be read, the first is taken, or the one that is asked for. In label maps,
    pixels of the number `ignore` are ignored, as those of 255.
    """
    if wrong := ignore_problem(ignore):
        raise DataError(wrong)
    path, wanted = path.absolute(), parse_layout(layout)
    splits = {name: read_split(part, name, wanted) for name, part in split_folders(path, wanted).items()}
    kinds = {part.kind for part in splits.values()}
    if len(kinds) > 1:
        mixed = " and ".join(KINDS[kind] for kind in sorted(kinds))
        raise DataError(f"{path} mixes {mixed} between its splits. Use one layout: {LAYOUTS}.")
    if kinds != {"labels"}:
        refuse_ignored(path, ignore, *kinds)
    divide = hold_out_per_class if kinds == {"classes"} else hold_out
    given = tuple(item for part in splits.values() for item in part.items)
    items = divide(given, val, split_seed, split)
    for needed in ("train", "val"):
        if not any(item.split == needed for item in items):
            raise DataError(f"{path} gives no {needed} image; at least two images outside test/ are needed.")
    label, remarks = name or escape(path.name), splits["train"].remarks
    if kinds == {"annotations"}:
        source = make_coco_source(label, path, items, [one for p in splits.values() for one in p.annotations])
        return replace(source, remarks=remarks + source.remarks)
    if kinds == {"classes"}:
        names = common_classes(path, {name: part.classes for name, part in splits.items()})
        remarks += division_remarks(given, items, val) if split == "exact" else ()
        return Source(label, str(path), "classes", items, read_with_class, names, remarks=remarks)
    (kind,) = kinds
    reading = kind if wanted and not is_known_pair(wanted) else ""  # the same files may be read as another kind
    source = Source(label, str(path), kind, items, READERS[kind], reading=reading, remarks=remarks)
    return add_class_names(source, path, ignore) if kind == "labels" else source


def division_remarks(given: tuple[Item, ...], items: tuple[Item, ...], val: float) -> tuple[str, ...]:
    """Return a remark if the classes need another number of validation images than the fraction `val`."""
    if any(item.split == "val" for item in given):
        return ()
    wanted = round(val * sum(item.split == "train" for item in given))
    held = sum(item.split == "val" for item in items)
    if held in (wanted, 1):
        return ()
    return (f"{held} images are held out, not {wanted}: each class of two or more has one on each side",)


def split_folders(path: Path, wanted: Layout | None) -> dict[str, Path]:
    """Return the split folders inside `path`, or `path` itself as the training split."""
    if not path.exists():
        raise DataError(f"folder {path} does not exist.")
    if not path.is_dir():
        raise DataError(f"{path} is a file; a folder of images is needed: {LAYOUTS}.")
    if has_known_name(path) and (wanted is None or wanted.name == "coco"):
        return {"train": path}
    given: dict[str, Path] = {}
    for part in subfolders(path):
        split = SPLIT_NAMES.get(part.name.lower())
        if split in given:
            raise DataError(f"{path} has both {given[split].name}/ and {part.name}/. Keep one {split} folder.")
        if split:
            given[split] = part
    if given and "train" not in given:
        raise DataError(f"{path} has {format_names(sorted(given))} but no train folder.")
    return given or {"train": path}


def read_split(path: Path, split: str, wanted: Layout | None) -> SplitContent:
    """Return the kind of targets and the items below one split folder; never empty."""
    layouts = [resolve_layout(path, wanted)] if wanted else find_layouts(path)
    if not wanted and (not layouts or layouts[0].name == "classes"):
        refuse_unpaired(path, {folder.name.lower(): folder for folder in subfolders(path)})
    found = read_layout(path, split, layouts[0] if layouts else Layout("classes"))
    if found.items:
        return found if wanted or not layouts else replace(found, remarks=tuple(layout_remarks(path, layouts)))
    loose = sum(1 for _ in image_files(path))
    holds = f"{pluralize(loose, 'image')} outside any class folder" if loose else "no images"
    if not nested_hint(path) and (deeper := describe_deeper(path)):
        raise DataError(f"{path} holds {holds}; {deeper}.")
    raise DataError(f"{path} holds {holds}. Expected {LAYOUTS}.{nested_hint(path)}")


def read_layout(path: Path, split: str, layout: Layout) -> SplitContent:
    if layout.name == "coco":
        return read_annotations(path, split)
    if layout.name == "classes":
        return read_class_folders(path, subfolders(path), split)
    pair = (path / layout.images, path / layout.targets)
    return SplitContent(layout.name, pair_files(*pair, split, TARGET_WORDS[layout.name]))


def read_annotations(path: Path, split: str) -> SplitContent:
    """Return the items of the folder's JSON file, or of several with the split in their names."""
    files = annotation_files(path)
    splits = files if len(files) > 1 else dict.fromkeys([split], *files.values())
    found = [load_annotations(file, path, part) for part, file in splits.items()]
    items = [item for part_items, _ in found for item in part_items]
    return SplitContent("annotations", items, annotations=tuple(annotations for _, annotations in found))


def make_coco_source(name: str, path: Path, items: tuple[Item, ...], found: list[Annotations]) -> Source:
    listed = Counter(item.image for item in items)
    if twice := sorted(file.name for file, number in listed.items() if file and number > 1):
        raise DataError(
            f"{path}: images are listed in several splits: {format_names(twice)}. Keep each in one JSON file."
        )
    images = {image.file: image for one in found for image in one.images}
    remarks = [remark for one in found for remark in one.remarks]
    beside = {file for place in {file.parent for file in images} for file in image_files(place)}
    if lone := sorted(file.name for file in beside - images.keys()):
        remarks.append(f"{pluralize(len(lone), 'image')} ignored, in no JSON file: {format_names(lone)}")
    read = partial(read_annotated, images)
    return Source(name, str(path), "instances", items, read, reading=READING, remarks=tuple(remarks))


def refuse_unpaired(path: Path, folders: Mapping[str, Path]) -> None:
    """Raise DataError for an images folder without masks, or masks without images: not class folders."""
    names = dict.fromkeys(name for pair in PAIRS for name in pair[:2] if name.lower() in folders)
    for known in (name for name in names if name not in POSSIBLE_CLASSES):
        partners = [b if known == a else a for a, b, _ in PAIRS if known in (a, b)]
        others = ["annotations.json"] if known == "images" else []
        missing = " or ".join([*(f"{name}/" for name in partners), *others])
        raise DataError(f"{path} has {folders[known.lower()].name}/ but no {missing} beside it.")


def pair_files(images: Path, masks: Path, split: str, what: str = "mask") -> list[Item]:
    """Return pairs by stem; DataError lists every image without a mask and mask without an image."""
    pictures = files_by_stem(images)
    truths = files_by_stem(masks, pictures)
    one = f"an {what}" if what[0] in "aeio" else f"a {what}"
    lone = {
        f"images without {one}": sorted(pictures.keys() - truths),
        f"{what}s without an image": sorted(truths.keys() - pictures),
    }
    if wrong := [f"{len(names)} {which}: {format_names(names)}" for which, names in lone.items() if names]:
        raise DataError(f"{images.parent}: every image needs {one} of the same name.{bullets(wrong)}")
    return [Item(stem, split, pictures[stem], truths[stem]) for stem in sorted(pictures)]


def files_by_stem(path: Path, images: Container[str] | None = None) -> dict[str, Path]:
    """Return files by stem, refusing duplicates. A mask may add "_mask" to the stem of its image."""
    found: dict[str, Path] = {}
    for file in image_files(path):
        stem = unicodedata.normalize("NFC", file.stem)  # macOS stores accents as separate characters
        if images is not None and stem not in images:
            stem = MASK_ENDING.sub("", stem)
        if stem in found:
            raise DataError(
                f"{path} holds both {found[stem].name} and {file.name}; names without suffix must be unique."
            )
        found[stem] = file
    return found


def read_class_folders(path: Path, folders: list[Path], split: str) -> SplitContent:
    """Return an item for each image of each class folder; class numbers follow the sorted names."""
    files = {escape(folder.name): list(image_files(folder)) for folder in folders}
    empty = [name for name, inside in files.items() if not inside]
    if empty and any(files.values()):
        deeper = describe_deeper(path, [folder for folder in folders if not files[escape(folder.name)]])
        raise DataError(
            f"{path}: class folders without an image: {format_names(empty)}{'; ' if deeper else ''}{deeper}."
        )
    items = [
        Item(f"{name}/{file.stem}", split, file, number)
        for number, (name, inside) in enumerate(files.items())
        for file in inside
    ]
    return SplitContent("classes", items, tuple(files))


def common_classes(path: Path, splits: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the names of the classes, two or more, which must be the same in all splits."""
    train = splits["train"]
    for split, known in splits.items():
        if unknown := sorted({*known} ^ {*train}):
            where = [f"{name} (only in {split if name in known else 'train'})" for name in unknown]
            raise DataError(f"{path}: train and {split} hold different classes: {format_names(where)}.")
    if len(train) < 2:
        raise DataError(f"{path} holds one folder of images, {train[0]}/. Expected {LAYOUTS}.")
    return train


def ignore_problem(ignore: object) -> str:
    """Return what is wrong with the argument `ignore` of a folder, or ""."""
    if isinstance(ignore, int) and not isinstance(ignore, bool) and 0 <= ignore <= IGNORED:
        return ""
    return f"ignore is {ignore!r}; a class number from 0 to {IGNORED} is needed, and {IGNORED} is always ignored."


def add_class_names(source: Source, path: Path, ignore: int = IGNORED) -> Source:
    """Return a source of label maps with the class names of classes.txt, and without the number to ignore."""
    names, ignored = read_class_names(path)
    says = f"{CLASS_NAMES} says ignore={ignored}"
    if ignore not in (IGNORED, ignored):
        file = path / CLASS_NAMES
        if ignored is not None:
            raise DataError(
                f"the data has ignore={ignore}, and {file} says ignore={ignored}. Keep one of the two."
            )
        if ignore < len(names):
            raise DataError(
                f"the data has ignore={ignore}, and {file} names this number '{names[ignore]}'. Give a number "
                f"without a name, or write the line ignore={ignore} in the place of this name."
            )
        ignored, says = ignore, f"the data has ignore={ignore}"
    if ignored is None:
        return replace(source, classes=names)
    read = partial(read_target, partial(read_labels, ignored=ignored), TARGET_WORDS["labels"])
    reading = " ".join(filter(None, [source.reading, f"ignore={ignored}"]))
    remarks = (*source.remarks, f"{says}: pixels of this number are ignored, as those of {IGNORED} are")
    return replace(source, classes=names, read=read, reading=reading, remarks=remarks, ignored=ignored)


def read_class_names(path: Path) -> tuple[tuple[str, ...], int | None]:
    """Return the class names of classes.txt in the order of their numbers, and the number that it ignores.

    Without such a file, or with a line `ignore=NUMBER` alone, there are no names. Among the names, the line stands
    in the place of its number.
    """
    file = path / CLASS_NAMES
    names, ignored = class_lines(file), None
    if at := [number for number, line in enumerate(names) if IGNORE_LINE.match(line)]:
        if len(at) > 1:
            raise DataError(f"{file} has {len(at)} lines ignore=NUMBER; one is allowed.")
        ignored = parse_ignored(file, names.pop(at[0]))
        if at == [ignored] and ignored < len(names):
            names.insert(ignored, NO_CLASS)
        elif ignored < len(names):
            raise DataError(
                f"{file} says ignore={ignored}, and {ignored} is also the class '{names[ignored]}'. Names are "
                f"numbered from 0: write ignore={ignored} in the place of this name."
            )
        elif not names:
            return (), ignored
    if twice := [name for name, number in Counter(names).items() if number > 1]:
        raise DataError(f"{file} lists a class twice: {format_names(twice)}.")
    if file.exists() and not 2 <= len(names) <= MOST_CLASSES:
        raise DataError(f"{file} lists {len(names)} classes; 2 to {MOST_CLASSES} are allowed, one per line.")
    return tuple(names), ignored


def class_lines(file: Path) -> list[str]:
    """Return the lines of classes.txt that are not blank; [] without such a file."""
    lines = read_text(file, DataError).splitlines() if file.exists() else []
    return [line.strip() for line in lines if line.strip()]


def parse_ignored(file: Path, line: str) -> int:
    value = line.partition("=")[2].strip()
    if not (value.isascii() and value.isdigit() and int(value[:9]) < MOST_CLASSES):
        raise DataError(
            f"{file} says {line}; a class number from 0 to {MOST_CLASSES - 1} is needed, and {IGNORED} is ignored "
            "without it."
        )
    return int(value)


def refuse_ignored(path: Path, ignore: int, kind: str) -> None:
    """Raise DataError if `ignore` or classes.txt ignores a number of targets that are not label maps."""
    if ignore != IGNORED:
        raise DataError(f"the data has ignore={ignore}, which needs label maps; {path} holds {KINDS[kind]}.")
    file = path / CLASS_NAMES
    if found := [line for line in class_lines(file) if IGNORE_LINE.match(line)]:
        raise DataError(
            f"{file} says {found[0]}, which needs label maps; {path} holds {KINDS[kind]}. Remove this line."
        )


def read_target(read: Callable[[Path], NDArray[Any]], word: str, item: Item) -> tuple[Image, NDArray[Any]]:
    """Return the image and the target file of an item; DataError if their aspects differ."""
    assert isinstance(item.image, Path) and isinstance(item.target, Path)
    image, target = read_image(item.image), read(item.target)
    check_aspect(item.target, target, image, word)
    return image, target


read_with_mask = partial(read_target, read_mask, TARGET_WORDS["masks"])
read_with_labels = partial(read_target, read_labels, TARGET_WORDS["labels"])
read_with_instances = partial(read_target, read_instances, TARGET_WORDS["instances"])
READERS = {"masks": read_with_mask, "labels": read_with_labels, "instances": read_with_instances}


def read_with_class(item: Item) -> tuple[Image, Target]:
    assert isinstance(item.image, Path) and isinstance(item.target, int)
    return read_image(item.image), item.target


__getattr__ = renamed_names(__name__)
