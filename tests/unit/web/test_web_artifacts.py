"""Artifacts: only those that a trial or study names, and never as code that a browser runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers.made_studies import make_study
from helpers.wsgi_client import Answer, ask, nothing_behind
from optuna.artifacts import upload_artifact

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.paths import Home
from tuner.study.study import JoinedStudy
from tuner.web.artifacts import ArtifactMiddleware

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels" * 20_000


@dataclass
class Shown:
    """Two studies of two trials in one database, and the app that shows their artifacts."""

    folder: Path
    joined: JoinedStudy
    other: JoinedStudy
    pictures: TrialArtifacts
    app: ArtifactMiddleware

    def put(self, name: str = "curves.png", body: bytes = PNG, kind: str | None = None, at: object = None) -> str:
        (self.folder / name).write_bytes(body)
        at = at or self.joined.study.trials[0]
        return upload_artifact(
            artifact_store=self.pictures, file_path=str(self.folder / name), study_or_trial=at,
            storage=self.joined.storage, mimetype=kind,
        )  # fmt: skip

    def get(self, artifact: str, trial: int = 1, study: int = 1, **given: str) -> Answer:
        return ask(self.app, f"/artifacts/{study}/{trial}/{artifact}", **given)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """For all tests: each has artifacts of its own."""
    folder = tmp_path_factory.mktemp("shown")
    joined, other = make_study(folder, "one"), make_study(folder, "two")
    for study in (joined.study, other.study, joined.study):  # trials 1 and 3 of the first, 2 of the second
        study.ask()
    pictures = TrialArtifacts(Home(folder / "home").make())
    yield Shown(folder, joined, other, pictures, ArtifactMiddleware(nothing_behind, joined.engine, pictures))
    joined.engine.dispose()
    other.engine.dispose()


def test_a_picture_is_shown_where_its_trial_names_it(shown: Shown) -> None:
    artifact = shown.put()
    found = shown.get(artifact)
    assert (found.code, found.body, found.headers["Content-Type"]) == (200, PNG, "image/png")
    assert found.headers["Content-Length"] == str(len(PNG))
    assert found.headers["Content-Disposition"] == "inline; filename*=UTF-8''curves.png"
    head = shown.get(artifact, method="HEAD")
    assert head.code == 200 and head.body == b"" and head.headers["Content-Length"] == str(len(PNG))


def test_it_is_shown_under_no_other_trial_or_study(shown: Shown) -> None:
    artifact, of_study = shown.put(), shown.put(at=shown.joined.study)
    for trial, study in ((2, 1), (3, 1), (1, 2), (2, 2), (99, 1), (1, 99)):
        assert shown.get(artifact, trial, study).code == 404
    assert ask(shown.app, f"/artifacts/1/{artifact}").code == 404  # a trial's is not its study's
    assert ask(shown.app, f"/artifacts/1/{of_study}").code == 200
    assert ask(shown.app, f"/artifacts/2/{of_study}").code == shown.get(of_study).code == 404


def test_what_no_trial_names_is_not_served_though_it_lies_there(shown: Shown) -> None:
    (shown.pictures.home.artifacts).mkdir(exist_ok=True)
    (shown.pictures.home.artifacts / "0123abcd").write_bytes(PNG)
    assert shown.get("0123abcd").code == 404


@pytest.mark.parametrize(
    "artifact",
    [
        "..", "../tuner.db", "..%2f..%2ftuner.db", "%2e%2e%2ftuner.db", "..%5ctuner.db", "%2fetc%2fpasswd",
        "%00", "ab%00.png", "ab%0d%0ax", "", "a/b/c", ".", "~", "tuner.db", "a" * 65, "%", "*", "ab;", "%25", "%_",
    ],
)  # fmt: skip
def test_tricks_find_nothing(shown: Shown, artifact: str) -> None:
    shown.put()
    for target in (f"/artifacts/1/1/{artifact}", f"/artifacts/1/{artifact}", f"/artifacts/{artifact}"):
        refused = ask(shown.app, target)
        assert refused.code == 404 and b"no such artifact" in refused.body


def test_numbers_that_are_none_find_nothing(shown: Shown) -> None:
    artifact = shown.put()
    for numbers in ("1/-1", "x/1", "1/1e0", "1/" + "9" * 18, "9" * 30 + "/1", "1/١"):
        assert ask(shown.app, f"/artifacts/{numbers}/{artifact}").code == 404
    assert shown.get(artifact, method="POST").code == 404


@pytest.mark.parametrize(
    ("name", "kind", "sent"),
    [
        ("page.html", None, "application/octet-stream"),
        ("page.html", "TEXT/HTML; charset=utf-8", "application/octet-stream"),
        ("code.js", None, "application/octet-stream"),
        ("code.mjs", "application/javascript", "application/octet-stream"),
        ("drawing.svg", None, "image/svg+xml"),
        ("page.xhtml", None, "application/octet-stream"),
        ("feed.xml", "application/xml", "application/octet-stream"),
        ("paper.pdf", None, "application/octet-stream"),
        ("odd", "image/png\r\nSet-Cookie: x=y", "application/octet-stream"),
        ("table.csv", None, "text/csv"),
        ("log.txt", None, "text/plain"),
        ("details.json", None, "application/json"),
    ],
)
def test_nothing_runs_and_what_is_no_picture_is_downloaded(
    shown: Shown, name: str, kind: str | None, sent: str
) -> None:
    found = shown.get(shown.put(name, b"<script>alert(1)</script>", kind))
    assert found.code == 200 and found.headers["Content-Type"] == sent
    assert found.headers["Content-Disposition"].startswith("attachment; ")
    assert found.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert "Set-Cookie" not in found.headers and "Access-Control-Allow-Origin" not in found.headers


@pytest.mark.parametrize(
    ("name", "kind"), [("a.mp4", "video/mp4"), ("a.wav", "audio/x-wav"), ("a.webp", "image/webp")]
)
def test_film_and_sound_are_shown(shown: Shown, name: str, kind: str) -> None:
    found = shown.get(shown.put(name, b"bytes", kind))
    assert found.headers["Content-Type"] == kind and found.headers["Content-Disposition"].startswith("inline")


def test_a_name_cannot_add_a_header(shown: Shown) -> None:
    artifact = shown.put()
    key = f"artifacts:{artifact}"
    told = {
        "artifact_id": artifact,
        "filename": 'a"\r\nX: y ü/../z.png',
        "mimetype": "image/png",
        "encoding": None,
    }
    shown.joined.storage.set_trial_system_attr(1, key, json.dumps(told))
    name = shown.get(artifact).headers["Content-Disposition"].removeprefix("inline; filename*=UTF-8''")
    assert name == "a%22%0D%0AX%3A%20y%20%C3%BC%2F..%2Fz.png"


def test_one_that_was_deleted_or_whose_file_is_gone_or_whose_record_is_damaged_is_not_there(shown: Shown) -> None:
    deleted, lost, odd = shown.put(), shown.put(), shown.put()
    storage = shown.joined.storage
    storage.set_trial_system_attr(1, f"artifacts:{deleted}", json.dumps(None))
    storage.set_trial_system_attr(1, f"artifacts:{odd}", "{damaged")
    (shown.pictures.home.artifacts / lost).unlink()
    assert [shown.get(artifact).code for artifact in (deleted, lost, odd)] == [404, 404, 404]
    assert b"is gone" in shown.get(lost).body


def test_records_of_earlier_dashboards_are_read_too(shown: Shown) -> None:
    artifact = shown.put(at=shown.other.study.trials[0])
    told = {"artifact_id": artifact, "filename": "old.png", "mimetype": "image/png", "encoding": None}
    key = f"dashboard:artifacts:1:{artifact}"
    shown.joined.storage.set_study_system_attr(1, key, json.dumps(told))
    assert shown.get(artifact).code == 200 and shown.get(artifact, 3).code == 404


def test_all_else_is_left_to_the_app_behind(shown: Shown) -> None:
    assert ask(shown.app, "/api/studies").body == b"behind /api/studies"
    assert ask(shown.app, "/api/artifacts/1/1", "POST").body == b"behind /api/artifacts/1/1"
