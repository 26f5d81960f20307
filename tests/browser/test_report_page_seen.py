"""The report in Chromium, with the network off: no error, every plot drawn, every picture seen, on any screen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.search_studies import EVIL, add, details, open_study, picture, search

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.paths import Home
from tuner.report.compare import compare_groups, group_charts
from tuner.report.html import render_charts_page, write_page
from tuner.report.page import read_report, render_report
from tuner.study import queries

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
pytest.importorskip("playwright")
HARMLESS = "GPU stall due to ReadPixels"  # what Chromium says of drawing without a graphics card


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pages: of a search, of a study full of other people's markup, and of curves by a parameter."""
    folder = tmp_path_factory.mktemp("reports")
    joined = search(folder, 24)
    info = queries.find_study(joined.engine, None)
    write_page(
        render_report(read_report(joined.engine, info, TrialArtifacts(Home(folder)))), folder / "report.html"
    )
    charts = group_charts(compare_groups(joined.engine, "loss", None, None))
    write_page(render_charts_page(charts, "by loss"), folder / "curves.html")
    joined.engine.dispose()
    evil = open_study(folder, EVIL, data=EVIL)
    for at in range(2):
        add(evil, {"lr": 10.0 ** -(at + 2), "k": 8, "loss": "bce"}, [0.1, 0.5], notes={"failure": EVIL})
    info = queries.find_study(evil.engine, EVIL)
    write_page(render_report(read_report(evil.engine, info, TrialArtifacts(Home(folder)))), folder / "evil.html")
    evil.engine.dispose()
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


class Seen:
    """A page that is open, and all that went wrong in it."""

    def __init__(self, browser: Any, file: Path, **how: Any) -> None:
        self.context = browser.new_context(offline=True, **how)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", self.heard)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())
        self.page.locator("body[data-drawn]").wait_for(timeout=120_000)

    def heard(self, message: Any) -> None:
        if HARMLESS not in message.text:
            self.wrong.append(f"{message.type}: {message.text}")

    def outside(self) -> list[str]:
        return [url for url in self.asked if not url.startswith(("file:", "data:", "blob:"))]


def is_drawn(page: Any) -> list[str]:
    """The plots that show nothing."""
    return page.evaluate(
        "[...document.querySelectorAll('.plot')].filter(place => !place.querySelector("
        "'.point, .js-line, .bars path, .heatmaplayer image, .parcoords canvas, canvas'))"
        ".map(place => place.id)"
    )


def widths(page: Any) -> tuple[int, int]:
    page_is, window_is = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    return page_is, window_is


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_opens_without_a_network(browser: Any, files: Path, tmp_path: Path, scheme: str) -> None:
    seen = Seen(browser, files / "report.html", color_scheme=scheme, viewport={"width": 1280, "height": 900})
    assert seen.page.locator(".plot").count() == 12 and is_drawn(seen.page) == []
    pictures = seen.page.evaluate(
        "Promise.all([...document.images].map(image => image.decode().then(() => image.naturalWidth)))"
    )
    assert len(pictures) == 6 and all(width > 100 for width in pictures)
    back = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(16, 20, 28)")
    seen.page.screenshot(path=tmp_path / "report.png", full_page=True)
    assert (tmp_path / "report.png").stat().st_size > 100_000
    assert seen.wrong == [] and seen.outside() == []
    seen.context.close()


def test_on_a_phone_nothing_hangs_over_the_side(browser: Any, files: Path) -> None:
    seen = Seen(browser, files / "report.html", viewport={"width": 360, "height": 740}, has_touch=True)
    page_is, window_is = widths(seen.page)
    assert page_is <= window_is == 360
    seen.page.locator("#trials summary").click()  # the table of all trials scrolls by itself
    page_is, window_is = widths(seen.page)
    assert page_is <= window_is and seen.wrong == []
    seen.context.close()


def test_on_paper_everything_is_open_and_light(browser: Any, files: Path, tmp_path: Path) -> None:
    seen = Seen(browser, files / "report.html", color_scheme="dark")
    assert not seen.page.locator("#trials table").is_visible()
    printed = seen.page.pdf(path=tmp_path / "report.pdf", format="A4")
    assert printed.startswith(b"%PDF") and len(printed) > 50_000
    seen.page.emulate_media(media="print")
    seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert seen.page.locator("#trials table").is_visible()
    assert seen.page.evaluate("getComputedStyle(document.body).color") == "rgb(17, 24, 39)"
    assert not seen.page.locator("nav").is_visible() and seen.wrong == []
    seen.context.close()


def test_tall_pictures_are_folded_and_open_on_paper(browser: Any, tmp_path: Path) -> None:
    joined = open_study(tmp_path)
    files = {
        "predictions.png": picture(0, (900, 1800)),
        "strip.png": picture(1),
        "details.json": details([0.5, 0.6]),
    }
    add(joined, {"lr": 1e-3, "k": 8, "loss": "bce"}, [0.1, 0.5], files=files)
    info = queries.find_study(joined.engine, None)
    write_page(
        render_report(read_report(joined.engine, info, TrialArtifacts(Home(tmp_path)))), tmp_path / "tall.html"
    )
    joined.engine.dispose()
    seen = Seen(browser, tmp_path / "tall.html")
    tall, strip = (seen.page.locator(f"img[alt^='{name}']") for name in ("Predictions", "How it learnt"))
    assert strip.is_visible() and not tall.is_visible()
    seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tall.is_visible()
    seen.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not tall.is_visible()
    seen.page.locator("summary", has_text="Predictions").click()
    assert tall.is_visible() and seen.wrong == []
    seen.context.close()


def test_markup_of_others_is_shown_and_not_run(browser: Any, files: Path) -> None:
    seen = Seen(browser, files / "evil.html")
    assert seen.page.title() == f"{EVIL}: report" and seen.page.locator("h1").text_content() == EVIL
    assert seen.page.locator("img[src=x]").count() == 0 and seen.wrong == []
    seen.context.close()


def test_a_script_that_came_in_another_way_is_refused(browser: Any, files: Path, tmp_path: Path) -> None:
    plain = (files / "report.html").read_text()
    (tmp_path / "altered.html").write_text(
        plain.replace("<main>", "<main><script>document.title='owned'</script>")
    )
    seen = Seen(browser, tmp_path / "altered.html")
    assert seen.page.title() == "searched: report"
    assert len(seen.wrong) == 1 and "Content Security Policy" in seen.wrong[0]
    seen.context.close()


def test_curves_in_a_file_are_drawn(browser: Any, files: Path) -> None:
    seen = Seen(browser, files / "curves.html")
    assert seen.page.locator(".plot").count() == 3 and is_drawn(seen.page) == [] and seen.wrong == []
    seen.context.close()
