"""The report of a study: one HTML file with text, plots and pictures that opens offline."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import Engine

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.errors import TunerError
from tuner.report import sections
from tuner.report.advice import give_advice
from tuner.report.certainty import assess_certainty, read_top_details
from tuner.report.confirmation import Confirmation, read_confirmation
from tuner.report.figures import make_figures
from tuner.report.html import check_output, render_page, safe_file_name
from tuner.report.importance import param_importances
from tuner.report.sections import ReportData
from tuner.report.study_data import StudyData, TrialData, read_study
from tuner.report.table_comparison import TableComparison, compare_table
from tuner.report.trial_files import PICTURES, load_picture, read_details
from tuner.space.published import load_table
from tuner.space.space import find_space, read_about
from tuner.study.info import StudyInfo
from tuner.study.verdict import Verdict, judge_trial, missed_classes

NUM_OTHERS = 2  # next best trials whose predictions are shown


def read_report(engine: Engine, info: StudyInfo, artifacts: TrialArtifacts) -> ReportData:
    """Read all data of a page."""
    published, confirmation = compare_published(engine, info), read_confirmation(engine, info, artifacts)
    return make_report(read_study(engine, info), artifacts, published, describe_space(info), confirmation)


def make_report(
    study: StudyData,
    artifacts: TrialArtifacts,
    published: tuple[TableComparison | None, str] = (None, ""),
    about: str = "",
    confirmation: Confirmation | None = None,
) -> ReportData:
    """Return all data of a page on a study; `published` is what `compare_published` returns."""
    certainty = assess_certainty(study, read_top_details(study, artifacts))
    importances = param_importances(study)
    comparison, comparison_error = published
    chosen = next((trial for trial in study.finished if certainty and trial.number == certainty.ship), None)
    verdict = judge_chosen(study, chosen, artifacts) if chosen else Verdict()
    is_confirmed = confirmation is not None and confirmation.is_confirmed
    next_best = [trial for trial in study.finished if trial is not chosen][:NUM_OTHERS]
    others = [trial for trial in next_best if "predictions.png" in trial.files]
    names = [name for name in PICTURES if chosen and (name in chosen.files or name == "predictions.png")]
    return ReportData(
        study=study,
        certainty=certainty,
        chosen=chosen,
        advice=give_advice(study, certainty, importances, verdict, is_confirmed),
        figures=make_figures(study, importances),
        about=about,
        comparison=comparison,
        comparison_error=comparison_error,
        pictures=[load_picture(chosen, name, artifacts, study.metric) for name in names] if chosen else [],
        others=[load_picture(trial, "predictions.png", artifacts) for trial in others],
        verdict=verdict,
        confirmation=confirmation,
    )


def judge_chosen(study: StudyData, trial: TrialData, artifacts: TrialArtifacts) -> Verdict:
    """Return what a trial does not find; of one of an earlier version, from its file of numbers."""
    result = trial.result
    if "missed" not in result:
        numbers = read_details(trial, artifacts)
        if confusion := numbers.get("confusion"):
            result = result | {"missed": missed_classes(confusion, numbers["classes"])}
    return judge_trial(study.info.goal, trial.value, result)


def describe_space(info: StudyInfo) -> str:
    """Return the description in the file of the space, "" without the file."""
    try:
        return read_about(find_space(info.space))
    except TunerError:
        return ""


def compare_published(engine: Engine, info: StudyInfo) -> tuple[TableComparison | None, str]:
    """Return the published table of the study compared with our values, or why it cannot be shown."""
    if not info.table:
        return None, ""
    try:
        return compare_table(engine, load_table(info.table), info.name), ""
    except (TunerError, KeyError) as error:  # a trial of an older version may lack what is compared
        return None, f"The published table '{info.table}' cannot be shown: {error}"


def render_report(page: ReportData) -> str:
    charts = {f"plot-{figure.name}": figure.chart for figure in page.figures}
    title = f"{page.study.info.name}: report"
    return render_page("report.html", charts, title=title, **sections.template_context(page))


def report_path(info: StudyInfo, out: Path | None, force: bool) -> Path:
    """Return the path of the page; StudyError if a file exists there."""
    out = out or Path(f"{safe_file_name(info.name)}-report.html")
    check_output(out, (".html", ".htm"), force)
    return out
