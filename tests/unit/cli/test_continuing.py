"""The commands with which a study goes on are what was typed, quoted, and can be typed again."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from helpers.made_studies import make_study
from helpers.trial_rows import put

from tuner.cli import main
from tuner.cli.continuing import quote_words
from tuner.cli.options import storage_options
from tuner.goal import maximize
from tuner.space.space import find_space
from tuner.study.commands import RunCommand, find_source, read_command, replace_option, store_command
from tuner.study.info import StudyInfo, StudyKind
from tuner.wording import repeat_options, write_command


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
    command = RunCommand(f"tuner run {text.removeprefix('run ')} --trials 2", ".", "here").with_option(
        "trials", "4"
    )
    assert command.command == f"tuner run {text.removeprefix('run ')} --trials 4"


@pytest.mark.parametrize(
    ("typed", "printed"),
    [
        (["--home", "my home"], " --home 'my home'"),
        (["--storage", "sqlite:///my db"], " --storage 'sqlite:///my db'"),
        (["--storage", "sqlite:///my db", "--home=a"], " --storage 'sqlite:///my db' --home a"),
        (["--storage", "postgresql://u:secret@localhost:1/d"], ' --storage "$TUNER_STORAGE"'),
        ([], ""),
    ],
)
def test_the_typed_home_and_storage_are_printed_until_the_command_ends(
    typed: list[str], printed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []

    @click.command()
    @storage_options
    def command(home: str, storage: str | None) -> None:
        written.extend(map(write_command, ("status", "data", "predict")))

    monkeypatch.setenv("TUNER_STORAGE", "sqlite:///of the environment")  # the next command has it too
    done = CliRunner().invoke(command, typed)
    assert done.exit_code == 0, done.output
    home = " --home" + printed.partition(" --home")[2] if "--home" in printed else ""
    assert written == [f"tuner status{printed}", f"tuner data{home}", "tuner predict"]
    assert write_command("status") == "tuner status"


def test_what_a_mistyped_command_had_is_not_repeated_by_the_next_one() -> None:
    done = CliRunner().invoke(main, ["budget", "--home", "h", "--hours", "x"])
    assert done.exit_code == 2 and "not a finite number" in done.output
    assert write_command("status") == "tuner status"


def test_options_that_are_given_are_not_repeated() -> None:
    with repeat_options(home="h", storage="s"):
        assert write_command("stop", storage="t") == "tuner stop --storage t --home h"


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


def store(folder: Path, *words: str) -> RunCommand:
    return RunCommand(shlex.join(["tuner", "run", *words]), str(folder), "here")


def test_a_space_or_table_is_named_as_it_is_found_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, lib = tmp_path / "search_spaces" / "own" / "mine.py", tmp_path / "my lib" / "far.py"
    for file in (own, lib, tmp_path / "my lib" / "t.toml"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.chdir(tmp_path)
    mine, far = (StudyInfo("s", name, maximize("iou"), "shapes") for name in ("mine", "far"))
    table = replace(far, kind=StudyKind.TABLE, subject="t")
    there = store(tmp_path, "--space=my lib/far.py")
    assert find_source(far, there) == {"space": "my lib/far.py"}
    assert find_source(far, store(tmp_path, "--table", "my lib/t.toml")) == {}
    assert find_source(table, store(tmp_path, "--table", "my lib/t.toml")) == {"table": "my lib/t.toml"}
    assert (
        find_source(mine, None)
        == find_source(mine, store(tmp_path, "--space", "own/mine"))
        == {"space": "own/mine"}
    )
    assert find_source(far, None) == {}
    monkeypatch.chdir(tmp_path / "my lib")
    assert find_source(far, there) == {"space": str(lib)}
    assert find_source(mine, store(tmp_path, "--space", "own/mine")) == {"space": str(own)}
    assert find_source(mine, store(tmp_path, "--space", "unet_k")) == {"space": "unet_k"}  # of every folder
    for source in (find_source(far, there), find_source(mine, store(tmp_path, "--space", "own/mine"))):
        assert find_space(source["space"]).is_file()
