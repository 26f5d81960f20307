"""`tuner status --watch` as a person has it: on a terminal beside a run, into a pipe, for a program."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.command_line import alter, environment, finish, home_url, run, running, wait_for, write_space
from helpers.made_studies import make_study
from helpers.trial_rows import put, work

from tuner.paths import Home

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
INTERRUPT = b"\x03"  # what Ctrl-C sends


class Terminal:
    """A pseudo-terminal with a command in it; `text` is all that was written on it, without its codes."""

    def __init__(self, folder: Path, *args: str | Path, size: tuple[int, int], **env: str) -> None:
        self.main, side = pty.openpty()
        self.resize(*size, tell=False)
        self.written = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tuner.cli", *map(str, args)],
            cwd=folder, env=environment(folder, TERM="xterm-256color", **env),
            stdin=side, stdout=side, stderr=side, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # its Ctrl-C reaches the command
        )  # fmt: skip
        os.close(side)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self) -> None:
        while True:
            try:
                came = os.read(self.main, 1 << 16)
            except OSError as error:
                assert error.errno == errno.EIO  # the other side was closed
                return
            if not came:
                return
            self.written += came

    @property
    def text(self) -> str:
        return CODES.sub("", self.written.decode(errors="replace"))

    def resize(self, columns: int, lines: int, tell: bool = True) -> None:
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        if tell:
            self.written = b""

    def wait_for(self, words: str) -> None:
        def there() -> bool:
            if self.process.poll() is not None:
                self.reader.join()
                assert words in self.text, f"it ended with {self.process.returncode}:\n{self.text}"
            return words in self.text

        wait_for(there)

    def press(self, keys: bytes) -> None:
        os.write(self.main, keys)

    def end(self) -> int:
        code = self.process.wait(timeout=60)
        self.reader.join()
        return code


@contextmanager
def terminal(folder: Path, *args: str | Path, size: tuple[int, int] = (112, 30), **env: str) -> Iterator[Terminal]:
    opened = Terminal(folder, *args, size=size, **env)
    try:
        yield opened
    finally:
        if opened.process.poll() is None:
            opened.process.kill()
        opened.end()
        os.close(opened.main)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A home with a study of some trials, and one that runs."""
    home = Home(tmp_path / "home").make()
    joined = make_study(home.folder)
    put(joined, 0, "COMPLETE", [0.2, 0.5, 0.6])
    put(joined, 1, "PRUNED", [0.1], recipe={"epochs": 3})
    put(joined, 2, "FAIL", [], failure="train_loss is nan at epoch 1 with adam")
    put(joined, 3, "RUNNING", [0.3, 0.4])
    work(joined, 3, step=2, steps=3)
    joined.engine.dispose()
    return home.folder


WATCH = ("status", "--watch", "--every", "0.2", "--home", "home")


def test_a_run_is_watched_from_a_second_terminal_until_ctrl_c(tmp_path: Path) -> None:
    write_space(tmp_path, epochs=2000)
    with running(tmp_path, "run", "--space", tmp_path / "tiny.py", "--home", "home", "--trials", "2") as fleet:
        wait_for(lambda: run(tmp_path, "status", "--home", "home").returncode == 0, fleet)
        with terminal(tmp_path, *WATCH) as screen:
            screen.wait_for("0 of 2 trials")
            screen.wait_for("/2000")  # the trial's epochs
            wait_for(lambda: re.search("[⠁-⣿]", screen.text), fleet)  # its curve
            screen.press(INTERRUPT)
            assert screen.end() == 0
            assert "Traceback" not in screen.text and screen.text.rstrip().endswith("╯")  # the last picture stays
            assert screen.written.rindex(b"\x1b[?1049l") > screen.written.index(b"\x1b[?1049h")
            assert screen.written.rindex(b"\x1b[?25h") > screen.written.rindex(b"\x1b[?25l")  # the cursor is back
        assert fleet.poll() is None  # watching changes nothing


def test_a_terminal_shows_the_study_and_follows_its_size(study: Path) -> None:
    with terminal(study.parent, *WATCH) as screen:
        for words in (
            "made: maximize iou on shapes",
            "best so far: iou 0.6000",
            "1 loss not finite",
            "vs best",
            "⣀",
        ):
            screen.wait_for(words)
        screen.resize(40, 10)
        screen.wait_for("left: until stopped")
        screen.resize(112, 30)
        screen.wait_for("time left: until stopped")
        screen.press(INTERRUPT)
        assert screen.end() == 0


def test_a_terminal_of_the_c_locale_gets_ascii(study: Path) -> None:
    with terminal(study.parent, *WATCH, LANG="C", LC_ALL="") as screen:
        screen.wait_for("failed: 1 loss not finite")
        screen.process.send_signal(signal.SIGTERM)  # leaves the terminal as it was, too
        assert screen.end() == 0
        assert screen.written.isascii() and b"\x1b[?1049l" in screen.written
        assert "+- made" in screen.text and "o" in screen.text


