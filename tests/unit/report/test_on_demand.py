"""Pictures that are drawn when they are looked at: by whom, from what, and what is kept of them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from helpers.made_studies import add_trial, make_best, make_run, make_study, record
from helpers.wsgi_client import Answer, ask, nothing_behind
from optuna.artifacts.exceptions import ArtifactNotFound
from optuna.trial import TrialState
from PIL import Image

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.artifacts.store import FolderStore
from tuner.errors import FilesError
from tuner.export.bundle import export_bundle, verify_bundle
from tuner.paths import Home
from tuner.recipe import Recipe, Stage
from tuner.report import on_demand
from tuner.report.on_demand import DrawRequest, open_artifact
from tuner.report.study_data import read_study
from tuner.report.trial_files import read_trial_file
from tuner.study import queries
from tuner.study.study import JoinedStudy
from tuner.study.tables import claim_table
from tuner.train import details
from tuner.train.details import Details
from tuner.web.artifacts import ArtifactMiddleware

ROWS = [
    {"epoch": at, "train_iou": 0.4 + at / 10, "val_iou": 0.3 + at / 10, "val_loss": 1 / at} for at in (1, 2, 3)
]
NUMBERS = Details(
    2, ["background", "object"], confusion=[[90, 10], [5, 95]], iou={"background": 0.8, "object": 0.7}
)
IDS = {"curves.png": "aaaa", "quality.png": "bbbb", "details.json": "cccc"}


def body(numbers: Details = NUMBERS) -> bytes:
    return json.dumps(numbers.to_json()).encode()


def size(picture: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(picture)) as found:
        return found.size


def records(**changes: Any) -> DrawRequest:
    return replace(DrawRequest("iou", ROWS, {"result": {"best_epoch": 2}}, body), **changes)


@pytest.fixture
def artifacts(tmp_path: Path) -> TrialArtifacts:
    return TrialArtifacts(Home(tmp_path / "home").make())


def drawn(artifacts: TrialArtifacts, name: str, find: Callable[[], DrawRequest | None] = records) -> bytes:
    with open_artifact(artifacts, IDS[name], name, find) as file:
        return file.read()


def hung(artifacts: TrialArtifacts) -> list[str]:
    return sorted(path.name for path in artifacts.home.artifacts.iterdir())


# --- one picture ---


def test_it_is_drawn_once_and_kept(artifacts: TrialArtifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    first = drawn(artifacts, "curves.png")
    assert size(first)[0] > 400 and hung(artifacts) == ["aaaa"]
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert drawn(artifacts, "curves.png", lambda: None) == first


def test_of_a_trial_that_goes_on_it_is_not_kept(artifacts: TrialArtifacts) -> None:
    assert drawn(artifacts, "curves.png", lambda: records(ended=False)) and not hung(artifacts)


def test_a_home_that_cannot_be_written_to_shows_it_all_the_same(
    artifacts: TrialArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise FilesError("the disk is full")

    monkeypatch.setattr(TrialArtifacts, "write", full)
    assert size(drawn(artifacts, "quality.png"))


def test_what_is_no_late_picture_is_gone_when_it_is_gone(artifacts: TrialArtifacts) -> None:
    def never() -> DrawRequest:
        raise AssertionError("nothing is read for it")

    with pytest.raises(ArtifactNotFound):
        open_artifact(artifacts, "aaaa", "predictions.png", never)


def missing() -> bytes:
    raise LookupError


@pytest.mark.parametrize(
    "found",
    [missing, lambda: b"", lambda: b"{", lambda: b"null", lambda: b'{"version": 9}', lambda: body(Details(1, []))],
)
def test_without_details_quality_is_gone_and_the_curves_are_drawn(
    artifacts: TrialArtifacts, found: Callable[[], bytes]
) -> None:
    without = records(details=found)
    with pytest.raises(ArtifactNotFound):
        drawn(artifacts, "quality.png", lambda: without)
    assert size(drawn(artifacts, "curves.png", lambda: without))
    assert hung(artifacts) == ["aaaa"]


@pytest.mark.parametrize(
    "notes", [{}, {"result": None, "recipe": 3}, {"result": {"best_epoch": "x"}, "recipe": {}}]
)
def test_notes_that_cannot_be_read_cost_the_marks_alone(notes: dict[str, Any]) -> None:
    charts = on_demand.curve_charts(records(notes=notes))
    assert [chart.title for chart in charts] == ["iou", "loss"] and not any(chart.marks for chart in charts)


def test_the_curves_mark_the_best_epoch_and_the_stages(toy_recipe: Recipe) -> None:
    staged = replace(toy_recipe, stages=(Stage(epochs=1), Stage(epochs=2)))
    charts = on_demand.curve_charts(records(notes={"result": {"best_epoch": 2}, "recipe": staged.to_json()}))
    assert charts[0].marks == [(2.0, "best"), (1.5, "stage 2")]


def test_many_who_ask_at_once_get_the_same_picture_drawn_once(
    artifacts: TrialArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    times: list[int] = []
    plain = on_demand.charts_to_png

    def counted(charts: Any) -> bytes:
        times.append(1)
        return plain(charts)

    monkeypatch.setattr(on_demand, "charts_to_png", counted)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(drawn, artifacts, "curves.png") for _ in range(8)]
        found = {one.result() for one in asked}
    assert len(found) == len(times) == 1 and hung(artifacts) == ["aaaa"]


# --- the dashboard ---


@dataclass
class Shown:
    """A study of a finished trial that names its pictures, as a worker leaves it, and the app that shows them."""

    joined: JoinedStudy
    artifacts: TrialArtifacts
    app: ArtifactMiddleware

    def name(self, trial: int = 1) -> None:
        for name, key in IDS.items():
            told = json.dumps({"artifact_id": key, "filename": name, "mimetype": "image/png", "encoding": None})
            frozen = self.joined.storage
            frozen.set_trial_system_attr(trial, f"artifacts:{key}", told)

    def get(self, name: str, **given: str) -> Answer:
        return ask(self.app, f"/artifacts/1/1/{IDS[name]}", **given)


@pytest.fixture
def shown(tmp_path: Path, artifacts: TrialArtifacts) -> Any:
    joined = make_study(tmp_path)
    made = Shown(joined, artifacts, ArtifactMiddleware(nothing_behind, joined.engine, artifacts))
    add_trial(joined, [0.4, 0.6], TrialState.RUNNING)
    made.name()
    yield made
    joined.engine.dispose()


def end(shown: Shown) -> None:
    shown.joined.study.tell(0, 0.6)


def test_the_dashboard_draws_what_a_trial_names(shown: Shown) -> None:
    end(shown)
    assert shown.get("quality.png").code == 404  # its numbers have not come yet
    shown.artifacts.write(IDS["details.json"], io.BytesIO(body()))
    for name in ("curves.png", "quality.png"):
        found = shown.get(name)
        assert found.code == 200 and found.headers["Content-Type"] == "image/png"
        assert size(found.body) and found.headers["Content-Length"] == str(len(found.body))
    assert hung(shown.artifacts) == sorted(IDS.values())
    head = shown.get("curves.png", method="HEAD")
    assert head.code == 200 and not head.body


def test_of_a_running_trial_it_draws_what_there_is_now(shown: Shown) -> None:
    first = shown.get("curves.png").body
    record(shown.joined, 1, 3, 0.7)
    assert shown.get("curves.png").body != first and not hung(shown.artifacts)
    assert shown.get("quality.png").code == 404 and b"is gone" in shown.get("quality.png").body


def test_of_a_paused_trial_it_is_drawn_each_time(shown: Shown) -> None:
    shown.joined.study.tell(0, state=TrialState.PRUNED)
    with shown.joined.engine.begin() as db:
        db.execute(sa.insert(claim_table).values(study_id=1, slot=1, trial_id=1, paused_at=2))
    assert shown.get("curves.png").code == 200 and not hung(shown.artifacts)


def test_the_numbers_of_another_host_come_from_the_store(shown: Shown, tmp_path: Path) -> None:
    end(shown)
    (tmp_path / "cccc").write_bytes(body())
    store = FolderStore(tmp_path / "store")
    store.put(tmp_path / "cccc", f"artifacts/{IDS['details.json']}")
    artifacts = TrialArtifacts(Home(tmp_path / "other").make(), [store])
    app = ArtifactMiddleware(nothing_behind, shown.joined.engine, artifacts)
    assert ask(app, f"/artifacts/1/1/{IDS['quality.png']}").code == 200
    assert store.names("") == [f"artifacts/{IDS['details.json']}"]  # what can be drawn again is not sent


# --- reports and bundles ---


@pytest.mark.slow
def test_a_report_draws_them(shown: Shown) -> None:
    end(shown)
    shown.artifacts.write(IDS["details.json"], io.BytesIO(body()))
    story = read_study(shown.joined.engine, queries.find_study(shown.joined.engine, "made"))
    (trial,) = story.trials
    for name in ("curves.png", "quality.png"):
        assert size(read_trial_file(trial, name, shown.artifacts, story.metric))
    assert read_trial_file(trial, "curves.png", shown.artifacts) == shown.get("curves.png").body
    shown.artifacts.remove(IDS["details.json"]), shown.artifacts.remove(IDS["quality.png"])
    with pytest.raises(LookupError, match="was deleted"):
        read_trial_file(trial, "quality.png", shown.artifacts)


def test_a_bundle_has_what_nobody_looked_at(tmp_path: Path, toy_recipe: Recipe) -> None:
    run = make_run(toy_recipe, tmp_path / "run")
    for file in run.lazy_pictures:
        file.unlink()
    details.write_details(NUMBERS, run.details)
    made = export_bundle(make_best(toy_recipe), run, tmp_path / "best", force=False)
    verify_bundle(made)
    for file in run.lazy_pictures:
        with Image.open(made / file.name) as found:
            assert np.asarray(found.convert("L")).std() > 1
        assert not file.exists() and f"]({file.name})" in (made / "card.md").read_text()


def test_a_bundle_takes_those_of_earlier_versions_as_they_are(tmp_path: Path, toy_recipe: Recipe) -> None:
    run = make_run(toy_recipe, tmp_path / "run")
    made = export_bundle(make_best(toy_recipe), run, tmp_path / "best", force=False)
    assert all((made / file.name).read_bytes() == file.name.encode() for file in run.lazy_pictures)
