"""Make the pictures of the README from a real rehearsal: python docs/make_images.py

Needs tmux and Chromium. The rehearsal is run in a temporary folder, on a real terminal of 112 columns.
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

IMAGES = Path(__file__).parent / "images"
TUNER = f"{sys.executable} -m tuner.cli"
COLUMNS, ROWS = 112, 14
CHROMIUM = shutil.which("chromium") or "chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def tmux(*args: str) -> str:
    command = ["tmux", "-u", "-L", "tuner-images", *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def watch_a_rehearsal(folder: Path) -> str:
    """Run it in tmux; the screen, with its colours, at a moment when both workers train and some trials ended."""
    run = f"cd {folder} && {TUNER} run --space unet_k --rehearse --workers 2"
    tmux("new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), run)
    best = ""
    try:
        while True:
            screen = tmux("capture-pane", "-ep")
            if screen.count("loss=") >= 3 and "of 8 trials" in screen:
                best = screen
            time.sleep(0.5)
    except subprocess.CalledProcessError:  # the run has ended, and tmux with it
        return best


def as_svg(screen: str) -> str:
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text("$ tuner run --space unet_k --rehearse --workers 2", style="bold"))
    console.print(Text.from_ansi(screen.rstrip()))
    return console.export_svg(title="tuner")


def shoot(page: Page, svg: str) -> None:
    page.set_content(f"<body style='margin:0'><div id='it' style='display:inline-block'>{svg}</div>")
    page.add_style_tag(content="svg { width: 1120px } text { font-family: 'DejaVu Sans Mono' !important }")
    page.locator("#it").screenshot(path=IMAGES / "terminal.png")


def shoot_dashboard(page: Page, folder: Path) -> None:
    """The page of the best trial."""
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
        page.goto(f"{address}studies/1/trials?numbers={number}")
        page.locator("img[src*='artifacts']").nth(1).wait_for()
        page.wait_for_timeout(2000)
        page.screenshot(path=IMAGES / "dashboard.png")
        page.locator("img[src*='artifacts']").nth(0).click()
        page.locator("img[src*='artifacts']").nth(0).scroll_into_view_if_needed()
        page.wait_for_timeout(1000)
        page.screenshot(path=IMAGES / "dashboard_pictures.png")
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        screen = watch_a_rehearsal(Path(place))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        shoot(page, as_svg(screen))
        shoot_dashboard(page, Path(place))
        browser.close()


if __name__ == "__main__":
    main()
