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
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import optuna
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from tuner.artifacts.attempts import open_attempts
from tuner.artifacts.optuna_store import open_trial_artifacts
from tuner.console import ProgressCallback, log_to_stderr
from tuner.data.provider import DataProvider
from tuner.errors import (
    DataError,
    FailureKind,
    FilesError,
    PartError,
    SpaceChanged,
    StorageError,
    TrialFailed,
    TrialLost,
    TunerError,
    writing,
)
from tuner.fleet import gpus
from tuner.fleet.config import EXIT_GIVEN_UP, EXIT_GPU_FAILED, WorkerConfig, hash_space_file
from tuner.paths import Home, Run, git_commit
from tuner.recipe import Recipe
from tuner.search import objective, trial_attrs, trial_pictures
from tuner.search.sampling import pruner, sampler
from tuner.search.session import Session
from tuner.search.trial_pictures import StripThread, TrialPictures
from tuner.search.warm_start import find_weights, has_own_files, restore_origin
from tuner.space.space import Space, load_space
from tuner.study import claims, database, epoch_queries, queries, trial_queries
from tuner.study.claims import WorkerRemoved
from tuner.study.failures import failure_attrs
from tuner.study.heartbeat import machine_id, own_version, process_start
from tuner.study.pending import ActiveTrial
from tuner.study.study import JoinedStudy, rejoin_study
from tuner.train.loop import TrainingOutcome
from tuner.train.memory import MicroBatches, is_out_of_memory, keep_pages, release
from tuner.train.precision import device_name, find_device, pin_to_cores
from tuner.train.validation import evaluate

SETTLE_SECONDS = 60.0  # how long the end of a trial waits for its files to be in the artifact store,
HURRY_SECONDS = 5.0  # and a trial that is put back: whoever is told to end has often ten seconds to live
log = logging.getLogger("tuner")


class StopRequested(Exception):
    """Told to stop before the training began."""


class GpuFailed(Exception):
    """The GPU is broken: no trial is to blame, and no worker should begin there again."""


class GpuContextLost(Exception):
    """After this error the process cannot use its GPU any more: another one must take its place."""


