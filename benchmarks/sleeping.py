"""Trials that sleep instead of training, for many.py and latency.py; does not import torch."""

from __future__ import annotations

import os
import resource
import time
import traceback
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from benchmarks.studies import MADE_WITH, RECIPE, row_of
from tuner.goal import Goal
from tuner.search.samplers import make_sampler
from tuner.search.sampling import redraw
from tuner.search.scheduler import NoHalving
from tuner.search.scheduling import make_scheduler
from tuner.search.session import Session
from tuner.study import database
from tuner.study.heartbeat import machine_id, process_start
from tuner.study.info import StudyInfo
from tuner.study.study import rejoin_study

if TYPE_CHECKING:
    from benchmarks.many import Round

SPACE: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "k": IntDistribution(4, 64),
    "dropout": FloatDistribution(0.0, 0.5),
    "loss": CategoricalDistribution(["bce", "dice", "focal"]),
    "batch_size": IntDistribution(4, 32, log=True),
}
STEPS, STEP_SECONDS = 10, 0.1
INFO = StudyInfo("many", "sleeping", Goal("iou", "maximize"), "shapes")


def serve(pipe: Connection, at: int) -> None:
    """Run rounds until the parent stops sending them; answer with CPU seconds or the error."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    while (order := pipe.recv()) is not None:
        try:
            {"bare": bare, "session": with_session}[order.way](pipe, at, order)
        except BaseException:
            pipe.send(traceback.format_exc())


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def ready(pipe: Connection) -> float:
    """Report that the study is open and wait for the start; return the CPU seconds so far."""
    pipe.send(True)
    pipe.recv()
    return cpu()


def bare(pipe: Connection, at: int, order: Round) -> None:
    """Run `Study.optimize` with one storage per process, as in Optuna's documentation."""
    storage = optuna.storages.get_storage(optuna.storages.RDBStorage(order.url))
    asked = order.sampler == "tpe"
    draws: Any = optuna.samplers.TPESampler(seed=at) if asked else optuna.samplers.RandomSampler(seed=at)
    prunes: Any = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    study = optuna.load_study(study_name="many", storage=storage, sampler=draws, pruner=prunes)

    def objective(trial: optuna.Trial) -> float:
        value = quality({name: trial._suggest(name, kind) for name, kind in SPACE.items()})
        for step in range(1, STEPS + 1):
            time.sleep(STEP_SECONDS)
            trial.report(1.0, step)
            if asked:
                trial.should_prune()
        return value

    began = ready(pipe)
    study.optimize(objective, n_trials=order.share)
    pipe.send(cpu() - began)
    storage._backend.engine.dispose()  # type: ignore[attr-defined]


def with_session(pipe: Connection, at: int, order: Round) -> None:
    """Run the trials through a worker's session."""
    database.be_patient()
    joined = rejoin_study(order.url, "many")
    with Session(joined, who(at)) as session:
        study = joined.study
        asked = order.sampler == "tpe"
        study.sampler = (
            make_sampler(joined.info, session.ordinal) if asked else optuna.samplers.RandomSampler(seed=at)
        )
        session.sync.scheduler = make_scheduler(joined.info) if asked else NoHalving()
        began = ready(pipe)
        while held := session.take_trial():
            trial_at(session, held, SPACE, STEPS, STEP_SECONDS)
    pipe.send(cpu() - began)
    joined.engine.dispose()


def trial_at(session: Session, held: Any, space: dict[str, BaseDistribution], steps: int, seconds: float) -> None:
    """Run one trial as a worker does: parameters, attributes, epochs, result."""
    trial = session.optuna_trial(held)
    params = redraw(
        session.joined.study,
        trial,
        lambda trial: {name: trial._suggest(name, kind) for name, kind in space.items()},
    )
    value = quality(params)
    trial.set_user_attr("recipe", RECIPE)
    trial.set_user_attr("made_with", MADE_WITH)
    session.confirm_params(held)
    session.update_status(state="training", step=0, steps=steps, params=trial.params)
    for step in range(1, steps + 1):
        time.sleep(seconds)
        if session.check_signal(held) == "stopped":
            session.put_back_trial(held)
            return
        session.record_epoch(held, row_of(step, 1.0))
        session.update_status(step=step, value=1.0)
    trial.set_user_attr("result", {"best_value": value, "best_epoch": steps})
    session.end_trial(held, "COMPLETE", value)


def quality(params: dict[str, Any]) -> float:
    return float(1.0 - params.get("dropout", 0.0) + params["k"] / 100)


def who(at: int) -> dict[str, Any]:
    """Return a worker's row."""
    return {"worker": f"bench{os.getpid()}x{at}", "host": "here", "machine": machine_id(), "pid": os.getpid(),
            "born": process_start(os.getpid()), "device": "cpu", "version": "0"}  # fmt: skip
