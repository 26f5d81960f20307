"""Remarks on a dataset as a whole: sizes of classes, and identical files; `tuner data` and a run tell them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from tuner.data.source import IGNORED, NO_CLASS, Item, Source
from tuner.errors import DataError, format_names
from tuner.paths import hash_file
from tuner.wording import pluralize

if TYPE_CHECKING:
    from tuner.data.survey import Finding, Survey

EXAMPLES = 2  # of a remark that holds for many files
SMALL_CLASS = 0.1  # of the median size
TINY_CLASS = 5  # training images, below which this is said
SMALL_SHARE = 0.001  # of the training pixels, below which a class of label maps is named
UNEVEN = 10  # the largest class over the smallest, from which on this is said

IN_SPLITS = "in two splits, which makes scores too high"
IN_CLASSES = "in two classes, of which one is wrong"
IN_ONE = "in the same split"


def join_notices(notices: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield a line for each notice about a file, and one for more than two that differ only in numbers."""
    alike: dict[str, list[tuple[str, str]]] = {}
    for name, text in notices:
        for note in text.split("; "):
            alike.setdefault(re.sub(r"\d+", "0", note), []).append((name, note))
    for found in alike.values():
        if len(found) <= EXAMPLES:
            yield from (f"{name}: {note}" for name, note in found)
        elif len({note for _, note in found}) == 1:
            shown = join_names(name for name, _ in found)
            yield f"{found[0][1]}: {pluralize(len(found), 'image')}, such as {shown}"
        else:
            shown = join_names(f"{name} ({note})" for name, note in found)
            yield f"{pluralize(len(found), 'image')} such as {shown}"


def join_names(names: Iterable[str]) -> str:
    return " and ".join(list(names)[:EXAMPLES])


def dataset_remarks(source: Source, found: Survey) -> list[str]:
    """Return the remarks on the sizes of classes and on identical images, from what the survey has read."""
    if source.revision:  # generated, without a survey
        return []
    about = source, found.findings
    return [
        *class_size_remarks(*about, found.classes),
        *pixel_remarks(*about, found.classes),
        *identical_remarks(*about),
    ]


def class_size_remarks(source: Source, findings: Mapping[str, Finding], classes: tuple[str, ...]) -> Iterator[str]:
    """Yield remarks on classes that few or no training images have."""
    sizes = dict.fromkeys(range(len(classes)), 0) | Counter(class_numbers(source, findings))
    unused = {number for number in sizes if classes[number] == NO_CLASS} | {source.ignored}
    absent = [classes[number] for number, size in sizes.items() if not size and number not in unused]
    there = {number: size for number, size in sizes.items() if size}
    if absent:
        yield f"{pluralize(len(absent), 'class')} without a training image: {format_names(absent, EXAMPLES)}"
    if tiny := [f"{classes[number]} ({size})" for number, size in there.items() if size < TINY_CLASS]:
        shown = format_names(tiny, EXAMPLES)
        yield f"{pluralize(len(tiny), 'class')} of fewer than {TINY_CLASS} training images: {shown}"
    if not there:
        return
    least, most = min(there, key=there.__getitem__), max(there, key=there.__getitem__)
    if there[most] < UNEVEN * there[least]:
        return
    middle = median(there.values())
    small = sum(size < SMALL_CLASS * middle for size in there.values())
    fewest = f"'{classes[least]}' has {pluralize(there[least], 'training image')}"
    below = f"; {small} of {len(there)} below a tenth of the median, {middle:g}" if small else ""
    yield f"classes of very different size: {fewest}, '{classes[most]}' {there[most]}{below}"


def pixel_shares(source: Source, findings: Mapping[str, Finding]) -> dict[int, float]:
    """Return the share of each class in the training pixels of label maps that are not ignored; else {}."""
    counts: Counter[int] = Counter()
    for item in source.split("train") if source.targets == "labels" else ():
        found = findings.get(str(item.image or item.key))
        for value, number in zip(found.values or [], found.pixels or [], strict=False) if found else ():
            counts[value] += number if value != IGNORED else 0
    return {value: number / counts.total() for value, number in sorted(counts.items()) if number}


def pixel_remarks(source: Source, findings: Mapping[str, Finding], classes: tuple[str, ...]) -> Iterator[str]:
    """Yield a remark on classes that are in label maps, but in hardly any pixel of them."""
    shares = pixel_shares(source, findings)
    if tiny := [
        f"{classes[number]} ({format_share(share)})" for number, share in shares.items() if share < SMALL_SHARE
    ]:
        shown = format_names(tiny, EXAMPLES)
        yield f"{pluralize(len(tiny), 'class')} below {SMALL_SHARE:.1%} of the training pixels: {shown}"


def format_share(share: float) -> str:
    """Return a share in percent with two digits, such as '41%', '0.25%' or '0.0031%'."""
    return f"{share:.0%}" if share >= 0.1 else f"{100 * share:.2g}%"


def class_numbers(source: Source, findings: Mapping[str, Finding]) -> Iterator[int]:
    """Yield the class of each training image, or the classes in its label map."""
    for item in source.split("train"):
        if source.targets == "classes" and isinstance(item.target, int):
            yield item.target
        elif source.targets == "labels" and str(item.image or item.key) in findings:
            values = findings[str(item.image or item.key)].values or []
            yield from (value for value in values if value != IGNORED)


def identical_remarks(source: Source, findings: Mapping[str, Finding] | None = None) -> Iterator[str]:
    """Yield remarks on identical image files: in several splits, in several classes, and others."""
    found: dict[str, list[tuple[Item, Item]]] = {IN_SPLITS: [], IN_CLASSES: [], IN_ONE: []}
    for group in identical_images(source, findings or {}):
        for one, other in pairwise(group):
            labelled = source.targets == "classes" and one.target != other.target
            where = IN_SPLITS if one.split != other.split else IN_CLASSES if labelled else IN_ONE
            found[where].append((one, other))
    for where, pairs in found.items():
        if pairs:
            shown = format_names([f"{describe(one)} = {describe(other)}" for one, other in pairs], EXAMPLES)
            yield f"{pluralize(len(pairs), 'pair')} of identical images {where}: {shown}"


def describe(item: Item) -> str:
    return f"{item.key} ({item.split})"


def identical_images(source: Source, findings: Mapping[str, Finding]) -> Iterator[list[Item]]:
    """Yield groups of items whose image files have the same content.

    Files of the same size are compared by their hash: that of the finding, or of a file that is read now.
    """
    sizes: dict[int, list[Item]] = {}
    for item in source.items:
        if item.image:
            sizes.setdefault(item.image.stat().st_size, []).append(item)
    for same in sizes.values():
        groups: dict[str, list[Item]] = {}
        for item in same if len(same) > 1 else []:
            if item.image:
                found = findings.get(str(item.image))
                content = (found.image if found else "") or hash_file(item.image, error=DataError)
                groups.setdefault(content, []).append(item)
        yield from (sorted(group, key=by_split) for group in groups.values() if len(group) > 1)


def by_split(item: Item) -> tuple[str, str]:
    return item.split, item.key
