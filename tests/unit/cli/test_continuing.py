"""The commands with which a study goes on are what was typed, quoted, and can be typed again."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.made_studies import make_study
from helpers.trial_rows import put

from tuner.cli import main
from tuner.cli.continuing import find_options, quote_words, replace_option
from tuner.study.commands import read_command, store_command
from tuner.wording import write_command


def typed(*words: str) -> str:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    return done.stdout


def command_in(text: str) -> list[str]:
    """Return the words of the command that a text names."""
    (line,) = [line for line in text.splitlines() if "continue" in line]
    program, *words = shlex.split(line.partition("with: ")[2])
    assert program == "tuner"
    return words


def test_a_value_is_quoted_and_an_absent_one_left_out() -> None:
    assert write_command("best", study="my study", export="a'b", storage=None, force=True, home="") == (
        "tuner best --study 'my study' --export 'a'\"'\"'b' --force"
    )
    assert shlex.split(write_command("predict", "my best", "a b.jpg", trust=True))[2:] == [
        "my best",
        "a b.jpg",
        "--trust",
    ]


def test_a_raised_limit_replaces_the_typed_one() -> None:
    words = ["run", "--space", "a b.py", "--trials", "2", "--seed=1"]
    assert replace_option(words, "--trials", "4") == ["run", "--space", "a b.py", "--seed=1", "--trials", "4"]
    assert replace_option(words, "--seed", "4")[-3:] == ["2", "--seed", "4"]


@pytest.mark.parametrize("words", [["--storage", "postgresql://u:secret@h/d"], ["--storage=mysql://u:secret@h/d"]])
def test_a_password_is_never_printed(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = " ".join(quote_words(["run", *words]))
    assert "secret" not in text and "$TUNER_STORAGE" in text
    monkeypatch.delenv("TUNER_STORAGE", raising=False)
    assert find_options("runs", words[-1].removeprefix("--storage=")) == {"storage": '"$TUNER_STORAGE"'}
    assert find_options("runs", "sqlite:///my db") == {"storage": "sqlite:///my db"}


def test_stop_pause_resume_and_workers_name_the_command_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my home").mkdir()
    monkeypatch.chdir(tmp_path)
    joined = make_study(tmp_path / "my home", "my study")
    put(joined, 0, "WAITING", [])
    assert read_command(joined.engine, joined.id) is None
    assert "continue it as it was started" in typed("stop", "--home", "my home")
    run = ["run", "--space", "my space.py", "--data", "my photos", "--study", "my study", "--home", "my home"]
    store_command(joined.engine, joined.id, "tuner run")
    store_command(joined.engine, joined.id, shlex.join(["tuner", *run]))  # the last one counts
    for command in ("stop", "workers"):
        assert command_in(typed(command, "--home", "my home")) == run
    resume = command_in(typed("pause", "--home", "my home"))
    assert resume == ["resume", "--study", "my study", "--home", "my home"]
    assert command_in(typed(*resume)) == run  # no workers are running
    monkeypatch.chdir(tmp_path.parent)
    text = typed("stop", "--home", str(tmp_path / "my home"))
    assert f"with: cd {shlex.quote(str(tmp_path))} && tuner run --space 'my space.py'" in text
    joined.engine.dispose()
