"""A worker process: it joins the study and trains trials until the budget is spent or it is asked to stop.

It reads its configuration as one line of JSON from stdin, so that no password appears on a command line. When
stdin closes, its parent process has ended, and it stops as on SIGTERM. Its last line on stdout says how it ended.
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
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import optuna
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from tuner.artifacts.attempts import open_attempts
from tuner.artifacts.optuna_store import open_trial_artifacts
from tuner.artifacts.own_code import save_code, use_code
from tuner.console import ProgressCallback, log_to_stderr
from tuner.data.limits import PIXEL_LIMIT
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
    first_line,
    writing,
)
from tuner.fleet import gpus
from tuner.fleet.config import EXIT_GIVEN_UP, EXIT_GPU_FAILED, WorkerConfig, hash_space_file
from tuner.paths import Home, Run, git_commit
from tuner.recipe import Recipe
from tuner.search import measuring, objective, trial_attrs, trial_pictures
from tuner.search.foreseen_cost import check_time_left
from tuner.search.measuring import OverLimit
from tuner.search.pruning import limit_checkpoints
from tuner.search.samplers import make_sampler
from tuner.search.session import Session, StopRequested
from tuner.search.trial_pictures import StripThread, TrialPictures
from tuner.search.warm_start import find_weights, has_own_files, restore_origin
from tuner.space.space import Space, load_space
from tuner.study import claims, database, epoch_queries, trial_queries
from tuner.study.claims import WorkerRemoved
from tuner.study.decisions import read_last_judged
from tuner.study.failures import failure_attrs
from tuner.study.heartbeat import machine_id, own_version, process_start
from tuner.study.optuna_compat import was_judged_by_optuna
from tuner.study.pending import ActiveTrial, EndState
from tuner.study.study import JoinedStudy, rejoin_study
from tuner.study.trial_queries import OVER_LIMIT
from tuner.train.loop import TrainingOutcome
from tuner.train.memory import MicroBatches, is_out_of_memory, keep_pages, release
from tuner.train.precision import device_name, find_device, pin_to_cores
from tuner.train.validation import evaluate
from tuner.wording import typed_options

SETTLE_SECONDS = 60.0  # for the files of a finished trial to reach the artifact store
HURRY_SECONDS = 5.0  # for those of a stopped one: schedulers often send SIGKILL ten seconds after SIGTERM
log = logging.getLogger("tuner")


class GpuFailed(Exception):
    """The GPU is broken: the trial is not to blame, and no other worker should start there."""


class GpuContextLost(Exception):
    """This process can no longer use its GPU, and must be replaced by another one."""


class Worker:
    """Trains trials one after the other. `stop` is set by a signal and checked before every training step."""

    def __init__(self, config: WorkerConfig, stop: threading.Event) -> None:
        self.config, self.stop = config, stop
        self.home = Home(Path(config.home))
        self.space: Space | None = load_checked_space(config)
        self.joined: JoinedStudy = database.retried(rejoin_study)(config.storage, config.study)
        self.engine: Engine = self.joined.engine
        self.is_warm = False  # after the first trial
        self.device = find_device()
        if config.gpu and self.device.type == "cpu" and gpus.has_driver():
            raise GpuFailed(f"GPU {config.gpu} does not answer")  # else it would train on the processor, silently
        self.commit = git_commit(self.space.path) if self.space else ""
        self.provider = DataProvider(self.home.cache, config.settings.cache_gb, self.progress_callback)
        self.attempts = open_attempts(self.home, config.artifacts)
        self.session = Session(self.joined, self.identity(), config.settings, config.gpu_share, stop.is_set)
        self.context = objective.TrialContext(
            session=self.session,
            device=self.device,
            micro_batches=MicroBatches(self.home.micro_batches),
            checkpoint_minutes=config.settings.checkpoint_minutes,
            keep=self.attempts.keep,
        )

    def identity(self) -> dict[str, Any]:
        """Return the columns of the worker's row that do not change."""
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
        """Train trials until none is left; however this ends, the current trial is put back."""
        study = self.joined.study
        try:
            with database.convert_errors(self.config.storage), self.session as session:
                study.sampler = make_sampler(self.joined.info, session.ordinal)
                while active := session.take_trial():
                    self.run_trial(active)
                    if not self.is_warm:
                        self.is_warm = True
                        gc.freeze()  # the imports of the first trial: examining them takes 0.1 s in every trial
        finally:  # after the session's last writes, which may delete files in the store
            self.attempts.close(HURRY_SECONDS)

    def run_trial(self, active: ActiveTrial) -> None:
        """Run a trial from its suggestion to its result, and clean up after it."""
        trial, study = self.session.optuna_trial(active), self.joined.info
        run = self.home.run(study.name, study.key, active.number, active.attempt)
        try:
            is_fresh = not has_own_files(trial)
            self.attempts.begin(study.name, study.key, active.number, active.attempt, is_fresh)
            self.train_trial(trial, active, run)
        except StopRequested as stopped:
            log.info("trial %d: %s, put back", active.number, stopped)
            self.session.put_back_trial(active)
        except TrialLost as lost:
            self.drop_trial(active, run, str(lost))
        except OverLimit as over:
            self.end_over_limit(trial, active, run, str(over))
        except TrialFailed as failed:
            self.fail_trial(trial, active, run, failed)
        except WorkerRemoved:
            raise
        except Exception as error:
            self.handle_error(trial, active, run, error)
        release(self.device)  # a pruned or failed trial's model is in a reference cycle until then

    def handle_error(self, trial: optuna.Trial, active: ActiveTrial, run: Run, error: Exception) -> None:
        """Raise errors that are not the trial's fault, so that it is put back; fail the trial on all others.

        An unexpected error is raised again after the trial has failed, because it is a bug.
        """
        is_reported = isinstance(error, (StorageError, FilesError, DataError))
        if not is_reported and isinstance(database.unwrap(error), SQLAlchemyError):
            raise error  # the database is away for too long, or full
        try:
            claims.check_claim(self.engine, active.id, self.session.name)
        except TrialLost as lost:
            return self.drop_trial(active, run, str(lost))  # its new owner may have removed its folder
        if is_reported:
            raise error
        if gpus.is_broken(error):
            raise GpuFailed(first_line(error)) from error
        kind = FailureKind.OUT_OF_MEMORY if is_out_of_memory(error) else FailureKind.EXCEPTION
        failed = TrialFailed(kind, traceback.format_exc())
        self.fail_trial(trial, active, run, failed, type(error).__name__)
        if gpus.is_process_unusable(error):
            raise GpuContextLost from error
        raise error

    def drop_trial(self, active: ActiveTrial, run: Run, why: str) -> None:
        log.info("trial %d: dropped, %s", active.number, why)
        self.attempts.forget(run)
        self.session.drop_trial(active)

    def train_trial(self, trial: optuna.Trial, active: ActiveTrial, run: Run) -> None:
        if active.deaths >= claims.MOST_DEATHS:
            reason = f"set aside: {active.deaths} workers died while they trained it, or hung"
            raise TrialFailed(FailureKind.WORKERS_DIED, reason)
        restore_origin(trial, self.engine, self.session.name, self.attempts, run)
        if active.attempt > 1 or has_own_files(trial):
            active.recorded = database.retried(epoch_queries.read_recorded_epochs)(self.engine, active.id)
            active.judged = database.retried(read_last_judged)(self.engine, active.id)
            if was_judged_by_optuna(active.frozen):
                active.judged = max(active.recorded, default=0)
        if self.space is None:
            use_code(run, trial.user_attrs.get("made_with", {}).get("code", ""), self.home.cache)
        recipe = objective.choose_recipe(self.space, self.joined.info, trial)
        self.session.update_status(number=active.number, steps=recipe.epochs, params=trial.params)
        check_time_left(self.session, active, recipe.epochs)
        data = self.provider.get_data(recipe)
        recipe = replace(recipe, classes=data.classes)
        weights = self.find_initial_weights(recipe, run)
        code = save_code(recipe.own_names, run)
        trial_attrs.write_recipe(trial, recipe, data, self.commit, code)
        self.session.confirm_params(active)
        measuring.measure_trial(trial, recipe, self.joined.info, self.context)
        self.session.update_status(state="training", step=0, steps=recipe.epochs)
        pictures = TrialPictures(trial, recipe, data, run, open_trial_artifacts(self.attempts))
        check_memory = measuring.make_memory_check(trial, self.joined.info, self.context)
        with closing(StripThread(pictures)) as strip:
            outcome = objective.train_recipe(
                self.context, active, recipe, data, run, weights, strip.show, check_memory
            )
        if outcome.end == "stopped":
            log.info("trial %d: stopped at epoch %d, put back", active.number, outcome.progress.epoch)
            self.attempts.settle(run, HURRY_SECONDS)
            return self.session.put_back_trial(active)
        self.finish_trial(active, pictures, outcome)

    def finish_trial(self, active: ActiveTrial, pictures: TrialPictures, outcome: TrainingOutcome) -> None:
        """Save pictures, attributes and files, then end or pause the trial: then it takes no more attributes."""
        trial, recipe, run = pictures.trial, pictures.recipe, pictures.run
        is_complete, is_paused = outcome.end == "finished", outcome.end == "paused"
        test = self.test_scores(recipe, run) if is_complete and "row" in trial.user_attrs else {}
        progress = outcome.progress
        self.session.update_status(state="finishing")
        if progress.history:
            is_explained = is_complete and self.is_best(progress.best_value)
            with writing(run.folder):
                trial_pictures.write_pictures(pictures, outcome, is_explained)
        host, device = socket.gethostname(), device_name(self.device)
        trial_attrs.write_result(trial, outcome, host, device, active.attempt, test, pictures.classes)
        trial_attrs.save_result_note(trial, recipe, self.joined.info.goal, progress, is_paused)
        if is_complete or is_paused:
            self.attempts.keep(run)
            self.attempts.settle(run, SETTLE_SECONDS)
        elif active.wanted == "stop":
            trial.set_user_attr("stopped", "by hand")
        if is_paused:
            log.info("trial %d: paused at epoch %d of %d", active.number, progress.epoch - 1, recipe.epochs)
            run.delete_previous()
            self.session.pause_trial(active, progress.epoch - 1, self.attempts.size(run))
            return limit_checkpoints(self.session, self.attempts, self.config.settings.keep_gb)
        state: EndState = "COMPLETE" if is_complete else "PRUNED"
        value = progress.best_value if is_complete else None
        further = measuring.further_values(trial, self.joined.info, progress) if is_complete else []
        self.session.end_trial(
            active, state, value, lambda: self.attempts.finish(run, weights=is_complete), further
        )
        log.info("trial %d: %s, best %s at epoch %d", active.number, outcome.end,
                 progress.best_value, progress.best_epoch)  # fmt: skip

    def is_best(self, value: float | None) -> bool:
        """Return whether a value is better than those of all finished trials, also those not written yet."""
        goal = self.joined.info.goal
        unwritten = [active.frozen for active in list(self.session.storage.unwritten.values())]
        ends = [end.values[0] for end in unwritten if end.state.name == "COMPLETE"]
        best = database.retried(trial_queries.read_best_value)(self.engine, self.joined.id, goal)
        return value is not None and all(goal.is_better(value, other) for other in (best, *ends))

    def find_initial_weights(self, recipe: Recipe, run: Run) -> Path | None:
        """Return the file of weights that training starts from; raise TrialFailed if it cannot be found.

        A trial that has a checkpoint does not need it.
        """
        try:
            return find_weights(recipe.weights.name, self.engine, self.attempts, self.joined.info)
        except PartError as error:
            if run.checkpoint.is_file():
                return None
            raise TrialFailed(FailureKind.WEIGHTS, str(error)) from error

    def test_scores(self, recipe: Recipe, run: Run) -> dict[str, float]:
        """Return the metrics of the best weights on the test split: for rows of a table, never in a search."""
        data, shares = self.provider.get_test_data(recipe), self.provider.get_data(recipe).shares
        if data is None:
            return {}
        batches, alive = self.context.micro_batches, self.session.update_status
        return evaluate(recipe, data, run.best, self.device, batches, shares, alive=alive).scores()

    def end_over_limit(self, trial: optuna.Trial, active: ActiveTrial, run: Run, over: str) -> None:
        """End a trial that breaks a limit as pruned, from which samplers learn."""
        log.info("trial %d: over a limit: %s", active.number, over)
        trial.set_user_attr(OVER_LIMIT, over)
        trial_attrs.save_failure_note(trial, over, "over a limit")
        self.session.end_trial(active, "PRUNED", on_written=lambda: self.attempts.finish(run, weights=False))

    def fail_trial(
        self, trial: optuna.Trial, active: ActiveTrial, run: Run, failed: TrialFailed, exception: str = ""
    ) -> None:
        """End a trial as failed and store why; `exception` is the type of an unexpected error."""
        reason = str(failed)
        log.warning("trial %d failed: %s", active.number, reason)
        self.session.update_status(state="finishing")
        for name, value in failure_attrs(failed.kind, reason, exception).items():
            trial.set_user_attr(name, value)
        trial_attrs.save_failure_note(trial, reason)
        self.session.end_trial(active, "FAIL", on_written=lambda: self.attempts.finish(run, weights=False))

    def progress_callback(self, state: str) -> ProgressCallback:
        """Return a callback that reports how much data was read, and raises StopRequested to interrupt it."""

        def report(done: int, total: int) -> None:
            self.session.update_status(state=state, step=done, steps=total)
            active = self.session.storage.active
            if active and self.session.check_signal(active) == "stopped":
                raise StopRequested("stopped before its first step")

        return report


