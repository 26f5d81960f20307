"""Dead, silent, hung and slow workers, detected with a local clock on real databases and processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
from helpers.command_line import wait_for
from helpers.fork_server import run_code
from helpers.postgres import Postgres
from helpers.sessions import Bench, opened_bench
from helpers.tcp_proxy import Proxy

from tuner.errors import StudyError
from tuner.study import claims, heartbeat
from tuner.study.heartbeat import HeartbeatMonitor, is_process_gone, machine_id, process_start
from tuner.study.pending import PendingWrites
from tuner.study.tables import worker_table

LEASE, HANG = 30.0, 100.0


@pytest.fixture
def bench(prepared_url: str) -> Iterator[Bench]:
    with opened_bench(prepared_url) as made:
        yield made


class Clock:
    """The observer's clock, set by the test."""

    now = 0.0
    while_asleep: Any = None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.while_asleep()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(heartbeat, "time", SimpleNamespace(monotonic=made.monotonic, sleep=made.sleep))
    return made


def observer(bench: Bench) -> HeartbeatMonitor:
    return HeartbeatMonitor(bench.engine, bench.id, LEASE, HANG)


def far(bench: Bench, *names: str) -> None:
    """Workers of another machine, each with a trial."""
    for name in names:
        bench.enter(name, machine="far", pid=1, born=1.0)
        number = bench.take(name).number
        change(bench, name, number=number)


def change(bench: Bench, name: str, **values: object) -> None:
    with bench.engine.begin() as db:
        db.execute(sa.update(worker_table).where(worker_table.c.worker == name).values(**values))


def beat(bench: Bench, name: str, progress: int = 0) -> None:
    change(bench, name, beats=worker_table.c.beats + 1, progress=worker_table.c.progress + progress)


def lost_over(
    bench: Bench, clock: Clock, looking: HeartbeatMonitor, seconds: float, *beating: str, progress: int = 1
) -> list[str]:
    """Check every ten seconds for so long while these workers send heartbeats; return who was lost."""
    lost = []
    for _ in range(int(seconds / 10)):
        clock.now += 10
        for name in beating:
            beat(bench, name, progress)
        lost += looking.check()
    return lost


# By its beats


def test_who_is_silent_for_longer_than_the_lease_is_lost_and_who_beats_is_not(bench: Bench, clock: Clock) -> None:
    far(bench, "silent", "well")
    looking = observer(bench)
    assert looking.check() == []
    assert lost_over(bench, clock, looking, 30, "well") == []
    assert lost_over(bench, clock, looking, 10, "well") == ["silent"]
    assert (bench.claim(0).state, bench.claim(0).worker, bench.claim(0).deaths) == ("WAITING", None, 1)
    assert (bench.claim(1).state, bench.claim(1).worker) == ("RUNNING", "well")
    assert bench.workers() == ["well"] and looking.alive == {"well"}
    assert lost_over(bench, clock, looking, 100, "well") == []


def test_who_beats_and_does_not_get_on_with_its_trial_hangs(bench: Bench, clock: Clock) -> None:
    far(bench, "hung", "slow")
    bench.enter("idle", machine="far")
    looking = observer(bench)
    looking.check()
    lost = []
    for at in range(20):
        beat(bench, "slow", progress=int(at % 9 == 0))
        lost += lost_over(bench, clock, looking, 10, "hung", "idle", progress=0)
    assert lost == ["hung"]
    assert (bench.claim(0).state, bench.claim(0).deaths) == ("WAITING", 1)
    assert bench.claim(1).worker == "slow" and bench.workers() == ["idle", "slow"]


def test_an_observer_that_slept_forgives_and_measures_anew(bench: Bench, clock: Clock) -> None:
    """The observer slept: all workers seem to have been silent for hours."""
    far(bench, "w")
    looking = observer(bench)
    looking.check()
    clock.now += 7200
    assert looking.check() == []
    assert lost_over(bench, clock, looking, 30) == []
    assert lost_over(bench, clock, looking, 10) == ["w"]


def test_a_look_that_took_long_forgives(bench: Bench, clock: Clock) -> None:
    """The database answered slowly, which delays the heartbeats of others too."""
    far(bench, "w")
    looking = observer(bench)
    looking.check()
    assert lost_over(bench, clock, looking, 20) == []

    def slowly(*_: Any) -> None:
        clock.now += 8

    sa.event.listen(bench.engine, "after_cursor_execute", slowly)
    assert looking.check() == []
    sa.event.remove(bench.engine, "after_cursor_execute", slowly)
    assert lost_over(bench, clock, looking, 40) == []  # the first of these looks begins to measure
    assert lost_over(bench, clock, looking, 10) == ["w"]


def test_a_database_that_was_away_forgives(postgres: Postgres, clock: Clock) -> None:
    with Proxy(postgres.folder) as proxy, opened_bench(proxy.through(postgres.fresh())) as bench:
        far(bench, "w")
        looking = observer(bench)
        looking.check()
        assert lost_over(bench, clock, looking, 20) == []
        proxy.refuse(), proxy.cut()
        for _ in range(3):
            clock.now += 10
            with pytest.raises(sa.exc.OperationalError):
                looking.check()
        proxy.accept()
        assert looking.check() == []
        assert lost_over(bench, clock, looking, 30) == []
        assert lost_over(bench, clock, looking, 10) == ["w"]


