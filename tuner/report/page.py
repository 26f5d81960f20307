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
from tuner.report.html import check_output, joined, render_document, safe_file_name, tag, write_page
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
OF_TIME = ("cost", "epochs", "failures")
OF_CURVES = ("curves", "by-choice")
PLACES = (
    ("headline", "In short"), ("searched", "Searched"), ("best", "The best"), ("certainty", "How sure"),
    ("next", "Next"), ("published", "Published"), ("history", "History and parameters"), ("learning", "Curves"),
    ("time", "Time"), ("failed", "Failures"), ("trials", "All trials"),
)  # fmt: skip


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


def render_report(found: ReportData) -> str:
    """The whole file."""
    info = found.story.info
    by = {figure.name: figure for figure in found.figures}
    about_params = [one for one in found.figures if one.name not in OF_TIME + OF_CURVES]
    chapter = [
        sections.headline(found),
        sections.searched(found),
        sections.best_trial(found),
        sections.certain(found),
        sections.to_try(found),
        sections.beside(found),
        sections.drawn(about_params, "history", "History and parameters"),
        sections.drawn([by[name] for name in OF_CURVES], "learning", "Curves"),
        sections.drawn([by[name] for name in OF_TIME], "time", "Time, cost and failures"),
        sections.failed(found),
        sections.everything(found),
    ]
    whole = joined(chapter)
    links = [tag("li", tag("a", word, href=f"#{name}")) for name, word in PLACES if f' id="{name}"' in whole]
    size = f" ({info.size})" if info.size else ""
    subtitle = f"{info.goal} with {info.space} on {info.data}{size}"
    body = [
        tag("header", tag("h1", info.name), tag("p", subtitle, class_="soft")),
        tag("nav", tag("ul", *links), aria_label="Contents"),
        tag("main", whole),
        tag("footer", f"Report of the study {info.name}, made by tuner from {len(found.story.trials)} trials."),
    ]
    plots = {f"plot-{one.name}": one.chart for one in found.figures if not one.chart.is_empty}
    return render_document(f"{info.name}: report", body, plots)


def report_path(info: StudyInfo, out: Path | None, force: bool) -> Path:
    """Where the page goes; StudyError where a file stands there already."""
    out = out or Path(f"{safe_file_name(info.name)}-report.html")
    check_output(out, (".html", ".htm"), force)
    return out
