"""Plots and a note for optuna-dashboard, saved with the study: the note says which trial to ship."""

from __future__ import annotations

import logging
import re
import threading
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import optuna
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tuner.plots.charts import thin_chart
from tuner.report.advice import Advice, give_advice
from tuner.report.certainty import Certainty, assess_certainty, describe_certainty, read_top_details
from tuner.report.figures import FRONT, make_own_figures
from tuner.report.importance import Importances, describe_importance, param_importances
from tuner.report.study_data import StudyData, read_study
from tuner.report.study_figure import StudyFigure
from tuner.study import queries, trial_queries
from tuner.study.confirmations import find_confirmation
from tuner.study.info import StudyInfo
from tuner.study.optuna_tables import study_system_attrs
from tuner.study.verdict import Verdict, judge_trial
from tuner.wording import write_command

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from tuner.artifacts.optuna_store import TrialArtifacts

INTERVAL = 15.0  # seconds between two checks for ended trials
PAUSE_FACTOR = 9.0  # pause at least so many times as long as a check took, to leave the processor to the server
MAX_POINTS = 300  # of a series of a plot
MAX_LENGTH = 60_000  # characters of a plot: the database stores it in pieces of 2 kB, a statement each
MAX_ADVICE = 3
SAVED = (
    "history",
    "curves",
    "by-choice",
    "contour",
    "cost",
    "epochs",
    "failures",
)  # in the order of the dashboard
log = logging.getLogger("tuner")


def save_figures(
    storage: BaseStorage, engine: Engine, info: StudyInfo, artifacts: TrialArtifacts | None = None
) -> None:
    """Save the plots and the note of a study in place of earlier ones; unchanged ones are not written again.

    With `artifacts`, the certainty of the best trial is also computed from the scores of single images.
    """
    study = read_study(engine, info)
    importances = param_importances(study)
    certainty = assess_certainty(study, read_top_details(study, artifacts) if artifacts else {})
    made = {figure.name: figure for figure in make_own_figures(study, importances)}
    chosen = next((trial for trial in study.finished if certainty and trial.number == certainty.ship), None)
    verdict = judge_trial(info.goal, chosen.value, chosen.result) if chosen else Verdict()
    advice = give_advice(study, certainty, importances, verdict, find_confirmation(engine, info) is not None)
    fronts = [name for name in made if name.startswith(FRONT)]
    figures = [made[name] for name in (*fronts, *SAVED) if not made[name].chart.is_empty]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna_study = optuna.load_study(study_name=info.name, storage=storage)
        save_plots(optuna_study, storage.get_study_system_attrs(info.id), engine, info.id, figures)
        save_study_note(optuna_study, format_note(study, certainty, verdict, advice, importances))


def save_plots(
    study: optuna.Study, attrs: dict[str, Any], engine: Engine, study_id: int, figures: Sequence[StudyFigure]
) -> None:
    """Save each plot under a fixed name, which replaces the previous one; delete plots that became too long."""
    from optuna_dashboard import save_plotly_graph_object

    from tuner.plots.render_plotly import plotly_figure

    for figure in figures:
        name, plot = f"tuner-{figure.name}", plotly_figure(thin_chart(figure.chart, MAX_POINTS))
        content, previous = plot.to_json(), saved_plot(attrs, name)
        if len(content) > MAX_LENGTH:
            if previous:
                delete_plot(engine, study_id, name)
        elif previous != content:
            save_plotly_graph_object(study, plot, graph_object_id=name)


def delete_plot(engine: Engine, study_id: int, name: str) -> None:
    """Delete a plot, which Optuna itself cannot do. An outdated plot would be misleading."""
    attrs = study_system_attrs.c
    is_piece = attrs.key.startswith(f"dashboard:plot_data:{name}:", autoescape=True)
    with engine.begin() as db:
        db.execute(sa.delete(study_system_attrs).where(attrs.study_id == study_id, is_piece))


def saved_plot(attrs: dict[str, Any], name: str) -> str:
    """Return a saved plot, joined from its pieces."""
    prefix = f"dashboard:plot_data:{name}:"
    pieces = {key.removeprefix(prefix): str(piece) for key, piece in attrs.items() if key.startswith(prefix)}
    return "".join(pieces[at] for at in sorted(pieces, key=int))


def save_study_note(study: optuna.Study, note: str) -> None:
    """Save the note of the study, unless a person has written one."""
    from optuna_dashboard import get_note, save_note

    previous = get_note(study)
    if previous != note and (not previous or previous.startswith(HEADING)):
        save_note(study, note)


HEADING = "## In short"  # recognizes the notes written here


def format_note(
    study: StudyData,
    certainty: Certainty | None,
    verdict: Verdict,
    advice: Sequence[Advice],
    importances: Importances,
) -> str:
    """Return which trial to ship, how certain that is, what matters, and what to try next, as Markdown."""
    lines = [HEADING, ""]
    if certainty is None:
        lines.append("No trial has finished with a value yet, so there is nothing to ship.")
    else:
        more = describe_certainty(certainty)
        lines.append(f"**{escape_markdown(verdict.headline(certainty.ship))}** " + escape_markdown(" ".join(more)))
        if certainty.missing:
            lines += ["", *(f"- Not known: {escape_markdown(line)}." for line in certainty.missing)]
    if study.varied and certainty is not None:
        lines += ["", escape_markdown(describe_importance(importances))]
    if advice:
        lines += ["", "### What to try next", ""]
        for one in advice[:MAX_ADVICE]:
            lines.append(f"- **{escape_markdown(one.what)}**: {escape_markdown(one.why)}.")
    command = write_command("report", study=study.info.name)
    return "\n".join([*lines, "", f"All of it: {code_span(command)}", ""])


def code_span(text: str) -> str:
    """Return the text as code in Markdown, between more backticks than it has in a row itself."""
    marks = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{marks}{text}{marks}"


def escape_markdown(text: str) -> str:
    """Return the text escaped for Markdown: people write names of studies and reasons of failures."""
    return "".join(f"\\{char}" if char in "\\`*_{}[]<>#|!&" else char for char in text.replace("\n", " "))


def watch_figures(
    storage: BaseStorage,
    engine: Engine,
    stop: threading.Event,
    artifacts: TrialArtifacts | None = None,
    every: float = INTERVAL,
) -> None:
    """Update the plots of each study after each trial that has ended, until `stop` is set."""
    ended: dict[int, int] = {}  # number of ended trials by study at the last check
    logged: set[str] = set()
    while not stop.is_set():
        began = time.monotonic()
        try:
            save_changed_figures(storage, engine, ended, artifacts)
        except Exception as error:  # a deleted study, an unreachable database: the next check tries again
            if str(error) not in logged:
                logged.add(str(error))
                log.warning("the study's plots could not be saved: %s", str(error).partition("\n")[0])
        stop.wait(max(every, PAUSE_FACTOR * (time.monotonic() - began)))


def save_changed_figures(
    storage: BaseStorage, engine: Engine, ended: dict[int, int], artifacts: TrialArtifacts | None
) -> None:
    """Save the figures of the studies whose number of ended trials differs from `ended`, and update it."""
    for info in queries.read_studies(engine):
        with engine.connect() as db:
            number = len(trial_queries.read_finished_ids(db, info.id))
        if ended.get(info.id, 0) != number:
            ended[info.id] = number  # a study whose plots fail is not tried again until it has changed
            save_figures(storage, engine, info, artifacts)
