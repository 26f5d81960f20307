"""`tuner report` of thousands of trials: time, size of the page, and time until Chromium has drawn it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.large import SPACE
from benchmarks.measure import ROOT, Row, Section, Setting, median, spread
from benchmarks.studies import fill, open_study

NUM_EPOCHS = 20
MOST_SECONDS, MOST_MB = 20.0, 10.0
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def measure(setting: Setting) -> Section:
    number = setting.pick(3000, 60)
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        place = Path(folder)
        make_study(place, number)
        page = place / "page.html"
        times = [make_report(place, page) for _ in range(setting.pick(3, 1))]
        size = page.stat().st_size / 1e6
        drawn = [taken for _ in times if (taken := seconds_drawn(page)) is not None]
    rows = [
        Row("the command, s", spread(times), "", "", f"at most {MOST_SECONDS:g}", median(times) <= MOST_SECONDS),
        Row("the page, MB", f"{size:.1f}", "", "", f"at most {MOST_MB:g}", size <= MOST_MB),
        Row("all plots drawn in Chromium, s", spread(drawn) if drawn else "no Chromium", ""),
    ]
    reading = [
        f"`tuner report` of a study of {number} trials with five parameters, on SQLite and without pictures: "
        f"two of five finished after {NUM_EPOCHS} epochs, the others were pruned after 1 or 3.",
        "The whole command, with the start of Python; then the page from the disk until its last plot is drawn.",
    ]
    return Section("reporting", f"The report of {number} trials", ("", "tuner"), rows, reading)


def make_study(place: Path, number: int) -> None:
    """Fill the database of a home below `place`."""
    space = place / "five.py"
    space.write_text(SPACE)
    home = place / "runs"
    home.mkdir()
    joined = open_study(f"sqlite:///{home / 'tuner.db'}", space, "five")
    fill(joined, number, NUM_EPOCHS, whole=False)
    joined.engine.dispose()


def make_report(place: Path, page: Path) -> float:
    """Return the seconds of the command."""
    began = time.perf_counter()
    options = ["--home", str(place / "runs"), "--out", str(page), "--force"]
    env = {**os.environ, "TUNER_STORAGE": ""}
    command = [sys.executable, "-m", "tuner.cli", "report", *options]
    subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def seconds_drawn(page: Path) -> float | None:
    """Return the seconds from opening the page to its last plot, None without a Chromium to open it in."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        return None
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        began = time.perf_counter()
        tab.goto(page.as_uri())
        tab.locator("body[data-drawn]").wait_for(timeout=120_000)
        taken = time.perf_counter() - began
        browser.close()
    return taken
