"""The disk is full in the middle: one line, exit code 2, nothing half-written; with room again, it goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.command_line import claims, epochs_of, home_url, run, states, write_space
from helpers.postgres import Postgres

KB = 1000
EPOCHS = 80


def search(folder: Path) -> list[str | Path]:
    return ["run", "--space", folder / "tiny.py", "--home", folder / "home", "--trials", "1"]


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("tuner: ")]
    assert "the disk is full" in line
    return line


def leftovers(folder: Path) -> list[Path]:
    """What was written aside and never put in its place."""
    return [path for path in (folder / "home").rglob(".*") if path.is_file() or any(path.iterdir())]


@pytest.mark.slow
def test_cache_and_checkpoint_on_a_full_disk(tmp_path: Path, postgres: Postgres) -> None:
    write_space(tmp_path, epochs=3)
    url = postgres.fresh()
    for most, what in ((200 * KB, "cache"), (400 * KB, "checkpoint.pt")):
        line = refused(run(tmp_path, *search(tmp_path), TUNER_STORAGE=url, max_bytes=most))
        assert what in line
        assert leftovers(tmp_path) == []
        assert states(url) == {0: "WAITING"}
        assert claims(url) == [(1, None, 0)]
    done = run(tmp_path, *search(tmp_path), TUNER_STORAGE=url)
    assert done.returncode == 0, done.stderr
    assert states(url) == {0: "COMPLETE"}
    assert epochs_of(url, 0) == [1, 2, 3]


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[None]:
    """A disk of its own, which only root may have."""
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=False).returncode:
        pytest.skip("only root may mount a small disk, and not in every container")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.slow
def test_a_disk_with_no_room_for_a_checkpoint(tmp_path: Path, postgres: Postgres) -> None:
    write_space(tmp_path, epochs=2, model='use("unet", k=16)')
    url, home = postgres.fresh(), tmp_path / "home"
    with small_disk(home, "3m"):  # enough for the cache and the best weights
        assert "checkpoint.pt" in refused(run(tmp_path, *search(tmp_path), TUNER_STORAGE=url))
        assert leftovers(tmp_path) == []
        assert (states(url), claims(url)) == ({0: "WAITING"}, [(1, None, 0)])
        subprocess.run(["mount", "-o", "remount,size=64m", home], check=True)
        done = run(tmp_path, *search(tmp_path), TUNER_STORAGE=url)
        assert done.returncode == 0, done.stderr
    assert states(url) == {0: "COMPLETE"}
    assert epochs_of(url, 0) == [1, 2]


@pytest.mark.slow
def test_a_database_on_a_full_disk(tmp_path: Path) -> None:
    write_space(tmp_path, epochs=EPOCHS)
    url = home_url(tmp_path / "home")
    assert "tuner.db" in refused(run(tmp_path, *search(tmp_path), max_bytes=1700 * KB))
    assert 1 <= len(epochs_of(url, 0)) < EPOCHS
    done = run(tmp_path, *search(tmp_path))
    assert done.returncode == 0, done.stderr
    assert states(url) == {0: "COMPLETE"}
    assert epochs_of(url, 0) == list(range(1, EPOCHS + 1))


def test_a_database_that_cannot_even_be_made(tmp_path: Path) -> None:
    write_space(tmp_path)
    assert "tuner.db" in refused(run(tmp_path, *search(tmp_path), max_bytes=100 * KB))
