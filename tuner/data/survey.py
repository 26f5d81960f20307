"""Check every file of a dataset once: whether it can be decoded, and the hash of its content.

Findings are stored with path, size and modification time, so that the next survey takes milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.console import ProgressCallback
from tuner.data.images import decoding, decoding_threads
from tuner.data.instances import find_touching
from tuner.data.limits import PIXEL_LIMIT
from tuner.data.remarks import join_notices
from tuner.data.source import IGNORED, Image, Item, Source
from tuner.errors import DataError, create_file, first_lines, format_names
from tuner.paths import encode_name, hash_file
from tuner.wording import pluralize


@dataclass(frozen=True)
class Finding:
    """The result of checking one item; `stamp` shows whether its files changed since."""

    stamp: list[list[int]]
    digest: str
    size: list[int]
    problem: str = ""
    notice: str = ""
    values: list[int] | None = None  # the numbers in a label map; None for other targets
    pixels: list[int] | None = None  # of each of these numbers
    things: list[int] | None = None  # instances: number, number touching another, min and max area
    image: str = ""  # the hash of the image's file; "" in findings of earlier versions

    @property
    def labels(self) -> list[int]:
        """The class numbers, in order."""
        return [value for value in self.values or [] if value != IGNORED]


@dataclass(frozen=True)
class Survey:
    """The fingerprint of all items of a search, the finding of each item, and the class names.

    Label maps without class names are named by their numbers, up to the highest. Masks have no classes.
    """

    fingerprint: str
    findings: dict[str, Finding]
    classes: tuple[str, ...] = ()
    unlearnable: tuple[str, ...] = ()  # classes in validation that no training image has
    remarks: tuple[str, ...] = ()  # about the dataset as a whole

    def notices(self) -> list[str]:
        """Return the remarks and the notices about items, as lines."""
        strange = list(self.remarks)
        strange += [f"class '{name}' is in validation and in no training image" for name in self.unlearnable]
        return [
            *strange,
            *join_notices((Path(key).name, f.notice) for key, f in self.findings.items() if f.notice),
        ]


def survey(source: Source, memory: Path, progress: ProgressCallback | None = None) -> Survey:
    """Survey a source; DataError lists every unusable file. `memory` is the folder of stored findings."""
    if source.revision:
        return Survey(fingerprint(source, {}), {}, source.classes)
    place = f"{source.where}\0{source.reading}" if source.reading else source.where
    notes = memory / f"survey-{hashlib.sha256(encode_name(place)).hexdigest()[:12]}.json"
    known = read_findings(notes)
    findings = dict(inspect_items(source, known, progress))
    if findings != known:
        with create_file(notes) as beside:  # atomically: two processes at once leave one complete file
            beside.write_text(json.dumps({key: asdict(found) for key, found in findings.items()}))
    bad = [found.problem for found in findings.values() if found.problem]
    bad += label_problems(source, findings)
    if bad:
        raise DataError(
            f"{source.where}: {len(bad)} of {pluralize(len(findings), 'item')} cannot be used.{first_lines(bad)}"
        )
    classes = source.classes or number_classes(source, findings)
    key = fingerprint(replace(source, classes=classes), findings)
    remarks = (*source.remarks, *instance_remarks(source, findings))
    return Survey(key, findings, classes, find_unlearnable(source, findings, classes), remarks)


def instance_remarks(source: Source, findings: dict[str, Finding]) -> Iterator[str]:
    """Yield remarks on the number of instances; DataError if no training image has one."""
    if source.targets != "instances":
        return

    def most(split: str) -> int:
        return max(((findings[item_name(item)].things or [0])[0] for item in source.split(split)), default=0)

    if not most("train"):
        raise DataError(f"{source.where}: no training image has an instance; nothing can be learned.")
    if not most("val"):
        yield "no validation image has an instance"
    if max(most("train"), most("val")) == 1 and all(item.target for item in source.items):
        yield "no image has more than one instance; black and white masks belong in masks/"


def find_unlearnable(source: Source, findings: dict[str, Finding], classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the classes that occur in validation but not in training."""

    def classes_in(split: str) -> set[int]:
        items = source.split(split)
        if source.targets == "labels":
            return {label for item in items for label in findings[item_name(item)].labels}
        return {item.target for item in items if isinstance(item.target, int)}

    return tuple(classes[number] for number in sorted(classes_in("val") - classes_in("train")))


def label_problems(source: Source, findings: dict[str, Finding]) -> Iterator[str]:
    """Yield a line for every label map with a number outside the named classes."""
    number = len(source.classes)
    if source.targets != "labels" or not number:
        return
    for item in source.items:
        if strange := [value for value in findings[item_name(item)].labels if value >= number]:
            holds = f"label map {Path(str(item.target)).name} holds {format_names(map(str, strange))}"
            yield f"{holds}; the {number} classes are 0 to {number - 1}, and {IGNORED} is ignored"


