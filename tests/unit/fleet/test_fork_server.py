"""Workers fork from a real server, behave as processes that were started, and do without it where it is lost."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from helpers import fork_server as tests_fork_server
from helpers.command_line import wait_for

from tuner.errors import FleetError
from tuner.fleet import fork_server
from tuner.fleet.config import WorkerConfig
from tuner.fleet.fork_server import ForkedWorker, ForkServer, start_server, stop_server
from tuner.fleet.local import LocalSlot
from tuner.paths import Home

pytestmark = pytest.mark.skipif(not fork_server.AVAILABLE, reason="workers fork on Linux only")


@pytest.fixture(scope="module", params=["of the tests", pytest.param("of tuner run", marks=pytest.mark.slow)])
def server(request: pytest.FixtureRequest) -> Iterator[ForkServer]:
    """The server from which all tests fork; the one that `tuner run` starts must import everything first."""
    if request.param == "of the tests":
        yield tests_fork_server.server()
        return
    started = start_server()
    assert started
    yield started
    stop_server()


def fork(server: ForkServer, folder: Path) -> ForkedWorker:
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        return ForkedWorker(server, dict(os.environ), folder, log)
    finally:
        os.close(log)


def close(worker: ForkedWorker) -> None:
    worker.stdin.close()
    worker.stdout.close()


def test_a_worker_reads_its_configuration_and_reports_how_it_ended(server: ForkServer, tmp_path: Path) -> None:
    worker = fork(server, tmp_path)
    process = psutil.Process(worker.pid)
    wait_for(lambda: process.cwd() == str(tmp_path))
    assert process.ppid() == os.getpid() and os.getsid(worker.pid) == worker.pid
    config = WorkerConfig("nonsense", "s", "", str(tmp_path))
    worker.stdin.write(config.to_line())
    worker.stdin.flush()
    report = json.loads(worker.stdout.read())
    assert worker.wait() == worker.poll() == 2
    assert "database URL" in report["error"]
    close(worker)


def test_the_server_has_one_thread_and_its_forks_may_use_a_gpu(
    server: ForkServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = fork(server, tmp_path)  # the server answers after its imports
    assert server.process is None or psutil.Process(server.process.pid).num_threads() == 1
    process = psutil.Process(worker.pid)
    wait_for(lambda: process.cwd() == str(tmp_path) and process.status() == psutil.STATUS_SLEEPING)
    assert process.cmdline()[-1].endswith(".fork_server"), "an import asked for CUDA devices: workers start anew"
    worker.kill()
    worker.wait()
    close(worker)
    monkeypatch.setattr("torch.cuda._is_in_bad_fork", lambda: True)
    assert fork_server.is_cuda_lost()


def test_a_worker_is_killed_without_the_others(server: ForkServer, tmp_path: Path) -> None:
    workers = [fork(server, tmp_path) for _ in range(2)]
    workers[0].kill()
    assert workers[0].wait() == -signal.SIGKILL
    workers[0].kill()  # has no effect: the pid may belong to another process by now
    assert workers[1].poll() is None
    workers[1].stdin.close()  # as if the fleet had died: the worker ends by itself
    assert workers[1].wait() == 1 and "JSONDecodeError" in (tmp_path / "log").read_text()
    for worker in workers:
        close(worker)


def test_the_server_ends_with_its_client_and_its_workers_go_on(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:  # a server with nothing imported is enough here
        ours.close()
        order = fork_server.serve(theirs)
        signal.pause() if order else os._exit(0)
    theirs.close()
    server = ForkServer(ours)
    worker = fork(server, tmp_path)
    server.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert worker.poll() is None
    worker.terminate()
    assert worker.wait() == -signal.SIGTERM
    close(worker)


def test_without_an_answer_a_slot_starts_an_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    dead = ForkServer(ours)
    with pytest.raises(FleetError, match="the fork server does not answer"):
        fork(dead, tmp_path)
    monkeypatch.setattr(fork_server, "start_server", lambda: dead)
    package = tmp_path / "code" / "tuner" / "search"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    (package / "worker.py").write_text("raise SystemExit(75)")
    slot = LocalSlot(0, Home(tmp_path), env={"PYTHONPATH": str(package.parents[1])}, folder=tmp_path)
    slot.start(WorkerConfig("sqlite:////nowhere.db", "s", "", "/nowhere"))
    assert wait_for(lambda: slot.poll() is not None) and slot.poll() == 75
    assert not slot.forks and slot.last_words() == ""
    ours.close()


def test_stopping_a_server_that_was_never_started_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork_server.subprocess, "Popen", None)
    stop_server()
