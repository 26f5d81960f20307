"""Logs and bars go to stderr, in one place only."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuner.console import log_to_stderr, open_terminal, progress_bar, supports_unicode


@pytest.fixture(autouse=True)
def logger() -> Iterator[logging.Logger]:
    """The program's logger, put back as it was."""
    found = logging.getLogger("tuner")
    before = found.handlers[:], found.level, found.propagate
    yield found
    found.handlers[:], found.propagate = before[0], before[2]
    found.setLevel(before[1])


def test_a_log_line_has_the_time_and_goes_to_stderr_once(
    logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    log_to_stderr()
    log_to_stderr()  # setting it up twice doubles nothing
    logger.info("trial %d", 7)
    logger.debug("not told")
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line[2] == line[5] == ":"
    assert line.endswith(" trial 7")


def test_a_bar_writes_nothing_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("reading") as progress:
        progress(1, 2)
        progress(2, 2)
    assert capsys.readouterr() == ("", "")


LOCALES = ("LC_ALL", "LC_CTYPE", "LANG")


@pytest.mark.parametrize(
    ("encoding", "locale", "unicode"),
    [
        ("utf-8", {}, True),
        ("utf-8", {"LANG": "de_DE.UTF-8"}, True),
        ("utf-8", {"LANG": "C"}, False),
        ("utf-8", {"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False),  # as Python sets it by itself
        ("utf-8", {"LANG": "C", "LC_CTYPE": "en_US.UTF-8"}, True),
        ("utf-8", {"LANG": "C.UTF-8", "LC_CTYPE": "C.UTF-8"}, True),
        ("utf-8", {"LANG": "en_US.UTF-8", "LC_ALL": "POSIX"}, False),
        ("ascii", {"LANG": "en_US.UTF-8"}, False),
        ("latin-1", {}, False),
    ],
)
def test_a_terminal_shows_unicode_if_its_encoding_and_the_locale_say_so(
    encoding: str, locale: dict[str, str], unicode: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in LOCALES:
        monkeypatch.delenv(name, raising=False)
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    assert supports_unicode(io.TextIOWrapper(io.BytesIO(), encoding)) == unicode


def test_what_a_terminal_cannot_show_is_replaced_and_never_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    with (tmp_path / "terminal").open("w", encoding="utf-8") as stream:
        console = open_terminal(stream)
        console.print("gr\u00f6\u00dfer \u28ff")
        assert console.options.ascii_only
    assert (tmp_path / "terminal").read_text() == "gr??er ?\n"
