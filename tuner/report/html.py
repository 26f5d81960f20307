"""Files that people open: pages that hold all they need, and plots as files."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tuner.errors import StudyError, create_file
from tuner.plots import render_png
from tuner.plots.charts import Chart
from tuner.plots.render_plotly import plotly_figure
from tuner.report.figures import StudyFigure

HERE = Path(__file__).parent
SHEET = (5.4, 3.8)  # inches of a chart in a file of few


def render_document(title: str, body: Sequence[object], plots: Mapping[str, Chart]) -> str:
    """A whole page. `plots` are drawn at the elements of their names, by plotly, which the page carries."""
    figures = {name: figure_json(chart) for name, chart in plots.items()}
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


def figure_json(chart: Chart) -> Any:
    """A plot as plain JSON; plotly's own writer makes null of what is no number."""
    return json.loads(plotly_figure(chart).to_json())


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


def check_output(out: Path, endings: Sequence[str], force: bool) -> None:
    """StudyError for a place where nothing is to be written, before anything is read."""
    if out.is_dir():
        raise StudyError(f"{out} is a folder; give a file for --out, such as {out / f'file{endings[0]}'}")
    if out.suffix.lower() not in endings:
        raise StudyError(f"--out is {out}; a file that ends in {' or '.join(endings)} is needed.")
    if out.exists() and not force:
        raise StudyError(f"{out} is there already. Replace it with --force, or choose another file with --out.")


def write_page(content: str, out: Path) -> None:
    with create_file(out) as beside:
        beside.write_text(content, encoding="utf-8")


def write_charts_file(charts: Sequence[Chart], out: Path, heading: str) -> None:
    """A few charts in one file: a page, or a picture, as its ending says."""
    if out.suffix.lower() == ".html":
        return write_page(render_charts_page(charts, heading), out)
    with create_file(out) as beside:
        render_png.write_charts(charts, beside, panel=SHEET)


def render_charts_page(charts: Sequence[Chart], heading: str) -> str:
    plots = {f"plot-{at}": chart for at, chart in enumerate(charts) if not chart.is_empty}
    shown = [
        tag("figure", tag("h3", chart.title), place(f"plot-{at}", chart), tag("figcaption", chart.note))
        for at, chart in enumerate(charts)
    ]
    body = [tag("header", tag("h1", heading)), tag("main", tag("div", *shown, class_="figures"))]
    return render_document(heading, body, plots)


def place(name: str, chart: Chart) -> Markup:
    """Where a plot is drawn."""
    if chart.is_empty:
        return tag("p", "Not drawn.", class_="empty")
    return tag("div", class_="plot", id=name, role="img", aria_label=chart.title)


def write_figures(figures: Sequence[StudyFigure], folder: Path, kind: str) -> list[Path]:
    """Every figure as a file of its own, numbered as they are read."""
    paths = []
    for at, one in enumerate(figures, start=1):
        path = folder / f"{at:02d}-{safe_file_name(one.name)}.{kind}"
        with create_file(path) as beside:
            render_png.write_charts([one.chart], beside, panel=SHEET)
        paths.append(path)
    return paths


def safe_file_name(name: str) -> str:
    """A name as that of a file, in any folder."""
    kept = "".join(char if char.isalnum() or char in "-_.@" else "_" for char in name).lstrip(".")
    return kept[:80] or "study"


class Markup(str):
    """Text that is HTML already. Everything else is escaped where it is put in."""

    __slots__ = ()


def text(content: object) -> Markup:
    """Any text as it stands. Characters that no page may hold are left out."""
    if isinstance(content, Markup):
        return content
    plain = "".join(c for c in str(content) if c.isprintable() or c in "\n\t")
    return Markup(html.escape(plain, quote=True))


def tag(name: str, *inside: object, **attributes: object) -> Markup:
    """`tag("p", "a < b", class_="note")`: an attribute that is True stands alone, one that is None is left out."""
    written = ""
    for key, value in attributes.items():
        if value is not None and value is not False:
            shown = key.rstrip("_").replace("_", "-")
            written += f" {shown}" if value is True else f' {shown}="{text(value)}"'
    return Markup(f"<{name}{written}>{joined(inside)}</{name}>")


def joined(pieces: Iterable[object]) -> Markup:
    return Markup("".join(text(piece) for piece in pieces if piece is not None))


def image(source: str, alt: str, **attributes: object) -> Markup:
    written = "".join(f' {key}="{text(value)}"' for key, value in attributes.items())
    return Markup(f'<img src="{text(source)}" alt="{text(alt)}"{written}>')


def table(headings: Sequence[object], rows: Iterable[Sequence[object]], caption: str, marked: int = -1) -> Markup:
    """A table that scrolls by itself where it is wide; `marked` is the place of a row that stands out."""
    head = tag("tr", *(tag("th", heading, scope="col") for heading in headings))
    body = [
        tag(
            "tr",
            *(cell(content, at == 0) for at, content in enumerate(row)),
            class_="best" if n == marked else None,
        )
        for n, row in enumerate(rows)
    ]
    inside = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("div", inside, class_="wide", tabindex="0", role="region", aria_label=caption)


def cell(content: object, is_first: bool) -> Markup:
    return tag("th", content, scope="row") if is_first else tag("td", content)


def pairs(rows: Iterable[tuple[object, object]]) -> Markup:
    """Names with what they are."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", content)) for name, content in rows))


def listing(items: Iterable[object], kind: str = "ul") -> Markup:
    return tag(kind, *(tag("li", item) for item in items))


def code(lines: str) -> Markup:
    return tag("pre", tag("code", lines), tabindex="0")


def section(name: str, title: str, *inside: object) -> Markup:
    return tag("section", tag("h2", title, id=f"{name}-title"), *inside, id=name, aria_labelledby=f"{name}-title")


def data(name: str, content: Any) -> Markup:
    """JSON for the page's script: nothing in it ends the element or begins another."""
    plain = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for char in "<>&\u2028\u2029":
        plain = plain.replace(char, f"\\u{ord(char):04x}")
    return Markup(f'<script type="application/json" id="{text(name)}">{plain}</script>')
