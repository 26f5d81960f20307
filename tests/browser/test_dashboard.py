"""The dashboard in a real browser, on a study that was really trained."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.xdist_group("dashboard"),
]
SPACE = """
from tuner import Recipe, maximize, use

GOAL = maximize("iou")


def suggest(trial):
    lr = trial.suggest_float("lr", 1e-3, 1e-2, log=True)
    data = use("shapes", image_size=32)
    return Recipe("binary", data, use("unet", k=4), use("bce"), use("adam", lr=lr), epochs=2)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a study of two trials was run."""
    folder = tmp_path_factory.mktemp("dashboard")
    (folder / "tiny.py").write_text(SPACE)
    command = [sys.executable, "-m", "tuner.cli", "run", "--space", "tiny.py", "--trials", "2"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=200)
    return folder


def hear_interrupts() -> None:
    """Ctrl-C is ignored by what a shell starts in the background, and by all that this starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """`tuner dashboard` as a user starts it; its own first line says where it is."""
    command = [sys.executable, "-m", "tuner.cli", "dashboard", "--port", "0"]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, text=True, env=env, preexec_fn=hear_interrupts
    )
    assert server.stdout
    try:
        yield server.stdout.readline().split()[0]
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        yield page
        browser.close()


def get(address: str, path: str) -> bytes:
    with urllib.request.urlopen(address.removesuffix("/dashboard/") + path, timeout=20) as answer:
        return answer.read()


def test_it_listens_on_loopback_and_says_where(address: str) -> None:
    assert address.startswith("http://127.0.0.1:")


def test_the_study_is_listed(page: object, address: str) -> None:
    page.goto(address)
    page.get_by_text("tiny").first.wait_for()


def test_a_trial_shows_its_note_and_its_pictures(page: object, address: str) -> None:
    page.goto(f"{address}studies/1/trials?numbers=0")
    page.get_by_text("best iou at epoch").first.wait_for()
    image = page.locator("img[src*='artifacts']").first
    image.wait_for()
    assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100


def test_every_trial_has_curves_predictions_and_a_note(address: str) -> None:
    study = json.loads(get(address, "/api/studies/1?after=0"))
    assert len(study["trials"]) == 2
    for trial in study["trials"]:
        names = {artifact["filename"] for artifact in trial["artifacts"]}
        assert names - {"explanation.png"} == {
            *("strip.png", "predictions.png", "curves.png", "quality.png", "details.json", "confusion.csv")
        }
        assert '"version": 2' in trial["note"]["body"]
        for artifact in trial["artifacts"]:
            body = get(address, f"/artifacts/1/{trial['trial_id']}/{artifact['artifact_id']}")
            assert body.startswith(b"\x89PNG") is artifact["filename"].endswith(".png")


def test_another_address_than_loopback_is_refused(folder: Path) -> None:
    command = [sys.executable, "-m", "tuner.cli", "dashboard", "--host", "0.0.0.0"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "0.0.0.0 is not allowed" in done.stderr


def test_a_taken_port_is_named(folder: Path, address: str) -> None:
    port = address.split(":")[2].split("/")[0]
    command = [sys.executable, "-m", "tuner.cli", "dashboard", "--port", port]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and f"port {port}" in done.stderr and "--port" in done.stderr


def test_without_a_study_it_says_how_to_begin(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tuner.cli", "dashboard"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "tuner run" in done.stderr and not list(tmp_path.iterdir())
