"""What follows from the cost of a recipe that is predicted before it is trained."""

from __future__ import annotations

from sqlalchemy.engine import Engine

from tuner.search.scheduler import Scheduler
from tuner.search.session import Session, StopRequested
from tuner.study.budget import read_seconds_left
from tuner.study.database import retried
from tuner.study.forecast import predict_largest, read_cost_models
from tuner.study.info import StudyInfo
from tuner.study.pending import ActiveTrial
from tuner.wording import format_seconds


def check_time_left(session: Session, active: ActiveTrial, epochs: int) -> None:
    """Raise StopRequested if a new trial cannot reach its first rung in the hours that are left.

    Then its worker takes no other trial either; this one is put back, and is trained when the hours are raised.
    """
    if why := explain_too_late(session, active, epochs):
        session.sync.budget.is_spent = True
        raise StopRequested(f"not started, {why}")


@retried
def explain_too_late(session: Session, active: ActiveTrial, epochs: int) -> str:
    """Return why a new trial cannot reach its first rung in the hours that are left, or "".

    Without rungs it is the end of its first epoch. It is started if the lower end of the prediction fits.
    """
    if active.recorded or not session.sync.budget.is_timed:
        return ""
    left = read_seconds_left(session.engine, session.joined.id, session.sync.budget.share)
    if left is None:
        return ""
    seconds, _ = read_cost_models(session.engine, session.joined.id)
    forecast = seconds.predict(active.frozen.params)
    scheduler, part = session.sync.scheduler, session.joined.info.search.part
    if forecast is None or forecast.low * count_to_rung(scheduler, epochs, forecast.low, part) <= left:
        return ""
    rung = count_to_rung(scheduler, epochs, forecast.value, part)
    what = "its first epoch" if rung <= 1 else f"its first {rung} epochs"
    return f"{what} would take about {format_seconds(rung * forecast.value)}, {format_seconds(left)} are left"


def count_to_rung(scheduler: Scheduler, epochs: int, seconds: float, part: float) -> float:
    """Return the epochs until a trial's first rung, if each takes so many seconds; 1 if it has none."""
    if 0 in scheduler.rungs(epochs):
        return part
    reaching = (at for at in range(1, epochs) if scheduler.rungs_between(epochs, 0, at, {at: at * seconds}))
    return next(reaching, 1)


@retried
def foresee_memory(engine: Engine, info: StudyInfo) -> int:
    """Return the bytes that the largest recipe of the space is predicted to take; 0 if nothing is known."""
    _, memory = read_cost_models(engine, info.id)
    return int(predict_largest(memory, info.parameters))
