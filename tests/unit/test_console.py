"""Logs and bars go to stderr, in one place only."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tuner.console import log_to_stderr, progress_bar


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
