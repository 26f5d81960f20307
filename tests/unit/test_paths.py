"""Every path of a run lies in the home, and no two studies share one."""

from __future__ import annotations

import math
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tuner.errors import DataError, FilesError, StorageError
from tuner.models.pretrained import load_tensors
from tuner.paths import (
    Home,
    attempt_of,
    expand_path,
    format_json,
    git_commit,
    read_bytes,
    read_json,
    read_mark,
    read_text,
    safe_name,
)
from tuner.study.database import is_absent
from tuner.study.storage import init
from tuner.train.checkpoint import load_weights, save_weights


def test_a_plain_name_is_its_own_folder() -> None:
    assert [safe_name(name) for name in ("unet_k", "unet_k@photos", "a-1.2", "été")] == [
        "unet_k",
        "unet_k@photos",
        "a-1.2",
        "été",
    ]


def test_two_studies_never_share_a_folder() -> None:
    names = ["a b", "a_b", "a/b", "a\\b", "a?b", "..", ".", "...", "x" * 300, "x" * 301, "", "~", "~~", ".a", "a"]
    assert len({safe_name(name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "name", ["..", ".", "../../etc", "/etc", "a/../..", "x" * 300, "馬" * 300, "", "\n", ".hidden"]
)
def test_no_name_leads_out_of_the_home(home: Path, name: str) -> None:
    run = Home(home).run(name, "k", 3).make()
    assert run.folder.resolve().parent.parent == (home / "trials").resolve() and run.folder.name == "00003"
    log = Home(home).log(name, "w")
    assert log.resolve().parent.parent == (home / "logs").resolve()


def test_making_a_home_twice_is_fine(home: Path) -> None:
    assert Home(home).make().make().artifacts.is_dir()
    assert [path.name for path in home.iterdir()] == ["artifacts"]


def test_a_home_that_cannot_be_written_is_reported_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "home", Path("/proc/home"), Path("/dev/null/home")):
        with pytest.raises(FilesError, match=r"--home|Choose another place"):
            Home(place).make()


def test_attempts_have_folders_of_their_own_in_their_trials(home: Path) -> None:
    place = Home(home)
    assert place.attempts("s", "k", 1) == [0]
    trial = place.run("s", "k", 1).folder
    assert place.run("s", "k", 1, 0).folder == trial and place.run("s", "k", 1, 12).folder == trial / "attempt-12"
    for attempt in (2, 12, 1):
        place.run("s", "k", 1, attempt).make()
    (trial / "attempt-x").mkdir(), (trial / ".attempt-3").mkdir()
    assert place.attempts("s", "k", 1) == [12, 2, 1, 0]


@pytest.mark.parametrize(
    ("notes", "attempt"),
    [({}, 0), ({"result": None}, 0), ({"result": {"best_epoch": 3}}, 0), ({"result": {"attempt": 4}}, 4)],
)
def test_the_attempt_is_noted_with_the_result(notes: dict[str, Any], attempt: int) -> None:
    assert attempt_of(notes) == attempt


def test_clearing_a_run_leaves_its_neighbours(home: Path) -> None:
    first, second = Home(home).run("s", "k", 1).make(), Home(home).run("s", "k", 2).make()
    first.clear(), first.clear()
    assert not first.folder.exists() and second.folder.is_dir()


def test_dropping_the_weights_keeps_the_pictures(home: Path) -> None:
    run = Home(home).run("s", "k", 1).make()
    for file in (run.checkpoint, run.previous, run.best, run.curves):
        file.touch()
    run.delete_weights(), run.delete_weights()
    assert [path.name for path in run.folder.iterdir()] == ["curves.png"]


def test_the_database_is_named_by_its_full_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Home(Path("runs")).database == f"sqlite:///{tmp_path}/runs/tuner.db"


def test_the_commit_is_returned_with_a_plus_when_the_tree_has_changes(tmp_path: Path) -> None:
    def git(*args: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *who, *args], check=True, capture_output=True, text=True
        ).stdout.strip()

    space = tmp_path / "space.py"
    space.write_text("a = 1\n")
    assert git_commit(space) == ""
    git("init"), git("add", "."), git("commit", "-m", "one")
    assert git_commit(space) == git("rev-parse", "--short=12", "HEAD")
    space.write_text("a = 2\n")
    assert git_commit(space).endswith("+")


