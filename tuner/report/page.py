"""One page about a study, in one file that needs no network: the text, the plots, the pictures."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import Engine

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.errors import TunerError
from tuner.report import sections
from tuner.report.advice import give_advice
from tuner.report.certainty import RIVALS, assess_certainty
from tuner.report.figures import make_figures
from tuner.report.html import check_output, render_page, safe_file_name, write_page
from tuner.report.importance import param_importances
from tuner.report.sections import ReportData
from tuner.report.study_data import read_study
from tuner.report.table_comparison import TableComparison, compare_table
from tuner.report.trial_files import KINDS, load_picture, read_details
from tuner.space.published import load_table
from tuner.space.space import find_space, read_about
from tuner.study.info import StudyInfo

__all__ = ["read_report", "render_report", "report_path", "write_page"]

NEXT = 2  # trials beside the best whose predictions are shown


def read_report(engine: Engine, info: StudyInfo, artifacts: TrialArtifacts, at: str = "") -> ReportData:
    """Read all that a page says. `at` is what the commands on it need to find the study again."""
    story = read_study(engine, info)
    details = {trial.number: read_details(trial, artifacts) for trial in story.finished[: RIVALS + 1]}
    sure = assess_certainty(story, details)
    shares = param_importances(story)
    found, why = published(engine, info)
    first = next((trial for trial in story.finished if sure and trial.number == sure.ship), None)
    others = [trial for trial in story.finished if trial is not first][:NEXT]
    names = [name for name in KINDS if first and (name in first.files or name == "predictions.png")]
    return ReportData(
        story=story,
        sure=sure,
        advice=give_advice(story, sure, shares, at),
        figures=make_figures(story, shares),
        about=describe_space(info),
        beside=found,
        beside_why=why,
        pictures=[load_picture(first, name, artifacts, story.metric) for name in names] if first else [],
        others=[
            load_picture(trial, "predictions.png", artifacts)
            for trial in others
            if "predictions.png" in trial.files
        ],
        at=at,
    )


def describe_space(info: StudyInfo) -> str:
    """The first line of the space's file, where it is here."""
    try:
        return read_about(find_space(info.space))
    except TunerError:
        return ""


def published(engine: Engine, info: StudyInfo) -> tuple[TableComparison | None, str]:
    """The published table that a study is of, with ours; or why it cannot be shown."""
    if not info.table:
        return None, ""
    try:
        return compare_table(engine, load_table(info.table), info.name), ""
    except (TunerError, KeyError) as error:  # a trial of an older version may lack what is compared
        return None, f"The published table '{info.table}' cannot be shown: {error}"


def render_report(page: ReportData) -> str:
    """Return the whole page."""
    charts = {f"plot-{figure.name}": figure.chart for figure in page.figures}
    title = f"{page.story.info.name}: report"
    return render_page("report.html", charts, title=title, **sections.template_context(page))


def report_path(info: StudyInfo, out: Path | None, force: bool) -> Path:
    """Where the page goes; StudyError where a file stands there already."""
    out = out or Path(f"{safe_file_name(info.name)}-report.html")
    check_output(out, (".html", ".htm"), force)
    return out
