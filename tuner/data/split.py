"""The division of a dataset's images into training and validation, by a hash of their names."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple, TypeVar

from tuner.data.source import Item
from tuner.errors import DataError
from tuner.paths import encode_name
from tuner.registry import BETWEEN_0_AND_1, unknown_choice

SPLIT_RULES = ("exact", "stable")  # how many images are held out
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}  # folder names
T = TypeVar("T")


def hold_out(items: tuple[Item, ...], fraction: float, seed: int, split: str = "stable") -> tuple[Item, ...]:
    """Move a fraction of the training items to "val": the first in an order by a hash of each name and the seed.

    With split="exact" these are round(fraction * n) of n items; an added file moves at most one other. With
    "stable" they are the items whose hash is below the fraction: about as many, and added files move no other.
    Neither side is left empty. Items that are divided already are returned as they are.
    """
    places = place_items(items, fraction, seed, split)
    if len(places) < 2 or any(item.split == "val" for item in items):
        return items
    number = round(fraction * len(places)) if split == "exact" else count_below(places, fraction)
    return move_to_val(items, places[: min(max(number, 1), len(places) - 1)])


def hold_out_per_class(
    items: tuple[Item, ...], fraction: float, seed: int, split: str = "stable"
) -> tuple[Item, ...]:
    """Hold out items of each class separately, so that a class with two images is in both splits.

    With split="exact" they are round(fraction * n) in all, unless the classes need more or fewer. Where every
    class has one image, some classes are left without training images.
    """
    places = place_items(items, fraction, seed, split)
    sizes = Counter(items[place.position].target for place in places)
    if max(sizes.values(), default=0) < 2 or any(item.split == "val" for item in items):
        return hold_out(items, fraction, seed, split)
    groups = {target: [place for place in places if items[place.position].target == target] for target in sizes}
    if split == "exact":
        numbers = share_out(sizes, fraction)
    else:
        counts = {target: count_below(group, fraction) for target, group in groups.items()}
        numbers = {target: min(max(counts[target], 1), size - 1) for target, size in sizes.items()}
    return move_to_val(items, [place for target, group in groups.items() for place in group[: numbers[target]]])


class Place(NamedTuple):
    """The place of a training item in the order in which items are held out."""

    hashed: float
    key: str
    file: str
    position: int


def place_items(items: tuple[Item, ...], fraction: float, seed: int, split: str) -> list[Place]:
    """Return the places of the training items, sorted; DataError for wrong arguments of a split."""
    if wrong := fraction_problem(fraction) or split_problem(split):
        raise DataError(wrong)
    return sorted(
        Place(hash_fraction(item.key, seed), item.key, str(item.image), index)
        for index, item in enumerate(items)
        if item.split == "train"
    )


def count_below(places: list[Place], fraction: float) -> int:
    return sum(place.hashed < fraction for place in places)


def share_out(sizes: Mapping[T, int], fraction: float) -> dict[T, int]:
    """Return how many items of each class are held out: round(fraction * n) in all, by largest remainder.

    A class of two or more items keeps at least one on each side, a class of one item is not held out: where this
    needs another number in all, the classes come first.
    """
    numbers = {name: min(max(int(fraction * size), 1), size - 1) for name, size in sizes.items()}
    while missing := round(fraction * sum(sizes.values())) - sum(numbers.values()):
        step = 1 if missing > 0 else -1
        movable = [name for name, size in sizes.items() if 1 <= numbers[name] + step < size]
        movable.sort(key=lambda name: step * (numbers[name] - fraction * sizes[name]))
        if not movable:
            break
        for name in movable[: abs(missing)]:
            numbers[name] += step
    return numbers


def move_to_val(items: tuple[Item, ...], places: list[Place]) -> tuple[Item, ...]:
    chosen = {place.position for place in places}
    return tuple(replace(item, split="val") if index in chosen else item for index, item in enumerate(items))


def fraction_problem(fraction: object) -> str:
    """Return what is wrong with a validation fraction, or ""."""
    if fraction in BETWEEN_0_AND_1:
        return ""
    return f"val is {fraction!r}; a fraction of the images is needed, between 0 and 1, such as 0.2."


def split_problem(split: object) -> str:
    """Return what is wrong with the name of a way to divide the images, or ""."""
    return "" if split in SPLIT_RULES else unknown_choice("split", split, SPLIT_RULES)


def hash_fraction(key: str, seed: int) -> float:
    """Return a number in [0, 1) that depends only on the item's name and the seed."""
    digest = hashlib.blake2b(encode_name(f"{seed}:{key}"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
