"""The split depends on names and the seed alone, and respects what is given."""

from __future__ import annotations

import pytest

from tuner.data.source import Item, Source, hold_out, hold_out_per_class
from tuner.errors import DataError


def items(*keys: str, split: str = "train") -> tuple[Item, ...]:
    return tuple(Item(key, split) for key in keys)


def names(number: int, start: str = "photo") -> tuple[str, ...]:
    return tuple(f"{start}{at:04d}" for at in range(number))


def split_of(held: tuple[Item, ...]) -> dict[str, str]:
    return {item.key: item.split for item in held}


def test_adding_files_moves_no_other_item() -> None:
    before = split_of(hold_out(items(*names(100)), 0.2, 0))
    after = split_of(hold_out(items(*names(50, "another"), *names(100), *names(50, "zebra")), 0.2, 0))
    assert before.items() <= after.items()


def test_the_order_of_the_items_does_not_matter() -> None:
    assert split_of(hold_out(items(*names(60)), 0.2, 3)) == split_of(hold_out(items(*names(60)[::-1]), 0.2, 3))


def test_about_the_asked_part_is_held_out() -> None:
    for part in (0.1, 0.2, 0.5):
        held = [item.split for item in hold_out(items(*names(2000)), part, 0)].count("val")
        assert abs(held / 2000 - part) < 0.03


def test_another_seed_holds_out_other_items() -> None:
    assert split_of(hold_out(items(*names(60)), 0.3, 0)) != split_of(hold_out(items(*names(60)), 0.3, 1))


def test_a_given_val_is_left_as_it_is() -> None:
    given = items(*names(20)) + items("mine", split="val")
    assert hold_out(given, 0.5, 0) == given


def test_the_test_split_is_never_held_out() -> None:
    held = hold_out(items(*names(30)) + items(*names(30, "secret"), split="test"), 0.5, 0)
    assert [i.key for i in held if i.split == "test"] == list(names(30, "secret"))


@pytest.mark.parametrize("number", range(2, 8))
@pytest.mark.parametrize("part", [0.001, 0.5, 0.999])
def test_neither_side_is_ever_empty(number: int, part: float) -> None:
    splits = {item.split for item in hold_out(items(*names(number)), part, 0)}
    assert splits == {"train", "val"}


@pytest.mark.parametrize("part", [0, 1, -0.1, 2, "0.2", None, True, float("nan")])
def test_a_part_outside_0_to_1_is_refused(part: object) -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        hold_out(items(*names(5)), part, 0)


def test_counts_read_as_people_say_them() -> None:
    def read(item: Item) -> object:
        raise NotImplementedError

    both = items(*names(3)) + items("a", split="val")
    assert Source("x", "x", "masks", both, read).counts() == "3 train, 1 val"


def test_of_every_class_one_image_is_trained_on_and_one_is_not() -> None:
    mixed = tuple(Item(f"{at}", "train", target=at % 7) for at in range(14))
    held = hold_out_per_class(mixed, 0.2, 0)
    for split in ("train", "val"):
        assert {item.target for item in held if item.split == split} == set(range(7))
    assert [item.key for item in held] == [item.key for item in mixed]


def test_where_no_class_has_two_images_some_class_is_held_out() -> None:
    held = hold_out_per_class(tuple(Item(f"{at}", "train", target=at) for at in range(6)), 0.2, 0)
    assert {item.split for item in held} == {"train", "val"}


def test_a_class_of_one_image_is_trained_on() -> None:
    held = hold_out_per_class(
        (Item("a", "train", target=0), Item("b", "train", target=0), Item("c", "train", target=1)), 0.2, 0
    )
    assert [item.split for item in held if item.target == 1] == ["train"]
