"""SIGTERM, and SIGKILL ten seconds later, as hosts that are taken away have it: in the middle of a long epoch."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from helpers.command_line import children, claims, epochs_of, finish, run, running, states, wait_for
from helpers.fragile_postgres import Fragile
from helpers.recording_model import STEPS, noted, once, trained, write_booked
from helpers.tcp_proxy import Proxy

NOTICE_SECONDS = 10
EPOCHS = 8  # more than are trained while a busy machine takes its time to stop a database


def search(folder: Path) -> list[str | Path]:
    return ["run", "--space", folder / "tiny.py", "--home", folder / "home", "--trials", "1"]


def take_away(fleet: subprocess.Popen[str]) -> None:
    """A notice, ten seconds, and the end of everything that still runs."""
    everybody = [fleet.pid, *(child.pid for child in children(fleet.pid))]
    os.kill(fleet.pid, signal.SIGTERM)
    try:
        fleet.wait(NOTICE_SECONDS)
    except subprocess.TimeoutExpired:
        for pid in everybody:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
    finish(fleet)


@pytest.mark.slow
@pytest.mark.parametrize(
    "is_away", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["database there", "database away"]
)
def test_all_but_the_step_at_hand_is_saved(is_away: bool, tmp_path: Path, fragile: Fragile) -> None:
    """Also where the database is away: what was trained stands in the checkpoint."""
    url = fragile.fresh()
    write_booked(tmp_path, EPOCHS, "pace=1.0")  # an epoch of more than three seconds
    with (
        Proxy(fragile.folder) as proxy,
        running(tmp_path, *search(tmp_path), TUNER_STORAGE=proxy.through(url)) as fleet,
    ):
        wait_for(lambda: len(noted(tmp_path, "step")) > STEPS + 1, fleet)  # in the second epoch
        if is_away:
            fragile.stop()
        take_away(fleet)
    fragile.start()
    before = noted(tmp_path, "step")
    assert states(url) == {0: "RUNNING" if is_away else "WAITING"}
    (tmp_path / "quick").touch()
    done = run(tmp_path, *search(tmp_path), TUNER_STORAGE=url)
    assert done.returncode == 0, done.stderr
    assert states(url) == {0: "COMPLETE"}
    assert epochs_of(url, 0) == list(range(1, EPOCHS + 1))
    assert trained(tmp_path) == once(EPOCHS)
    later = noted(tmp_path, "step")[len(before) :]
    assert later[0][1] >= before[-1][1]  # it goes on with the step after the last one, or with that one
    assert [deaths for *_, deaths in claims(url)] == [0]
