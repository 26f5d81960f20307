"""Why trials failed, in a few words and in one line."""

from __future__ import annotations

import json

import pytest

from tuner.study.failures import HEAD, TAIL, as_failure, decoded, kind_of, last_line

TRACEBACK = 'Traceback (most recent call last):\n  File "nets.py", line 3, in forward\n    raise it\n'


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("train_loss is nan at epoch 3 with adam(lr=0.1), loss bce, model unet(k=64), 256 px", "loss not finite"),
        ("out of memory with a single image of 1024 px: CUDA out of memory. Tried ...", "out of memory"),
        ("set aside: 3 workers died while they trained it, or hung", "workers died on it"),
        ("suggest() raised NameError: name 'lr' is not defined (line 12)", "suggest() of the space"),
        ("its value is not a number", "value not a number"),
        ("unet has a batch norm that sees a single value in a piece", "too few values for a batch norm"),
        (TRACEBACK + "ValueError: of the user's own", "ValueError"),
        (TRACEBACK + "mine.nets.Odd: 3", "Odd"),
        (TRACEBACK + "KeyError", "KeyError"),
        (TRACEBACK + "torch.OutOfMemoryError: CUDA out of memory", "out of memory"),
        (TRACEBACK + "and a last line of many words: 1", "error"),
        ("something of a later version", "other"),
        ("", "other"),
    ],
)
def test_a_reason_has_its_kind(reason: str, kind: str) -> None:
    assert kind_of(reason) == kind


def test_a_traceback_that_mentions_memory_on_its_way_is_called_by_its_last_line() -> None:
    assert kind_of(TRACEBACK + "    # may run out of memory\nValueError: odd") == "ValueError"


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ("a\nb\n\n", "b"),
        ("red \x1b[31mtext\x07", "red  [31mtext"),
        ("a\tb", "a b"),
        (" \n ", "unknown reason"),
        ("", "unknown reason"),
        ("größer als 3 €", "größer als 3 €"),
    ],
)
def test_the_last_line_is_one_that_a_terminal_only_shows(reason: str, line: str) -> None:
    assert last_line(reason) == line


@pytest.mark.parametrize("length", range(12))
def test_a_piece_of_json_is_read_wherever_it_was_cut(length: int) -> None:
    reason = "x" * length + 'a "quoted" \\ größe €\nValueError: gr\u00f6ße'
    text = json.dumps(reason)
    for at in range(1, text.index("ValueError")):
        assert last_line(decoded(text[at:])).endswith("ValueError: größe")
        begin = decoded(text[:at])
        assert reason.startswith(begin)
        assert len(json.dumps(begin)) >= at - 6  # no more is lost than one escape


def test_the_head_of_a_long_traceback_and_its_end_are_enough() -> None:
    reason = TRACEBACK + "    line\n" * 500 + "RuntimeError: shapes (3, 4) and (5,)\n"
    text = json.dumps(reason)
    found = as_failure(7, decoded(text[:HEAD]), decoded(text[-TAIL:]))
    assert (found.number, found.kind, found.reason) == (
        7,
        "RuntimeError",
        "RuntimeError: shapes (3, 4) and (5,)",
    )