@pytest.mark.slow
def test_a_study_deleted_while_it_is_watched_ends_it_with_one_line(study: Path) -> None:
    with terminal(study.parent, *WATCH) as screen:
        screen.wait_for("best so far")
        alter(home_url(study), "DELETE FROM studies")
        assert screen.end() == 2
        assert screen.text.rstrip().endswith("tuner: study 'made' was deleted.")


def test_a_pipe_gets_lines_as_things_happen(study: Path) -> None:
    with running(study.parent, *WATCH) as process:
        assert process.stdout
        told = [process.stdout.readline() for _ in range(6)]
        assert told[0].startswith("made: maximize iou")
        assert told[1].startswith("  3 trials ended (1 complete, 1 fail, 1 pruned, 1 running)")
        spent = "6 epochs, worker time 12 s, pruning saved 2 epochs (25 %), time left: until stopped"
        assert told[3] == f"  spent: {spent}\n"
        assert told[4] == "  failed: 1 loss not finite; last trial 2: train_loss is nan at epoch 1 with adam\n"
        alter(home_url(study), "UPDATE tuner_worker SET state = 'reading photos', steps = 12")
        assert process.stdout.readline() == "worker on node7.lab: reading photos, 12 images\n"
        process.send_signal(signal.SIGINT)
        done = finish(process)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_program_gets_a_line_of_json_for_each_change(study: Path) -> None:
    cost = {"epochs": 6, "hours": 12 / 3600, "unit": "worker-hours"}
    with running(study.parent, *WATCH, "--json") as process:
        assert process.stdout and process.stderr
        first = json.loads(process.stdout.readline())
        assert first["cost"] == {**cost, "epochs_saved": 2, "epochs_planned_of_pruned": 3}
        assert first["failures"]["kinds"] == {"loss not finite": 1}
        alter(home_url(study), "UPDATE tuner_study SET paused = 1")
        second = json.loads(process.stdout.readline())
        assert (first["paused"], second["paused"]) == (False, True)
        assert second["time_left"] == {"seconds": None, "by": "paused"}


@pytest.mark.slow
@pytest.mark.parametrize("pipe", ["|", "2>&1 |"])
def test_a_program_that_has_read_enough_ends_it(pipe: str, study: Path) -> None:
    watch = f"{sys.executable} -m tuner.cli {' '.join(WATCH)} --json"
    done = subprocess.Popen(
        ["bash", "-c", f"set -o pipefail; {watch} {pipe} head -1"],
        cwd=study.parent, env=environment(study.parent), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with done:
        assert done.stdout and json.loads(done.stdout.readline())["ended"] == 3
        alter(home_url(study), "UPDATE tuner_study SET paused = 1")  # the line that nobody reads any more
        assert finish(done).returncode == 0 and done.stderr and done.stderr.closed


def test_of_several_studies_the_one_with_workers_is_watched_then_the_next_one(study: Path) -> None:
    joined = make_study(study, "later")
    put(joined, 0, "COMPLETE", [0.9])
    with terminal(study.parent, *WATCH) as screen, running(study.parent, *WATCH) as process:
        screen.wait_for("made: maximize iou on shapes   one of 2 studies")
        assert process.stderr
        assert process.stderr.readline() == "watching 'made', one of 2 studies\n"
        alter(home_url(study), "DELETE FROM tuner_worker")
        work(joined, 1)
        screen.wait_for("later: maximize iou on shapes")
        assert process.stderr.readline() == "watching 'later', one of 2 studies\n"
    joined.engine.dispose()


def test_a_study_that_is_not_there_is_told_in_one_line(study: Path) -> None:
    done = run(study.parent, *WATCH, "--study", "mode")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "tuner: no study 'mode'. Did you mean 'made'? Known: made.\n"
    done = run(study.parent, "status", "--watch", "--home", "nowhere")
    assert done.returncode == 2 and done.stderr.startswith("tuner: no study yet in sqlite:///")
    assert not (study.parent / "nowhere").exists()


def test_once_and_as_json_it_has_the_same_numbers(study: Path) -> None:
    done = run(study.parent, "status", "--home", "home")
    assert done.returncode == 0 and "pruning saved 2 epochs (25 %)" in done.stdout
    (told,) = json.loads(run(study.parent, "status", "--json", "--home", "home").stdout)
    assert (told["cost"]["epochs"], told["ended"], told["workers"][0]["number"]) == (6, 3, 3)
    assert told["failures"]["last"][0]["reason"] == "train_loss is nan at epoch 1 with adam"
