"""The signature is the schema: what a builder takes by keyword is what a space may set."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tuner.errors import PartError
from tuner.recipe import use
from tuner.registry import (
    BETWEEN_0_AND_1,
    COUNT,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Range,
    build,
    check_choice,
    check_range,
    find_builder,
    part_problems,
    searchable_args,
)

HERE = "tests.unit.registry.test_builders"
TABLE = {"small": f"{HERE}:small", "sized": f"{HERE}:sized"}


def small(channels: int, *, k: int = 4, dropout: float = 0.0) -> tuple[int, int, float]:
    return channels, k, dropout


def sized(channels: int, *, size: int) -> tuple[int, int]:
    return channels, size


not_callable = 5


def test_a_part_is_built_from_what_is_supplied_and_what_is_chosen() -> None:
    assert build("model", TABLE, use("small", k=8), 3) == (3, 8, 0.0)


def test_only_keyword_arguments_can_be_set() -> None:
    assert list(searchable_args(small)) == ["k", "dropout"]
    (line,) = part_problems("model", TABLE, use("small", channels=3))
    assert line.startswith("model 'small' takes no argument 'channels'.")


def test_an_unknown_part_is_told_the_near_name() -> None:
    with pytest.raises(PartError, match=r"^no model 'smal'\. Did you mean 'small'\? Known: sized, small\.$"):
        find_builder("model", TABLE, "smal")


def test_an_unknown_part_far_from_all_is_told_what_is_known() -> None:
    with pytest.raises(PartError, match=r"^no model 'xyzzy'\. Known: sized, small\.$"):
        find_builder("model", TABLE, "xyzzy")


def test_every_wrong_argument_is_told_with_its_near_name() -> None:
    assert part_problems("model", TABLE, use("small", kk=1, droput=2)) == [
        "model 'small' takes no argument 'kk'. Did you mean 'k'? It takes: k, dropout.",
        "model 'small' takes no argument 'droput'. Did you mean 'dropout'? It takes: k, dropout.",
    ]


def test_a_missing_argument_is_told() -> None:
    assert part_problems("model", TABLE, use("sized")) == ["model 'sized' needs the argument 'size'."]
    with pytest.raises(PartError, match="needs the argument 'size'"):
        build("model", TABLE, use("sized"), 3)


def test_a_user_may_name_a_function_of_their_own() -> None:
    assert build("model", TABLE, use(f"{HERE}:small", k=2), 1) == (1, 2, 0.0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (f"{HERE}:gone", "has no attribute 'gone'"),
        (f"{HERE}:not_callable", "is 5; a function is needed"),
        (f"{HERE}:", "cannot be imported"),
        (":small", "cannot be imported"),
    ],
)
def test_a_function_that_is_not_there_is_told(name: str, said: str) -> None:
    (line,) = part_problems("model", TABLE, use(name))
    assert line.startswith(f"model '{name}'") and said in line


@pytest.mark.parametrize("text", ["def model(:", "1 / 0", "import no_such_package"])
def test_a_users_module_that_breaks_on_import_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "broken_module_of_mine.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    (line,) = part_problems("model", TABLE, use("broken_module_of_mine:model"))
    assert "model 'broken_module_of_mine:model' cannot be imported" in line and "Error" in line


def test_a_broken_entry_of_our_own_table_is_a_bug_and_no_users_mistake() -> None:
    with pytest.raises(ModuleNotFoundError):
        find_builder("model", {"ours": "no_such_package:f"}, "ours")


def test_a_users_module_that_exits_when_it_is_imported_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quitter.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PartError, match="'quitter:net' cannot be imported: SystemExit: 3"):
        find_builder("model", {}, "quitter:net")


@pytest.mark.parametrize(
    ("allowed", "inside", "outside", "text"),
    [
        (NOT_NEGATIVE, [0, 0.5, 1e9], [-1e-9], "a number of at least 0"),
        (POSITIVE, [1e-9], [0, -1], "a number above 0"),
        (SHARE, [0, 1], [1.01], "a number of at least 0 and at most 1"),
        (FRACTION, [0, 0.99], [1], "a number of at least 0 and below 1"),
        (BETWEEN_0_AND_1, [0.5], [0, 1], "a number above 0 and below 1"),
        (COUNT, [1, 7], [0, 2.5, 1.0], "a whole number of at least 1"),
    ],
    ids=str,
)
def test_a_range_contains_finite_numbers_only(
    allowed: Range, inside: list[float], outside: list[object], text: str
) -> None:
    assert all(value in allowed for value in inside) and str(allowed) == text
    for value in [*outside, True, "1", None, float("nan"), float("inf")]:
        assert value not in allowed
        with pytest.raises(PartError, match=rf"^x of model 'm' is {re.escape(repr(value))}; {text} is needed\.$"):
            check_range("model 'm'", allowed, x=value)
    check_range("model 'm'", allowed, x=inside[0])


def test_an_unknown_choice_is_named_with_a_similar_one() -> None:
    check_choice("norm", "batch", ("batch", "group"))
    with pytest.raises(PartError, match=r"norm is 'bach'\. Did you mean 'batch'\? Known: batch, group\.$"):
        check_choice("norm", "bach", ("batch", "group"))
