"""Every option that takes a number refuses, in one short line, what no database or program can hold."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

import tuner
from tuner.cli import main
from tuner.cli.options import EPOCHS, STUDY_SEED, FiniteFloat, Whole
from tuner.errors import LONGEST_LINE, FleetError, StudyError
from tuner.fleet.gpus import find_gpu
from tuner.fleet.placement import parse_per_gpu
from tuner.report.compare import parse_trial_name

TEXTS = (
    "99999999999999999999",
    "1" + "0" * 25,
    "9" * 5000,
    "-" + "9" * 25,
    "1e400",
    "nan",
    "0x10",
    "1_000",
    "",
    "\u0663",
)


def whole_options() -> Iterator[tuple[str, click.Parameter]]:
    for name, command in main.commands.items():
        for param in command.params:
            if isinstance(param.type, click.IntRange | click.types.IntParamType):
                yield name, param


@pytest.mark.parametrize(("command", "param"), list(whole_options()), ids=lambda each: getattr(each, "name", each))
def test_every_whole_number_is_bounded(command: str, param: click.Parameter) -> None:
    assert isinstance(param.type, Whole) and param.type.max is not None
    for text in (*TEXTS, str(param.type.max + 1)):
        args = ["--", text] if isinstance(param, click.Argument) else [f"{param.opts[0]}={text}"]
        done = CliRunner().invoke(main, [command, *args])
        assert done.exit_code == 2 and max(map(len, done.stderr.splitlines())) <= LONGEST_LINE
        assert "is not in the range" in done.stderr or "is not a whole number" in done.stderr, done.stderr


NO_NUMBERS = (
    "1_000",
    "\u0663",
    "\uff11",
    " 5",
    "5 ",
    "nan",
    "-inf",
    "0x10",
    "1e400",
    "9" * 5000,
    "",
    ".",
    "1e",
    "x",
)


def float_options() -> Iterator[tuple[str, click.Parameter]]:
    for name, command in main.commands.items():
        for param in command.params:
            if isinstance(param.type, click.FloatRange | click.types.FloatParamType):
                yield name, param


@pytest.mark.parametrize(("command", "param"), list(float_options()), ids=lambda each: getattr(each, "name", each))
def test_every_other_number_is_finite_and_in_plain_digits(command: str, param: click.Parameter) -> None:
    assert isinstance(param.type, FiniteFloat)
    for text in NO_NUMBERS:
        args = ["--", text] if isinstance(param, click.Argument) else [f"{param.opts[0]}={text}"]
        done = CliRunner().invoke(main, [command, *args])
        assert done.exit_code == 2 and max(map(len, done.stderr.splitlines())) <= LONGEST_LINE
        assert "is not a finite number" in done.stderr or "inf is not in the range" in done.stderr, done.stderr


def test_what_was_allowed_still_is() -> None:
    texts = {"7": 7, "+7": 7, "07.50": 7.5, "7.": 7, ".5": 0.5, "1e3": 1000, "2.5E-1": 0.25, "-0": 0}
    assert [FiniteFloat(min=0).convert(text, None, None) for text in texts] == [*texts.values()]
    assert [Whole(1).convert(value, None, None) for value in ("7", "+7", "007", 7, 7.0)] == [7] * 5
    assert STUDY_SEED.convert("-5", None, None) == -5 and EPOCHS.convert("1000000", None, None) == 10**6


@pytest.mark.parametrize("given", [{"trials": 10**20}, {"seed": 2**63}, {"trials": 2.5}, {"workers": 10**9}])
def test_the_python_api_has_the_same_bounds(given: dict[str, float]) -> None:
    with pytest.raises(StudyError, match=r"these options of tuner\.run\(\) cannot be used: "):
        tuner.run("tiny", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("digits", ["9" * 5000, "9" * 25, "\u0663", "1_0"])
def test_numbers_within_names_are_bounded(digits: str) -> None:
    for name in (digits, f"made#{digits}"):
        with pytest.raises(StudyError, match="is not a trial"):
            parse_trial_name(name)
    with pytest.raises(FleetError, match="give a number of workers"):
        parse_per_gpu(digits)
    with pytest.raises(FleetError):
        find_gpu(digits, ["GPU-0"], digits)
