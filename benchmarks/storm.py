"""The storm: kill workers, fleets and hosts 200 times during one study, then check what is left.

Real fleets on a real PostgreSQL train a table row by row while processes are killed at random moments, the
database is stopped, connections are cut and workers are suspended for longer than the heartbeat timeout. Then
the database, the files and the model's own log are compared with an undisturbed run: see `aftermath`.

    python -m benchmarks.storm --kills 200 --seed 0
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil

from benchmarks.aftermath import ENDS, TRIGGER, Left, judged, look, number
from benchmarks.booked import NAME, write_study
from benchmarks.measure import Row, Section, Setting
from benchmarks.page import as_text
from benchmarks.server import Server, postgres
from tests.helpers.tcp_proxy import Proxy
from tuner.fleet import fork_server

KILLS = ("worker", "fleet", "host")
LEASE_SECONDS = 6.0
HASTE_SECONDS = 25.0  # the longest wait for progress before the next fault is injected anyway
END_SECONDS = 1200.0  # after the last fault
MOST_DEATHS = 2  # a trial that crashes three workers in a row fails, as it should: the storm waits
MOST_COMPLAINTS = 20


@dataclass(frozen=True)
class Plan:
    """Size of the study, and number of faults of each kind."""

    kills: int = 200
    pauses: int = 4  # of a worker, for longer than the heartbeat timeout
    cuts: int = 6  # of all connections to the database
    stops: int = 2  # of the database: cleanly, and killed
    away: float = 20.0  # seconds
    fleets: int = 3
    apart: int = 1  # how many of these have their own pid namespace, like another machine
    workers: int = 2  # of each fleet
    trials: int = 60
    epochs: int = 10
    pace: float = 0.02  # seconds that a step sleeps: a longer target without using CPU
    seed: int = 0

    def blows(self) -> list[tuple[int, str]]:
        """Return (number of trained epochs of the study, fault), in order."""
        rng = random.Random(self.seed)
        kinds = [*KILLS, *rng.choices(KILLS, weights=(85, 8, 7), k=self.kills - len(KILLS))]
        kinds += ["pause"] * self.pauses + ["cut"] * self.cuts + ["stop"] * self.stops
        rng.shuffle(kinds)
        size = self.trials * self.epochs
        last = size - max(25, size // 10)  # enough epochs are left for the last fault to have a target
        return list(zip(sorted(rng.randrange(1, last) for _ in kinds), kinds, strict=True))


AnyPlan = TypeVar("AnyPlan", bound=Plan)


@dataclass
class Fleet:
    """A `tuner run` that is started again when it ended too early."""

    command: list[str]
    env: dict[str, str]
    folder: Path
    number: int
    apart: bool
    process: subprocess.Popen[bytes] | None = None
    codes: Counter[int] = field(default_factory=Counter)

    def start(self) -> None:
        with (self.folder / f"fleet-{self.number}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*OTHER_MACHINE, *self.command] if self.apart else self.command,
                cwd=self.folder, env=self.env, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def processes(self, what: str) -> list[psutil.Process]:
        """Return its running processes of a module, "tuner.search.worker" or "tuner.cli"."""
        found = []
        with suppress(psutil.NoSuchProcess):
            me = psutil.Process(self.process.pid) if self.process else None
            for process in [me, *me.children(recursive=True)] if me else []:
                with suppress(psutil.Error):
                    command = process.cmdline()[:4]
                    is_forked = SERVER in command and process.name() != fork_server.NAME
                    is_wanted = what in command or (what == fork_server.WORKER and is_forked)
                    if is_wanted and process.status() != psutil.STATUS_ZOMBIE:
                        found.append(process)
        return found

    def kill(self) -> None:
        """Kill it with all its processes, as in a power failure."""
        for process in [*self.processes("tuner.cli"), *self.processes("tuner.search.worker")]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        if self.process:
            self.process.kill()
            self.process.wait()

    def tend(self, is_done: Callable[[], bool]) -> bool:
        """Restart it if it ended before the study; return whether it runs."""
        if self.process and self.process.poll() is None:
            return True
        if self.process:
            self.codes[self.process.returncode] += 1
            self.process = None
        if is_done():
            return False
        self.start()
        return True


# A separate pid namespace, as in a container: processes outside are not visible
SERVER = "tuner.fleet.fork_server"  # on the command line of the workers that forked from it, too
OTHER_MACHINE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def machines_can_be_made() -> bool:
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*OTHER_MACHINE, "true"], capture_output=True, check=False).returncode == 0


@dataclass
class Place:
    """The disturbed study: its database, behind a proxy, and its fleets."""

    plan: Plan
    folder: Path
    server: Server
    url: str
    proxy: Proxy
    say: Callable[[str], None]
    rng: random.Random
    fleets: list[Fleet] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    asleep: list[tuple[float, psutil.Process]] = field(default_factory=list)

    def trained(self) -> int:
        book = self.folder / "book"
        return book.read_text().count("trained") if book.exists() else 0

    def is_done(self) -> bool:
        return number(self.url, f"SELECT count(*) FROM trials WHERE state IN {ENDS}") >= self.plan.trials

    def hangs_by_a_thread(self) -> bool:
        """Return whether a trial crashed twice without progress since."""
        return number(self.url, f"SELECT count(*) FROM tuner_claim WHERE deaths >= {MOST_DEATHS}") > 0

    def weather(self) -> None:
        """Inject all faults, then wait for the end of the study."""
        for after, kind in self.plan.blows():
            if not self.falls(after, kind):
                break  # the study ended first
            self.done[kind] += 1
            if self.done.total() % 10 == 0:
                self.say(f"{self.done.total()} blows, {self.trained()} epochs trained")
        end = time.monotonic() + END_SECONDS
        while self.tend():
            if time.monotonic() > end:
                raise RuntimeError("the study does not end; see the logs")

    def falls(self, after: int, kind: str) -> bool:
        """Inject one fault when it is due; return False if the study has ended."""
        end = time.monotonic() + HASTE_SECONDS
        while (self.trained() < after and time.monotonic() < end) or self.hangs_by_a_thread():
            if not self.tend():
                return False
        moment = time.monotonic() + self.rng.uniform(0, 0.7)
        while time.monotonic() < moment or not self.strike(kind):
            if not self.tend():
                return False
        return True

    def tend(self) -> bool:
        """Resume suspended workers, restart dead fleets; return whether any fleet runs."""
        time.sleep(0.05)
        for waking in [one for one in self.asleep if time.monotonic() > one[0]]:
            self.asleep.remove(waking)
            with suppress(psutil.NoSuchProcess):
                waking[1].resume()
        works = [fleet.tend(self.is_done) for fleet in self.fleets]
        complaints = sum(times for f in self.fleets for code, times in f.codes.items() if code in (1, 2))
        if complaints > MOST_COMPLAINTS:
            raise RuntimeError("the fleets cannot work; see their logs")
        return any(works)

    def strike(self, kind: str) -> bool:
        """Inject one fault; return whether it had a target."""
        if kind == "cut":
            self.proxy.cut()
        elif kind == "stop":
            self.stop_database()
        elif kind in ("fleet", "host"):
            return self.strike_fleet(kind)
        else:
            workers = [p for fleet in self.fleets for p in fleet.processes("tuner.search.worker")]
            if not workers:
                return False
            victim = self.rng.choice(workers)
            with suppress(psutil.NoSuchProcess):
                victim.suspend() if kind == "pause" else victim.kill()
            if kind == "pause":
                self.asleep.append((time.monotonic() + LEASE_SECONDS + 3, victim))
        return True

    def strike_fleet(self, kind: str) -> bool:
        """Kill the supervisor alone, so that its workers must exit by themselves, or together with all of them."""
        here = [
            fleet for fleet in self.fleets if fleet.processes("tuner.cli") and (kind == "host" or not fleet.apart)
        ]
        if not here:
            return False
        fleet = self.rng.choice(here)
        if kind == "host":
            fleet.kill()
        elif fleet.process:
            fleet.process.kill()
            fleet.process.wait()
        return True

    def stop_database(self) -> None:
        """Stop the database: cleanly the first time, killed the second; restart it after a while."""
        self.say(f"the database is away for {self.plan.away:.0f} s")
        if self.done["stop"] % 2:
            main = psutil.Process(self.server.server.get_pid())
            family = [main, *main.children()]
            main.kill()
            psutil.wait_procs(family, timeout=30)
        else:
            self.server.server.stop()
        end = time.monotonic() + self.plan.away
        while time.monotonic() < end:
            time.sleep(0.1)
        self.server.server.ensure_postgres_running()


def fleet_of(
    folder: Path,
    url: str,
    number: int,
    workers: int,
    pace: float = 0.0,
    apart: bool = False,
    study: tuple[str, ...] = ("--table", f"{NAME}.toml"),
) -> Fleet:
    options = [
        "--home",
        str(folder / "home"),
        "--workers",
        str(workers),
        "--heartbeat-timeout",
        str(LEASE_SECONDS),
    ]
    command = [sys.executable, "-m", "tuner.cli", "run", *study, *options]
    env = {
        **os.environ,
        "TUNER_STORAGE": url,
        "BOOK": str(folder / "book"),
        "OMP_NUM_THREADS": "1",
        "PACE": str(pace),
    }
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return Fleet(command, {**env, "PYTHONPATH": path}, folder, number, apart)


def calm(plan: Plan, folder: Path, url: str) -> float:
    """Run the same study undisturbed; return its seconds."""
    write_study(folder, plan.trials, plan.epochs)
    began = time.monotonic()
    fleet = fleet_of(folder, url, 0, 2)
    fleet.start()
    assert fleet.process
    try:
        if fleet.process.wait() != 0:
            raise RuntimeError(f"an undisturbed run failed; see {folder}")
    finally:
        fleet.kill()
    return time.monotonic() - began


def storm(plan: Plan, folder: Path, server: Server, say: Callable[[str], None]) -> tuple[Place, float]:
    """Run the storm on a new study; return the study and its seconds."""
    write_study(folder, plan.trials, plan.epochs)
    url = server.fresh()
    with Proxy(server.server.pgdata) as proxy:
        place = Place(plan, folder, server, url, proxy, say, random.Random(plan.seed + 1))
        fleets = range(plan.fleets)
        apart = min(plan.apart, plan.fleets) if machines_can_be_made() else 0
        place.fleets = [
            fleet_of(folder, proxy.through(url), at, plan.workers, plan.pace, at >= plan.fleets - apart)
            for at in fleets
        ]
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "tuner.cli", "init", "--storage", url], check=True, stdout=subprocess.DEVNULL
        )
        look(url, TRIGGER)
        try:
            place.weather()
        finally:
            for fleet in place.fleets:
                fleet.kill()
    return place, time.monotonic() - began


@contextmanager
def weathered(plan: Plan, folder: Path, say: Callable[[str], None]) -> Iterator[tuple[Left, Left, list[Row]]]:
    """Return the comparison of both studies, read while their database runs, and the counted faults."""
    with postgres(folder / "pg") as server:
        quiet = Left(server.fresh(), folder / "calm", plan.trials, plan.epochs)
        quiet_seconds = calm(plan, quiet.folder, quiet.url)
        say(f"undisturbed: {quiet_seconds:.0f} s")
        place, seconds = storm(plan, folder / "storm", server, say)
        say(f"in the storm: {seconds:.0f} s")
        left = Left(place.url, place.folder, plan.trials, plan.epochs)
        yield left, quiet, [*befallen(place), took(quiet_seconds, seconds)]


def took(quiet: float, storm: float) -> Row:
    return Row("seconds, undisturbed and during the storm", f"{quiet:.0f} and {storm:.0f}", "")


def befallen(place: Place) -> list[Row]:
    """Count the injected faults."""
    plan, done = place.plan, place.done
    kills = sum(done[kind] for kind in KILLS)
    again = sum((fleet.codes for fleet in place.fleets), Counter[int]())
    machines = 1 + sum(fleet.apart for fleet in place.fleets)
    return [
        Row(
            "processes and hosts killed (kill -9)", str(kills), "", target=str(plan.kills), met=kills == plan.kills
        ),
        Row("faults", ", ".join(f"{done[kind]} x {kind}" for kind in (*KILLS, "pause", "cut", "stop")), ""),
        Row("fleets; workers of each; machines", f"{plan.fleets}; {plan.workers}; {machines}", ""),
        Row("ends of fleets, by exit code", ", ".join(f"{n} x {code}" for code, n in sorted(again.items())), ""),
    ]


def run(plan: Plan, folder: Path, say: Callable[[str], None]) -> list[Row]:
    """Return all rows of the table."""
    with weathered(plan, folder, say) as (left, quiet, facts):
        return [*facts, *judged(left, quiet)]


READING = [
    "Real fleets on a real PostgreSQL train the rows of a table: a U-Net of width 4 at 32 px with dropout and"
    " flips, on processors, in fp32, one thread each. All faults are drawn from a seed; each occurs at a "
    "random moment after a random epoch.",
    "worker: kill -9 of one worker. fleet: kill -9 of the supervisor alone; its workers exit by themselves. "
    "host: kill -9 of the supervisor and all its workers at once. pause: SIGSTOP for 3 seconds longer than "
    "the heartbeat timeout, then SIGCONT. cut: all connections to the database are closed. stop: the database"
    " is stopped, cleanly or killed.",
    "One fleet has its own pid namespace, as in a container: others notice its crashes only by missing "
    "heartbeats.",
    "The model counts its steps in its weights, and logs each epoch that is started and finished; a trigger "
    "in the database logs each change of a trial's state.",
    "After two crashes on one trial without an epoch in between, the storm waits for its next epoch, because "
    "a third crash would fail the trial.",
]


def measure(setting: Setting) -> Section:
    quick = Plan(kills=6, pauses=1, cuts=1, stops=1, away=3.0, fleets=2, workers=1, trials=4, epochs=10, pace=0.1)
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        rows = run(quick if setting.quick else Plan(), Path(folder), setting.log)
    return as_section(rows)


def as_section(rows: list[Row]) -> Section:
    return Section("storm", "A storm", ("", "found", ""), rows, READING)


@contextmanager
def chosen(folder: Path | None) -> Iterator[Path]:
    """Yield the given folder, or a temporary one."""
    with ExitStack() as stack:
        name = folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="storm-"))
        Path(name).mkdir(parents=True, exist_ok=True)
        yield Path(name).absolute()


def run_alone(
    about: str | None,
    section: Callable[[list[Row]], Section],
    kind: type[AnyPlan],
    run: Callable[[AnyPlan, Path, Callable[[str], None]], list[Row]],
) -> int:
    """Run a storm as a command with an option for each number of its plan; return 1 if a target is missed."""
    asked = argparse.ArgumentParser(prog=f"python -m benchmarks.{section([]).name}", description=about)
    for name, default in vars(kind()).items():
        asked.add_argument(f"--{name}", type=type(default), default=default, help=f"[{default}]")
    asked.add_argument("--folder", type=Path, help="a new folder for everything; it is kept")
    given = vars(asked.parse_args())
    with chosen(given.pop("folder")) as folder:
        rows = run(kind(**given), folder, lambda line: print(line, file=sys.stderr, flush=True))
    print(as_text(section(rows)))
    return int(any(row.met is False for row in rows))


if __name__ == "__main__":
    sys.exit(run_alone(__doc__, as_section, Plan, run))
