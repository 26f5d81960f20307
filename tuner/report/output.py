"""Files that people open: pages that hold all they need, and plots as files."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tuner.errors import StudyError, aside, writing
from tuner.report.charts import Chart
from tuner.report.drawn import draw
from tuner.report.figures import Figure
from tuner.report.interactive import figure
from tuner.report.markup import Markup, data, tag, text

HERE = Path(__file__).parent
SHEET = (5.4, 3.8)  # inches of a chart in a file of few


def document(title: str, body: Sequence[object], plots: Mapping[str, Chart]) -> str:
    """A whole page. `plots` are drawn at the elements of their names, by plotly, which the page carries."""
    figures = {name: plain_figure(chart) for name, chart in plots.items()}
    head = tag(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{text(policy())}">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup('<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'),
        tag("title", title),
        tag("style", Markup(asset("page.css"))),
    )
    without = tag(
        "noscript", tag("p", "Without scripts the plots are not drawn; what they show is said below each.")
    )
    scripts = [
        tag("footer", tag("p", id="trouble", role="status"), without),
        data("figures", figures),
        Markup(f'<script type="text/plain" id="plotly">{packed() if figures else ""}</script>'),
        Markup(f"<script>{asset('page.js')}</script>"),
    ]
    return "<!doctype html>\n" + tag("html", head, tag("body", *body, *scripts), lang="en") + "\n"


def plain_figure(chart: Chart) -> Any:
    """A plot as plain JSON; plotly's own writer makes null of what is no number."""
    return json.loads(figure(chart).to_json())


@cache
def asset(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@cache
def library() -> str:
    """Plotly, as its own package ships it."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


@cache
def packed() -> str:
    return base64.b64encode(gzip.compress(library().encode(), compresslevel=9, mtime=0)).decode()


@cache
def policy() -> str:
    """No network at all, and no script but the two that were written into the page."""
    hashes = " ".join(f"'sha256-{hashed(script)}'" for script in (asset("page.js"), library()))
    return (
        f"default-src 'none'; script-src {hashes} 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )  # plotly compiles the drawing of its parallel coordinates


def hashed(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def refuse_file(out: Path, endings: Sequence[str], force: bool) -> None:
    """StudyError for a place where nothing is to be written, before anything is read."""
    if out.is_dir():
        raise StudyError(f"{out} is a folder; give a file for --out, such as {out / f'file{endings[0]}'}")
    if out.suffix.lower() not in endings:
        raise StudyError(f"--out is {out}; a file that ends in {' or '.join(endings)} is needed.")
    if out.exists() and not force:
        raise StudyError(f"{out} is there already. Replace it with --force, or choose another file with --out.")


def write_aside(out: Path, write: Callable[[Path], object]) -> None:
    """Written beside its place first: whoever looks sees the old file or the new one, whole."""
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with aside(out) as beside:
            write(beside)


def write_page(content: str, out: Path) -> None:
    write_aside(out, lambda beside: beside.write_text(content, encoding="utf-8"))


def write_charts(charts: Sequence[Chart], out: Path, heading: str) -> None:
    """A few charts in one file: a page, or a picture, as its ending says."""
    if out.suffix.lower() == ".html":
        return write_page(charts_page(charts, heading), out)
    write_aside(out, lambda beside: draw(charts, beside, panel=SHEET))


def charts_page(charts: Sequence[Chart], heading: str) -> str:
    plots = {f"plot-{at}": chart for at, chart in enumerate(charts) if not chart.is_empty}
    shown = [
        tag("figure", tag("h3", chart.title), place(f"plot-{at}", chart), tag("figcaption", chart.note))
        for at, chart in enumerate(charts)
    ]
    body = [tag("header", tag("h1", heading)), tag("main", tag("div", *shown, class_="figures"))]
    return document(heading, body, plots)


def place(name: str, chart: Chart) -> Markup:
    """Where a plot is drawn."""
    if chart.is_empty:
        return tag("p", "Not drawn.", class_="empty")
    return tag("div", class_="plot", id=name, role="img", aria_label=chart.title)


def draw_figures(figures: Sequence[Figure], folder: Path, kind: str) -> list[Path]:
    """Every figure as a file of its own, numbered as they are read."""
    paths = []
    for at, one in enumerate(figures, start=1):
        path = folder / f"{at:02d}-{file_name(one.name)}.{kind}"
        write_aside(path, lambda beside, chart=one.chart: draw([chart], beside, panel=SHEET))  # type: ignore[misc]
        paths.append(path)
    return paths


def file_name(name: str) -> str:
    """A name as that of a file, in any folder."""
    kept = "".join(char if char.isalnum() or char in "-_.@" else "_" for char in name).lstrip(".")
    return kept[:80] or "study"
