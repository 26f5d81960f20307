"""What the dashboard shows of a whole study: saved plots, and a note that says which trial to ship."""

from __future__ import annotations

import logging
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
from tuner.report.certainty import Certainty, assess_certainty, describe_certainty
from tuner.report.figures import (
    StudyFigure,
    plot_best_curves,
    plot_contour,
    plot_cost,
    plot_curves_by_choice,
    plot_epochs,
    plot_failures,
    plot_history,
)
from tuner.report.importance import param_importances
from tuner.report.study_data import StudyData, read_study
from tuner.study import queries, trial_queries
from tuner.study.info import StudyInfo
from tuner.study.optuna_tables import study_system_attrs

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from tuner.artifacts.optuna_store import TrialArtifacts

EVERY = 15.0  # seconds between looks at how many trials have ended
RESTS = 9.0  # times as long as a look took: the server's own threads share the processor with it
MOST_POINTS = 300  # of a series of a plot
LONGEST = 60_000  # characters of a plot: it lies in the database in pieces of 2 kB, a statement each
FIRST = 3  # pieces of advice
log = logging.getLogger("tuner")


def save_figures(
    storage: BaseStorage, engine: Engine, info: StudyInfo, artifacts: TrialArtifacts | None = None
) -> None:
    """Save the study's plots and its note in place of those saved before; what has not changed is not written.

    With a gallery, the scores of single images are looked at, too.
    """
    story = read_study(engine, info)
    shares = param_importances(story)
    sure = assess_certainty(story, read_top_details(story, artifacts))
    kept = {figure.name: figure for figure in make_dashboard_figures(story, list(shares))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.load_study(study_name=info.name, storage=storage)
        save_plots(study, storage.get_study_system_attrs(info.id), engine, info.id, kept)
        save_study_note(study, format_note(story, sure, give_advice(story, sure, shares)))


def read_top_details(story: StudyData, artifacts: TrialArtifacts | None) -> dict[int, dict[str, Any]]:
    from tuner.report.certainty import RIVALS
    from tuner.report.trial_files import read_details

    top = story.finished[: RIVALS + 1] if artifacts else ()
    return {trial.number: read_details(trial, artifacts) for trial in top if artifacts}


def make_dashboard_figures(story: StudyData, order: Sequence[str]) -> list[StudyFigure]:
    """What the dashboard does not draw by itself, as far as there is something to draw."""
    names = [*order, *[name for name in story.varied if name not in order]]
    made = [
        plot_history(story),
        plot_best_curves(story),
        plot_curves_by_choice(story, names),
        plot_contour(story, names),
    ]
    made += [plot_cost(story), plot_epochs(story), plot_failures(story)]
    return [figure for figure in made if not figure.chart.is_empty]


def save_plots(
    study: optuna.Study, before: dict[str, Any], engine: Engine, study_id: int, kept: dict[str, StudyFigure]
) -> None:
    """Each under a name of its own, so that it takes the place of the one before; one that grew too long goes."""
    from optuna_dashboard import save_plotly_graph_object

    from tuner.plots.render_plotly import plotly_figure as plotly_figure

    for name, figure in kept.items():
        made = plotly_figure(thin_chart(figure.chart, MOST_POINTS))
        plain = made.to_json()
        stands = saved_plot(before, f"tuner-{name}")
        if len(plain) > LONGEST:
            if stands:
                delete_plot(engine, study_id, f"tuner-{name}")
        elif stands != plain:
            save_plotly_graph_object(study, made, graph_object_id=f"tuner-{name}")


def delete_plot(engine: Engine, study_id: int, name: str) -> None:
    """Remove a plot: Optuna itself can only write. An old one would be taken for the study as it stands."""
    attrs = study_system_attrs.c
    mine = attrs.key.startswith(f"dashboard:plot_data:{name}:", autoescape=True)
    with engine.begin() as db:
        db.execute(sa.delete(study_system_attrs).where(attrs.study_id == study_id, mine))


def saved_plot(attrs: dict[str, Any], name: str) -> str:
    """A plot as it was saved, from its pieces."""
    prefix = f"dashboard:plot_data:{name}:"
    pieces = {key.removeprefix(prefix): str(piece) for key, piece in attrs.items() if key.startswith(prefix)}
    return "".join(pieces[at] for at in sorted(pieces, key=int))


def save_study_note(study: optuna.Study, words: str) -> None:
    """The study's note, unless a person has written one."""
    from optuna_dashboard import get_note, save_note

    before = get_note(study)
    if before != words and (not before or before.startswith(MARK)):
        save_note(study, words)


MARK = "## In short"


def format_note(story: StudyData, sure: Certainty | None, found: Sequence[Advice]) -> str:
    """Which trial, how sure, what next, as Markdown."""
    lines = [MARK, ""]
    if sure is None:
        lines.append("No trial has finished with a value yet, so there is nothing to ship.")
    else:
        first, *more = describe_certainty(sure)
        lines += [f"**{escape_markdown(first)}** " + escape_markdown(" ".join(more))]
        lines += ["", *(f"- Not known: {escape_markdown(line)}." for line in sure.missing)] if sure.missing else []
    if found:
        lines += ["", "### What to try next", ""]
        for one in found[:FIRST]:
            lines.append(f"- **{escape_markdown(one.what)}**: {escape_markdown(one.why)}.")
    return "\n".join([*lines, "", f"All of it: `tuner report --study {story.info.name.replace('`', '')}`", ""])


def escape_markdown(text: str) -> str:
    """Text as it stands in Markdown: names of studies and reasons of failures are written by people."""
    return "".join(f"\\{char}" if char in "\\`*_{}[]<>#|!&" else char for char in text.replace("\n", " "))


def watch_figures(
    storage: BaseStorage,
    engine: Engine,
    stop: threading.Event,
    artifacts: TrialArtifacts | None = None,
    every: float = EVERY,
) -> None:
    """Keep the plots of every study up to date until told to stop: whenever another trial has ended."""
    seen: dict[int, int] = {}
    told: set[str] = set()
    while not stop.is_set():
        began = time.monotonic()
        try:
            refresh(storage, engine, seen, artifacts)
        except Exception as error:  # a study deleted meanwhile, a database that is away: the next look will tell
            if str(error) not in told:
                told.add(str(error))
                log.warning("the study's plots could not be saved: %s", str(error).partition("\n")[0])
        stop.wait(max(every, RESTS * (time.monotonic() - began)))


def refresh(storage: BaseStorage, engine: Engine, seen: dict[int, int], artifacts: TrialArtifacts | None) -> None:
    for info in queries.read_studies(engine):
        with engine.connect() as db:
            ended = len(trial_queries.read_finished_ids(db, info.id))
        if seen.get(info.id, 0) != ended:
            seen[info.id] = ended  # one that cannot be drawn is not tried again until it has changed
            save_figures(storage, engine, info, artifacts)
