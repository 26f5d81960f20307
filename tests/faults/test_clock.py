"""The clock is set back by a day, and on by a year, while a study runs: nothing is measured by it."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.command_line import alter, claims, epochs_of, finish, rows, running, states, wait_for
from helpers.recording_model import go_on, once, trained, write_booked

# Every Python process of the run reads its clock through this; the file says by how many seconds it is wrong
CLOCK = """
import datetime
import time
from pathlib import Path

right = time.time


def wrong():
    try:
        return right() + float(Path({file!r}).read_text() or 0)
    except OSError:
        return right()


class Wrong(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(wrong(), tz)


time.time = wrong
time.time_ns = lambda: int(wrong() * 1e9)
datetime.datetime = Wrong
"""


@pytest.mark.slow
def test_a_clock_that_jumps_harms_nothing(tmp_path: Path, storage_url: str) -> None:
    clock = tmp_path / "clock"
    (tmp_path / "sitecustomize.py").write_text(CLOCK.format(file=str(clock)))
    write_booked(tmp_path, 30, "pace=0.05, gate=30")
    budget = ["--trials", "1", "--hours", "2"]
    search = ["run", "--space", tmp_path / "tiny.py", "--home", tmp_path / "home", *budget]
    with running(tmp_path, *search, TUNER_STORAGE=storage_url) as fleet:
        wait_for(lambda: epochs_of(storage_url, 0), fleet)
        for seconds in (-86_400, 365 * 86_400):
            before = len(epochs_of(storage_url, 0))
            clock.write_text(str(seconds))
            # the server's clock is not ours to set: what it said last is moved the other way
            alter(storage_url, "UPDATE tuner_study SET clock_at = clock_at - :jump", jump=seconds)
            wait_for(lambda before=before: len(epochs_of(storage_url, 0)) >= before + 5, fleet)
        go_on(tmp_path)
        done = finish(fleet)
    assert done.returncode == 0, done.stderr
    assert states(storage_url) == {0: "COMPLETE"}
    assert trained(tmp_path) == once(30)
    assert [deaths for *_, deaths in claims(storage_url)] == [0]
    (seconds,) = rows(storage_url, "SELECT clock_seconds FROM tuner_study")[0]
    assert 0 < seconds < 3600
