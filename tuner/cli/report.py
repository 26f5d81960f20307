"""The commands about a whole study: report and compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tuner.cli.common import echo_json, open_engine, print_table, to_home
from tuner.cli.options import FILE, FOLDER, artifacts_option, json_option, storage_options, study_option
from tuner.errors import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Engine

    from tuner.artifacts.optuna_store import TrialArtifacts
    from tuner.plots.charts import Chart


@click.command()
@storage_options
@artifacts_option
@study_option()
@click.option("--out", type=FILE, metavar="FILE.html", help="Output file.  [default: STUDY-report.html]")
@click.option("--figures", type=FOLDER, metavar="DIR", help="Also write each figure into this folder.")
@click.option("--format", "kind", type=click.Choice(["png", "svg"]), default="png", help="Format of the figures.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def report(
    home: str, storage: str | None, artifacts: str | None, study: str | None,
    out: str | None, figures: str | None, kind: str, force: bool,
) -> None:  # fmt: skip
    """Write a report of a study: which trial to use, how certain that is, what to try next.

    The report is one HTML file with all plots and pictures; it opens offline.

    \b
    Examples:
      tuner report
      tuner report --study pets --out pets.html --figures figures --format svg
    """
    from tuner.paths import expand_path
    from tuner.report.html import write_figures, write_page
    from tuner.report.page import read_report, render_report, report_path
    from tuner.report.trial_files import open_artifacts
    from tuner.study import queries

    engine = open_engine(storage, home)
    info = queries.find_study(engine, study)
    file = report_path(info, expand_path(out) if out else None, force)
    found = read_report(engine, info, open_artifacts(engine, to_home(home), artifacts))
    write_page(render_report(found), file)
    click.echo(escape(str(file)))
    for path in write_figures(found.figures, expand_path(figures), kind) if figures else []:
        click.echo(escape(str(path)))


@click.command()
@click.argument("trials", nargs=-1, metavar="TRIAL...")
@storage_options
@artifacts_option
@study_option()
@click.option(
    "--by", "parameter", metavar="PARAM", help="Instead of trials, compare groups of trials by a parameter."
)
@click.option("--metric", metavar="M", help="Metric to compare; train_... for training.  [default: the goal's]")
@click.option("--out", type=FILE, metavar="FILE", help="Draw the curves into a .html, .png or .svg file.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@json_option
def compare(
    trials: tuple[str, ...], home: str, storage: str | None, artifacts: str | None, study: str | None,
    parameter: str | None, metric: str | None, out: str | None, force: bool, as_json: bool,
) -> None:  # fmt: skip
    """Compare trials, or groups of trials by a parameter.

    A trial is given by its number, or as STUDY#NUMBER for another study. "better images" is the share of the
    validation images on which it beats the first trial; "ahead", the share of 4000 bootstrap samples of these
    images in which its mean does. Images that belong together are drawn together, as for the report; of fewer than
    ten such groups, "ahead" is not given.

    --by compares groups of all trials that have an epoch: mean and best are those of the finished ones, and "mean
    at epoch" that of all, at the last epoch which all ended trials reached. Curves of groups are means with bands
    of one standard deviation; those of trials that did not finish are dashed.

    \b
    Examples:
      tuner compare 3 7 12 --out curves.png
      tuner compare 3 other_study#5 --metric dice
      tuner compare --by loss --out losses.html
    """
    from tuner.errors import StudyError
    from tuner.paths import expand_path
    from tuner.report.html import check_output, write_charts_file
    from tuner.report.trial_files import open_artifacts

    if parameter and trials:
        raise StudyError("give either trial numbers, or --by PARAM to compare groups of trials.")
    if out:
        check_output(expand_path(out), (".html", ".png", ".svg"), force)
    engine = open_engine(storage, home)
    if parameter:
        heading, lines, names, charts, note = compare_groups(engine, parameter, study, metric)
    else:
        heading, lines, names, charts, note = compare_trials(
            engine, trials, study, metric, open_artifacts(engine, to_home(home), artifacts)
        )
    if out:
        write_charts_file(charts, expand_path(out), heading)
    if as_json:
        return echo_json(lines)
    print_rows(heading, lines, names, note)
    if out:
        click.echo(escape(out))


Compared = tuple[str, list[dict[str, Any]], list[str], "list[Chart]", str]


def compare_groups(engine: Engine, parameter: str, study: str | None, metric: str | None) -> Compared:
    from tuner.report import compare as compare_module

    found = compare_module.compare_groups(engine, parameter, study, metric)
    heading = f"{found.study.info.name}: {found.metric} by {parameter}"
    return heading, compare_module.group_rows(found), [], compare_module.group_charts(found), ""


def compare_trials(
    engine: Engine, trials: Sequence[str], study: str | None, metric: str | None, artifacts: TrialArtifacts
) -> Compared:
    from tuner.report import compare as compare_module

    found = compare_module.compare_trials(engine, trials, study, metric, artifacts)
    studies = ", ".join(dict.fromkeys(side.study.info.name for side in found.sides))
    return (
        f"{studies}: {found.metric}",
        compare_module.trial_rows(found),
        compare_module.differing_params(found.sides),
        compare_module.trial_charts(found),
        found.note and f"ahead is not given: {found.note}.",
    )


def print_rows(heading: str, lines: list[dict[str, Any]], names: list[str], note: str) -> None:
    from tuner.report.compare import text_rows

    rows = text_rows(lines, names)
    texts = ("trial", "group", "state", "not_finished")
    columns = [(name.replace("_", " "), "left" if name in texts else "right") for name in rows[0]]
    print_table(columns, (row.values() for row in rows), title=heading)
    if note:
        click.echo(note)
