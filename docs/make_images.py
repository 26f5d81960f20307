"""Make the pictures of the README: python docs/make_images.py [FOLDER]

Needs tmux and Chromium. Without a folder, a small search on generated shapes runs in a terminal of 112 columns and
its epochs are drawn; with one, the dashboard and the report of the study in its runs/ are shown.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.text import Text

from tuner.cli.sparklines import MARK

IMAGES = Path(__file__).parent / "images"
TUNER = f"{sys.executable} -m tuner.cli"
COLUMNS, ROWS = 112, 18
SEARCH = "run --space unet_k --data shapes --shrink 8 --shorten 3 --trials 24 --workers 2"
CHROMIUM = shutil.which("chromium") or "chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def tmux(*args: str) -> str:
    command = ["tmux", "-u", "-L", "tuner-images", *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def watch_a_search(folder: Path) -> str:
    """Run a search in tmux; return the coloured screen with the most running trials and the longest curves."""
    tmux("new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), f"cd {folder} && {TUNER} {SEARCH}")
    best, most = "", 0
    try:
        while True:
            screen = tmux("capture-pane", "-ep")
            score = 1000 * screen.count(MARK) + 100 * ("best so far: -" not in screen)
            score += 10 * sum("\u2800" < character <= "\u28ff" for character in screen)
            if score >= most and "pruning saved" in screen and "no workers" not in screen:
                best, most = screen, score
            time.sleep(0.5)
    except subprocess.CalledProcessError:  # the run has ended, and so has tmux
        return best


def as_svg(screen: str) -> str:
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text(f"$ tuner {SEARCH}", style="bold"))
    console.print(Text.from_ansi(screen.rstrip()))
    return console.export_svg(title="tuner")


def shoot(page: Page, svg: str) -> None:
    page.set_content(f"<body style='margin:0'><div id='it' style='display:inline-block'>{svg}</div>")
    page.add_style_tag(content="svg { width: 1120px } text { font-family: 'DejaVu Sans Mono' !important }")
    page.locator("#it").screenshot(path=IMAGES / "terminal.png")


def shoot_dashboard(page: Page, folder: Path) -> None:
    """Take pictures of the study's note and of the best trial's page."""
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "tuner.cli", "dashboard", "--port", "0"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout
    try:
        address = server.stdout.readline().split()[0]
        best = subprocess.run([*TUNER.split(), "best", "--json"], cwd=folder, capture_output=True, text=True)
        number = best.stdout.split('"trial": ')[1].split(",")[0]
        page.goto(f"{address}studies/1")
        page.locator(".main-svg").first.wait_for()
        page.wait_for_timeout(3000)
        page.screenshot(path=IMAGES / "dashboard.png")
        page.goto(f"{address}studies/1/trials?numbers={number}")
        page.locator("img[src*='artifacts']").nth(1).wait_for()
        page.locator("img[src*='artifacts']").nth(0).scroll_into_view_if_needed()
        page.wait_for_timeout(2000)
        page.screenshot(path=IMAGES / "dashboard_pictures.png")
    finally:
        server.terminate()
        server.wait()


def shoot_report(page: Page, folder: Path) -> None:
    """Take pictures of the top of the report and of its plots."""
    made = folder / "report.html"
    subprocess.run([*TUNER.split(), "report", "--out", made, "--force"], cwd=folder, check=True)
    page.goto(made.as_uri())
    page.locator(".main-svg").first.wait_for()
    page.wait_for_timeout(4000)
    page.screenshot(path=IMAGES / "report.png")
    heading = page.get_by_role("heading", name="Parallel coordinates")
    heading.evaluate("it => it.scrollIntoView({behavior: 'instant'})")
    page.wait_for_timeout(1000)
    page.screenshot(path=IMAGES / "report_plots.png")


def draw_epochs(folder: Path) -> None:
    """Save the figure of the epochs by trial, as the report draws it."""
    figures = folder / "figures"
    made = [*TUNER.split(), "report", "--out", folder / "again.html", "--figures", figures]
    subprocess.run(made, cwd=folder, check=True)
    shutil.copy(next(figures.glob("[0-9][0-9]-epochs.png")), IMAGES / "epochs.png")


def main() -> None:
    """Use the study in the given folder's runs/, or run a small search."""
    IMAGES.mkdir(exist_ok=True)
    given = Path(sys.argv[1]).absolute() if sys.argv[1:] else None
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        screen = "" if given else watch_a_search(Path(place))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        if given:
            shoot_dashboard(page, given)
            shoot_report(page, given)
        else:
            shoot(page, as_svg(screen))
            draw_epochs(Path(place))
        browser.close()


if __name__ == "__main__":
    main()
