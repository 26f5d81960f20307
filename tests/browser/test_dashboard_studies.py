"""What the dashboard's page says of whole studies in a real browser: importances, and whether one was deleted."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import CHROMIUM, SPACE, chromium, dashboard
from helpers.command_line import run, start_python, wait_for
from helpers.search_studies import add, open_study, study_data

from tuner.paths import Home
from tuner.report.figures import make_figures
from tuner.report.importance import param_importances
from tuner.study import queries, tables

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.xdist_group("dashboard"),
]
PANEL = """
[...document.querySelectorAll('.js-plotly-plot')]
    .filter(plot => JSON.stringify(plot.layout.xaxis ?? '').includes('Hyperparameter Importance'))
    .flatMap(plot => plot.data.flatMap(bars => bars.y.map((name, at) => [name, bars.x[at], bars.text[at]])))
"""


@pytest.fixture
def page() -> Iterator[Any]:
    with chromium() as browser:
        yield browser.new_page(viewport={"width": 1280, "height": 1000})


def test_the_panel_of_importances_draws_the_numbers_of_the_report(page: Any, tmp_path: Path) -> None:
    Home(tmp_path / "runs").make()
    rng, joined = np.random.default_rng(3), open_study(tmp_path / "runs")
    for _ in range(24):
        loss = str(rng.choice(["bce", "dice", "focal"]))
        params = {"lr": float(10 ** rng.uniform(-5, -2)), "k": int(rng.integers(4, 33)) * 2, "loss": loss}
        add(joined, params, [0.5 + 0.2 * (loss == "dice") + float(rng.normal(0, 0.01))])
    found = study_data(joined)
    (told,) = param_importances(found).told
    says = {figure.name: figure.says for figure in make_figures(found)}["importance"]
    joined.engine.dispose()
    assert told.name == "loss" and says.startswith("loss matters most")
    with dashboard(tmp_path) as address:
        page.goto(f"{address}studies/1")
        page.get_by_text("Hyperparameter Importance").first.wait_for()
        page.wait_for_function(f"{PANEL}.length")
        ((name, share, text),) = page.evaluate(PANEL)
    assert (name, share) == ("loss", pytest.approx(told.share)) and float(text) == pytest.approx(share, abs=0.01)
    assert f"{share:.0%}" in says


def test_a_study_is_deleted_with_its_files_once_nobody_works_on_it(page: Any, tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(SPACE.format(epochs=100_000))
    begin = ("run", "--space", "tiny.py", "--trials", "1", "--artifacts", str(tmp_path / "store"))
    worker = start_python("tuner.cli", *begin, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    trials = tmp_path / "runs" / "trials"
    try:
        wait_for(lambda: [*trials.rglob("best.safetensors")], worker)
        with dashboard(tmp_path) as address:
            delete(page, address)
            page.get_by_role("alert").get_by_text("nothing was deleted: 1 worker of study 'tiny'").wait_for()
            assert [*trials.rglob("best.safetensors")]
            worker.send_signal(signal.SIGINT)
            assert worker.wait(60) is not None
            delete(page, address)
            page.get_by_text("Success to delete a study (id=1)").wait_for()
            page.get_by_text("study 'tiny' is deleted").wait_for()
            assert page.get_by_text("Failed").count() == 0
            page.reload()
            page.get_by_text("tiny").wait_for(state="detached")
    finally:
        worker.kill()
        worker.wait()
    assert [*trials.iterdir()] == [*(tmp_path / "store").rglob("best*")] == []
    engine = tables.open_to_read(Home(tmp_path / "runs").database)
    assert queries.read_studies(engine) == []
    engine.dispose()


def delete(page: Any, address: str) -> None:
    """Click what deletes the only study."""
    page.goto(address)
    page.get_by_text("tiny").first.wait_for()
    page.locator("button[aria-label='delete study']").click()
    page.get_by_role("button", name="Yes").click()


def test_the_commands_go_on_after_the_study_is_deleted(page: Any, tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(SPACE.format(epochs=1))
    again = ("run", "--space", "tiny.py", "--trials", "1")
    assert run(tmp_path, *again).returncode == 0
    with dashboard(tmp_path) as address:
        delete(page, address)
        page.get_by_text("Success to delete a study (id=1)").wait_for()
    assert run(tmp_path, *again).returncode == 0 and len([*(tmp_path / "runs" / "trials").iterdir()]) == 1
