"""When a search prunes or pauses a trial: how its scheduler is asked after each epoch, and by the fleet."""

from __future__ import annotations

from collections.abc import Callable

from tuner.search.curves import CurveReader
from tuner.search.scheduler import Scheduler, make_scheduler
from tuner.study import claims
from tuner.study.decisions import Judgement
from tuner.study.pending import ActiveTrial
from tuner.study.study import JoinedStudy


def judge_epoch(scheduler: Scheduler, curves: CurveReader, active: ActiveTrial) -> None:
    """Ask the scheduler about the first epoch that it has not seen, if it reaches a rung."""
    epoch = active.unjudged[0]
    before = max((at for at in dict(active.frozen.intermediate_values) if at < epoch), default=0)
    for rung in scheduler.rungs(active.length):
        if max(before, active.judged) < rung <= epoch and not active.verdict:
            decision = scheduler.judge(curves.read_at(active.number, epoch), active.number, rung)
            note_judgement(active, Judgement(decision.action, rung, decision.reason), epoch)
    active.unjudged.pop(0)


def make_due_check(joined: JoinedStudy) -> Callable[[], bool]:
    """Return a function that returns whether a paused trial is to go on although no new one may start."""
    scheduler, curves = make_scheduler(joined.info), CurveReader(joined)

    def is_due() -> bool:
        if not joined.info.pauses or not claims.may_resume(joined.engine, joined.id):
            return False
        return scheduler.choose(curves.read(), can_start=False) is not None

    return is_due


def note_judgement(active: ActiveTrial, judgement: Judgement, epoch: int) -> None:
    """Note what the scheduler decided, which is written with the trial, because another worker may continue it.

    "continue" and "stop" are written now, "pause" when the trial rests.
    """
    active.judged = judgement.epoch
    if judgement.action == "pause":
        active.judgement, active.verdict = judgement, "pause"
        return
    with active.lock:
        active.pending.judgements[judgement.epoch] = judgement
        if judgement.action == "stop":
            active.verdict = "stop"
            active.frozen.user_attrs["pruned_at"] = epoch
            active.pending.attrs["pruned_at"] = str(epoch)
