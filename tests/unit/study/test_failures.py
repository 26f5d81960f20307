"""Failures of trials: what is stored, and how reasons stored by version 0.1 are read."""

from __future__ import annotations

import pytest

from tuner.errors import FailureKind
from tuner.study.failures import Failure, failure_attrs, failure_from_attrs, last_line

TRACEBACK = 'Traceback (most recent call last):\n  File "nets.py", line 3, in forward\n    raise it\n'


@pytest.mark.parametrize("kind", FailureKind)
def test_a_failure_is_read_as_it_was_stored(kind: FailureKind) -> None:
    attrs = failure_attrs(kind, "weights on their way\nout of memory\n")
    assert failure_from_attrs(7, attrs) == Failure(7, kind, "out of memory")
    assert FailureKind(kind.value) is kind and failure_from_attrs(7, attrs).label == kind.value


def test_an_exception_is_labelled_by_its_class() -> None:
    attrs = failure_attrs(FailureKind.EXCEPTION, TRACEBACK + "mine.Odd: several\nlines\n", "Odd")
    found = failure_from_attrs(7, attrs)
    assert found == Failure(7, FailureKind.EXCEPTION, "lines", "Odd") and found.label == "Odd"
    assert attrs["failure"].startswith(TRACEBACK)


def test_a_kind_of_a_later_version_is_unknown() -> None:
    found = failure_from_attrs(7, {"failure_kind": "struck by lightning", "failure_line": "it burns"})
    assert found == Failure(7, FailureKind.UNKNOWN, "it burns")


@pytest.mark.parametrize(
    ("reason", "label"),
    [
        ("train_loss is nan at epoch 3 with adam(lr=0.1), loss bce, model unet(k=64), 256 px", "loss not finite"),
        ("out of memory with a single image of 1024 px: CUDA out of memory. Tried ...", "out of memory"),
        ("set aside: 3 workers died while they trained it, or hung", "workers died on it"),
        ("suggest() raised NameError: name 'lr' is not defined (line 12)", "suggest() of the space"),
        ("its value is not a number", "value not a number"),
        ("unet has a batch norm that sees a single value in a piece", "too few values for a batch norm"),
        ("weights 'x' do not fit", "initial weights cannot be used"),
        (TRACEBACK + "ValueError: of the user's own", "ValueError"),
        (TRACEBACK + "mine.nets.Odd: 3", "Odd"),
        (TRACEBACK + "KeyError", "KeyError"),
        (TRACEBACK + "torch.OutOfMemoryError: CUDA out of memory", "out of memory"),
        (TRACEBACK + "    # may run out of memory\nValueError: odd", "ValueError"),
        (TRACEBACK + "and a last line of many words: 1", "exception"),
        ("something else", "unknown"),
        ("", "unknown"),
    ],
)
def test_a_reason_of_version_0_1_has_its_kind(reason: str, label: str) -> None:
    found = failure_from_attrs(7, {"failure": reason})
    assert (found.number, found.label, found.reason) == (7, label, last_line(reason))


def test_a_failed_trial_without_attributes_has_an_unknown_reason() -> None:
    assert failure_from_attrs(7, {}) == Failure(7, FailureKind.UNKNOWN, "unknown reason")


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