def load_checked_space(config: WorkerConfig) -> Space | None:
    """Return the space, or None for trials that have their recipes; raise SpaceChanged if it was edited.

    A worker that starts later must not train a space that was never checked.
    """
    if not config.space:
        return None
    if config.space_digest and hash_space_file(Path(config.space)) != config.space_digest:
        what = f"{config.space}, or a module of your own that it needs,"
        raise SpaceChanged(f"{what} was changed while its study runs. Type the command again.")
    return load_space(config.space)


def set_up_process(config: WorkerConfig) -> None:
    """Pin the process to its cores, limit its images, and turn off OpenCV's threads: they compete with torch's."""
    import cv2

    if config.cores:
        pin_to_cores(config.cores)
    PIXEL_LIMIT.set(config.settings.max_pixels)
    cv2.setNumThreads(1)
    keep_pages()
    gc.collect()
    gc.freeze()  # objects of the imports live as long as the process and need not be examined again


def watch_parent(stop: threading.Event) -> None:
    """Stop when stdin closes. Bypass Python's buffer, whose lock must be free when the process ends."""
    while os.read(0, 4096):
        pass
    request_stop(stop)


def request_stop(stop: threading.Event) -> None:
    """Stop the training at its next step, and no longer wait for a database that is away."""
    stop.set()
    database.be_patient(database.IMPATIENT_SECONDS)


