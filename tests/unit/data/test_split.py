"""The split depends on names and the seed alone, and respects what is given."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tuner.data.source import Item
from tuner.data.split import SPLIT_RULES, hold_out, hold_out_per_class
from tuner.errors import DataError


def items(*keys: str, split: str = "train") -> tuple[Item, ...]:
    return tuple(Item(key, split) for key in keys)


def names(number: int, start: str = "photo") -> tuple[str, ...]:
    return tuple(f"{start}{at:04d}" for at in range(number))


def split_of(held: tuple[Item, ...]) -> dict[str, str]:
    return {item.key: item.split for item in held}


both_rules = pytest.mark.parametrize("rule", SPLIT_RULES)


def test_exactly_the_asked_part_is_held_out() -> None:
    for part in (0.1, 0.2, 0.25, 1 / 3, 0.5, 0.9):
        for number in (*range(2, 60), 99, 100, 101, 399, 400):
            held = hold_out(items(*names(number)), part, number % 3, "exact")
            counted = Counter(item.split for item in held)
            assert counted["val"] == min(max(round(part * number), 1), number - 1), (number, part)
            assert counted["train"] == number - counted["val"]


@pytest.mark.parametrize("part", [0.1, 0.2, 0.5])
def test_where_the_number_is_exact_an_added_file_moves_one_other_at_most(part: float) -> None:
    for seed in range(4):
        mine = names(40)
        before = split_of(hold_out(items(*mine), part, seed, "exact"))
        for key in names(80, "new"):
            mine = (*mine, key)
            after = split_of(hold_out(items(*mine), part, seed, "exact"))
            assert sum(after[known] != split for known, split in before.items()) <= 1
            before = after


def test_an_unknown_way_to_divide_is_refused_with_a_near_one() -> None:
    with pytest.raises(DataError, match=r"split is 'exakt'\. Did you mean 'exact'\? Known: exact, stable\."):
        hold_out(items(*names(5)), 0.2, 0, "exakt")


def test_of_two_files_of_one_name_each_is_counted() -> None:
    twins = tuple(Item("twin", "train", image=Path(f"twin.{suffix}")) for suffix in ("png", "jpg", "bmp", "tif"))
    assert [item.split for item in hold_out(twins, 0.5, 0, "exact")].count("val") == 2


def test_adding_files_moves_no_other_item() -> None:
    before = split_of(hold_out(items(*names(100)), 0.2, 0))
    after = split_of(hold_out(items(*names(50, "another"), *names(100), *names(50, "zebra")), 0.2, 0))
    assert before.items() <= after.items()


@both_rules
def test_the_order_of_the_items_does_not_matter(rule: str) -> None:
    mine = names(60)
    there, back = (hold_out(items(*keys), 0.2, 3, rule) for keys in (mine, mine[::-1]))
    assert split_of(there) == split_of(back)


def test_about_the_asked_part_is_held_out() -> None:
    for part in (0.1, 0.2, 0.5):
        held = [item.split for item in hold_out(items(*names(2000)), part, 0)].count("val")
        assert abs(held / 2000 - part) < 0.03


@both_rules
def test_another_seed_holds_out_other_items(rule: str) -> None:
    first, other = (hold_out(items(*names(60)), 0.3, seed, rule) for seed in (0, 1))
    assert split_of(first) != split_of(other)


@both_rules
def test_a_given_val_is_left_as_it_is(rule: str) -> None:
    given = items(*names(20)) + items("mine", split="val")
    assert hold_out(given, 0.5, 0, rule) == given


@both_rules
def test_the_test_split_is_never_held_out(rule: str) -> None:
    held = hold_out(items(*names(30)) + items(*names(30, "secret"), split="test"), 0.5, 0, rule)
    assert [i.key for i in held if i.split == "test"] == list(names(30, "secret"))


@both_rules
@pytest.mark.parametrize("number", range(2, 8))
@pytest.mark.parametrize("part", [0.001, 0.5, 0.999])
def test_neither_side_is_ever_empty(number: int, part: float, rule: str) -> None:
    splits = {item.split for item in hold_out(items(*names(number)), part, 0, rule)}
    assert splits == {"train", "val"}


@pytest.mark.parametrize("part", [0, 1, -0.1, 2, "0.2", None, True, float("nan")])
def test_a_part_outside_0_to_1_is_refused(part: object) -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        hold_out(items(*names(5)), part, 0)


def classes(*sizes: int) -> tuple[Item, ...]:
    return tuple(
        Item(f"{name}/{at}", "train", target=name) for name, size in enumerate(sizes) for at in range(size)
    )


@pytest.mark.parametrize("part", [0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("sizes", [(30, 40), (10, 11, 12, 13, 14, 15), (200, 9, 9, 1, 10), (7, 700)])
def test_exactly_the_asked_part_is_held_out_of_all_classes_together(sizes: tuple[int, ...], part: float) -> None:
    held = Counter(
        item.target for item in hold_out_per_class(classes(*sizes), part, 0, "exact") if item.split == "val"
    )
    assert held.total() == round(part * sum(sizes))
    for name, size in enumerate(sizes):
        assert abs(held[name] - part * size) <= 1  # in proportion


def test_where_classes_need_more_or_fewer_the_classes_win() -> None:
    few = hold_out_per_class(classes(*[2] * 10, 80), 0.05, 0, "exact")  # 5 of 100 images, of 11 classes
    assert Counter(item.target for item in few if item.split == "val") == dict.fromkeys(range(11), 1)
    many = hold_out_per_class(classes(*[2] * 5), 0.9, 0, "exact")
    assert Counter(item.target for item in many if item.split == "train") == dict.fromkeys(range(5), 1)


@both_rules
def test_of_every_class_one_image_is_trained_on_and_one_is_not(rule: str) -> None:
    mixed = tuple(Item(f"{at}", "train", target=at % 7) for at in range(14))
    held = hold_out_per_class(mixed, 0.2, 0, rule)
    for split in ("train", "val"):
        assert {item.target for item in held if item.split == split} == set(range(7))
    assert [item.key for item in held] == [item.key for item in mixed]


@both_rules
def test_where_no_class_has_two_images_some_class_is_held_out(rule: str) -> None:
    held = hold_out_per_class(tuple(Item(f"{at}", "train", target=at) for at in range(6)), 0.2, 0, rule)
    assert {item.split for item in held} == {"train", "val"}


@both_rules
def test_a_class_of_one_image_is_trained_on(rule: str) -> None:
    held = hold_out_per_class(
        (Item("a", "train", target=0), Item("b", "train", target=0), Item("c", "train", target=1)),
        0.2,
        0,
        rule,
    )
    assert [item.split for item in held if item.target == 1] == ["train"]