class Worker:
    """A worker at work. `stop` is set by a signal; training looks at it before every step."""

    def __init__(self, config: WorkerConfig, stop: threading.Event) -> None:
        self.config, self.stop = config, stop
        self.home = Home(Path(config.home))
        self.space: Space | None = load_checked_space(config)
        self.joined: JoinedStudy = database.retried(rejoin_study)(config.storage, config.study)
        self.engine: Engine = self.joined.engine
        self.warm = False  # after the first trial
        self.device = find_device()
        if config.gpu and self.device.type == "cpu" and gpus.has_driver():
            raise GpuFailed(f"GPU {config.gpu} does not answer")  # else it would train on the processor, silently
        self.commit = git_commit(self.space.path) if self.space else ""
        self.provider = DataProvider(self.home.cache, config.settings.cache_gb, self.progress)
        self.attempts = open_attempts(self.home, config.artifacts)
        self.session = Session(self.joined, self.row(), config.settings, config.gpu_share, stop.is_set)
        self.joint = objective.TrialContext(
            session=self.session,
            device=self.device,
            micro_batches=MicroBatches(self.home.micro_batches),
            checkpoint_minutes=config.settings.checkpoint_minutes,
            keep=self.attempts.keep,
        )

    def row(self) -> dict[str, Any]:
        """Who this is."""
        return {
            "worker": self.config.worker or uuid.uuid4().hex[:12],
            "host": socket.gethostname(),
            "machine": machine_id(),
            "pid": os.getpid(),
            "born": process_start(os.getpid()),
            "device": device_name(self.device),
            "version": own_version(),
        }

    def work(self) -> None:
        """Trials, one after the other. Whatever ends this, the trial in hand is put back."""
        study = self.joined.study
        try:
            with self.told(), self.session as session:
                study.sampler, study.pruner = sampler(self.joined.info, session.ordinal), pruner(self.joined.info)
                while held := session.take():
                    self.one(held)
                    if not self.warm:
                        self.warm = True
                        gc.freeze()  # what the first trial imported: a look at it costs 0.1 s a trial
        finally:  # after the desk has written its last page, which may free files in the store
            self.attempts.close(HURRY_SECONDS)
            gc.unfreeze()  # libraries complain at the end of the process about what is never freed

    def told(self) -> AbstractContextManager[None]:
        """The database's errors in plain words."""
        return database.told(self.config.storage)

    def one(self, held: ActiveTrial) -> None:
        """One trial from its suggestion to its result, and clean up after it."""
        trial = self.session.trial(held)
        run = None
        try:
            run = self.begin(trial, held)
            self.attempt(trial, held, run)
        except StopRequested:
            log.info("trial %d: stopped before its first step, put back", held.number)
            self.session.put_back(held)
        except TrialLost as lost:
            self.drop(held, run, str(lost))
        except TrialFailed as failed:
            self.fail(trial, held, run, failed.kind, str(failed))
        except (StorageError, FilesError, DataError):
            if why := self.lost(held):
                self.drop(held, run, why)
            else:
                raise  # the disk, the database, the data: not this trial's fault, it is put back
        except WorkerRemoved:
            raise
        except Exception as error:
            self.broken(trial, held, run, error)
        release(self.device)  # a pruned or failed trial's model hangs in a cycle until then

    def begin(self, trial: optuna.Trial, held: ActiveTrial) -> Run:
        """The folder of this attempt, with what the one before left."""
        study, key = self.config.study, self.joined.info.key
        return self.attempts.begin(study, key, held.number, held.attempt, fresh=not has_own_files(trial))

    def broken(self, trial: optuna.Trial, held: ActiveTrial, run: Run | None, error: Exception) -> None:
        """An error that no one foresaw: the GPU's, one that poisons it, or a bug, which is told loudly."""
        if isinstance(database.behind(error), SQLAlchemyError):
            raise error  # the database is away for too long, or full: the trial is put back
        if why := self.lost(held):
            return self.drop(held, run, why)  # whoever has it now may have taken its folder away
        if gpus.is_broken(error):
            raise GpuFailed(str(error).splitlines()[0]) from error
        kind = FailureKind.OUT_OF_MEMORY if is_out_of_memory(error) else FailureKind.EXCEPTION
        self.fail(trial, held, run, kind, traceback.format_exc(), type(error).__name__)
        if gpus.is_process_unusable(error):
            raise GpuContextLost from error
        raise error

    def lost(self, held: ActiveTrial) -> str:
        """Why a trial is this worker's no more, asked now; '' if it still is."""
        try:
            claims.check_claim(self.engine, held.id, self.session.name)
        except TrialLost as lost:
            return str(lost)
        return ""

    def drop(self, held: ActiveTrial, run: Run | None, why: str) -> None:
        log.info("trial %d: dropped, %s", held.number, why)
        if run:
            self.attempts.forget(run)
        self.session.drop(held)

    def attempt(self, trial: optuna.Trial, held: ActiveTrial, run: Run) -> None:
        if held.deaths >= claims.MOST_DEATHS:
            died = f"set aside: {held.deaths} workers died while they trained it, or hung"
            raise TrialFailed(FailureKind.WORKERS_DIED, died)
        restore_origin(trial, self.engine, self.session.name, self.attempts, run)
        if held.attempt > 1 or has_own_files(trial):
            held.recorded = database.retried(epoch_queries.read_recorded_epochs)(self.engine, held.id)
        recipe = objective.choose_recipe(self.space, self.joined.info, trial)
        self.session.tell(number=held.number, steps=recipe.epochs, params=trial.params)
        data = self.provider.get_data(recipe)
        recipe = replace(recipe, classes=data.classes)
        start = self.find_start(recipe, run)
        trial_attrs.write_recipe(trial, recipe, data, self.commit)
        self.session.chosen(held)
        self.session.tell(state="training", step=0, steps=recipe.epochs)
        pictures = TrialPictures(trial, recipe, data, run, open_trial_artifacts(self.attempts))
        strip_thread = StripThread(pictures)
        try:
            outcome = objective.run_trial(self.joint, held, recipe, data, run, start, strip_thread.show)
        finally:
            strip_thread.close()
        if outcome.end == "stopped":
            log.info("trial %d: stopped at epoch %d, put back", held.number, outcome.progress.epoch)
            self.attempts.settle(run, HURRY_SECONDS)
            return self.session.put_back(held)
        self.finish(held, pictures, outcome)

    def finish(self, held: ActiveTrial, pictures: TrialPictures, outcome: TrainingOutcome) -> None:
        """Pictures, notes and artifacts first: a finished trial cannot be written on."""
        trial, recipe, run = pictures.trial, pictures.recipe, pictures.run
        asked = "row" in trial.user_attrs and outcome.end == "finished"
        test = self.test_scores(recipe, run) if asked else {}
        progress, goal = outcome.progress, self.joined.info.goal
        rows = [epoch_queries.flatten_epoch(report) for report in progress.history]
        self.session.tell(state="finishing")
        if rows:
            explained = outcome.end == "finished" and self.leads(progress.best_value)
            with writing(run.folder):
                trial_pictures.write_pictures(pictures, outcome, explained)
        trial_attrs.write_result(
            trial, outcome, socket.gethostname(), device_name(self.device), held.attempt, test
        )
        trial_attrs.save_note_of_result(trial, recipe, goal, rows, progress.best_epoch)
        if outcome.end == "pruned":
            if held.wanted == "stop":
                trial.set_user_attr("stopped", "by hand")
            self.session.end(held, "PRUNED", done=lambda: self.attempts.finish(run, weights=False))
        else:
            self.attempts.keep(run)
            self.attempts.settle(run, SETTLE_SECONDS)
            self.session.end(
                held, "COMPLETE", progress.best_value, lambda: self.attempts.finish(run, weights=True)
            )
        log.info("trial %d: %s, best %s at epoch %d", held.number, outcome.end,
                 progress.best_value, progress.best_epoch)  # fmt: skip

    def leads(self, value: float | None) -> bool:
        """Whether a value is better than those of all trials that have ended, this worker's newest too."""
        goal = self.joined.info.goal
        ends = [end.values[0] for end in self.session.storage.unwritten.values() if end.state.name == "COMPLETE"]
        best = database.retried(trial_queries.read_best_value)(self.engine, self.joined.id, goal)
        return value is not None and all(goal.is_better(value, other) for other in (best, *ends))

    def find_start(self, recipe: Recipe, run: Run) -> Path | None:
        """The file of earlier weights that a recipe begins from; a missing one fails the trial alone.

        A trial that goes on from its checkpoint needs it no more.
        """
        try:
            info = database.retried(queries.find_study)(self.engine, self.config.study)
            return find_weights(recipe.weights.name, self.engine, self.attempts, info)
        except PartError as error:
            if run.checkpoint.is_file():
                return None
            raise TrialFailed(FailureKind.WEIGHTS, str(error)) from error

    def test_scores(self, recipe: Recipe, run: Run) -> dict[str, float]:
        """What the best weights score on the test split; the row of a table asks for it, never a search."""
        data, shares = self.provider.get_test_data(recipe), self.provider.get_data(recipe).shares
        if data is None:
            return {}
        return evaluate(
            recipe, data, run.best, self.device, self.joint.micro_batches, shares, alive=self.session.tell
        ).metrics

    def fail(
        self,
        trial: optuna.Trial,
        held: ActiveTrial,
        run: Run | None,
        kind: FailureKind,
        reason: str,
        exception: str = "",
    ) -> None:
        """End a trial as failed and store why."""
        log.warning("trial %d failed: %s", held.number, reason)
        self.session.tell(state="finishing")
        for name, value in failure_attrs(kind, reason, exception).items():
            trial.set_user_attr(name, value)
        trial_attrs.save_note_of_failure(trial, reason)
        self.session.end(held, "FAIL", done=lambda: self.attempts.finish(run, weights=False) if run else None)

    def progress(self, state: str) -> ProgressCallback:
        """Tell how far the reading of data is; a stop is obeyed there too."""

        def tell(done: int, of: int) -> None:
            self.session.tell(state=state, step=done, steps=of)
            if self.session.storage.held and self.session.says(self.session.storage.held) == "stopped":
                raise StopRequested

        return tell


