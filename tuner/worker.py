"""One worker process: join the study, take trials until the budget is spent or it is told to stop.

It reads its orders as one line of JSON from stdin, so that no password stands on a command line. When
stdin closes, whoever started it is gone, and it stops as on SIGTERM. Its last line on stdout says how
it ended.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import signal
import socket
import sys
import threading
import traceback
import uuid
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import optuna
import psutil
from optuna.trial import TrialState
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from tuner import database, notes, objective, overview, records
from tuner.console import log_to_stderr
from tuner.data.cache import Cached
from tuner.data.shelf import Shelf
from tuner.data.survey import Progress
from tuner.errors import (
    DataError,
    FilesError,
    PartError,
    SpaceChanged,
    StorageError,
    StudyError,
    TrialFailed,
    TrialLost,
    TunerError,
    writing,
)
from tuner.orders import Orders, digest
from tuner.recipe import Recipe
from tuner.runs import Home, Run, commit_of
from tuner.space import Space, load_space
from tuner.starts import find_start
from tuner.study import Joined, pruner, rejoin, sampler
from tuner.takeover import has_run, take_over
from tuner.train.loop import Outcome, evaluate
from tuner.train.memory import MicroBatches, keep_pages, release
from tuner.train.precision import device_name, find_device, keep_to

BEAT_SECONDS = 1.0
GIVEN_UP = 75  # exit code: start another worker in this seat
log = logging.getLogger("tuner")


class Stopped(Exception):
    """Told to stop before the training began."""


class GivenUp(Exception):
    """This worker was silent for so long that its row was removed: a new one must take its place."""


class Worker:
    """A worker at work. `stop` is set by a signal; training looks at it before every step."""

    def __init__(self, orders: Orders, stop: threading.Event) -> None:
        self.orders, self.stop = orders, stop
        self.home = Home(Path(orders.home))
        self.space: Space | None = the_same_space(orders)
        self.joined: Joined = rejoin(orders.storage, orders.study)
        self.engine: Engine = self.joined.engine
        self.name = uuid.uuid4().hex[:12]
        self.warm = False  # after the first trial
        self.device = find_device()
        self.commit = commit_of(self.space.path) if self.space else ""
        self.shelf = Shelf(self.home.cache, orders.cache_gb, self.progress)
        self.doing: dict[str, Any] = {"state": "starting", "number": None, "step": 0, "steps": 0, "value": None}
        self.joint = objective.Joint(
            engine=self.engine,
            worker=self.name,
            plan=self.joined.plan,
            device=self.device,
            micro_batches=MicroBatches(self.home.micro_batches),
            stopped=stop.is_set,
            tell=self.tell,
        )

    def tell(self, **doing: Any) -> None:
        """Change what the next beat will say."""
        self.doing = {**self.doing, **doing}

    def work(self) -> None:
        """Trials, one after the other. Whatever ends this, the trial in hand is put back."""
        ordinal = records.enter(self.engine, self.joined.id, self.row())
        study = self.joined.study
        study.sampler, study.pruner = sampler(self.joined.plan, ordinal), pruner(self.joined.plan)
        beating = threading.Thread(target=self.beat, daemon=True)
        beating.start()
        try:
            while not self.stop.is_set():
                trial = self.take()
                if trial is None:
                    break
                self.one(trial)
                if not self.warm:
                    self.warm = True
                    gc.freeze()  # what the first trial imported: a look at it costs 0.1 s a trial
        finally:
            gc.unfreeze()  # libraries complain at the end of the process about what is never freed
            self.stop.set()
            beating.join(timeout=5)
            with suppress(SQLAlchemyError):  # a database that is gone or full: whoever comes next puts it back
                records.release(self.engine, self.name, died=False)

    def row(self) -> dict[str, Any]:
        return {
            "worker": self.name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "born": psutil.Process().create_time(),
            "device": device_name(self.device),
            **self.doing,
        }

    def beat(self) -> None:
        """Write this worker's row on a clock, until it stops."""
        while not self.stop.wait(BEAT_SECONDS):
            with suppress(Exception):  # a database away for a while is training's to meet, not the clock's
                records.beat(self.engine, self.name, self.doing)

    def take(self) -> optuna.Trial | None:
        """A trial that was put back, or the next of the budget; None when there is nothing to do."""
        try:
            with self.told():
                return self.take_told()
        except TrialLost as lost:
            raise GivenUp from lost

    def take_told(self) -> optuna.Trial | None:
        self.look_round()
        trial_id = records.take_put_back(self.engine, self.joined.id, self.name)
        if trial_id is None:
            trial_id = self.take_new()
        if trial_id is None:
            return None
        study = self.joined.study
        study._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        study._thread_local.cached_all_trials = None  # as Study.ask does: the sampler must see today's trials
        return optuna.Trial(study, trial_id)

    def look_round(self) -> None:
        """Whether study and worker still are what they were: both can go while a trial is trained."""
        if not records.exists(self.engine, self.joined.id, self.orders.study):
            raise StudyError(f"study '{self.orders.study}' was deleted meanwhile; nothing is left to do.")
        if not records.is_known(self.engine, self.name):
            raise GivenUp
        records.forget_deleted(self.engine, self.name)

    def told(self) -> AbstractContextManager[None]:
        """The database's errors in plain words."""
        return database.told(self.orders.storage)

    def take_new(self) -> int | None:
        """Claim a slot and bind a waiting trial to it, one that was enqueued or, outside lists, a fresh one.

        A fresh trial is created WAITING, so that a worker killed between two of these lines leaves
        nothing running that nobody runs.
        """
        claim = records.claim_slot(self.engine, self.joined.id, self.name)
        if claim is None:
            return None
        storage, study_id = self.joined.study._storage, self.joined.id
        waiting = [t._trial_id for t in storage.get_all_trials(study_id, False, (TrialState.WAITING,))]
        taken = records.bound(self.engine, study_id, waiting)
        for trial_id in [t for t in waiting if t not in taken]:
            if records.bind(self.engine, claim, trial_id):
                return trial_id
        if self.joined.plan.listed:
            records.give_back(self.engine, claim)
            return None
        fresh = optuna.trial.create_trial(state=TrialState.WAITING)
        while not records.bind(self.engine, claim, trial_id := storage.create_new_trial(study_id, fresh)):
            pass  # another worker saw it waiting and was quicker
        return trial_id

    def one(self, trial: optuna.Trial) -> None:
        """One trial from its suggestion to its result, and clean up after it."""
        run = self.home.run(self.orders.study, self.joined.plan.key, trial.number)
        if not has_run(trial):
            run.clear()  # of a deleted trial that had the same number
        try:
            with self.told():
                self.attempt(trial, run.make())
        except Stopped:
            log.info("trial %d: stopped before its first step, put back", trial.number)
        except TrialLost as lost:
            log.info("trial %d: dropped, %s", trial.number, lost)
        except TrialFailed as failed:
            self.fail(trial, run, str(failed))
        except (StorageError, FilesError, DataError):
            raise  # the disk, the database, the data: not this trial's fault, it is put back
        except Exception:
            with self.told():
                why = records.is_lost(self.engine, trial._trial_id, self.name)
            if not why:
                self.fail(trial, run, traceback.format_exc())
                raise
            log.info("trial %d: dropped, %s", trial.number, why)  # Optuna refused to write on it
        finally:
            self.tell(state="idle", number=None, step=0, steps=0, value=None, params=None)
        release(self.device)  # a pruned or failed trial's model hangs in a cycle until then

    def attempt(self, trial: optuna.Trial, run: Run) -> None:
        died = records.deaths(self.engine, trial._trial_id)
        if died >= records.MOST_DEATHS:
            raise TrialFailed(f"set aside: {died} workers died while they trained it")
        take_over(trial, self.engine, self.name, self.home, run)
        recipe = objective.choose(self.space, self.joined.plan, trial)
        self.tell(state="preparing", number=trial.number, steps=recipe.epochs, params=trial.params)
        data = self.shelf.data_for(recipe)
        recipe = replace(recipe, classes=data.classes)
        start = self.find_start(recipe, run)
        notes.begin(trial, recipe, data, self.commit)
        self.tell(state="training", step=0, steps=recipe.epochs)
        outcome = objective.run_trial(self.joint, trial, recipe, data, run, start)
        if outcome.end == "stopped":
            log.info("trial %d: stopped at epoch %d, put back", trial.number, outcome.progress.epoch)
            return
        self.finish(trial, recipe, data, run, outcome)

    def finish(self, trial: optuna.Trial, recipe: Recipe, data: Cached, run: Run, outcome: Outcome) -> None:
        """Pictures, notes and artifacts first: a finished trial cannot be written on."""
        asked = "row" in trial.user_attrs and outcome.end == "finished"
        test = self.test_scores(recipe, run) if asked else {}
        rows = overview.history(self.engine, trial._trial_id)
        with writing(run.folder):
            notes.pictures(trial, recipe, self.joined.plan.goal, rows, data, run, outcome, self.home.artifacts)
        notes.end(trial, outcome, socket.gethostname(), device_name(self.device), test)
        records.still_mine(self.engine, trial._trial_id, self.name)
        if outcome.end == "pruned":
            self.joined.study.tell(trial, state=TrialState.PRUNED)
            run.drop_weights()
        else:
            self.joined.study.tell(trial, outcome.progress.best_value)
            run.drop_previous()
        notes.describe(trial, recipe, self.joined.plan.goal, rows, outcome.progress.best_epoch)
        log.info("trial %d: %s, best %s at epoch %d", trial.number, outcome.end,
                 outcome.progress.best_value, outcome.progress.best_epoch)  # fmt: skip

    def find_start(self, recipe: Recipe, run: Run) -> Path | None:
        """The file of earlier weights that a recipe begins from; a missing one fails the trial alone.

        A trial that goes on from its checkpoint needs it no more.
        """
        try:
            info = overview.find_study(self.engine, self.orders.study)
            return find_start(recipe.weights.name, self.engine, self.home, info)
        except PartError as error:
            if run.checkpoint.is_file():
                return None
            raise TrialFailed(str(error)) from error

    def test_scores(self, recipe: Recipe, run: Run) -> dict[str, float]:
        """What the best weights score on the test split; the row of a table asks for it, never a search."""
        data, shares = self.shelf.test_for(recipe), self.shelf.data_for(recipe).shares
        if data is None:
            return {}
        return evaluate(recipe, data, run.best, self.device, self.joint.micro_batches, shares).metrics

    def fail(self, trial: optuna.Trial, run: Run, reason: str) -> None:
        """End a trial as failed, with the reason on it."""
        with self.told():
            if why := records.is_lost(self.engine, trial._trial_id, self.name):
                log.info("trial %d: dropped, %s", trial.number, why)
                return
            log.warning("trial %d failed: %s", trial.number, reason)
            trial.set_user_attr("failure", reason)
            notes.describe_failure(trial, reason)
            self.joined.study.tell(trial, state=TrialState.FAIL)
            run.drop_weights()

    def progress(self, state: str) -> Progress:
        """Tell how far the reading of data is; a stop is obeyed there too."""

        def tell(done: int, of: int) -> None:
            if self.stop.is_set():
                raise Stopped
            self.tell(state=state, step=done, steps=of)

        return tell


