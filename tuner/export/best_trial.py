"""The best trial of a study and its rank among the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Engine

from tuner.artifacts.attempts import AttemptFiles
from tuner.errors import StudyError
from tuner.paths import Run, attempt_of
from tuner.study import epoch_queries, queries, trial_queries
from tuner.study.info import StudyInfo
from tuner.study.trial_queries import TrialInfo


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
            "made_with": self.trial.attrs.get("made_with", {}),
        }


def find_best(engine: Engine, name: str | None) -> BestTrial:
    """Return the best completed trial of a study, by default the most recent; StudyError if there is none."""
    info = queries.find_study(engine, name)
    now = queries.read_summary(engine, info)
    if now.best is None:
        states = ", ".join(f"{number} {state}" for state, number in sorted(now.states.items())) or "none at all"
        why = queries.explain_limits(engine, now) or f"trials: {states}"
        raise StudyError(f"study '{info.name}' has no finished trial yet ({why}).")
    epoch = int(now.best.attrs.get("result", {}).get("best_epoch", 0))
    rows = epoch_queries.read_epochs(engine, now.best.id)
    at_best = next((row for row in rows if row["epoch"] == epoch), {})
    value, others = now.best.value, trial_queries.read_values(engine, info.id)
    beaten = sum(value is not None and info.goal.is_better(value, other) for other in others)
    return BestTrial(
        study=info,
        trial=now.best,
        epoch=epoch,
        metrics={k: v for k, v in at_best.items() if k.startswith(("train_", "val_"))},
        history=rows,
        beaten=beaten + now.states.get("PRUNED", 0) + now.num_paused,
        finished=now.num_finished,
        failed=now.states.get("FAIL", 0),
    )
