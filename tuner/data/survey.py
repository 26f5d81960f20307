"""Look at every file of a dataset once: can it be decoded, what is its content's hash?

The findings are remembered by path, size and time of change, so that the next look takes milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tuner.console import ProgressCallback
from tuner.data.instances import find_touching
from tuner.data.source import IGNORED, Image, Item, Source, Target
from tuner.errors import DataError, first_lines, some, writing


@dataclass(frozen=True)
class Finding:
    """What one look at an item found; `stamp` tells whether its files changed since."""

    stamp: list[list[int]]
    digest: str
    size: list[int]
    problem: str = ""
    notice: str = ""
    values: list[int] | None = None  # the numbers met in a label map; None where nobody looked
    things: list[int] | None = None  # of instances: how many, how many touch another, smallest and largest area

    @property
    def labels(self) -> list[int]:
        """The class numbers met, in order; the last is the highest."""
        return [value for value in self.values or [] if value != IGNORED]


@dataclass(frozen=True)
class Survey:
    """`fingerprint` stands for the content of all items that a search may see; `classes` are named.

    Label maps whose classes have no names are named by their numbers, up to the highest met. A mask has none.
    """

    fingerprint: str
    findings: dict[str, Finding]
    classes: tuple[str, ...] = ()
    unlearnable: tuple[str, ...] = ()  # classes that validation asks for and no training image shows
    remarks: tuple[str, ...] = ()  # on the dataset as a whole

    def notices(self) -> list[str]:
        strange = list(self.remarks)
        strange += [f"class '{name}' is in validation and in no training image" for name in self.unlearnable]
        return strange + [f"{Path(key).name}: {f.notice}" for key, f in self.findings.items() if f.notice]


def survey(source: Source, memory: Path, progress: ProgressCallback | None = None) -> Survey:
    """Survey a source; DataError names every file that cannot be used. `memory` is a folder of ours."""
    if source.revision:
        return Survey(fingerprint(source, {}), {}, source.classes)
    place = f"{source.where}\0{source.reading}" if source.reading else source.where
    notes = memory / f"survey-{hashlib.sha256(place.encode()).hexdigest()[:12]}.json"
    known = read_findings(notes)
    findings = dict(inspect_items(source, known, progress))
    if findings != known:
        write_findings(notes, findings)
    bad = [found.problem for found in findings.values() if found.problem] + label_problems(source, findings)
    if bad:
        raise DataError(f"{source.where}: {len(bad)} of {len(findings)} items cannot be used.{first_lines(bad)}")
    classes = source.classes or number_classes(source, findings)
    key = fingerprint(replace(source, classes=classes), findings)
    remarks = (*source.remarks, *instance_remarks(source, findings))
    return Survey(key, findings, classes, find_unlearnable(source, findings, classes), remarks)


def instance_remarks(source: Source, findings: dict[str, Finding]) -> Iterator[str]:
    """What is odd about the number of instances; DataError where there is none to learn from."""
    if source.targets != "instances":
        return

    def most(split: str) -> int:
        return max(((findings[item_name(item)].things or [0])[0] for item in source.split(split)), default=0)

    if not most("train"):
        raise DataError(f"{source.where}: no training image has an instance; there is nothing to learn from.")
    if not most("val"):
        yield "no validation image has an instance"
    if max(most("train"), most("val")) == 1 and all(item.target for item in source.items):
        yield "no image has more than one instance; black and white masks belong into masks/"


def find_unlearnable(source: Source, findings: dict[str, Finding], classes: tuple[str, ...]) -> tuple[str, ...]:
    """Classes that a model is asked for in validation and never shown."""

    def shown(split: str) -> set[int]:
        items = source.split(split)
        if source.targets == "labels":
            return {label for item in items for label in findings[item_name(item)].labels}
        return {item.target for item in items if isinstance(item.target, int)}

    return tuple(classes[number] for number in sorted(shown("val") - shown("train")))


def label_problems(source: Source, findings: dict[str, Finding]) -> list[str]:
    """Every label map with a number that is none of the named classes."""
    number = len(source.classes)
    if source.targets != "labels" or not number:
        return []
    lines = []
    for item in source.items:
        if strange := [str(value) for value in findings[item_name(item)].labels if value >= number]:
            holds = f"label map {Path(str(item.target)).name} holds {some(strange)}"
            lines.append(f"{holds}; the {number} classes are 0 to {number - 1}, and {IGNORED} is ignored")
    return lines


def number_classes(source: Source, findings: dict[str, Finding]) -> tuple[str, ...]:
    """Numbers as names of the classes of label maps, up to the highest met in any split."""
    if source.targets != "labels":
        return ()
    highest = max((found.labels[-1] for found in findings.values() if found.labels), default=-1)
    if highest < 1:
        held = "no class" if highest < 0 else "the class 0 only"
        raise DataError(
            f"{source.where}: its label maps hold {held}; two classes are the least. {IGNORED} is ignored; "
            "black and white masks belong into masks/."
        )
    return tuple(map(str, range(highest + 1)))


def inspect_items(
    source: Source, known: dict[str, Finding], progress: ProgressCallback | None
) -> Iterable[tuple[str, Finding]]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda item: inspect_item(source, item, known.get(item_name(item))), source.items)
        for done, (item, finding) in enumerate(zip(source.items, found, strict=True), start=1):
            if progress:
                progress(done, len(source.items))
            yield item_name(item), finding


def item_name(item: Item) -> str:
    """Unique over the splits: the image's file, or the key of a generated item."""
    return str(item.image or item.key)


