"""Messages: near names, short lists, and what a failed write turns into."""

from __future__ import annotations

import errno
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tuner import errors
from tuner.errors import (
    LONGEST_LINE,
    MOST_LINES,
    FilesError,
    TunerError,
    bullets,
    create_file,
    did_you_mean,
    first_line,
    first_lines,
    format_names,
    pause_seconds,
    printable,
    retry,
    writing,
)


def test_a_near_name_is_offered_and_a_far_one_is_not() -> None:
    assert did_you_mean("unet_j", ["unet_k", "other"]) == " Did you mean 'unet_k'?"
    assert (
        did_you_mean("xyzzy", ["unet_k", "other"]) == "" == did_you_mean("", ["unet_k"]) == did_you_mean("a", [])
    )


def test_something_that_is_no_text_is_near_nothing() -> None:
    assert did_you_mean(5, ["unet_k"]) == ""


def test_the_first_names_are_shown_and_the_rest_counted() -> None:
    assert (
        format_names("abc") == "a, b, c"
        and format_names("abcdefg") == "a, b, c, d, e and 2 more"
        and format_names([]) == ""
    )


def test_one_line_stays_in_line_and_several_make_a_list() -> None:
    assert bullets(["a"]) == " a" and bullets(["a", "b"]) == "\n  - a\n  - b"


def test_a_long_list_is_cut_and_counted() -> None:
    assert first_lines(map(str, range(100))).splitlines()[-2:] == ["  - 19", "  - ... and 80 more"]
    assert "more" not in first_lines(map(str, range(20)))


def test_an_error_is_shortened_to_one_line() -> None:
    assert first_line(RuntimeError("first\nsecond")) == "first"
    assert first_line(MemoryError()) == "MemoryError"
    assert first_line(AssertionError(" \n")) == "AssertionError"


def test_the_traceback_of_a_failed_trial_is_kept_to_its_last_line() -> None:
    text = "\n".join(["Traceback (most recent call last):", *["  File"] * 100, "ValueError: why"])
    assert str(errors.TrialFailed(errors.FailureKind.EXCEPTION, text)).endswith("\nValueError: why")


def test_every_error_is_part_of_the_documented_tree() -> None:
    tree = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, TunerError)]
    assert len(tree) > 9 and all(e.__name__ in errors.__doc__ for e in tree)


def test_a_full_device_is_reported_as_a_full_disk() -> None:
    with (
        pytest.raises(FilesError, match=r"^the disk is full: could not write /dev/full\. Free some space"),
        writing(Path("/dev/full")),
        Path("/dev/full").open("wb") as file,
    ):
        file.write(b"x" * 100_000)


def test_a_file_in_place_of_a_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    for path in (tmp_path / "a", tmp_path / "a" / "b"):
        with pytest.raises(FilesError, match="is a file where a folder is needed"), writing(path):
            path.mkdir()


def test_a_folder_where_nothing_can_be_created_is_reported() -> None:
    with (
        pytest.raises(FilesError, match="could not write /proc/x: No such file or directory"),
        writing(Path("/proc/x")),
    ):
        Path("/proc/x").mkdir()


def test_a_name_too_long_for_the_disk_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FilesError, match="File name too long"), writing(tmp_path):
        (tmp_path / ("x" * 300)).touch()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_no_permission_is_reported(number: int, tmp_path: Path) -> None:
    with pytest.raises(FilesError, match=r"^no permission to write .* Choose another folder"), writing(tmp_path):
        raise OSError(number, os.strerror(number))  # root may write everywhere, so it is raised here


def test_an_error_that_is_not_of_files_passes_through(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), writing(tmp_path):
        raise ZeroDivisionError
    with pytest.raises(TimeoutError), writing(tmp_path):
        raise TimeoutError("of a lock")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts, without waiting for them."""
    slept: list[float] = []
    monkeypatch.setattr("tuner.errors.time.sleep", slept.append)
    return slept


def test_an_attempt_is_repeated_after_growing_pauses_until_it_succeeds(pauses: list[float]) -> None:
    answers = iter([ValueError(), ValueError(), ValueError(), 7])

    def act() -> int:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    attempts: list[int] = []
    state = random.getstate()
    assert retry(act, lambda _, attempt: attempts.append(attempt) or True, first=1.0, longest=3.0) == 7
    assert attempts == [0, 1, 2] and random.getstate() == state
    limits = zip(pauses, (0.5, 1, 1.5), (1.5, 3, 4.5), strict=True)
    assert all(low <= pause <= high for pause, low, high in limits)


def test_an_error_that_may_not_be_retried_is_raised(pauses: list[float]) -> None:
    with pytest.raises(ZeroDivisionError):
        retry(lambda: 1 // 0, lambda error, attempt: attempt < 2)
    assert len(pauses) == 2


def test_the_pause_has_a_limit_however_often_an_attempt_failed() -> None:
    assert 2.5 <= pause_seconds(100_000) <= 7.5


def test_threads_that_write_one_file_at_once_leave_a_complete_one(tmp_path: Path) -> None:
    path, content = tmp_path / "new" / "a.txt", "x" * 100_000

    def write(letter: str) -> None:
        for _ in range(20):
            with create_file(path) as beside:
                beside.write_text(letter * len(content))
                assert beside.suffix == ".txt" and beside.name.startswith(".")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, "abcd"))
    assert path.read_text() in {letter * len(content) for letter in "abcd"}
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), create_file(path) as beside:
        beside.write_text(str(1 // 0))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_message_is_cut_where_a_line_is_long() -> None:
    message = str(TunerError("x" * 1_000_000 + "\nsecond"))
    first, second = message.split("\n")
    assert len(first) <= LONGEST_LINE and "(1,000,000 characters)" in first and second == "second"
    assert str(TunerError(message)) == message


def test_a_message_has_at_most_so_many_lines() -> None:
    lines = str(TunerError("\n".join(map(str, range(10_000))))).split("\n")
    assert lines[0] == "0" and len(lines) == MOST_LINES + 3 and lines[-1] == "... and 9978 more lines"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("caf\udce9", r"caf\xe9"),
        ("a\ud800b\n", r"a\ud800b\n"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\nb", r"a\nb"),
        ("ä 猫", "ä 猫"),
        ("\0", r"\x00"),
    ],
)
def test_a_value_is_shown_in_one_line_with_escapes(given: str, shown: str) -> None:
    assert printable(given) == shown
    printable(given).encode()


def test_an_error_whose_text_cannot_be_made_is_named_by_its_class() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise ValueError

    assert first_line(Broken()) == "Broken"