def number_classes(source: Source, findings: dict[str, Finding]) -> tuple[str, ...]:
    """Return numbers as class names of label maps, up to the highest in any split."""
    if source.targets != "labels":
        return ()
    highest = max((found.labels[-1] for found in findings.values() if found.labels), default=-1)
    if highest < 1:
        held = "no class" if highest < 0 else "the class 0 only"
        raise DataError(
            f"{source.where}: its label maps hold {held}; at least two classes are needed. {IGNORED} is ignored; "
            "black and white masks belong in masks/."
        )
    return tuple(map(str, range(highest + 1)))


def inspect_items(
    source: Source, known: dict[str, Finding], progress: ProgressCallback | None
) -> Iterable[tuple[str, Finding]]:
    with decoding_threads(os.cpu_count()) as pool:
        found = pool.map(lambda item: inspect_item(source, item, known.get(item_name(item))), source.items)
        for done, (item, finding) in enumerate(zip(source.items, found, strict=True), start=1):
            if progress:
                progress(done, len(source.items))
            yield item_name(item), finding


def item_name(item: Item) -> str:
    """Return a unique name over all splits: the image's file, or the key of a generated item."""
    return str(item.image or item.key)


def inspect_item(source: Source, item: Item, known: Finding | None) -> Finding:
    """Decode an item fully, unless its files are unchanged since the stored finding."""
    files = [path for path in (item.image, item.target) if isinstance(path, Path)]
    try:
        stamp = [[f.stat().st_size, f.stat().st_mtime_ns] for f in files]
        stamp += [[int(item.content, 16)]] if item.content else []
        if known and known.stamp == stamp and has_all_fields(known, source.targets) and is_small(known):
            return known
        with decoding(item):
            fields = read_fields(source, item)
        sums = [hash_file(file, error=DataError) for file in files]
        whole = bytes.fromhex("".join(sums)) + item.content.encode()
        return Finding(stamp, hashlib.sha256(whole).hexdigest(), image=sums[0] if item.image else "", **fields)
    except DataError as error:
        return Finding([], "", [], problem=str(error))
    except OSError as error:
        return Finding([], "", [], problem=f"{Path(error.filename or '').name} cannot be read ({error.strerror})")


def read_fields(source: Source, item: Item) -> dict[str, Any]:
    """Return the fields of a finding that depend on the decoded image and target."""
    image, target = source.read(item)
    fields, notes = inspect_target(source.targets, target, item.named)
    if is_one_color(image):
        notes.insert(0, "an image of a single color")
    return {"size": [image.shape[1], image.shape[0]], "notice": "; ".join(notes), **fields}


def is_small(known: Finding) -> bool:
    """Return whether an image that was read before, perhaps with a higher limit, has no more pixels than now."""
    return math.prod(known.size) <= PIXEL_LIMIT.get()


def has_all_fields(known: Finding, targets: str) -> bool:
    """Return whether a stored finding has what these targets need."""
    asked = {"labels": (known.values, known.pixels), "instances": (known.things,)}
    return None not in asked.get(targets, ())


def inspect_target(targets: str, target: Any, named: int) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of a finding that tell of its target, and notices about a usable but unusual one."""
    if targets == "labels":
        counts = np.bincount(np.ravel(target))  # ten times as fast as sorting
        values = np.flatnonzero(counts).tolist()
        notes = ["a label map with every pixel ignored"] if values == [IGNORED] else []
        return {"values": values, "pixels": counts[values].tolist()}, notes
    if targets == "instances":
        things, notes = count_instances(target, named)
        return {"things": things}, notes
    return {}, ["an empty mask"] if targets == "masks" and not np.any(target) else []


def count_instances(labels: NDArray[np.integer], named: int) -> tuple[list[int], list[str]]:
    """Return the `things` of a finding and notices about them; `named` is the number of annotations."""
    areas = np.bincount(np.ravel(labels))[1:]
    areas = areas[areas > 0]
    number = len(areas)
    notes = [] if number else ["no instance"]
    if dots := int((areas == 1).sum()):
        notes.append(f"{dots} of its {pluralize(number, 'instance')} of one pixel only")
    if named > number:
        lost = f"{named - number} of its {named} annotations have no pixels"
        notes.append(f"{lost}: no area, too small, or hidden by others")
    smallest, largest = (int(areas.min()), int(areas.max())) if number else (0, 0)
    return [number, len(find_touching(labels)), smallest, largest], notes


def is_one_color(image: Image) -> bool:
    """Return whether an image has a single color; a few pixels are tested first."""
    return all(np.ptp(part, axis=(0, 1)).max() < 8 for part in (image[::8, ::8], image))


def fingerprint(source: Source, findings: Mapping[str, Finding]) -> str:
    """Return a hash of names, splits and contents of the training and validation items."""
    about = (source.targets, *source.classes, *filter(None, [source.reading]))
    whole = hashlib.sha256(encode_name("\0".join(about)))
    for item in source.split("train", "val"):
        digest = source.revision or findings[item_name(item)].digest
        whole.update(encode_name(f"{item.key}\0{item.split}\0{digest}\0"))
    return whole.hexdigest()[:16]


def read_findings(notes: Path) -> dict[str, Finding]:
    try:
        return {key: Finding(**found) for key, found in json.loads(notes.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