def redirect_stdout() -> IO[str]:
    """Return stdout for the answer to the fleet; prints of a space or model go to stderr, into the log."""
    sys.stdout.flush()
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answer


def main() -> int:
    """Run a worker as configured on stdin, and answer with one line of JSON if it ends with an error.

    Return 0 for normal ends, 2 for reported errors, 1 for bugs, and the other codes of `fleet.config`.
    """
    answer = redirect_stdout()
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: request_stop(stop))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the fleet decides
    log_to_stderr()
    config = WorkerConfig.from_line(sys.stdin.readline())
    threading.Thread(target=watch_parent, args=(stop,), daemon=True).start()
    try:
        typed_options.update(config.typed)
        set_up_process(config)
        if not stop.is_set():
            database.be_patient()
        Worker(config, stop).work()
    except (WorkerRemoved, GpuContextLost):
        log.info("a new worker takes over")
        return EXIT_GIVEN_UP
    except (GpuFailed, TunerError) as error:
        print(json.dumps({"error": str(error)}), file=answer, flush=True)
        return EXIT_GPU_FAILED if isinstance(error, GpuFailed) else 2
    except Exception as error:
        traceback.print_exc()
        print(json.dumps({"bug": f"{type(error).__name__}: {error}"}), file=answer, flush=True)
        return 1
    finally:
        gc.unfreeze()  # else libraries report objects that were never freed when the process ends
    return 0


if __name__ == "__main__":
    sys.exit(main())
