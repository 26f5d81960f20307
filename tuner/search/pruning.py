"""When a search prunes or pauses a trial: how its scheduler is asked after each epoch, and by the fleet."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from tuner.artifacts.attempts import AttemptFiles
from tuner.search.curves import CurveReader
from tuner.search.scheduler import Scheduler, order_paused
from tuner.search.scheduling import make_scheduler
from tuner.study import claims
from tuner.study.decisions import Decision
from tuner.study.paused import end_paused_trials, read_paused
from tuner.study.pending import ActiveTrial, read_seconds
from tuner.study.study import JoinedStudy

if TYPE_CHECKING:
    from tuner.search.session import Session

GIGABYTE = 1e9
log = logging.getLogger("tuner")


def judge_epoch(scheduler: Scheduler, curves: CurveReader, active: ActiveTrial) -> None:
    """Ask the scheduler about the first epoch that it has not seen, if it reaches a rung."""
    epoch = active.unjudged[0]
    before = max((at for at in dict(active.frozen.intermediate_values) if at < epoch), default=min(epoch, 1) - 1)
    seconds = read_seconds(active.frozen)
    for rung in scheduler.rungs_between(active.length, max(before, active.judged), epoch, seconds):
        if not active.verdict:
            decision = scheduler.judge(curves.read_at(active.number, epoch), active.number, rung)
            note_judgement(active, decision, epoch)
    active.unjudged.pop(0)


def make_due_check(joined: JoinedStudy) -> Callable[[], bool]:
    """Return a function that returns whether a paused trial is to go on although no new one may start."""
    scheduler, curves = make_scheduler(joined.info), CurveReader(joined)

    def is_due() -> bool:
        if not joined.info.pauses or not claims.may_resume(joined.engine, joined.id):
            return False
        return scheduler.choose(curves.read(), can_start=False) is not None

    return is_due


def limit_checkpoints(session: Session, attempts: AttemptFiles, most_gb: float) -> None:
    """Drop the checkpoints of the least promising paused trials beyond so many GB; these stay pruned."""
    info = session.joined.info
    paused = {trial.number: trial for trial in read_paused(session.engine, info.id)}
    excess, dropped = sum(trial.kept_bytes for trial in paused.values()) - GIGABYTE * most_gb, []
    for number in order_paused(session.sync.scheduler, session.sync.curves.read()) if excess > 0 else ():
        if number in paused and excess > 0:
            dropped.append(paused[number])
            excess -= paused[number].kept_bytes
    why = f"its checkpoint is dropped to keep {most_gb:g} GB"
    ended = end_paused_trials(session.engine, [trial.id for trial in dropped], session.name, why)
    for trial in dropped:
        if trial.id in ended:
            log.info("trial %d: its checkpoint is dropped to keep %g GB; it stays pruned", trial.number, most_gb)
            attempts.drop(info.name, info.key, trial.number)


def note_judgement(active: ActiveTrial, judgement: Decision, epoch: int) -> None:
    """Note what the scheduler decided, which is written with the trial, because another worker may continue it.

    "continue" and "stop" are written now, "pause" when the trial rests.
    """
    active.judged = judgement.epoch
    if judgement.action == "pause":
        active.judgement, active.verdict = judgement, "pause"
        return
    with active.lock:
        active.pending.add_judgement(judgement)
        if judgement.action == "stop":
            active.verdict = "stop"
            active.frozen.user_attrs["pruned_at"] = epoch
            active.pending.attrs["pruned_at"] = str(epoch)