def the_same_space(orders: Orders) -> Space | None:
    """The space that was checked: a worker that starts later must not train another one unseen.

    Longer runs need none: their trials have their recipes.
    """
    if not orders.space:
        return None
    if orders.space_digest and digest(Path(orders.space)) != orders.space_digest:
        raise SpaceChanged(f"{orders.space} was changed while its study runs. Type the command again.")
    return load_space(orders.space)


def settle(orders: Orders) -> None:
    """Keep to the given cores; OpenCV's own threads would fight with torch's."""
    import cv2

    if orders.cores:
        keep_to(orders.cores)
    cv2.setNumThreads(1)
    keep_pages()
    gc.collect()
    gc.freeze()  # what the imports made lives as long as the process: no need to look at it after each trial


def watch_parent(stop: threading.Event) -> None:
    """Stop when stdin closes. Read below Python's buffer: its lock must be free when the process ends."""
    while os.read(0, 4096):
        pass
    stop.set()


def keep_stdout() -> IO[str]:
    """Our line to the fleet; what a space or model prints goes to the log, where no pipe can fill up."""
    sys.stdout.flush()
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return ours


def main() -> int:
    """The process: orders in, work, one line of JSON out. Exit code 0, 2 for a told error, 1 for a bug."""
    answer = keep_stdout()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the fleet decides
    log_to_stderr()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    orders = Orders.from_line(sys.stdin.readline())
    threading.Thread(target=watch_parent, args=(stop,), daemon=True).start()
    try:
        settle(orders)
        Worker(orders, stop).work()
    except GivenUp:
        log.info("silent for too long: a new worker takes over")
        return GIVEN_UP
    except TunerError as error:
        print(json.dumps({"error": str(error)}), file=answer, flush=True)
        return 2
    except Exception as error:
        traceback.print_exc()
        print(json.dumps({"bug": f"{type(error).__name__}: {error}"}), file=answer, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
