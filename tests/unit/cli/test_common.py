"""What all commands share."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.command_line import write_space

from tuner.cli import main

Tuner = Callable[..., subprocess.CompletedProcess[str]]


def run_check(tuner: Tuner, space: Path) -> list[str]:
    done = tuner("check", space)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


def test_an_old_import_path_in_a_space_is_one_line_on_stderr(tuner: Tuner, tmp_path: Path) -> None:
    space = write_space(tmp_path)
    assert run_check(tuner, space) == []
    space.write_text(
        space.read_text().replace("from tuner import", "from tuner.losses import bce\nfrom tuner import")
    )
    (line,) = run_check(tuner, space)
    assert line == "tuner: tuner.losses is deprecated: import tuner.train.losses instead."


def test_other_deprecations_are_not_shown(tuner: Tuner, tmp_path: Path) -> None:
    space = write_space(tmp_path)
    warn = "import warnings\nwarnings.warn('old', DeprecationWarning)\nfrom tuner import"
    space.write_text(space.read_text().replace("from tuner import", warn))
    assert run_check(tuner, space) == []


@pytest.mark.parametrize(
    ("old", "new"), [("--lease", "heartbeat_timeout"), ("--hang", "hang_timeout")], ids=["lease", "hang"]
)
def test_old_names_of_the_timeouts_are_accepted(old: str, new: str) -> None:
    for command in ("run", "extend"):
        context = main.commands[command].make_context(command, [old, "7"], resilient_parsing=True)
        assert context.params[new] == 7


@pytest.mark.parametrize(
    "args", [["stop", "9" * 5000], ["--" + "x" * 5000], ["y" * 5000]], ids=["value", "option", "command"]
)
def test_a_usage_error_does_not_repeat_a_very_long_value(args: list[str]) -> None:
    done = CliRunner().invoke(main, args)
    assert done.exit_code == 2 and max(map(len, done.stderr.splitlines())) < 520
    assert "Traceback" not in done.stderr and "characters) ..." in done.stderr


@pytest.mark.parametrize("odd", ["\r", "a\0b", "\x1b[2J"])
def test_odd_characters_of_a_usage_error_are_escaped(odd: str) -> None:
    answer = CliRunner().invoke(main, ["table", "few", odd])
    assert answer.exit_code == 2 and "unexpected extra argument" in answer.stderr
    assert odd not in answer.stderr
