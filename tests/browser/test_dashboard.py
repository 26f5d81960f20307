"""The dashboard in a real browser, on a study that was really trained."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.browser import CHROMIUM, SPACE, chromium, dashboard
from helpers.command_line import run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.xdist_group("dashboard"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a study of two trials was run."""
    folder = tmp_path_factory.mktemp("dashboard")
    (folder / "tiny.py").write_text(SPACE.format(epochs=2))
    assert run(folder, "run", "--space", "tiny.py", "--trials", "2").returncode == 0
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with dashboard(folder) as address:
        yield address


@pytest.fixture(scope="module")
def page() -> Iterator[object]:
    with chromium() as browser:
        yield browser.new_page(viewport={"width": 1280, "height": 1000})


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


def test_a_trial_is_no_wider_than_the_window_and_its_pictures_come_first(page: object, address: str) -> None:
    page.goto(f"{address}studies/1/trials?numbers=0")
    page.get_by_text("made_with").first.wait_for()
    page.locator("img[src*='artifacts']").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("[...document.querySelectorAll('main pre *, main p')].every("
                         "one => one.getBoundingClientRect().right <= innerWidth)")  # fmt: skip
    tops = [page.get_by_text(text, exact=True).first.bounding_box()["y"]
            for text in ("Artifacts", "Note", "User Attributes")]  # fmt: skip
    assert tops == sorted(tops)
    assert page.locator("main p").get_by_text("recipe {").count() == 0  # the note shows it


HEADS = {".png": b"\x89PNG", ".json": b"{", ".csv": b"truth"}  # how a file of each kind begins


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
            assert body.startswith(HEADS[Path(artifact["filename"]).suffix])


def test_another_address_than_loopback_is_refused_without_a_password(folder: Path) -> None:
    done = run(folder, "dashboard", "--host", "0.0.0.0")
    assert done.returncode == 2 and "0.0.0.0 it needs a password" in done.stderr


def test_a_taken_port_is_named(folder: Path, address: str) -> None:
    port = address.split(":")[2].split("/")[0]
    done = run(folder, "dashboard", "--port", port)
    assert done.returncode == 2 and f"port {port}" in done.stderr and "--port" in done.stderr


def test_without_a_study_it_says_how_to_begin(tmp_path: Path) -> None:
    done = run(tmp_path, "dashboard")
    assert done.returncode == 2 and "tuner run" in done.stderr and not list(tmp_path.iterdir())
