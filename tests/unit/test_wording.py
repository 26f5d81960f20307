"""Counts and durations, as every command and report writes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tuner.wording import count_of, format_seconds, format_time_of, free_folder, pluralize

PACKAGE = Path(__file__).parent.parent.parent / "tuner"
NEVER_ONE = ("number", "len(ended)", "recipe.validate_every", "active.deaths", "rung", "held", "batch",
             "MAX_DEATHS", "len(distributions):,", "of")  # fmt: skip
COUNTED = re.compile(r"\{([^{}\"']*)\} (trials|epochs|threads|workers|images|rows|studies|parameters)\b")


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(0, "trial", "0 trials"), (1, "thread", "1 thread"), (2, "study", "2 studies"), (3, "class", "3 classes"),
     (2, "epoch", "2 epochs")],
)  # fmt: skip
def test_a_noun_has_the_number_of_its_count(number: int, noun: str, text: str) -> None:
    assert pluralize(number, noun) == text


def test_a_count_above_its_limit_does_not_read_as_a_part_of_it() -> None:
    assert count_of(3, 8, "trial", "started") == "3 of 8 trials started"
    assert count_of(1, 1, "trial") == "1 of 1 trial"
    assert count_of(3, None, "trial", "started") == "3 trials started"
    assert count_of(10, 8, "trial", "started") == "10 trials started (limit 8)"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.001, "0.001 s"), (0.5, "0.5 s"), (9.96, "10 s"), (89, "89 s"), (90, "1.5 min"), (180, "3 min"),
     (720, "12 min"), (3540, "59 min"), (3600, "1 h"), (5400, "1.5 h"), (12240, "3.4 h"),
     (36000, "10 h"), (504_000, "140 h")],
)  # fmt: skip
def test_a_duration_has_one_unit(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


def test_a_duration_above_its_limit() -> None:
    assert format_time_of(720, 28800) == "12 min of 8 h"
    assert format_time_of(3960, 3600) == "1.1 h (limit 1 h)"


def test_no_message_writes_a_plural_after_a_number_that_may_be_one() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}: {match[0]}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for match in COUNTED.finditer(path.read_text(encoding="utf-8"))
        if match[1] not in NEVER_ONE
    ]
    assert not found, "use tuner.wording.pluralize:\n" + "\n".join(found)


def test_a_folder_to_export_into_is_a_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("best", "best_2", "best_3"):
        assert free_folder("best") == name
        Path(name).mkdir()