def test_a_worker_that_never_moved_is_not_called_alive(bench: Bench, clock: Clock) -> None:
    far(bench, "still", "moving")
    looking = observer(bench)
    looking.check()
    lost_over(bench, clock, looking, 10, "moving")
    assert looking.alive == {"moving"}


def test_workers_of_another_study_are_left_alone(bench: Bench, clock: Clock) -> None:
    with opened_bench(bench.url, "other") as other:
        other.enter("w", machine="far")
        other.take("w")
        looking = observer(bench)
        looking.check()
        assert lost_over(bench, clock, looking, 60) == []
        assert other.workers() == ["w"]


# By its process


@contextmanager
def process() -> Iterator[subprocess.Popen[bytes]]:
    made = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        yield made
    finally:
        made.kill()
        made.communicate()


def here(bench: Bench, pid: int, began: float) -> None:
    bench.enter("w", pid=pid, born=began)
    bench.take("w")


def test_a_process_of_this_machine_that_ended_is_lost_at_once(bench: Bench) -> None:
    with process() as child:
        here(bench, child.pid, process_start(child.pid))
        assert observer(bench).check() == []
        child.kill()
        child.wait()
    assert observer(bench).check() == ["w"]
    assert (bench.claim(0).state, bench.claim(0).deaths) == ("WAITING", 1)


def test_the_dead_who_are_not_buried_are_dead(bench: Bench) -> None:
    """In containers zombies are often not reaped: their pids stay in use."""
    with process() as child:
        here(bench, child.pid, process_start(child.pid))
        child.send_signal(signal.SIGKILL)
        wait_for(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        assert psutil.pid_exists(child.pid)
        with pytest.raises(psutil.NoSuchProcess):
            process_start(child.pid)
        assert observer(bench).check() == ["w"]


def test_a_later_process_of_the_same_number_is_another(bench: Bench) -> None:
    with process() as child:
        here(bench, child.pid, process_start(child.pid) - 500)
        assert observer(bench).check() == ["w"]


def test_a_process_that_cannot_be_here_is_not_looked_for_here(bench: Bench) -> None:
    """Two containers with the same host name: their pids are unrelated."""
    assert not is_process_gone("another machine", 2**22 + 1, 1.0) and is_process_gone(machine_id(), 2**22 + 1, 1.0)
    bench.enter("w", machine="another machine", pid=2**22 + 1, born=1.0)
    bench.take("w")
    assert observer(bench).check() == []


def test_one_does_not_take_oneself_for_dead() -> None:
    assert not is_process_gone(machine_id(), os.getpid(), 12345.0)


def test_two_processes_agree_on_their_machine_and_on_when_one_began() -> None:
    code = f"from tuner.study import heartbeat as h\nprint(h.machine_id(), h.process_start({os.getpid()}))"
    done = run_code(code)
    assert done.stdout.split() == [machine_id(), str(process_start(os.getpid()))]
    assert len(machine_id()) == 16


# What nobody owns


def test_a_claim_of_a_worker_without_a_row_is_put_back(bench: Bench) -> None:
    """The worker was removed at the moment when it claimed the trial."""
    bench.enter("w", "well")
    bench.take("w"), bench.take("well")
    bench.execute("DELETE FROM tuner_worker WHERE worker = 'w'")
    assert observer(bench).check() == ["w"]
    assert (bench.claim(0).state, bench.claim(0).worker) == ("WAITING", None)
    assert (bench.claim(1).state, bench.claim(1).worker) == ("RUNNING", "well")
    assert observer(bench).check() == []


def test_a_finished_trial_of_a_worker_that_left_stays_as_it_is(bench: Bench) -> None:
    bench.enter("w")
    bench.write(bench.take("w"), "w", PendingWrites(end=("COMPLETE", 0.5)))
    claims.release_worker(bench.engine, "w", died=False)
    assert observer(bench).check() == []
    assert (bench.claim(0).state, bench.claim(0).worker) == ("COMPLETE", "w")


def test_slots_of_deleted_trials_are_freed(bench: Bench) -> None:
    bench.enter("w")
    bench.take("w"), bench.take("w")
    bench.delete(0)
    assert observer(bench).check() == []
    assert bench.num_claims() == 1


def test_two_observers_count_one_death(bench: Bench, clock: Clock) -> None:
    far(bench, "w")
    with opened_bench(bench.url) as again:
        both = [observer(bench), observer(again)]
        for looking in both:
            looking.check()
        for _ in range(4):
            clock.now += 10
            for looking in both:
                looking.check()
    assert (bench.claim(0).state, bench.claim(0).deaths) == ("WAITING", 1)


# Other versions


def test_living_workers_of_another_version_are_told_of_and_the_dead_are_not(bench: Bench, clock: Clock) -> None:
    bench.enter("w", version="tuner 9.9, Optuna 8.8", host="node7")
    clock.while_asleep = lambda: None
    heartbeat.check_versions(bench.engine, bench.id)
    clock.while_asleep = lambda: beat(bench, "w")
    with pytest.raises(StudyError, match=r"node7 works on this study with tuner 9\.9, Optuna 8\.8; here is tuner"):
        heartbeat.check_versions(bench.engine, bench.id)
    with pytest.raises(StudyError, match=r"first: tuner stop --study \S+ --storage \S"):
        heartbeat.check_versions(bench.engine, bench.id)
    change(bench, "w", version=heartbeat.own_version())
    clock.while_asleep = None  # nobody needs to wait
    heartbeat.check_versions(bench.engine, bench.id)
