"""The fleet with slots whose workers are small real processes: restarts, closed GPUs, kills and waiting."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from helpers.command_line import home_url
from helpers.optuna_revisions import prepare_file

from tuner.fleet import supervisor
from tuner.fleet.config import EXIT_GIVEN_UP, EXIT_GPU_FAILED, WorkerConfig, WorkerSettings
from tuner.fleet.local import EXIT_SLOT_LOST
from tuner.fleet.supervisor import Fleet
from tuner.goal import Goal
from tuner.paths import Home
from tuner.study import budget, claims, control, queries
from tuner.study.info import StudyInfo, StudyKind
from tuner.study.study import JoinedStudy, join_study
from tuner.study.tables import claim_table, worker_table

ENDLESS = "exec sleep 600"
STUBBORN = "trap '' TERM; while true; do sleep 0.1; done"


@dataclass
class Shell:
    """A slot whose workers are shell commands, in order; the last one is repeated."""

    commands: list[str]
    gpu: str = ""
    number: int = 0
    words: str = ""
    waiting: bool = False
    study: JoinedStudy | None = None  # to enter, and to take a trial in
    process: subprocess.Popen[bytes] | None = None
    names: list[str] = field(default_factory=list)
    left: int = 0

    @property
    def name(self) -> str:
        return f"worker {self.number}"

    @property
    def log(self) -> str:
        return f"worker-{self.number}.log"

    def start(self, config: WorkerConfig) -> None:
        self.names.append(config.worker)
        if self.waiting:
            return
        command = self.commands.pop(0) if len(self.commands) > 1 else self.commands[0]
        self.process = subprocess.Popen(["sh", "-c", command])
        if self.study:
            begin(self.study, config.worker)

    def poll(self) -> int | None:
        return self.process.poll() if self.process else None

    def terminate(self) -> None:
        if self.process:
            self.process.terminate()

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        self.process = None
        return self.words

    def leave(self) -> None:
        self.left += 1


def begin(study: JoinedStudy, worker: str) -> None:
    """Register and claim a trial as a worker of another machine, which only its heartbeat shows to be alive."""
    enter(study, worker)
    taken = claims.claim_trial(study.engine, study.id, "s", worker, has_given_trials=False)
    assert isinstance(taken, claims.ClaimedTrial)
    with study.engine.begin() as db:
        mine = sa.update(worker_table).where(worker_table.c.worker == worker)
        db.execute(mine.values(number=taken.number))


def enter(study: JoinedStudy, worker: str) -> None:
    row = {"worker": worker, "pid": 1, "born": 1.0, "machine": "elsewhere", "host": "elsewhere", "device": "cpu"}
    with study.engine.begin() as db:
        db.execute(sa.insert(worker_table).values(study_id=study.id, **row))


@pytest.fixture
def study(home: Path) -> Iterator[JoinedStudy]:
    prepare_file(Home(home).make().folder / "tuner.db")
    joined = join_study(home_url(home), StudyInfo("s", "unet_k", Goal("iou", "maximize"), "shapes"))
    budget.set_budget(joined.engine, joined.id, num_trials=5)
    yield joined
    joined.engine.dispose()


@dataclass
class Crew:
    study: JoinedStudy
    said: list[str] = field(default_factory=list)

    def of(self, *slots: Shell, heartbeat_timeout: float = 30.0, hang_timeout: float = 600.0) -> Fleet:
        info = queries.find_study(self.study.engine, "s")
        config = WorkerConfig(
            str(self.study.engine.url),
            "s",
            "",
            "",
            WorkerSettings(heartbeat_timeout=heartbeat_timeout, hang_timeout=hang_timeout),
        )
        for number, slot in enumerate(slots):
            slot.number = number
        return Fleet(config, self.study.engine, info, slots, lambda: None, say=self.said.append)


@pytest.fixture
def crew(study: JoinedStudy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crew]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(supervisor, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(supervisor, "CHECK_SECONDS", 0.05)
    yield Crew(study)
    for number, handler in before.items():  # a fleet that was interrupted leaves them ignored: it is about to end
        signal.signal(number, handler)


def deaths(study: JoinedStudy) -> list[int]:
    with study.engine.connect() as db:
        return list(db.scalars(sa.select(claim_table.c.deaths).order_by(claim_table.c.slot)))


def states(study: JoinedStudy) -> list[str]:
    return [trial.state.name for trial in study.study.get_trials()]


# How a worker ended


@pytest.mark.parametrize(
    ("codes", "code", "error"),
    [
        (["exit 0"], 0, ""),
        (["exit 2"], 2, "the disk is full"),
        (["exit 1"], 1, "the disk is full"),
        ([f"exit {EXIT_GIVEN_UP}"] * 9 + ["exit 0"], 0, ""),
        ([f"exit {EXIT_SLOT_LOST}"] * 9 + ["exit 0"], 0, ""),
        (["kill -9 $$"] * 5 + ["exit 0"], 0, ""),
        (["kill -9 $$"], 1, "worker 0 died 6 times in a row (exit code -9); see worker-0.log"),
    ],
    ids=["done", "told", "bug", "given up", "place lost", "killed", "killed again and again"],
)
def test_what_becomes_of_a_slot_is_decided_by_how_its_worker_ended(
    codes: list[str], code: int, error: str, crew: Crew
) -> None:
    slot = Shell(codes, words="the disk is full" if code in (1, 2) and "kill" not in codes[0] else "")
    crewed = crew.of(slot)
    assert (crewed.run(), crewed.error) == (code, error)
    assert len(set(slot.names)) == len(slot.names)  # each worker has a name of its own


def test_a_worker_that_ended_without_a_word_is_told_with_its_log(crew: Crew) -> None:
    crewed = crew.of(Shell(["exit 2"]))
    assert crewed.run() == 2
    assert crewed.error == "worker 0 could not work; see worker-0.log"


@pytest.mark.parametrize(
    ("command", "count"),
    [("kill -9 $$", 1), (f"exit {EXIT_SLOT_LOST}", 1), (f"exit {EXIT_GIVEN_UP}", 0), ("exit 2", 0)],
)
def test_a_death_is_counted_on_the_trial_only_when_somebody_died(
    command: str, count: int, study: JoinedStudy, crew: Crew
) -> None:
    slot = Shell([command, "exit 2"], study=study)
    crew.of(slot).run()
    assert states(study) == ["WAITING"] and deaths(study) == [count]


def test_the_others_are_asked_to_stop_when_one_met_a_bug(crew: Crew) -> None:
    other = Shell([ENDLESS])
    assert crew.of(Shell(["exit 1"]), other).run() == 1
    assert other.process is None


def test_a_second_ctrl_c_ends_a_fleet_that_waits_for_its_database(crew: Crew) -> None:
    slot = Shell([STUBBORN])
    crewed = crew.of(slot)

    def look() -> None:
        if not crewed.interrupts:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)

    crewed.look = look
    assert crewed.run() == 130
    assert slot.process is None


def test_the_first_ctrl_c_is_answered_once(crew: Crew) -> None:
    crewed = crew.of(Shell([ENDLESS]))

    def look() -> None:
        if not crewed.interrupts:
            os.kill(os.getpid(), signal.SIGINT)

    crewed.look = look
    assert crewed.run() == 0
    assert crew.said == ["saving; Ctrl-C again stops at once"]


def test_an_error_of_the_fleet_itself_lets_its_workers_save(
    study: JoinedStudy, crew: Crew, tmp_path: Path
) -> None:
    ready, saved = tmp_path / "ready", tmp_path / "saved"
    script = f"trap 'touch {saved}; exit 0' TERM; touch {ready}; while true; do sleep 0.05; done"
    crewed = crew.of(Shell([script], study=study), Shell([STUBBORN]))

    def look() -> None:
        if ready.exists():
            raise RuntimeError("not foreseen")

    crewed.look = look
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="not foreseen"):
        patch.setattr(supervisor, "LEAVE_SECONDS", 1.0)
        crewed.run()
    assert saved.exists() and all(state.slot.poll() is None and not state.worker for state in crewed.states)
    assert states(study) == ["WAITING"] and deaths(study) == [0]


# GPUs that fail


def test_a_broken_gpu_gets_no_more_workers_and_the_others_go_on(crew: Crew) -> None:
    broken = [
        Shell([f"exit {EXIT_GPU_FAILED}"], "1", words="CUDA error: unspecified launch failure"),
        Shell([ENDLESS], "1"),
    ]
    sound = Shell(["sleep 0.5"], "0")
    crewed = crew.of(*broken, sound)
    assert (crewed.run(), crewed.error) == (0, "")
    assert [len(slot.names) for slot in (*broken, sound)] == [1, 1, 1]
    (line,) = crew.said
    assert line.startswith("GPU 1 is broken or busy: CUDA error: unspecified launch failure. ")
    assert "The other one goes on" in line


def test_when_no_gpu_is_left_the_fleet_ends_with_the_line(crew: Crew) -> None:
    crewed = crew.of(Shell([f"exit {EXIT_GPU_FAILED}"], "0"), Shell([f"exit {EXIT_GPU_FAILED}"], "1"))
    assert crewed.run() == 2
    assert len(crew.said) == 1 and "No GPU is left" in crewed.error


def test_three_deaths_on_different_trials_close_a_gpu(
    study: JoinedStudy, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "release_worker", dropped(claims.release_worker))
    slot = Shell(["kill -9 $$"], "1", study=study)
    crewed = crew.of(slot)
    assert crewed.run() == 2
    assert len(slot.names) == 3 and "3 workers in a row died on it, each on another trial" in crewed.error


def dropped(release: object) -> object:
    """Return a `release_worker` that also ends the trial, so that the next worker takes another one."""

    def act(engine: sa.Engine, worker: str, died: bool) -> list[int]:
        ids: list[int] = release(engine, worker, died)  # type: ignore[operator]
        with engine.begin() as db:
            db.execute(sa.text("UPDATE trials SET state = 'FAIL'"))
        return ids

    return act


def test_a_trial_that_kills_its_workers_closes_no_gpu(study: JoinedStudy, crew: Crew) -> None:
    slot = Shell(["kill -9 $$"] * 4 + ["exit 2"], "1", study=study)
    assert crew.of(slot).run() == 2
    assert len(slot.names) == 5 and crew.said == [] and deaths(study) == [4]


def test_a_worker_that_does_not_leave_its_closed_gpu_is_killed(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LEAVE_SECONDS", 0.2)
    stubborn = Shell([STUBBORN], "1")
    crewed = crew.of(
        Shell([f"sleep 0.5; exit {EXIT_GPU_FAILED}"], "1"),
        stubborn,
        Shell(["sleep 1"], "0"),
        heartbeat_timeout=0.1,
    )
    assert crewed.run() == 0
    assert crew.said[1:] == ["worker 1 does not leave: killed"]


# Workers that were given up


def test_a_worker_whose_row_was_removed_and_who_hangs_is_killed_and_replaced(
    study: JoinedStudy, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "LEAVE_SECONDS", 0.1)
    slot = Shell([STUBBORN, "exit 2"], study=study)
    crewed = crew.of(slot, heartbeat_timeout=1.0)  # it never beats: the watch gives it up after a second
    assert crewed.run() == 2
    assert len(slot.names) == 2
    assert crew.said == ["worker 0 does not leave: killed"]
    assert states(study) == ["WAITING"]


def test_a_worker_that_has_not_entered_yet_is_left_alone(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LEAVE_SECONDS", 0.0)
    assert crew.of(Shell(["sleep 0.5"]), heartbeat_timeout=0.1).run() == 0
    assert crew.said == []


# Workers that hang before they entered their name


def test_a_worker_that_never_begins_is_killed_and_replaced(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "REGISTER_SECONDS", 1.0)
    slot = Shell([STUBBORN, "exit 2"])
    assert crew.of(slot, hang_timeout=0.1).run() == 2
    assert len(slot.names) == 2
    assert crew.said == ["worker 0 did not begin within 1 s: killed; see worker-0.log"]


def test_a_gpu_on_which_no_worker_begins_is_closed(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "REGISTER_SECONDS", 0.1)
    slot = Shell([STUBBORN], "1")
    crewed = crew.of(slot, hang_timeout=0.1)
    assert crewed.run() == 2
    assert len(slot.names) == 3 and "GPU 1 is broken or busy" in crewed.error


def test_a_worker_that_has_entered_is_not_killed_for_what_it_does(
    study: JoinedStudy, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "REGISTER_SECONDS", 0.1)
    assert crew.of(Shell(["sleep 0.5; exit 2"], study=study), hang_timeout=0.1).run() == 2
    assert not any("did not begin" in line for line in crew.said)


# Places that a cluster has not found yet


def test_who_waits_for_a_place_does_not_hold_up_the_end(crew: Crew) -> None:
    waiting = Shell([ENDLESS], waiting=True)
    assert crew.of(Shell(["sleep 0.2"]), waiting).run() == 0
    assert len(waiting.names) == 1


def test_while_all_wait_for_a_place_the_fleet_waits_too(crew: Crew) -> None:
    slot = Shell(["exit 0"], waiting=True)
    crewed = crew.of(slot)
    rounds = []

    def look() -> None:
        rounds.append(len(slot.names))
        if len(rounds) == 3:
            slot.waiting = False
            slot.process = subprocess.Popen(["true"])

    crewed.look = look
    assert crewed.run() == 0
    assert rounds[:3] == [1, 1, 1]


def test_the_time_without_a_place_is_no_sign_of_hanging(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "REGISTER_SECONDS", 0.2)
    slot = Shell(["exit 0"], waiting=True)
    crewed = crew.of(slot, hang_timeout=0.1)
    rounds = iter(range(100))

    def look() -> None:
        if next(rounds) == 10:
            slot.waiting, slot.process = False, subprocess.Popen(["true"])

    crewed.look = look
    assert crewed.run() == 0
    assert crew.said == []


def test_who_only_waits_for_a_place_leaves_when_others_have_done_it_all(study: JoinedStudy, crew: Crew) -> None:
    slot = Shell([ENDLESS], waiting=True)
    crewed = crew.of(slot)
    rounds = iter(range(30))  # and then StopIteration

    def look() -> None:
        if next(rounds) == 3:
            budget.set_budget(study.engine, study.id, num_trials=0)

    crewed.look = look
    assert crewed.run() == 0
    assert next(rounds) >= 4 and len(slot.names) == 1


def test_a_place_is_given_back_when_nothing_is_left_to_do_there(crew: Crew) -> None:
    slot = Shell(["exit 0"])
    crew.of(slot).run()
    assert slot.left == 1


# What others do


def test_a_study_that_is_done_starts_no_worker(study: JoinedStudy, crew: Crew) -> None:
    budget.set_budget(study.engine, study.id, num_trials=0)
    slot = Shell([ENDLESS])
    assert crew.of(slot).run() == 0
    assert slot.names == []


def test_what_somebody_else_put_back_meanwhile_is_taken_up(study: JoinedStudy, crew: Crew) -> None:
    begin(study, "other")
    budget.set_budget(study.engine, study.id, num_trials=1)
    slot = Shell(["exit 0", "exit 2"])
    crewed = crew.of(slot)
    crewed.look = lambda: claims.release_worker(study.engine, "other", died=False)  # type: ignore[assignment, return-value]
    assert crewed.run() == 2
    assert len(slot.names) == 2


def test_a_trial_put_back_when_the_hours_are_spent_is_left_where_it_is(study: JoinedStudy, crew: Crew) -> None:
    begin(study, "other")
    claims.release_worker(study.engine, "other", died=False)
    slot = Shell(["sleep 0.3"])
    crewed = crew.of(slot)
    crewed.look = lambda: budget.set_budget(study.engine, study.id, hours=0.0)
    assert crewed.run() == 0
    assert len(slot.names) == 1


def raise_budget(study: JoinedStudy) -> None:
    budget.set_budget(study.engine, study.id, num_trials=3)


def put_back_elsewhere(study: JoinedStudy) -> None:
    claims.release_worker(study.engine, "other", died=False)


def pause(study: JoinedStudy) -> None:
    control.set_paused(study.engine, study.id, True)


def add_to_list(study: JoinedStudy) -> None:
    study.study.enqueue_trial({})


@pytest.mark.parametrize(
    ("changes", "kind", "begun"),
    [
        pytest.param([], StudyKind.SEARCH, [1, 1], marks=pytest.mark.slow),
        ([raise_budget], StudyKind.SEARCH, [1, 2]),
        ([put_back_elsewhere], StudyKind.SEARCH, [1, 2]),
        pytest.param([pause, raise_budget], StudyKind.SEARCH, [1, 1], marks=pytest.mark.slow),
        pytest.param([], StudyKind.TABLE, [1, 1], marks=pytest.mark.slow),
        ([add_to_list], StudyKind.TABLE, [1, 2]),
    ],
    ids=["nothing", "budget", "put back", "paused", "table", "longer table"],
)
def test_idle_slots_get_as_many_workers_again_as_there_is_work(
    changes: list[Callable[[JoinedStudy], None]],
    kind: StudyKind,
    begun: list[int],
    study: JoinedStudy,
    crew: Crew,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "REST_SECONDS", 0.0)
    begin(study, "other")
    budget.set_budget(study.engine, study.id, num_trials=2 if kind is StudyKind.SEARCH else 9)
    idle = [Shell(["exit 0", ENDLESS]), Shell(["exit 0", ENDLESS])]
    crewed = crew.of(Shell([ENDLESS], study=study), *idle)  # the first one works all the time
    crewed.info = replace(crewed.info, kind=kind)
    steps = dict(enumerate([*changes, *[lambda study: None] * 10][:10], start=10))
    steps[20] = lambda study: control.update_study(study.engine, study.id, stops=1)
    rounds = iter(range(100))
    crewed.look = lambda: steps.get(next(rounds), lambda study: None)(study)
    assert crewed.run() == 0
    assert sorted(len(slot.names) for slot in idle) == begun


def test_slots_whose_workers_find_nothing_rest_ever_longer(study: JoinedStudy, crew: Crew) -> None:
    crewed = crew.of(Shell(["exit 0"]))
    (state,) = crewed.states
    now, waited = time.monotonic(), []
    crewed.num_available = 1
    for in_vain in (0, 1, 2, 3, 99):
        for seconds in range(1000):
            state.done, state.num_vain, state.ended = True, in_vain, now - seconds
            crewed.reopen_slots()
            if not state.done:
                break
        waited.append(seconds)
    assert waited == [4, 4, 8, 16, 128]


def test_a_pause_is_told_once_and_so_is_its_end(study: JoinedStudy, crew: Crew) -> None:
    crewed = crew.of(Shell([ENDLESS]))
    steps = {
        2: lambda: control.set_paused(study.engine, study.id, True),
        6: lambda: control.set_paused(study.engine, study.id, False),
        9: lambda: control.set_paused(study.engine, study.id, True),
        12: lambda: control.stop_workers(study.engine, study.id),
    }
    rounds = iter(range(100))
    crewed.look = lambda: steps.get(next(rounds), lambda: 0)()  # type: ignore[return-value, assignment]
    assert crewed.run() == 0
    paused = "the study is paused; go on with: tuner resume --study s"
    assert crew.said == [paused, "the study goes on", paused, "stopped by tuner stop"]


def test_a_study_that_is_stopped_stops_its_workers_with_a_line(study: JoinedStudy, crew: Crew) -> None:
    control.stop_workers(study.engine, study.id)  # before we began: of no meaning to us
    slot = Shell([ENDLESS])
    crewed = crew.of(slot)
    looks = iter([lambda: None] * 5 + [lambda: control.stop_workers(study.engine, study.id)])
    crewed.look = lambda: next(looks, lambda: None)()  # type: ignore[return-value]
    assert (crewed.run(), crewed.error) == (0, "")
    assert len(slot.names) == 1 and crew.said == ["stopped by tuner stop"]


def test_workers_that_heard_of_the_stop_first_are_not_started_again(study: JoinedStudy, crew: Crew) -> None:
    begin(study, "other")
    claims.release_worker(study.engine, "other", died=False)  # as each of them does with its own
    slot = Shell(["exit 0"])
    crewed = crew.of(slot)
    start = slot.start

    def stopped(config: WorkerConfig) -> None:
        control.stop_workers(study.engine, study.id)
        start(config)

    slot.start = stopped  # type: ignore[method-assign]
    assert crewed.run() == 0
    assert len(slot.names) == 1 and crew.said == ["stopped by tuner stop"]


def test_a_fleet_does_not_leave_before_a_worker_elsewhere_was_seen_alive(study: JoinedStudy, crew: Crew) -> None:
    begin(study, "far")
    crewed = crew.of()
    crewed.watch.check()
    assert crewed.awaits_heartbeat()
    with study.engine.begin() as db:
        db.execute(sa.update(worker_table).values(beats=1))
    crewed.watch.check()
    assert not crewed.awaits_heartbeat()


def test_two_fleets_on_one_host_leave_each_others_workers_alone(study: JoinedStudy, crew: Crew) -> None:
    one, two = Shell([ENDLESS], study=study), Shell([ENDLESS], study=study)
    fleets = [crew.of(one), crew.of(two)]
    for each in fleets:
        each.update_slot(each.states[0])
    fleets[0].kill()
    assert fleets[1].states[0].slot.poll() is None
    fleets[1].check_round()
    with study.engine.connect() as db:
        assert list(db.scalars(sa.select(worker_table.c.worker))) == two.names
    assert sorted(states(study)) == ["RUNNING", "WAITING"]
    fleets[1].kill()


def test_silence_does_not_count_while_the_database_was_away(study: JoinedStudy, crew: Crew) -> None:
    begin(study, "far")
    crewed = crew.of(heartbeat_timeout=0.2)
    crewed.watch.check()
    with crewed.database_may_fail(), study.engine.connect() as db:
        db.execute(sa.text("SELECT * FROM nowhere"))
    time.sleep(0.3)
    crewed.watch.check()
    with study.engine.connect() as db:
        assert list(db.scalars(sa.select(worker_table.c.worker))) == ["far"]


@pytest.mark.slow
def test_the_fleet_goes_on_without_its_database(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    slot = Shell(["sleep 0.3; kill -9 $$", "exit 0"])
    crewed = crew.of(slot)
    with crewed.engine.begin() as db:
        db.execute(sa.text("DROP TABLE tuner_worker"))
    assert crewed.run() == 0
    assert len(slot.names) == 2


# More slots


def test_slots_are_added_by_what_the_workers_took(study: JoinedStudy, crew: Crew) -> None:
    first, added = Shell(["sleep 0.5; exit 2"], "0", study=study), Shell(["exit 0"], "0", number=1)
    crewed = crew.of(first)
    asked: list[dict[str, int]] = []

    def grow(peaks: dict[str, int]) -> list[Shell]:
        asked.append(peaks)
        with study.engine.begin() as db:
            db.execute(sa.update(worker_table).values(peak_memory=7, beats=worker_table.c.beats + 1))
        return [added] if peaks == {"0": 7} and not added.names and len(crewed.states) == 1 else []

    crewed.grow = grow
    assert crewed.run() == 2
    assert asked[0] == {"0": 0} and len(added.names) == 1
    assert [state.slot for state in crewed.states] == [first, added]
