"""Write what people open: self-contained HTML pages, and charts as files."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.errors import StudyError, create_file
from tuner.plots import render_png
from tuner.plots.charts import Chart
from tuner.plots.render_plotly import plotly_figure
from tuner.report.study_figure import StudyFigure

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")
PANEL = (5.4, 3.8)  # inches of a chart in a file


@cache
def environment() -> Environment:
    """Return the environment of the pages' templates: every text is escaped, without characters HTML forbids."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, finalize=drop_control_characters,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    templates.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return templates


def drop_control_characters(content: object) -> object:
    """Return the text of a value without characters that no page may hold; markup is unchanged."""
    if hasattr(content, "__html__"):
        return content
    return "".join(char for char in str(content) if char.isprintable() or char in "\n\t")


def render_page(template: str, charts: Mapping[str, Chart], **context: object) -> str:
    """Return a whole page. Plotly, which the page contains, draws each chart in the element of its name."""
    from markupsafe import Markup

    page = environment().get_template(template)
    plots = {name: plotly_figure(chart) for name, chart in charts.items() if not chart.is_empty}
    # through plotly's own writer, which replaces NaN and infinity with null
    figures = {name: json.loads(plot.to_json()) for name, plot in plots.items()}
    return page.render(
        **context,
        charts=charts,
        figures=figures,
        policy=content_policy(),
        plotly=packed_plotly() if figures else "",
        script=Markup(read_asset("page.js")),
        style=Markup(read_asset("page.css")),
    )


@cache
def read_asset(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


@cache
def plotly_source() -> str:
    """Return the script of plotly from its own package."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


@cache
def packed_plotly() -> str:
    return base64.b64encode(gzip.compress(plotly_source().encode(), compresslevel=9, mtime=0)).decode()


@cache
def content_policy() -> str:
    """Return the Content-Security-Policy: no network, and no script but the two written into the page."""
    scripts = (read_asset("page.js"), plotly_source())
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    hashes = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )  # plotly compiles the drawing of its parallel coordinates


def check_output(out: Path, endings: Sequence[str], force: bool) -> None:
    """Raise StudyError, before anything is read, if the output file may not be written."""
    if out.is_dir():
        raise StudyError(f"{out} is a folder; give a file for --out, such as {out / f'file{endings[0]}'}")
    if out.suffix.lower() not in endings:
        raise StudyError(f"--out is {out}; a file that ends in {' or '.join(endings)} is needed.")
    if out.exists() and not force:
        raise StudyError(f"{out} is there already. Replace it with --force, or choose another file with --out.")


def write_page(content: str, out: Path) -> None:
    with create_file(out) as beside:
        beside.write_text(content, encoding="utf-8", errors="backslashreplace")


def write_charts_file(charts: Sequence[Chart], out: Path, heading: str = "") -> None:
    """Write the charts into one file, a page or a picture by its suffix."""
    if out.suffix.lower() == ".html":
        return write_page(render_charts_page(charts, heading), out)
    with create_file(out) as beside:
        render_png.write_charts(charts, beside, panel=PANEL)


def render_charts_page(charts: Sequence[Chart], heading: str) -> str:
    return render_page("charts.html", {f"plot-{at}": chart for at, chart in enumerate(charts)}, title=heading)


def write_figures(figures: Sequence[StudyFigure], folder: Path, kind: str) -> list[Path]:
    """Write each figure into a numbered file of the folder; return the paths."""
    paths = []
    for at, one in enumerate(figures, start=1):
        paths.append(folder / f"{at:02d}-{safe_file_name(one.name)}.{kind}")
        write_charts_file([one.chart], paths[-1])
    return paths


def safe_file_name(name: str) -> str:
    """Return a name as a valid file name."""
    safe = "".join(char if char.isalnum() or char in "-_.@" else "_" for char in name).lstrip(".")
    return safe[:80] or "study"
