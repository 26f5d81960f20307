"""The dashboard for several users in a real browser: login, reading, refused changes, behind a proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import plotly.graph_objects as go
import pytest
from helpers.browser import CHROMIUM, chromium, dashboard, proxy
from helpers.made_studies import add_trial, make_study
from optuna.artifacts import upload_artifact
from optuna_dashboard import save_note, save_plotly_graph_object

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.paths import Home

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.xdist_group("dashboard"),
]
HISTORY = ".js-plotly-plot:has-text('iou') .trace"  # the first plot of a study
PASSWORD = "correct horse"
EVIL = """# seen
<script>window.ran = 'script'</script> <img src=x onerror="window.ran = 'image'">
[a link](javascript:window.ran='link') ![a picture](javascript:window.ran='picture')
<iframe srcdoc="<script>parent.ran = 'frame'</script>"></iframe> <svg onload="window.ran = 'svg'">
"""
MARKUP = "<img src=x onerror=\"window.ran='title'\"> <a href=\"javascript:window.ran='anchor'\">click</a>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of four trials; the first has a picture, a file that claims to be one, and a malicious note."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "password").write_text(PASSWORD + "\n")
    (folder / "password").chmod(0o600)
    pictures = TrialArtifacts(Home(folder / "runs").make())
    joined = make_study(folder / "runs")
    trial = joined.study.ask()
    trial.suggest_float("lr", 1e-4, 1e-2, log=True)
    cv2.imwrite(str(folder / "curves.png"), np.full((120, 200, 3), 128, np.uint8))
    (folder / "page.html").write_text("<script>document.title = 'ran'</script>")
    for name in ("curves.png", "page.html"):
        upload_artifact(artifact_store=pictures, file_path=str(folder / name), study_or_trial=trial)
    save_note(trial, EVIL)
    save_note(joined.study, EVIL)
    joined.study.tell(trial, 0.5)
    for value in (0.3, 0.4, 0.7):
        add_trial(joined, [value])
    figure = go.Figure(go.Scatter(x=[1, 2], y=[1, 2], text=[MARKUP] * 2))
    figure.update_layout(title=MARKUP, hovermode="x", hoverdistance=-1)
    save_plotly_graph_object(joined.study, figure, graph_object_id="kept")
    joined.engine.dispose()
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """Yield a browser context without cookies."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Yield a dashboard with a password at the root path."""
    with dashboard(folder, "--password-file", "password") as address:
        yield address


def log_in(page: Any, password: str = PASSWORD) -> None:
    page.fill("#password", password)
    page.get_by_role("button", name="Log in").click()


def status(page: Any, address: str, path: str, method: str = "GET") -> int:
    """Return the answer to a request from the browser's page."""
    parts = urlsplit(address)
    place = f"{parts.scheme}://{parts.netloc}"
    return page.request.fetch(place + path, method=method, headers={"Origin": place}).status


def see_picture(page: Any) -> str:
    image = page.locator("img[src*='/artifacts/']").first
    image.wait_for()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 200
    return image.get_attribute("src")


def test_a_wrong_password_is_told_and_the_right_one_leads_on(page: Any, address: str) -> None:
    page.goto(f"{address}studies/1/trials?numbers=0")
    assert "/login?next=" in page.url and page.title() == "tuner: log in"
    log_in(page, "battery staple")
    page.get_by_role("alert").get_by_text("not the password").wait_for()
    log_in(page)
    page.get_by_role("heading", name="seen").wait_for()
    assert page.url == f"{address}studies/1/trials?numbers=0"
    see_picture(page)


def test_the_study_its_plots_and_those_kept_on_it_are_drawn(page: Any, address: str) -> None:
    page.goto(address)
    log_in(page)
    page.get_by_text("made").first.click()
    page.locator(HISTORY).first.wait_for()
    page.locator(".js-plotly-plot").filter(has_text="click").locator(".trace").first.wait_for()


