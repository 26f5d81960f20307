"""A dataset knows the items of each split."""

from __future__ import annotations

from tuner.data.source import Item, Source


def test_counts_read_as_people_say_them() -> None:
    def read(item: Item) -> object:
        raise NotImplementedError

    both = (*(Item(key, "train") for key in "abc"), Item("d", "val"))
    assert Source("x", "x", "masks", both, read).counts() == "3 train, 1 val"
