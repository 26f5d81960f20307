"""The next attempt gets complete, matching files of the last one; files that are not needed are deleted."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tuner.artifacts.attempts import AttemptFiles
from tuner.artifacts.store import FolderStore
from tuner.paths import MARK_KEY, Home, Run

WHO = ("tiny", "k", 3)


@pytest.fixture
def attempts(home: Path) -> AttemptFiles:
    return AttemptFiles(Home(home).make())


def write_best(run: Run, epoch: int) -> None:
    save_file({"w": torch.full((9,), float(epoch))}, run.best, metadata={MARK_KEY: str(epoch)})


def write_checkpoint(run: Run, epoch: int) -> None:
    """As training writes it: aside first, then the older one makes room."""
    aside = run.folder / "aside"
    torch.save({"epoch": epoch, "pad": torch.zeros(999)}, aside)
    run.rotate()
    aside.replace(run.checkpoint)


def epoch_of(checkpoint: Path) -> int:
    return int(torch.load(checkpoint, weights_only=True)["epoch"])


def trained(run: Run, epochs: int) -> Run:
    """An attempt of so many epochs, each better than the one before."""
    for epoch in range(1, epochs + 1):
        write_best(run, epoch)
        write_checkpoint(run, epoch)
    return run


def damage(file: Path) -> None:
    """As a power failure leaves a file."""
    whole = file.read_bytes()
    file.unlink()
    file.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_every_attempt_has_a_folder_of_its_own(attempts: AttemptFiles) -> None:
    first, second = attempts.begin(*WHO, 1), attempts.begin(*WHO, 2)
    assert first.folder.name == "attempt-1" and second.folder.name == "attempt-2"
    assert first.folder.parent == second.folder.parent == attempts.home.run(*WHO).folder


def test_the_next_attempt_goes_on_where_the_last_one_was(attempts: AttemptFiles) -> None:
    first = trained(attempts.begin(*WHO, 1), 3)
    first.code.write_text('{"mine.py": ""}')
    before = {file.name: file.read_bytes() for file in first.weights}
    second = attempts.begin(*WHO, 2)
    assert {file.name: file.read_bytes() for file in second.weights} == before
    assert epoch_of(second.checkpoint) == 3 and not first.folder.exists()


def test_files_are_brought_by_link_and_take_no_room(attempts: AttemptFiles) -> None:
    first = trained(attempts.begin(*WHO, 1), 1)
    inode = first.checkpoint.stat().st_ino
    assert attempts.begin(*WHO, 2).checkpoint.stat().st_ino == inode


def test_without_hard_links_they_are_copied(attempts: AttemptFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    first = trained(attempts.begin(*WHO, 1), 2)
    before = first.checkpoint.read_bytes()

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    second = attempts.begin(*WHO, 2)
    assert second.checkpoint.read_bytes() == before and second.checkpoint.stat().st_nlink == 1
    assert not [name for name in names(second.folder) if name.startswith(".")]


def test_an_attempt_that_left_nothing_is_passed_over(attempts: AttemptFiles) -> None:
    trained(attempts.begin(*WHO, 1), 2)
    second = attempts.begin(*WHO, 2)
    second.clear()  # as if it had died before anything was brought
    trained(attempts.home.run(*WHO, 1).make(), 2)
    attempts.home.run(*WHO, 2).make()
    assert epoch_of(attempts.begin(*WHO, 3).checkpoint) == 2


def test_the_newest_whole_attempt_is_taken_not_the_newest(attempts: AttemptFiles) -> None:
    trained(attempts.home.run(*WHO, 2).make(), 4)
    newest = trained(attempts.home.run(*WHO, 10).make(), 7)
    damage(newest.checkpoint), damage(newest.previous)
    assert epoch_of(attempts.begin(*WHO, 11).checkpoint) == 4


def test_a_damaged_checkpoint_leaves_the_one_before(attempts: AttemptFiles) -> None:
    first = trained(attempts.begin(*WHO, 1), 5)
    damage(first.checkpoint)
    second = attempts.begin(*WHO, 2)
    assert epoch_of(second.previous) == 4 and second.restore_best("4")
    assert second.best.read_bytes() == second.previous_best.read_bytes()


def test_what_an_older_version_left_is_gone_on_from(attempts: AttemptFiles) -> None:
    old = attempts.home.run(*WHO).make()
    trained(old, 2)
    old.curves.write_bytes(b"curves")
    assert epoch_of(attempts.begin(*WHO, 1).checkpoint) == 2
    assert names(old.folder) == {"attempt-1", "curves.png"}


def test_a_trial_that_is_new_finds_nothing_of_a_deleted_one(attempts: AttemptFiles) -> None:
    trained(attempts.home.run(*WHO).make(), 1), trained(attempts.home.run(*WHO, 4).make(), 1)
    run = attempts.begin(*WHO, 1, fresh=True)
    assert names(run.folder) == set() and names(run.folder.parent) == {"attempt-1"}


def test_an_attempts_folder_is_empty_at_first_whatever_stood_there(attempts: AttemptFiles) -> None:
    trained(attempts.home.run(*WHO, 2).make(), 1)
    assert names(attempts.begin(*WHO, 2).folder) == set()


def test_other_trials_are_left_alone(attempts: AttemptFiles) -> None:
    other = trained(attempts.begin("tiny", "k", 4, 1), 1)
    attempts.begin(*WHO, 2, fresh=True)
    assert other.is_usable


@pytest.mark.parametrize("after", range(5))
def test_killed_while_bringing_nothing_is_lost(
    attempts: AttemptFiles, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    trained(attempts.begin(*WHO, 1), 3)
    calls, link_to = iter(range(99)), Path.hardlink_to

    def dies(self: Path, target: Path) -> None:
        if next(calls) == after:
            raise SystemExit
        link_to(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "hardlink_to", dies)
        with pytest.raises(SystemExit):
            attempts.begin(*WHO, 2)
    third = attempts.begin(*WHO, 3)
    assert epoch_of(third.checkpoint) == 3 and third.restore_best("3")
    assert names(third.folder.parent) == {"attempt-3"}


# --- checkpoints and the best weights that belong to them ---


def test_best_weights_newer_than_the_checkpoint_are_not_gone_on_with(attempts: AttemptFiles) -> None:
    first = trained(attempts.begin(*WHO, 1), 2)
    write_best(first, 3)  # killed before the checkpoint of epoch 3
    second = attempts.begin(*WHO, 2)
    assert epoch_of(second.checkpoint) == 2
    assert second.restore_best("2") and second.best.read_bytes() == second.checkpoint_best.read_bytes()
    assert second.restore_best("1") and not second.restore_best("3")  # the newer ones are gone


@pytest.mark.parametrize("step", range(4))
def test_killed_between_the_renames_of_a_checkpoint_a_pair_still_matches(
    attempts: AttemptFiles, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    run = trained(attempts.begin(*WHO, 1), 3)
    write_best(run, 4)
    calls, replace = iter(range(99)), Path.replace

    def dies(self: Path, target: Path) -> Path:
        if next(calls) == step:
            raise SystemExit
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dies)
        with pytest.raises(SystemExit):
            write_checkpoint(run, 4)
    again = attempts.begin(*WHO, 2)
    newest = again.checkpoint if again.checkpoint.exists() else again.previous
    assert epoch_of(newest) == 3 and again.restore_best("3")


def test_weights_cut_short_are_none(attempts: AttemptFiles) -> None:
    run = trained(attempts.begin(*WHO, 1), 1)
    os.truncate(run.best, run.best.stat().st_size - 1)  # the links are the same file
    assert not run.restore_best("1")


@pytest.mark.parametrize("content", [b"", b"\x00" * 8, b"\xff" * 40, b"\x02" + b"\x00" * 7 + b"[]"])
def test_what_is_no_file_of_weights_has_no_mark(attempts: AttemptFiles, content: bytes) -> None:
    run = attempts.begin(*WHO, 1)
    run.best.write_bytes(content)
    assert not run.restore_best("1")


def test_weights_of_a_version_without_marks_are_taken(attempts: AttemptFiles) -> None:
    run = attempts.begin(*WHO, 1)
    save_file({"w": torch.zeros(3)}, run.best)
    assert run.restore_best("1")


# --- the end ---


def test_a_finished_trial_keeps_its_last_checkpoint_its_best_weights_and_its_pictures(
    attempts: AttemptFiles,
) -> None:
    run = trained(attempts.begin(*WHO, 1), 3)
    run.curves.write_bytes(b"curves")
    trained(attempts.home.run(*WHO, 0), 1)
    run = attempts.begin(*WHO, 2)
    run.curves.write_bytes(b"curves")
    attempts.finish(run, weights=True)
    assert names(run.folder) == {"checkpoint.pt", "best.safetensors", "curves.png"}
    assert names(run.folder.parent) == {"attempt-2"}
    assert attempts.fetch(*WHO, 2) == run


def test_a_pruned_or_failed_trial_keeps_its_pictures(attempts: AttemptFiles) -> None:
    run = trained(attempts.begin(*WHO, 1), 3)
    run.curves.write_bytes(b"curves")
    attempts.finish(run, weights=False)
    attempts.finish(run, weights=False)
    assert names(run.folder) == {"curves.png"}


# --- the store behind the home ---


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def test_a_finished_trial_is_fetched_once(tmp_path: Path, store: FolderStore) -> None:
    one = AttemptFiles(Home(tmp_path / "one").make(), store)
    run = trained(one.begin(*WHO, 1, fresh=True), 2)
    one.keep(run), one.finish(run, weights=True)
    assert one.close(60)
    other = AttemptFiles(Home(tmp_path / "other").make(), store)
    assert (
        other.has_files(*WHO, 1)
        and not other.has_files(*WHO, 2)
        and not other.has_files(*WHO, 0)
        and not other.has_files("x", "k", 3, 1)
    )
    fetched = other.fetch(*WHO, 1)
    assert epoch_of(fetched.checkpoint) == 2 and fetched.restore_best("2")
    for name in store.names(""):
        store.delete(name)
    assert other.fetch(*WHO, 1) == fetched and fetched.is_usable and other.has_files(*WHO, 1)


def test_a_trial_of_an_older_version_is_in_no_store(attempts: AttemptFiles, store: FolderStore) -> None:
    old = trained(attempts.home.run(*WHO).make(), 1)
    here = AttemptFiles(attempts.home, store)
    assert here.has_files(*WHO, 0) and here.fetch(*WHO, 0) == old


def test_a_trial_that_is_nowhere_gives_an_empty_run(attempts: AttemptFiles, store: FolderStore) -> None:
    assert not AttemptFiles(attempts.home, store).fetch(*WHO, 1).best.exists()


def test_without_a_store_nothing_is_uploaded_or_waited_for(attempts: AttemptFiles) -> None:
    run = trained(attempts.begin(*WHO, 1), 1)
    attempts.keep(run), attempts.forget(run)
    assert attempts.settle(run, 0) and attempts.close(0) and not list(run.folder.glob(".*"))


def test_a_store_is_asked_only_for_what_is_not_here(attempts: AttemptFiles, tmp_path: Path) -> None:
    """A store that would fail at the first question."""
    (tmp_path / "file").touch()
    here = AttemptFiles(attempts.home, FolderStore(tmp_path / "file"))
    trained(here.begin(*WHO, 1, fresh=True), 2)
    assert epoch_of(here.begin(*WHO, 2).checkpoint) == 2


def test_threads_that_upload_at_once_share_one_uploader(tmp_path: Path, store: FolderStore) -> None:
    """The trial's thread uploads checkpoints, another one pictures."""
    file = tmp_path / "file"
    file.write_bytes(b"x")
    here = AttemptFiles(Home(tmp_path / "here").make(), store)
    before = threading.active_count()
    barrier = threading.Barrier(8)

    def send(name: str) -> None:
        barrier.wait(10)
        here.send(file, name)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, "abcdefgh"))
    assert threading.active_count() <= before + 1  # the pool has ended
    assert here.close(10) and sorted(store.names("")) == list("abcdefgh")
