"""The best trial of a study and its rank among the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Engine

from tuner.artifacts.attempts import AttemptFiles
from tuner.errors import StudyError
from tuner.paths import Home, Run, attempt_of
from tuner.study import confirmations, epoch_queries, front, queries, trial_queries, trial_rows
from tuner.study.front import FrontTrial
from tuner.study.info import StudyInfo
from tuner.study.trial_queries import OPEN, TrialInfo
from tuner.study.verdict import Verdict, judge_stored
from tuner.wording import write_command

HAVE_WEIGHTS = ("--state", "complete", "--state", "paused")  # of `tuner trials`

if TYPE_CHECKING:
    from tuner.report.confirmation import Confirmation


@dataclass(frozen=True)
class BestTrial:
    """The best trial of a study. `beaten` counts the trials that it is better than, including pruned ones."""

    study: StudyInfo
    trial: TrialInfo
    epoch: int
    metrics: dict[str, float]  # of that epoch
    history: list[dict[str, Any]]
    beaten: int
    finished: int
    failed: int
    values: Mapping[str, float] = field(default_factory=dict)  # of all goals, and what was measured
    front: tuple[FrontTrial, ...] = ()  # with several goals
    pick: str = ""  # how it was chosen, if not as the best
    state: str = ""  # what became of it, such as "finished after 3 of 3 epochs", if its number was given
    confirmation: Confirmation | None = None  # of which it is the best run of the winner

    @property
    def verdict(self) -> Verdict:
        """What it does not find."""
        return judge_stored(self.study.goal, self.trial)

    def fetch_files(self, attempts: AttemptFiles) -> Run:
        """Return the files of the finishing attempt, fetched from the artifact store if needed."""
        return attempts.fetch(self.study.name, self.study.key, self.trial.number, attempt_of(self.trial.attrs))

    def to_json(self) -> dict[str, Any]:
        return {
            "study": self.study.name,
            "space": self.study.space,
            "data": self.study.data,
            "goal": {"metric": self.study.goal.metric, "direction": self.study.goal.direction},
            "trial": self.trial.number,
            "value": self.trial.value,
            "epoch": self.epoch,
            "params": self.trial.params,
            "metrics": self.metrics,
            "beaten": self.beaten,
            "finished": self.finished,
            "failed": self.failed,
            "verdict": self.verdict.to_json(),
            "made_with": self.trial.attrs.get("made_with", {}),
            **({"state": self.state} if self.state else {}),
            **({"confirmed": self.confirmation.to_json()} if self.confirmation else {}),
            **({"values": dict(self.values)} if self.values else {}),
            **({"front": [{"trial": each.number, **each.values} for each in self.front]} if self.front else {}),
        }


def find_best(engine: Engine, name: str | None, pick: str | None = None) -> BestTrial:
    """Return the best completed trial of a study, by default the most recent; StudyError if there is none.

    With several goals it is the best by the first one, or the one that `pick` chooses as in `front.pick_trial`.
    """
    info = queries.find_study(engine, name)
    now = queries.read_summary(engine, info)
    if now.best is None:
        states = ", ".join(f"{number} {state}" for state, number in sorted(now.states.items())) or "none at all"
        why = queries.explain_limits(engine, now) or f"trials: {states}"
        raise StudyError(f"study '{info.name}' has no finished trial yet ({why}).")
    complete = front.read_complete(engine, info) if info.measures or info.further or pick else []
    best = now.best
    if pick is not None:
        with engine.connect() as db:
            best = trial_rows.find_trial(db, info, front.pick_trial(complete, info, pick))
    epoch = int(best.attrs.get("result", {}).get("best_epoch", 0))
    rows = epoch_queries.read_epochs(engine, best.id)
    at_best = next((row for row in rows if row["epoch"] == epoch), {})
    value, others = best.value, trial_queries.read_values(engine, info.id)
    beaten = sum(value is not None and info.goal.is_better(value, other) for other in others)
    return BestTrial(
        study=info,
        trial=best,
        epoch=epoch,
        metrics={k: v for k, v in at_best.items() if k.startswith(("train_", "val_"))},
        history=rows,
        beaten=beaten + now.states.get("PRUNED", 0) + now.num_paused,
        finished=now.num_finished,
        failed=now.states.get("FAIL", 0),
        values=next((each.values for each in complete if each.number == best.number), {}),
        front=tuple(front.select_front(complete, info.goals)) if info.further else (),
        pick=pick or "",
    )


def find_shipped(engine: Engine, name: str | None, home: Home, artifacts: str | None) -> BestTrial:
    """Return the trial to ship: the best run of the confirmed winner, else the best trial of the search."""
    info = queries.find_study(engine, name)
    if confirming := confirmations.find_confirmation(engine, info):
        from tuner.report.confirmation import read_confirmation
        from tuner.report.trial_files import open_artifacts

        found = read_confirmation(engine, confirming, open_artifacts(engine, home, artifacts))
        if found and found.is_confirmed:
            run = find_trial(engine, confirming.name, found.best_run)
            return replace(run, pick="", state="", confirmation=found)
    return find_best(engine, name)


def find_trial(engine: Engine, name: str | None, number: int) -> BestTrial:
    """Return a trial by its number as far as it came; StudyError if there is none, or no epoch of it has a value.

    It is compared with all that finished.
    """
    info = queries.find_study(engine, name)
    row = trial_rows.find_row(engine, info, number)
    state = trial_rows.describe_state(row)
    if row.value is None or not row.best_epoch:
        raise StudyError(f"trial {number} of study '{info.name}' has no epoch to show: {state}.")
    now, others = queries.read_summary(engine, info), trial_queries.read_values(engine, info.id)
    complete = front.read_complete(engine, info) if info.measures or info.further else []
    return BestTrial(
        study=info,
        trial=replace(row.trial, value=row.value),
        epoch=row.best_epoch,
        metrics=row.metrics,
        history=list(row.epochs),
        beaten=sum(info.goal.is_better(row.value, other) for other in others),
        finished=len(others),
        failed=now.states.get("FAIL", 0),
        values=next((each.values for each in complete if each.number == number), {}),
        pick=f"trial {number}",
        state=state,
    )


def check_exportable(found: BestTrial) -> None:
    """Raise StudyError for a trial that has no weights: it has not ended, or they were deleted at its end."""
    trial = found.trial
    if trial.state == "COMPLETE" or trial.paused_at is not None or not found.state:
        return
    if trial.state in OPEN:
        raise StudyError(
            f"trial {trial.number} is {found.state}: it has weights when it has ended or paused. "
            f"See how far it is with: {write_command('show', trial.number, study=found.study.name)}"
        )
    raise StudyError(
        f"trial {trial.number} has no weights: {found.state}, and they were deleted then. See which trials have "
        f"weights with: {write_command('trials', *HAVE_WEIGHTS, study=found.study.name)}"
    )