@pytest.fixture
def special(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A path that is not a regular file."""
    if request.param == "fifo":
        os.mkfifo(tmp_path / "fifo")
        return tmp_path / "fifo"
    return {"device": Path("/dev/zero"), "folder": tmp_path, "missing": tmp_path / "none"}[request.param]


@pytest.mark.parametrize(
    ("special", "words"),
    [
        ("fifo", "is a FIFO; a regular file is needed"),
        ("device", "/dev/zero is a device; a regular file is needed"),
        ("folder", "is a folder; a regular file is needed"),
        ("missing", "cannot be read (No such file or directory)"),
    ],
    indirect=["special"],
)
def test_only_regular_files_are_read_and_nothing_is_waited_for(special: Path, words: str) -> None:
    with pytest.raises(DataError, match=re.escape(words)):
        read_bytes(special, DataError)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FilesError, match=r"large has 1,099,511,627,776 bytes; at most 100 are read"):
        read_bytes(tmp_path / "large", most=100)


def test_json_has_null_for_what_it_has_not() -> None:
    held = {"a": [math.nan, (math.inf, 1.5)], "b": {"c": -math.inf, "d": "NaN"}, "e": True}
    assert format_json(held) == '{"a": [null, [null, 1.5]], "b": {"c": null, "d": "NaN"}, "e": true}'
    assert format_json([1], 2) == "[\n  1\n]"


def test_text_is_read_without_its_mark_and_its_carriage_returns(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("\ufeffä\r\nb".encode())
    assert read_text(tmp_path / "a") == "ä\nb"
    (tmp_path / "b").write_bytes(b"ab\xff")
    with pytest.raises(FilesError, match=r"b is not UTF-8 text \(byte 2\)"):
        read_text(tmp_path / "b")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, r"is not valid JSON \(nested deeper than 100 levels\)"),
        ("[" * 101 + "]" * 101, r"is not valid JSON \(nested deeper than 100 levels\)"),
        (
            "1" * 5000,
            r"a.json holds the number 1+ \.\.\. \(5,000 characters\) \.\.\. 1+; .*at most 20 digits are read",
        ),
        ("-" + "1" * 20, "holds the number -1{20}; numbers of at most 20 digits are read"),
        ("{", r"is not valid JSON \(Expecting property name"),
    ],
    ids=["very deep", "deep", "digits", "one digit", "cut"],
)
def test_json_is_read_within_bounds(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(FilesError, match=words):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[" * 100 + "]" * 100)
    assert read_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("~nobody-of-this-name/x", "~nobody-of-this-name: no user has this name. Write the whole path."),
        ("x" * 5000, "is too long: file systems allow 255 bytes for each name."),
        ("a/" * 3000, "is too long"),
        ("a\0b", r"the path a\x00b holds a NUL character"),
    ],
    ids=["user", "name", "path", "nul"],
)
def test_a_path_that_cannot_exist_is_refused(path: str, words: str) -> None:
    with pytest.raises(DataError, match=re.escape(words)):
        expand_path(path, DataError)
    assert expand_path("~/x") == Path.home() / "x"


NOT_UTF8 = os.fsdecode(b"caf\xe9")


def test_weights_and_a_database_are_written_in_a_folder_whose_name_is_not_utf8(tmp_path: Path) -> None:
    home = Home(tmp_path / NOT_UTF8).make()
    run = home.run(f"study@{NOT_UTF8}", "k", 0).make()
    model, other = nn.Linear(2, 1), nn.Linear(2, 1)
    save_weights(model, run.best, "mark")
    load_weights(other, run.best)
    assert read_mark(run.best) == "mark" and torch.equal(model.weight, other.weight)
    assert torch.equal(load_tensors(run.best)["weight"], model.weight)
    assert init(home.database)[0].startswith(f"sqlite:///{tmp_path}/caf\\xe9/tuner.db is ready")


@pytest.mark.parametrize("name", ["a?b", "a%41", "a b+c", "a#b"])
def test_signs_of_a_url_in_the_name_of_a_home_are_part_of_it(name: str, tmp_path: Path) -> None:
    home = Home(tmp_path / name).make()
    assert is_absent(home.database)
    (tmp_path / name / "tuner.db").touch()
    assert not is_absent(home.database)


@pytest.mark.parametrize("url", ["sqlite:////tmp/" + "x" * 5000, "sqlite:////tmp/\0"], ids=["long", "nul"])
def test_the_path_in_a_database_url_is_checked(url: str) -> None:
    with pytest.raises(StorageError, match=r"is too long|NUL character"):
        is_absent(url)
