"""The study as an object: its best trial, all trials, its report, its export."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Engine

from tuner.api.arguments import to_path
from tuner.api.bundle import Bundle, load_bundle
from tuner.errors import StudyError, TunerError, describe_value, format_names
from tuner.goal import Goal
from tuner.paths import Home
from tuner.recipe import Recipe
from tuner.report.study_data import TrialData, read_study
from tuner.study import database, queries
from tuner.study.format import format_params, format_value
from tuner.study.info import StudyInfo
from tuner.wording import count_of, repeat_options

if TYPE_CHECKING:
    from pandas import DataFrame

SHOWN_TRIALS = 10  # in a notebook's table of a study


@dataclass(frozen=True)
class TrialResult:
    """One trial of a study.

    state: "COMPLETE", "PRUNED", "PAUSED", "OVER_LIMIT", "FAIL", "RUNNING" or "WAITING". A paused trial may go on;
        one over a limit was not trained.
    value: the goal's metric at the best epoch, for a pruned trial at the last one; None without a value.
    params: the parameters by name.
    recipe: what was trained; None for a trial that failed before it had a recipe.
    metrics: the metrics of the best epoch by name, such as "val_iou" and "train_loss".
    best_epoch: the epoch of the best value; 0 if no epoch ended.
    failure: why it failed, or "".
    values: of a complete trial, the value of each goal by its metric, and what was measured of the model.
    """

    number: int
    state: str
    value: float | None
    params: Mapping[str, Any]
    recipe: Recipe | None = field(repr=False)
    metrics: Mapping[str, float] = field(repr=False)
    best_epoch: int
    failure: str = ""
    values: Mapping[str, float] = field(default_factory=dict, repr=False)


class Study:
    """A study of a database, read anew by each property and method: another host may be working on it.

    Returned by `tuner.run` and `tuner.load_study`.
    """

    def __init__(self, engine: Engine, info: StudyInfo, home: Home) -> None:
        self._engine, self._info, self._home = engine, info, home

    @property
    def name(self) -> str:
        """The name of the study."""
        return self._info.name

    @property
    def goal(self) -> Goal:
        """The metric and direction of the search."""
        return self._info.goal

    @property
    def goals(self) -> tuple[Goal, ...]:
        """All goals of the search, the first one first."""
        return self._info.goals

    @property
    def limits(self) -> dict[str, float]:
        """The most that a model may cost, by measure."""
        return dict(self._info.limits)

    @property
    def space(self) -> str:
        """The name of the search space."""
        return self._info.space

    @property
    def data(self) -> str:
        """The name or folder of the dataset."""
        return self._info.data

    @property
    def storage(self) -> str:
        """The URL of the database, without its password."""
        return database.hide_password(self._engine.url)

    @property
    def trials(self) -> list[TrialResult]:
        """Every trial, in the order of their numbers."""
        return [to_result(trial) for trial in read_study(self._engine, self._info).trials]

    @property
    def best(self) -> TrialResult:
        """The best completed trial; StudyError if none is complete yet."""
        from tuner.export.best_trial import find_best

        number = find_best(self._engine, self.name).trial.number
        return next(trial for trial in self.trials if trial.number == number)

    def trial(self, number: int) -> TrialResult:
        """Return a trial by its number; StudyError if there is none."""
        found = {trial.number: trial for trial in self.trials}
        if isinstance(number, bool) or number not in found:
            known = format_names(map(str, found), 20) or "none yet"
            raise StudyError(f"study '{self.name}' has no trial {describe_value(number)}. Its trials: {known}.")
        return found[number]

    @property
    def front(self) -> list[TrialResult]:
        """The complete trials than which no other is better in all goals, the best by the first goal first.

        With one goal, the best trial and those that equal it.
        """
        from tuner.study.front import read_front

        found = {trial.number: trial for trial in self.trials}
        return [found[each.number] for each in read_front(self._engine, self._info) if each.number in found]

    def trials_dataframe(self) -> DataFrame:
        """Return the trials as a pandas DataFrame, one row per trial, with `params_` and metric columns.

        TunerError if pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise TunerError('trials_dataframe() needs pandas: pip install "tuner[notebook]"') from error
        fields = ("number", "state", "value", "best_epoch", "failure")
        rows = [
            {name: getattr(trial, name) for name in fields}
            | {f"params_{name}": value for name, value in trial.params.items()}
            | dict(trial.metrics)
            for trial in self.trials
        ]
        return pandas.DataFrame(rows, columns=None if rows else list(fields))

    def report(self, path: str | os.PathLike[str] | None = None, *, force: bool = False) -> Path:
        """Write the report of the study, one HTML file that opens offline, and return its path.

        Default path: STUDY-report.html. An existing file is replaced only with `force`.
        """
        from tuner.report.html import write_page
        from tuner.report.page import read_report, render_report, report_path
        from tuner.report.trial_files import open_artifacts

        file = report_path(self._info, None if path is None else to_path("path", path, "FILE"), force)
        artifacts = open_artifacts(self._engine, self._home, None)
        with repeat_options(**self._place()):
            page = render_report(read_report(self._engine, self._info, artifacts))
        write_page(page, file)
        return file

    def _place(self) -> dict[str, str]:
        """Return the options with which a command finds this study."""
        home, url = self._home, self._engine.url
        options = {} if home == Home(Path("runs")) else {"home": str(home.folder)}
        is_own = database.parse_url(home.database) == url
        return options if is_own else options | {"storage": database.storage_to_type(url)}

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        force: bool = False,
        pick: str | int | None = None,
        trial: int | None = None,
    ) -> Bundle:
        """Write the model of the best trial as a bundle, a folder that needs no database, and return it.

        After `tuner confirm` it is the best run of the confirmed winner. `pick` chooses another: the number of a
        trial, "knee" for the knee of the front of several goals, the best of the front by weights of goals such as
        "iou:2,params:1", or the best of those that meet conditions such as "params<2e6". `trial` is the number of
        any trial, also of a paused one. An existing folder is replaced only if it is a bundle and with `force`.
        StudyError if no trial is complete, `pick` chooses none, or the trial has no weights.
        """
        from tuner.artifacts.attempts import open_attempts
        from tuner.export.best_trial import check_exportable, find_best, find_shipped, find_trial
        from tuner.export.bundle import export_bundle

        folder = to_path("path", path)
        if trial is None and pick is None:
            best = find_shipped(self._engine, self.name, self._home, None)
        elif trial is None:
            best = find_best(self._engine, self.name, str(pick))
        elif pick is not None:
            raise StudyError("give trial=N or pick=..., not both: each chooses a trial.")
        else:
            best = find_trial(self._engine, self.name, self.trial(trial).number)
        check_exportable(best)
        run = best.fetch_files(open_attempts(self._home, best.study.artifacts))
        export_bundle(best, run, folder, force)
        return load_bundle(folder, trust=True)  # its code ran here when it was trained

    def table(self) -> list[dict[str, Any]]:
        """Return the rows of the published table that the study trains, each with published and own numbers.

        StudyError for a study of another kind.
        """
        from tuner.report.table_comparison import compare_table, to_json
        from tuner.space.published import load_table

        if not self._info.table:
            raise StudyError(f"study '{self.name}' searches the space '{self.space}'; it has no published table.")
        found = compare_table(self._engine, load_table(self._info.table), self.name)
        return list(to_json(found)["rows"])

    def __repr__(self) -> str:
        return f"<Study {self._heading()}>"

    def _heading(self) -> str:
        now = queries.read_summary(self._engine, self._info)
        ended = count_of(now.num_finished, now.num_trials, "trial", "ended")
        best = f", best {format_value(now.best.value)} (trial {now.best.number})" if now.best else ""
        return f"'{self.name}': {self._info.goal_text} on {self.data}, {ended}{best}"

    def _repr_html_(self) -> str:
        """The best trials as a table, for notebooks."""
        study = read_study(self._engine, self._info)
        rows = "".join(
            f"<tr><td>{trial.number}</td><td>{format_value(trial.value)}</td>"
            f"<td style='text-align: left'>{escape(format_params(trial.params))}</td></tr>"
            for trial in study.finished[:SHOWN_TRIALS]
        )
        head = f"<tr><th>trial</th><th>{escape(self.goal.metric)}</th><th>parameters</th></tr>"
        return f"<div><p>{escape(self._heading())}</p><table>{head}{rows}</table></div>"


def to_result(trial: TrialData) -> TrialResult:
    """Return a trial of the database as the public object."""
    return TrialResult(
        number=trial.number,
        state=trial.shown_state,
        value=trial.value,
        params=trial.params,
        recipe=Recipe.from_json(trial.recipe) if trial.recipe else None,
        metrics={k: v for k, v in trial.at_best.items() if k.startswith(("train_", "val_"))},
        best_epoch=trial.best_epoch,
        failure=trial.failure.reason if trial.state == "FAIL" else "",
        values=dict(trial.values),
    )
