"""The database is stopped, killed, cut off and crowded under a run: training goes on, and all is written later."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from helpers.command_line import children, claims, epochs_of, finish, running, states, wait_for
from helpers.fragile_postgres import Fragile
from helpers.recording_model import go_on, noted, once, trained, write_booked
from helpers.tcp_proxy import Proxy

EPOCHS = 120


def search(folder: Path, *args: str) -> list[str | Path]:
    return ["run", "--space", folder / "tiny.py", "--home", folder / "home", "--trials", "1", *args]


def further(folder: Path, process: subprocess.Popen[str], epochs: int = 4) -> None:
    """Wait until so many epochs more were trained."""
    before = len(noted(folder, "trained"))
    wait_for(lambda: len(noted(folder, "trained")) >= before + epochs, process)


def written(url: str, folder: Path, process: subprocess.Popen[str]) -> None:
    """Wait until all that was trained before stands in the database."""
    before = len(noted(folder, "trained"))
    wait_for(lambda: len(epochs_of(url, 0)) >= before - 1, process)


@pytest.mark.slow
def test_a_run_lives_through_everything_a_database_can_do(tmp_path: Path, fragile: Fragile) -> None:
    write_booked(tmp_path, EPOCHS, f"pace=0.05, gate={EPOCHS}")
    url, log = fragile.fresh(), tmp_path / "home/logs/tiny/worker-0.log"
    with (
        Proxy(fragile.folder) as proxy,
        running(tmp_path, *search(tmp_path), TUNER_STORAGE=proxy.through(url)) as fleet,
    ):
        wait_for(lambda: noted(tmp_path, "trained"), fleet)

        for _ in range(3):  # connections cut
            proxy.cut()
            further(tmp_path, fleet)
        written(url, tmp_path, fleet)

        fragile.stop()  # shut down in order: training does not wait for it
        further(tmp_path, fleet)
        fragile.start()
        written(url, tmp_path, fleet)

        fragile.kill()
        further(tmp_path, fleet)
        fragile.start()
        written(url, tmp_path, fleet)

        crowd = fragile.crowd()  # too many connections: nobody comes in again who was cut off
        proxy.cut()
        while more := fragile.crowd():
            crowd += more
        further(tmp_path, fleet)
        for connection in crowd:
            connection.close()
        written(url, tmp_path, fleet)

        fragile.stop()  # a worker that begins just now waits for it as well
        (worker,) = children(fleet.pid)
        worker.kill()
        wait_for(lambda: "the database is away" in log.read_text(), fleet)
        fragile.start()
        further(tmp_path, fleet)

        go_on(tmp_path)
        done = finish(fleet)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr + log.read_text()
    assert states(url) == {0: "COMPLETE"}
    assert epochs_of(url, 0) == list(range(1, EPOCHS + 1))
    assert trained(tmp_path).keys() == once(EPOCHS).keys()
    assert trained(tmp_path).total() <= EPOCHS + 1  # at most the one that the dead worker was in
    assert [deaths for *_, deaths in claims(url)] == [0]
