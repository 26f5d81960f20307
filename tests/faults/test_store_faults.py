"""The artifact store is down, slow or gives back half a file: training goes on, and what comes back is whole."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.command_line import epochs_of, finish, rows, run, running, states, wait_for, write_space
from helpers.object_store import Buckets, bucket, buckets
from helpers.tcp_proxy import Proxy
from safetensors.torch import save_file

from tuner.artifacts import attempts as attempts_module
from tuner.artifacts import s3_store, store_retries, upload_queue
from tuner.artifacts.attempts import AttemptFiles, open_attempts
from tuner.errors import FilesError
from tuner.paths import MARK_KEY, Home, Run

__all__ = ["bucket", "buckets"]
WHO = ("tiny", "k", 3)
PLACE = "trials/tiny-k/00003/"
EARLY = "SELECT epoch, seconds FROM tuner_epoch WHERE epoch <= 3 ORDER BY epoch"  # seconds differ each time


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses and timeouts."""
    for module, name, value in (
        (store_retries, "FIRST_PAUSE", 0.001),
        (s3_store, "CONNECT_SECONDS", 1),
        (s3_store, "READ_SECONDS", 1),
        (upload_queue, "FIRST_PAUSE", 0.05),
        (upload_queue, "LONGEST_PAUSE", 0.1),
        (attempts_module, "PATIENCE", 0.5),
    ):
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def proxy(buckets: Buckets, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy between the hosts and the bucket."""
    with Proxy(buckets.target) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        yield proxy


class Hosts:
    """Hosts that share no folder, only a store."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.attempts: list[AttemptFiles] = []

    def host(self, name: str) -> AttemptFiles:
        self.attempts.append(open_attempts(Home(self.folder / name).make(), self.url))
        return self.attempts[-1]


@pytest.fixture
def hosts(tmp_path: Path, bucket: str) -> Iterator[Hosts]:
    hosts = Hosts(tmp_path, bucket)
    yield hosts
    for attempts in hosts.attempts:
        attempts.close(0)


def epoch(run: Run, number: int, better: bool = True, size: int = 999) -> Run:
    """An epoch of a trial as training leaves it: the best weights, if they are, and then the checkpoint."""
    if better:
        save_file({"w": torch.full((99,), float(number))}, run.best, metadata={MARK_KEY: str(number)})
    aside = run.folder / "aside"
    torch.save({"epoch": number, "pad": torch.rand(size)}, aside)
    run.rotate()
    aside.replace(run.checkpoint)
    return run


def epoch_of(run: Run) -> int:
    return int(torch.load(run.checkpoint, weights_only=True)["epoch"])


def sent(attempts: AttemptFiles, run: Run) -> None:
    attempts.keep(run)
    assert attempts.settle(run, 60)


def test_another_host_goes_on_where_the_first_one_was(hosts: Hosts) -> None:
    one = hosts.host("one")
    run = one.begin(*WHO, 1, fresh=True)
    for number in (1, 2):
        sent(one, epoch(run, number, better=number == 1))
    other = hosts.host("other").begin(*WHO, 2)
    assert epoch_of(other) == 2 and other.restore_best("1") and not other.restore_best("2")
    assert {file.name for file in other.folder.iterdir()} == {"checkpoint.pt", "best.safetensors"}


def test_a_host_that_comes_back_does_not_go_on_with_what_it_left_long_ago(hosts: Hosts) -> None:
    one, other = hosts.host("one"), hosts.host("other")
    sent(one, epoch(one.begin(*WHO, 1, fresh=True), 1))
    later = other.begin(*WHO, 2)
    for number in (2, 3):
        sent(other, epoch(later, number))
    assert epoch_of(one.begin(*WHO, 3)) == 3


def test_what_is_here_is_newer_than_what_was_sent(hosts: Hosts, proxy: Proxy) -> None:
    one = hosts.host("one")
    run = one.begin(*WHO, 1, fresh=True)
    sent(one, epoch(run, 1))
    epoch(run, 2)
    asked = proxy.connections
    assert epoch_of(one.begin(*WHO, 2)) == 2 and proxy.connections == asked


def test_only_what_is_needed_stays_in_the_store(hosts: Hosts, buckets: Buckets, bucket: str) -> None:
    one = hosts.host("one")
    run = one.begin(*WHO, 1, fresh=True)
    for number in range(1, 6):
        sent(one, epoch(run, number, better=number <= 2))
    kinds = sorted(name.rpartition("/")[2].split("-")[0] for name in buckets.objects(bucket))
    assert kinds == ["best", "checkpoint", "checkpoint", "kept", "kept"]  # of the last two epochs
    second = one.begin(*WHO, 2)
    sent(one, epoch(second, 6))
    second.curves.write_bytes(b"curves")
    sent(one, second)
    one.finish(second, weights=True)
    assert one.settle(second, 60)
    names = buckets.objects(bucket)
    assert {name.partition(PLACE)[2].split("-")[1][0] for name in names} == {"2"}
    assert sorted(name.rpartition("/")[2].split("-")[0] for name in names) == [
        "best",
        "checkpoint",
        "curves",
        "kept",
    ]
    elsewhere = hosts.host("elsewhere").fetch(*WHO, 2)
    assert epoch_of(elsewhere) == 6 and elsewhere.curves.read_bytes() == b"curves" and elsewhere.restore_best("6")


def test_a_pruned_or_failed_trial_leaves_nothing_there(hosts: Hosts, buckets: Buckets, bucket: str) -> None:
    one = hosts.host("one")
    run = one.begin(*WHO, 1, fresh=True)
    sent(one, epoch(run, 1))
    one.keep(epoch(run, 2))
    one.finish(run, weights=False)
    assert one.settle(run, 60) and buckets.objects(bucket) == {}


# --- down ---


def test_while_the_store_is_down_training_goes_on_and_is_sent_afterwards(
    hosts: Hosts, proxy: Proxy, buckets: Buckets, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "tuner")
    one = hosts.host("one")
    run = one.begin(*WHO, 1, fresh=True)
    proxy.refuse(), proxy.cut()
    for number in range(1, 6):
        one.keep(epoch(run, number))
        wait_for(lambda: one.uploader and one.uploader.warned)
    wait_for(lambda: proxy.target and len(list(run.folder.glob(".sending-*"))) == 1)  # only the newest waits
    assert buckets.objects(bucket) == {} and not one.settle(run, 60)
    proxy.accept()
    wait_for(lambda: one.uploader and not one.uploader.warned)
    assert one.settle(run, 60) and not list(run.folder.glob(".sending-*"))
    assert epoch_of(hosts.host("other").begin(*WHO, 2)) == 5
    messages = [record.message for record in caplog.records if bucket in record.message]
    assert len(messages) == 2 and "Training continues" in messages[0] and "is back" in messages[1]


def test_a_trial_that_ends_while_the_store_is_down_is_sent_before_its_worker_ends(
    hosts: Hosts, proxy: Proxy, buckets: Buckets, bucket: str
) -> None:
    one = hosts.host("one")
    run = one.begin(*WHO, 1, fresh=True)
    proxy.refuse(), proxy.cut()
    one.keep(epoch(run, 1))
    wait_for(lambda: one.uploader and one.uploader.warned)
    one.finish(run, weights=True)
    proxy.accept()
    wait_for(lambda: len(buckets.objects(bucket)) == 3)
    assert one.close(60)
    assert epoch_of(hosts.host("other").fetch(*WHO, 1)) == 1


def test_a_trial_that_was_lost_is_not_sent(hosts: Hosts, proxy: Proxy, buckets: Buckets, bucket: str) -> None:
    one = hosts.host("one")
    run = one.begin(*WHO, 1, fresh=True)
    proxy.refuse(), proxy.cut()
    one.keep(epoch(run, 1))
    wait_for(lambda: one.uploader and one.uploader.warned)
    one.forget(run), one.forget(run)
    proxy.accept()
    wait_for(lambda: one.uploader and not one.uploader.waiting and not one.uploader.current)
    one.forget(run)
    assert one.close(60)


def test_a_trial_that_another_host_began_waits_for_the_store_and_then_says_so(hosts: Hosts, proxy: Proxy) -> None:
    one, other = hosts.host("one"), hosts.host("other")
    sent(one, epoch(one.begin(*WHO, 1, fresh=True), 4))
    proxy.refuse(), proxy.cut()
    with pytest.raises(FilesError, match=r"cannot be reached .* another host began cannot continue"):
        other.begin(*WHO, 2)
    proxy.accept()
    assert epoch_of(other.begin(*WHO, 3)) == 4


# --- slow ---


def test_a_store_that_hangs_holds_nothing_up(hosts: Hosts, proxy: Proxy) -> None:
    one = hosts.host("one")
    run = one.begin(*WHO, 1, fresh=True)
    proxy.stall()
    for number in range(1, 9):
        one.keep(epoch(run, number))
    assert len(list(run.folder.glob(".sending-*"))) <= 2  # one under way, the newest waiting
    one.finish(run, weights=True)
    proxy.flow()
    wait_for(lambda: one.uploader and not one.uploader.waiting and not one.uploader.current)
    assert epoch_of(hosts.host("other").fetch(*WHO, 1)) == 8


def test_the_end_of_a_worker_waits_for_a_slow_store_only_so_long(hosts: Hosts, proxy: Proxy) -> None:
    one = hosts.host("one")
    run = one.begin(*WHO, 1, fresh=True)
    proxy.delay = 0.5
    one.keep(epoch(run, 1))
    assert not one.settle(run, 0.01) and not one.close(0.01)


def test_a_checkpoint_is_sent_as_it_was_while_the_next_one_is_written(hosts: Hosts, proxy: Proxy) -> None:
    one = hosts.host("one")
    run = one.begin(*WHO, 1, fresh=True)
    proxy.delay = 0.02
    one.keep(epoch(run, 1, size=300_000))
    for number in range(2, 6):
        epoch(run, number, size=300_000)
    assert one.settle(run, 60)
    other = hosts.host("other").begin(*WHO, 2)
    assert epoch_of(other) == 1 and other.restore_best("1")


# --- half a file ---


def half(buckets: Buckets, bucket: str, kind: str, newest: bool = True) -> None:
    """Cut what lies in the bucket: of the newest list, or of both."""
    objects = buckets.client.list_objects_v2(Bucket=bucket[5:].partition("/")[0])["Contents"]
    mine = [one for one in objects if f"/{kind}-" in one["Key"]]
    mine.sort(key=lambda one: one["LastModified"])
    for one in mine[-1:] if newest else mine:
        name = one["Key"].partition("/")[2]
        body = buckets.client.get_object(Bucket=bucket[5:].partition("/")[0], Key=one["Key"])["Body"].read()
        buckets.overwrite(bucket, name, body[: len(body) // 2])


@pytest.fixture
def two_epochs(hosts: Hosts) -> Run:
    one = hosts.host("one")
    run = one.begin(*WHO, 1, fresh=True)
    sent(one, epoch(run, 1))
    time.sleep(1.1)  # the server tells the age of its files in whole seconds
    sent(one, epoch(run, 2))
    return run


SECOND = pytest.mark.slow


@pytest.mark.parametrize(
    "kind", ["checkpoint", pytest.param("best", marks=SECOND), pytest.param("kept", marks=SECOND)]
)
def test_half_a_file_is_not_used_but_the_one_before(
    hosts: Hosts, two_epochs: Run, buckets: Buckets, bucket: str, kind: str
) -> None:
    half(buckets, bucket, kind)
    other = hosts.host("other").begin(*WHO, 2)
    assert epoch_of(other) == 1 and other.restore_best("1")
    assert not [path for path in other.folder.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_where_everything_is_damaged_the_trial_starts_afresh(
    hosts: Hosts, two_epochs: Run, buckets: Buckets, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    half(buckets, bucket, "checkpoint", newest=False)
    other = hosts.host("other").begin(*WHO, 2)
    assert list(other.folder.iterdir()) == [] and "is damaged" in caplog.text


@pytest.mark.slow
def test_an_answer_cut_in_the_middle_is_asked_for_again(hosts: Hosts, proxy: Proxy) -> None:
    one = hosts.host("one")
    sent(one, epoch(one.begin(*WHO, 1, fresh=True), 1, size=300_000))
    other = hosts.host("other")
    assert other.store and other.store.names(PLACE)
    proxy.cut(), proxy.short(200_000)
    assert epoch_of(other.begin(*WHO, 2)) == 1


@pytest.mark.slow
def test_killed_between_checkpoint_and_manifest_the_manifest_before_is_used(
    hosts: Hosts, two_epochs: Run, buckets: Buckets, bucket: str
) -> None:
    """The files of epoch 3 were sent, their list was not."""
    buckets.overwrite(bucket, f"{PLACE}attempt-1/checkpoint-abcdefabcdef.pt", b"newer")
    buckets.overwrite(bucket, f"{PLACE}attempt-1/best-abcdefabcdef.safetensors", b"newer")
    other = hosts.host("other").begin(*WHO, 2)
    assert epoch_of(other) == 2 and other.restore_best("2")


# --- as users have it ---


@pytest.mark.slow
def test_hosts_that_share_no_folder_go_on_with_each_others_trials(
    tmp_path: Path, buckets: Buckets, bucket: str
) -> None:
    """A trial begun on one host is finished on another, exported on a third and trained longer on a fourth."""
    write_space(tmp_path, epochs=30)
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    env = {**buckets.environment(), "TUNER_STORAGE": url}
    search = ["run", "--space", tmp_path / "tiny.py", "--trials", "1"]
    with running(tmp_path, *search, "--home", "one", "--artifacts", bucket, **env) as fleet:
        wait_for(lambda: len(epochs_of(url, 0)) >= 3, fleet)
        os.kill(fleet.pid, signal.SIGTERM)
        assert finish(fleet).returncode == 0
    trained_before = rows(url, EARLY)
    assert states(url) == {0: "WAITING"} and len(trained_before) == 3
    done = run(tmp_path, *search, "--home", "two", **env)  # where its artifacts are is noted on the study
    assert done.returncode == 0, done.stderr
    assert states(url) == {0: "COMPLETE"} and epochs_of(url, 0) == list(range(1, 31))
    assert rows(url, EARLY) == trained_before  # not one of them was trained again
    exported = run(tmp_path, "best", "--export", "best", "--home", "three", **env)
    assert exported.returncode == 0, exported.stderr
    assert {"weights.safetensors", "curves.png", "predictions.png"} <= {
        f.name for f in (tmp_path / "best").iterdir()
    }
    longer = run(tmp_path, "extend", "--epochs", "31", "--home", "four", **env)
    assert longer.returncode == 0, longer.stderr
    trained = "SELECT state FROM trials t JOIN studies s ON s.study_id = t.study_id WHERE study_name = :name"
    assert rows(url, trained, name="tiny-31-epochs") == [("COMPLETE",)]


def test_a_store_that_cannot_be_used_is_reported_before_a_study_is_made(
    tmp_path: Path, buckets: Buckets, bucket: str
) -> None:
    write_space(tmp_path)
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    env = {**buckets.environment(), "TUNER_STORAGE": url}
    for artifacts, message in (
        ("s3://no-such-bucket/x", "the bucket does not exist"),
        ("gs://bucket", "of the kind 'gs://'"),
    ):
        done = run(tmp_path, "run", "--space", tmp_path / "tiny.py", "--artifacts", artifacts, **env)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
        assert rows(url, "SELECT * FROM studies") == []


@pytest.mark.slow
def test_a_run_whose_store_goes_down_and_comes_back_loses_nothing(
    tmp_path: Path, buckets: Buckets, bucket: str
) -> None:
    write_space(tmp_path, epochs=80)
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    log = tmp_path / "one/logs/tiny/worker-0.log"
    search = ["run", "--space", tmp_path / "tiny.py", "--trials", "1", "--home", "one", "--artifacts", bucket]
    with Proxy(buckets.target) as proxy:
        env = {**buckets.environment(proxy.port), "TUNER_STORAGE": url}
        with running(tmp_path, *search, **env) as fleet:
            wait_for(lambda: len(epochs_of(url, 0)) >= 2, fleet)
            proxy.refuse(), proxy.cut()
            further = len(epochs_of(url, 0)) + 5
            wait_for(lambda: len(epochs_of(url, 0)) >= further, fleet)
            wait_for(lambda: "Training continues" in log.read_text(), fleet)
            proxy.accept()
            done = finish(fleet)
    assert done.returncode == 0, done.stderr
    assert states(url) == {0: "COMPLETE"} and epochs_of(url, 0) == list(range(1, 81))
    assert log.read_text().count("Training continues") == 1 and "Traceback" not in log.read_text()
    env = {**buckets.environment(), "TUNER_STORAGE": url}
    exported = run(tmp_path, "best", "--export", "best", "--home", "two", **env)
    assert exported.returncode == 0, exported.stderr