def inspect_item(source: Source, item: Item, known: Finding | None) -> Finding:
    """Decode an item fully, unless its files are as they were at the last look."""
    files = [path for path in (item.image, item.target) if isinstance(path, Path)]
    try:
        stamp = [[f.stat().st_size, f.stat().st_mtime_ns] for f in files]
        stamp += [[int(item.content, 16)]] if item.content else []
        if known and known.stamp == stamp and has_all_fields(known, source.targets):
            return known
        sums = b"".join(hashlib.sha256(f.read_bytes()).digest() for f in files)
        digest = hashlib.sha256(sums + item.content.encode()).hexdigest()
        image, target = source.read(item)
    except DataError as error:
        return Finding([], "", [], problem=str(error))
    except OSError as error:
        return Finding([], "", [], problem=f"{Path(error.filename or '').name} cannot be read ({error.strerror})")
    values = label_values(target) if source.targets == "labels" else None
    if source.targets == "instances" and not isinstance(target, int):
        things, notice = count_instances(target), instance_notice(image, target, item.named)
        return Finding(stamp, digest, [image.shape[1], image.shape[0]], notice=notice, things=things)
    notice = item_notice(image, target, values)
    return Finding(stamp, digest, [image.shape[1], image.shape[0]], notice=notice, values=values)


def has_all_fields(known: Finding, targets: str) -> bool:
    """Whether a finding from before holds what these targets ask for."""
    asked = {"labels": known.values, "instances": known.things}
    return asked.get(targets, []) is not None


def count_instances(labels: NDArray[np.integer]) -> list[int]:
    """How many instances there are, how many touch another, the smallest and the largest area in pixels."""
    areas = instance_areas(labels)
    smallest, largest = (int(areas.min()), int(areas.max())) if len(areas) else (0, 0)
    return [len(areas), len(find_touching(labels)), smallest, largest]


def instance_areas(labels: NDArray[np.integer]) -> NDArray[np.int64]:
    areas = np.bincount(np.ravel(labels))[1:]
    return areas[areas > 0]


def instance_notice(image: Image, labels: NDArray[np.integer], named: int) -> str:
    """What is odd about instances that can be used all the same; `named`, how many were spoken of."""
    areas = instance_areas(labels)
    notes = []
    if is_one_color(image):
        notes.append("a picture of one colour")
    if not len(areas):
        notes.append("no instance")
    if dots := int((areas == 1).sum()):
        notes.append(f"{dots} of its {len(areas)} instances have one pixel")
    if named > len(areas):
        lost = f"{named - len(areas)} of its {named} annotations have no pixel"
        notes.append(f"{lost}: of no area, too small, or hidden under others")
    return "; ".join(notes)


def label_values(target: Target) -> list[int]:
    """The numbers in a label map; counting is ten times as fast as sorting."""
    return [int(value) for value in np.flatnonzero(np.bincount(np.ravel(target), minlength=IGNORED + 1))]


def item_notice(image: Image, target: Target, values: list[int] | None) -> str:
    """What is odd about an item that can be used all the same."""
    if is_one_color(image):
        return "a picture of one colour"
    if values is not None:
        return "a label map with every pixel ignored" if values == [IGNORED] else ""
    return "an empty mask" if not isinstance(target, int) and not target.any() else ""


def is_one_color(image: Image) -> bool:
    return value_range(image[::8, ::8]) < 8 and value_range(image) < 8  # a few pixels answer for most pictures


def value_range(image: Image) -> int:
    return int(np.ptp(image, axis=(0, 1)).max())


def fingerprint(source: Source, findings: Mapping[str, Finding]) -> str:
    """One hash over the names, splits and contents of what a search sees; the test split is left out."""
    whole = hashlib.sha256("\0".join((source.targets, *source.classes, *filter(None, [source.reading]))).encode())
    for item in source.split("train", "val"):
        digest = source.revision or findings[item_name(item)].digest
        whole.update(f"{item.key}\0{item.split}\0{digest}\0".encode())
    return whole.hexdigest()[:16]


def read_findings(notes: Path) -> dict[str, Finding]:
    try:
        return {key: Finding(**found) for key, found in json.loads(notes.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def write_findings(notes: Path, findings: dict[str, Finding]) -> None:
    """Write aside, then rename: two processes at once leave one whole file."""
    with writing(notes):
        notes.parent.mkdir(parents=True, exist_ok=True)
        aside = notes.with_suffix(f".{os.getpid()}.tmp")
        aside.write_text(json.dumps({key: asdict(found) for key, found in findings.items()}))
        aside.replace(notes)
