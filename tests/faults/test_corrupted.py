"""A checkpoint that was cut short, or in which a bit turned: the one before is used, and the log says so."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from helpers.command_line import epochs_of, finish, home_url, rows, run, running, states, wait_for
from helpers.recording_model import go_on, trained, write_booked, write_rows

EPOCHS = 40
PACED = "pace=0.05, gate=20"


def search(folder: Path) -> list[str | Path]:
    return ["run", "--table", folder / "rows.toml", "--home", folder / "home", "--workers", "2"]


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def turn_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[content.index(b"steps") + 2000] ^= 1
    file.write_bytes(content)


@pytest.mark.slow
def test_the_checkpoint_before_is_used_and_gives_the_same_numbers(tmp_path: Path) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    for folder in (unbroken, broken):
        folder.mkdir()
        write_booked(folder, EPOCHS, PACED)
        write_rows(folder, 2)
    go_on(unbroken)
    with running(broken, *search(broken)) as fleet:
        wait_for(lambda: all(len(epochs_of(home_url(broken / "home"), at)) >= 5 for at in (0, 1)), fleet)
        os.kill(fleet.pid, signal.SIGTERM)
        assert finish(fleet).returncode == 0
    damage = {0: cut_short, 1: turn_a_bit}
    for at, harm in damage.items():
        (checkpoint,) = broken.glob(f"home/trials/*/{at:05d}/attempt-1/checkpoint.pt")
        harm(checkpoint)
    go_on(broken)
    done, straight = run(broken, *search(broken)), run(unbroken, *search(unbroken))
    assert (done.returncode, straight.returncode) == (0, 0), done.stderr + straight.stderr
    ours, theirs = home_url(broken / "home"), home_url(unbroken / "home")
    assert states(ours) == {0: "COMPLETE", 1: "COMPLETE"}
    query = "SELECT trial_id, epoch, value, metrics FROM tuner_epoch ORDER BY trial_id, epoch"
    assert rows(ours, query) == rows(theirs, query)
    assert max(trained(broken, 0).values()) <= 2
    logs = "".join(path.read_text() for path in (broken / "home/logs/rows").iterdir())
    assert logs.count("cannot be used, it is truncated or altered: trying the previous one") == 2, logs
