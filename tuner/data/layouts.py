"""The layouts in which a folder can be read, the one that is taken, and the one that a user asks for.

A layout is a name such as "masks", or with the names of the two folders, "masks=photos,truth".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tuner.data.coco import annotation_files, has_known_name, json_files
from tuner.data.images import SUFFIXES
from tuner.data.split import SPLIT_NAMES
from tuner.errors import DataError, format_names
from tuner.registry import unknown_choice
from tuner.wording import pluralize

PAIRS = (
    ("images", "masks", "masks"),
    ("images", "labels", "labels"),
    ("images", "instances", "instances"),
    ("rgb", "figure_ground", "masks"),
    ("PNGImages", "PedMasks", "instances"),
    ("horse", "mask", "masks"),
    ("image", "mask", "masks"),
)
PAIRED = ("masks", "labels", "instances")
LAYOUT_NAMES = (*PAIRED, "coco", "classes")
LAYOUTS = (
    "images/ + masks/, rgb/ + figure_ground/, images/ + labels/, images/ + instances/, PNGImages/ + PedMasks/, "
    "horse/ + mask/, image/ + mask/, "
    "images/ + annotations.json (COCO), or one folder per class, each also inside train/ val/ test/"
)
POSSIBLE_CLASSES = ("horse", "mask")  # names of pairs that may also be classes
PAIR_WORDS = {name.lower() for pair in PAIRS for name in pair[:2]}
MASK_ENDING = re.compile(r"_(mask|segmentation|gt|labels?|instances?)\Z", re.IGNORECASE)
TARGET_WORD = re.compile(r"mask|truth|gt|label|seg|annot|target|instance", re.IGNORECASE)
SAME_NAMES = 0.9  # of the files of two folders, from which on these may be images with their masks
READ_AS = "read as"  # begins each remark on how a folder is read
MAX_NESTED = 3  # folders


@dataclass(frozen=True)
class Layout:
    """One way to read a folder; of pairs, with the names of the two folders, or without to find them."""

    name: str
    images: str = ""
    targets: str = ""

    def __str__(self) -> str:
        if self.images:
            return f"{self.images}/ + {self.targets}/ ({self.name})"
        return {"coco": "COCO annotations", "classes": "class folders"}.get(self.name, self.name)

    @property
    def option(self) -> str:
        """The option of the command line that asks for it."""
        return f"--layout {self.name}" + (f"={self.images},{self.targets}" if self.images else "")


def layout_problem(layout: object) -> str:
    """Return what is wrong with the text of a layout, or ""."""
    name, _, pair = str(layout).partition("=")
    if not isinstance(layout, str) or (layout and name not in LAYOUT_NAMES):
        return unknown_choice("layout", layout if "=" not in str(layout) else name, LAYOUT_NAMES)
    if "=" not in layout:
        return ""
    names = pair.split(",")
    if name not in PAIRED:
        return f"layout is {layout!r}; {name} has no pair of folders: write {name!r}."
    if len(names) != 2 or not all(map(str.strip, names)):
        return (
            f"layout is {layout!r}; the folders of the images and of the {name} are needed: {name}=images,{name}."
        )
    return ""


def parse_layout(layout: str) -> Layout | None:
    """Return the layout that a text asks for, or None for an empty one; DataError if it is not one."""
    if wrong := layout_problem(layout):
        raise DataError(wrong)
    name, _, pair = layout.partition("=")
    images, _, targets = pair.partition(",")
    return Layout(name, images.strip().rstrip("/"), targets.strip().rstrip("/")) if layout else None


def find_layouts(path: Path) -> list[Layout]:
    """Return every way in which a folder can be read, the one that is taken first."""
    inside = subfolders(path)
    folders = {folder.name.lower(): folder for folder in inside}
    pairs = find_pairs(folders)
    loose = [pair for pair in pairs if {pair.images.lower(), pair.targets.lower()} <= {*POSSIBLE_CLASSES}]
    found = [pair for pair in pairs if pair not in loose]
    if has_annotations(path, folders):
        found.append(Layout("coco"))
    classes = [Layout("classes")] if may_be_classes(inside) else []
    found += [*loose, *classes] if len(inside) == 2 else [*classes, *loose]
    return [*found[:1], *(layout for layout in found[1:] if is_filled(path, layout, folders))]


def find_pairs(folders: Mapping[str, Path]) -> list[Layout]:
    """Return the known pairs among folders by their names in lower case."""
    known = [(folders.get(a.lower()), folders.get(b.lower()), name) for a, b, name in PAIRS]
    return [Layout(name, images.name, targets.name) for images, targets, name in known if images and targets]


def is_known_pair(layout: Layout) -> bool:
    """Return whether the folders of a layout, unless they are to be found, are read in this way by their names."""
    pair = (layout.images.lower(), layout.targets.lower(), layout.name)
    return not layout.images or pair in {(a.lower(), b.lower(), name) for a, b, name in PAIRS}


def has_annotations(path: Path, folders: Mapping[str, Path]) -> bool:
    """Return whether a JSON file describes the images; beside class folders, only one of a known name does."""
    alone = "images" in folders or len(folders) < 2
    return has_known_name(path) or (alone and bool(json_files(path)))


def may_be_classes(inside: list[Path]) -> bool:
    """Return whether every folder holds images, and not just those of a pair that can be nothing else."""
    names = {folder.name.lower() for folder in inside}
    is_pair = names & (PAIR_WORDS - {*POSSIBLE_CLASSES}) and names <= PAIR_WORDS
    return len(inside) > 1 and not is_pair and not names & SPLIT_NAMES.keys() and all(map(has_images, inside))


def is_filled(path: Path, layout: Layout, folders: Mapping[str, Path]) -> bool:
    """Return whether a second way to read a folder would find anything."""
    if layout.name == "coco":
        return has_known_name(path)
    return all(has_images(folders[name.lower()]) for name in (layout.images, layout.targets) if name)


def resolve_layout(path: Path, wanted: Layout) -> Layout:
    """Return the layout that a user asks for with the folders it has in `path`; DataError if these are missing."""
    inside = subfolders(path)
    folders = {folder.name.lower(): folder.name for folder in inside}
    has = f"it has {format_names([f'{name}/' for name in folders.values()])}" if folders else "it has no folders"
    if wanted.name == "coco" and not annotation_files(path):
        raise DataError(f"{wanted.option}: {path} has no JSON file of annotations.")
    if wanted.images:
        names = (wanted.images, wanted.targets)
        if missing := [name for name in names if name.lower() not in folders]:
            raise DataError(f"{wanted.option}: {path} has no {missing[0]}/; {has}.")
        return Layout(wanted.name, *(folders[name.lower()] for name in names))
    if wanted.name not in PAIRED:
        return wanted
    known = find_pairs({folder.name.lower(): folder for folder in inside})
    if found := [pair for pair in known if pair.name == wanted.name]:
        return found[0]
    raise DataError(
        f"{wanted.option}: {path} has no pair of folders for it; {has}. Name them: {wanted.option}=IMAGES,TARGETS"
    )


def layout_remarks(path: Path, found: list[Layout]) -> list[str]:
    """Return a remark if a folder can be read in another way than the first, with the option that asks for it."""
    taken, *others = found
    named = [Layout(each.name) if each == first_of(each.name, found) else each for each in others]
    if others:
        ways = " or ".join(f"{way}: {short.option}" for way, short in zip(others, named, strict=True))
        return [f"{READ_AS} {taken}; it can also be read as {ways}"]
    return [describe_twins(*pair)] if taken.name == "classes" and (pair := find_twins(path)) else []


def first_of(name: str, layouts: list[Layout]) -> Layout:
    return next(layout for layout in layouts if layout.name == name)


def find_twins(path: Path) -> tuple[str, str] | None:
    """Return two folders whose files have the same names: those of the images, and of what may be their masks."""
    inside = subfolders(path)
    if len(inside) != 2:
        return None
    stems = [{MASK_ENDING.sub("", file.stem) for file in image_files(folder)} for folder in inside]
    common = len(stems[0] & stems[1])
    if common < 2 or common < SAME_NAMES * max(map(len, stems)):
        return None
    images, targets = sorted(
        inside, key=lambda folder: (bool(TARGET_WORD.search(folder.name)), -total_size(folder))
    )
    return images.name, targets.name


def describe_twins(images: str, targets: str) -> str:
    names = " and ".join(sorted((images, targets)))
    ask = Layout("masks", images, targets).option
    return (
        f"{READ_AS} the classes {names}, whose files have the same names. If {targets}/ holds masks of {images}/: "
        f"{ask} (labels and instances likewise)"
    )


def total_size(folder: Path) -> int:
    return sum(file.stat().st_size for file in image_files(folder))


def nested_hint(path: Path) -> str:
    """Return a hint at the only folder inside, or inside that, if it can be read; else ""."""
    for _ in range(MAX_NESTED):
        inside = subfolders(path)
        if len(inside) != 1:
            break
        (path,) = inside
        parts = [part for part in subfolders(path) if part.name.lower() in SPLIT_NAMES]
        if any(find_layouts(part) for part in (path, *parts)):
            return f" Did you mean {path}?"
    return ""


def describe_deeper(path: Path, folders: list[Path] | None = None) -> str:
    """Return how many images are in folders of the folders of `path`, and what to do; or ""."""
    outer = subfolders(path) if folders is None else folders
    inner = [(one, sum(1 for _ in image_files(one))) for folder in outer for one in subfolders(folder)]
    found = [(one, number) for one, number in inner if number]
    if not found:
        return ""
    shown = format_names([f"{one.parent.name}/{one.name}/ ({number})" for one, number in found], 3)
    total = pluralize(sum(number for _, number in found), "image")
    first = found[0][0]
    if first.name.lower() in SPLIT_NAMES:
        todo = f"split folders go outside: {first.name}/{first.parent.name}/"
    elif first.parent.name.lower() in PAIR_WORDS:
        todo = f"move them into {first.parent.name}/"
    else:
        todo = (
            f"a class folder holds its images itself: move them into {first.parent.name}/, or give "
            f"{first.parent} as the data, whose folders are then the classes"
        )
    return f"{total} one level deeper, in {shown}; {todo}"


def subfolders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith((".", "__")))


def image_files(path: Path) -> Iterator[Path]:
    for file in sorted(path.iterdir()):
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and not file.is_dir():
            yield file


def has_images(folder: Path) -> bool:
    return any(image_files(folder))