def load_checked_space(config: WorkerConfig) -> Space | None:
    """The space that was checked: a worker that starts later must not train another one unseen.

    Longer runs need none: their trials have their recipes.
    """
    if not config.space:
        return None
    if config.space_digest and hash_space_file(Path(config.space)) != config.space_digest:
        raise SpaceChanged(f"{config.space} was changed while its study runs. Type the command again.")
    return load_space(config.space)


def set_up_process(config: WorkerConfig) -> None:
    """Keep to the given cores; OpenCV's own threads would fight with torch's."""
    import cv2

    if config.cores:
        pin_to_cores(config.cores)
    cv2.setNumThreads(1)
    keep_pages()
    gc.collect()
    gc.freeze()  # what the imports made lives as long as the process: no need to look at it after each trial


def watch_parent(stop: threading.Event) -> None:
    """Stop when stdin closes. Read below Python's buffer: its lock must be free when the process ends."""
    while os.read(0, 4096):
        pass
    request_stop(stop)


def request_stop(stop: threading.Event) -> None:
    """Have training stop at its next step; a database that is away is not waited for any more."""
    stop.set()
    database.be_patient(database.IMPATIENT_SECONDS)


def redirect_stdout() -> IO[str]:
    """Our line to the fleet; what a space or model prints goes to the log, where no pipe can fill up."""
    sys.stdout.flush()
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return ours


def main() -> int:
    """The process: orders in, work, one line of JSON out. Exit code 0, 2 for a told error, 1 for a bug."""
    answer = redirect_stdout()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: request_stop(stop))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the fleet decides
    log_to_stderr()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    config = WorkerConfig.from_line(sys.stdin.readline())
    threading.Thread(target=watch_parent, args=(stop,), daemon=True).start()
    try:
        set_up_process(config)
        if not stop.is_set():
            database.be_patient()
        Worker(config, stop).work()
    except (WorkerRemoved, GpuContextLost):
        log.info("a new worker takes over")
        return EXIT_GIVEN_UP
    except GpuFailed as error:
        print(json.dumps({"error": str(error)}), file=answer, flush=True)
        return EXIT_GPU_FAILED
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