def test_what_is_written_into_notes_and_plots_does_not_run(page: Any, address: str) -> None:
    page.goto(f"{address}studies/1/trials?numbers=0")
    log_in(page)
    for place in ("studies/1/trials?numbers=0", "studies/1/note"):
        page.goto(address + place)
        page.get_by_text("window.ran = 'script'").first.wait_for()  # as the text that it is
        assert page.evaluate("window.ran") is None
        page.get_by_text("a link").click()  # which leads nowhere: the page is loaded again
        page.get_by_text("window.ran = 'script'").first.wait_for()
        assert page.evaluate("window.ran") is None
    page.goto(f"{address}studies/1")
    kept = page.locator(".js-plotly-plot").filter(has_text="click")
    kept.locator(".trace").first.wait_for()
    kept.locator(".nsewdrag").first.hover()
    kept.locator(".hoverlayer text").first.wait_for()
    kept.locator(".gtitle a").dispatch_event("click")
    assert page.evaluate("window.ran") is None


@pytest.mark.slow
def test_an_artifact_that_is_a_page_is_downloaded(page: Any, address: str) -> None:
    page.goto(f"{address}studies/1/trials?numbers=0")
    log_in(page)
    page.get_by_text("page.html").wait_for()
    study = page.evaluate("fetch('/api/studies/1').then(answer => answer.json())")
    (artifact,) = [a for a in study["trials"][0]["artifacts"] if a["filename"] == "page.html"]
    with page.expect_download() as download:
        page.evaluate("path => { location = path }", f"/artifacts/1/1/{artifact['artifact_id']}")
    assert download.value.suggested_filename == "page.html" and page.title() != "ran"


def test_whoever_is_not_logged_in_or_no_more_gets_nothing(page: Any, address: str) -> None:
    page.goto(f"{address}studies/1/trials?numbers=0")
    assert status(page, address, "/api/studies") == status(page, address, "/api/studies/1", "DELETE") == 401
    log_in(page)
    picture = see_picture(page)
    assert status(page, address, "/api/studies") == status(page, address, picture) == 200
    page.get_by_role("button", name="Log out").click()
    page.locator("#password").wait_for()
    assert status(page, address, "/api/studies") == status(page, address, picture) == 401
    page.goto(f"{address}studies/1")
    assert page.locator("#password").is_visible()


@pytest.mark.slow
def test_a_session_that_is_over_leads_to_the_login(page: Any, folder: Path) -> None:
    with dashboard(folder, "--session-hours", "0.001", TUNER_DASHBOARD_PASSWORD=PASSWORD) as address:
        page.goto(address)
        log_in(page)
        page.wait_for_url("**/dashboard/")
        while status(page, address, "/api/studies") != 401:
            page.wait_for_timeout(100)
        page.goto(f"{address}studies/1")
        assert page.locator("#password").is_visible()


@pytest.mark.slow
def test_read_only_shows_all_and_changes_nothing(page: Any, folder: Path) -> None:
    with dashboard(folder, "--read-only") as address:
        page.goto(f"{address}studies/1/note")
        page.get_by_role("heading", name="seen").wait_for()
        assert page.get_by_text("read-only").is_visible()
        page.locator("svg[data-testid=EditIcon]").first.click()
        page.locator("textarea").first.fill("changed")
        page.get_by_role("button", name="Save").click()
        page.get_by_text("this dashboard is read-only: nothing was changed").first.wait_for()
        assert status(page, address, "/api/studies/1", "DELETE") == 403
        page.reload()
        page.get_by_role("heading", name="seen").wait_for()


@pytest.mark.slow
def test_below_a_path_behind_a_proxy(page: Any, folder: Path) -> None:
    options = ("--password-file", "password", "--base-path", "/tuner")
    with dashboard(folder, *options) as address, proxy(address) as front:
        page.goto(f"{front}/")
        assert page.url == f"{front}/login"
        log_in(page)
        page.wait_for_url(f"{front}/dashboard/")
        page.get_by_text("made").first.click()
        page.locator(HISTORY).first.wait_for()
        page.get_by_role("link", name="Trials (List)").click()
        page.get_by_text("Trial 0").first.click()
        assert see_picture(page).startswith("/tuner/artifacts/")
        assert page.url.startswith(f"{front}/dashboard/studies/1/trials")
        page.reload()
        see_picture(page)
        page.get_by_role("button", name="Log out").click()
        page.locator("#password").wait_for()
        assert page.url == f"{front}/login" and status(page, front, "/tuner/api/studies") == 401
