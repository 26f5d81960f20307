"""Malformed requests are refused with a reason and change nothing; the page's own are answered as before."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from helpers.made_studies import add_trial, make_study
from helpers.wsgi_client import HERE, Answer, ask
from optuna.trial import TrialState

from tuner.paths import Home
from tuner.study.storage import open_storage
from tuner.web.api_routes import ROUTES
from tuner.web.dashboard_compat import dashboard_app
from tuner.web.server import ServerOptions, build_app, open_artifacts
from tuner.web.study_api import StudyApi

PAGE = {"origin": f"http://{HERE}"}
FINISHED, RUNNING, FAILED, ELSEWHERE = 1, 2, 3, 4  # ids of trials; the last one is of study 2
PREFERENTIAL = 2
CHOICE = {"candidates": [0, 1], "clicked": 1, "mode": "ChooseWorst"}
Send = Callable[..., Answer]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database with a study, its trials, and a study whose trials people compare."""
    folder = tmp_path_factory.mktemp("made")
    joined = make_study(folder)
    add_trial(joined, [0.5])
    add_trial(joined, [0.4], TrialState.RUNNING)
    add_trial(joined, [], TrialState.FAIL)
    storage = joined.storage
    compared = optuna.create_study(storage=storage, study_name="compared")
    storage.set_study_system_attr(PREFERENTIAL, "preference:is_preferential", True)
    for _ in range(2):
        compared.ask()
    joined.engine.dispose()
    return folder / "tuner.db"


@pytest.fixture
def database(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path))


@pytest.fixture
def app(database: Path) -> Iterator[Any]:
    storage, engine = open_storage(f"sqlite:///{database}")
    pictures = open_artifacts(engine, Home(database.parent).make(), None)
    yield build_app(StudyApi(dashboard_app(storage, pictures), storage, engine), pictures, ServerOptions())
    engine.dispose()


@pytest.fixture
def send(app: Any) -> Send:
    """Return a function that sends what a page of the dashboard would."""
    return lambda method, target, body=None, **more: ask(app, target, method, json=body, **(PAGE | more))


def dump(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as db:
        return [*db.iterdump()]


def reason(answer: Answer) -> str:
    assert answer.headers["Content-Type"] == "application/json"
    found = json.loads(answer.body)["reason"]
    assert isinstance(found, str) and len(found) < 500 and found.isprintable()
    return found


# What is refused

NOTHING: list[Any] = [None, [], {}, 5, "\0", 10**30, 1.5, True, "x" * 5000, {"a": 1}, [None], ["a"], [[]]]
NAMES = sorted({name for route in ROUTES for name in (*route.needed, *route.optional)})
BODIES = [
    *(b"", b"[]", b"null", b"5", b'"a"', b"{}", b"{{{", b"\xff\xfe", b"[" * 100_000, b'{"a": ' * 200),
    *(
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"version": NaN, "body": ""}',
        b'{"version": 1e999}',
        b'{"body": "\\ud800"}',
    ),
    *(json.dumps(dict.fromkeys(NAMES, value)).encode() for value in NOTHING),
]
IDS = ["1", "0", "999", "-1", "1" + "0" * 23, "9" * 5000, "abc", "1.5", "%00", "%D9%A3", "%FF", "1%0A", ""]
QUERIES = ["after=abc", "after=-5", "after=", "after=1e3", "after=" + "9" * 5000, "trial_ids=x", "trial_ids=9"]


def paths() -> Iterator[tuple[str, str]]:
    """Yield every method and path with every id."""
    for route in ROUTES:
        for value in IDS if "STUDY" in route.path or "TRIAL" in route.path else IDS[:1]:
            path = route.path.replace("STUDY", value).replace("TRIAL", value)
            yield route.method, path.replace("PLOT", "edf").replace("FILE", "x").replace("HISTORY", "ab-1")


def test_no_malformed_request_is_answered_with_500_or_changes_anything(app: Any, database: Path) -> None:
    before = dump(database)
    for method, path in paths():
        bodies = BODIES if "/1/" in path or path.endswith(("/1", "studies")) else BODIES[:2]
        deletes_all = method == "DELETE" and path == "/api/studies/1"
        for body in [b"[]", *bodies[1:5]] if deletes_all else bodies if method != "GET" else [b""]:
            answer = ask(app, path.replace("ARTIFACT", "ab"), method, raw=body)
            shown = f"{method} {path[:60]} {body[:40]!r}: {answer.code} {answer.body[:80]!r}"
            assert answer.code < (300 if method == "GET" else 0) or 400 <= answer.code < 500, shown
            assert answer.code < 400 or reason(answer), shown
        assert method == "GET" or dump(database) == before, f"{method} {path[:60]}"


def test_no_parameter_is_answered_with_500(send: Send) -> None:
    for path in ("/api/studies", "/api/studies/1", "/api/studies/2", "/csv/1", "/api/meta"):
        for query in QUERIES:
            answer = send("GET", f"{path}?{query}")
            assert answer.code in (200, 400, 404) and (answer.code == 200 or reason(answer))
            if query.startswith("after"):
                assert answer.code == 400 and reason(answer) == "the parameter after is not a whole number"


def test_other_methods_are_refused(send: Send) -> None:
    for path in ("/api/studies", "/api/studies/1/note", "/api/x", "/", "/dashboard/", "/csv/1"):
        for method in ("PATCH", "OPTIONS", "TRACE"):
            answer = send(method, path)
            assert answer.code in (404, 405) and reason(answer)


REFUSED: list[tuple[str, str, Any, int, str]] = [
    ("DELETE", "/api/studies/" + "1" + "0" * 23, None, 404, "there is no study 100000000000000000..."),
    ("DELETE", "/api/studies/999", None, 404, "there is no study 999"),
    ("PUT", "/api/studies/1/note", None, 400, "version is missing; a whole number"),
    ("PUT", "/api/studies/1/note", [], 400, "not a JSON object"),
    ("PUT", "/api/studies/1/note", {"version": True, "body": ""}, 400, "version is not a whole number"),
    ("PUT", "/api/studies/1/note", {"version": 1, "body": 5}, 400, "body is not a text"),
    ("PUT", "/api/studies/1/note", {"version": 7, "body": ""}, 409, "has changed"),
    ("PUT", "/api/studies/1/4/note", {"version": 1, "body": ""}, 404, "study 1 has no trial of the id 4"),
    ("POST", "/api/studies", {"study_name": "a\nb", "directions": ["minimize"]}, 400, "control characters"),
    ("POST", "/api/studies", {"study_name": "a", "directions": ["up"]}, 400, "directions is not a list"),
    ("POST", "/api/studies", {"study_name": "made", "directions": ["minimize"]}, 400, "already exists"),
    ("POST", "/api/trials/2/tell", {"state": "Running"}, 400, "state is not Complete or Fail"),
    ("POST", "/api/trials/2/tell", {"state": "Complete"}, 400, "values attribute is required"),
    ("POST", "/api/trials/2/tell", {"state": "Complete", "values": [1, 2]}, 400, "values has 2 numbers; 1 needed"),
    ("POST", "/api/trials/2/tell", {"state": "Complete", "values": ["inf"]}, 400, "values is not a list"),
    ("POST", "/api/trials/1/tell", {"state": "Fail"}, 409, "the trial is finished"),
    ("POST", "/api/trials/1/user-attrs", {"user_attrs": {"a": 1}}, 409, "the trial is finished"),
    ("POST", "/api/trials/9/user-attrs", {"user_attrs": {"a": 1}}, 404, "has no trial of the id 9"),
    ("POST", "/api/trials/2/user-attrs", {"user_attrs": {"\x00": 1}}, 400, "user_attrs is not"),
    ("POST", "/api/artifacts/1", {"file": "data:,"}, 400, "file is not a data URL in base64"),
    ("POST", "/api/artifacts/1", {"file": "data:a/b;base64,abcde"}, 400, "base64"),
    ("POST", "/api/artifacts/1", {"file": "data:;base64,YQ==", "filename": 5}, 400, "filename is not"),
    ("DELETE", "/api/artifacts/1/ab-1", None, 404, "no such artifact"),
    ("POST", "/api/studies/1/preference", CHOICE, 400, "not preferential"),
    ("POST", "/api/studies/2/preference", CHOICE | {"candidates": [0, 9]}, 400, "not all candidates"),
    ("DELETE", "/api/studies/2/preference/ab", None, 404, "ab is not found"),
    ("GET", "/api/studies/1/plot/pie", None, 404, "pie is not supported"),
    ("GET", "/api/studies/1/plot/pareto_front", None, 400, "objective"),
    ("GET", "/static/nothing.js", None, 404, "nothing at /static/nothing.js"),
    ("GET", "/api/nothing", None, 404, "no such address"),
    ("PUT", "/api/studies/1", {}, 405, "this address takes GET, DELETE only"),
]


def test_the_reason_says_what_is_wrong(send: Send, database: Path) -> None:
    before = dump(database)
    for method, path, body, code, said in REFUSED:
        answer = send(method, path, body)
        assert answer.code == code and said in reason(answer), (method, path, body, answer.body)
        assert dump(database) == before


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"CONTENT_LENGTH": "abc"}, 400),
        ({"CONTENT_LENGTH": "-5"}, 400),
        ({"CONTENT_LENGTH": "1" * 5000}, 413),
        ({"CONTENT_LENGTH": str(2 << 20)}, 413),
        ({"CONTENT_LENGTH": "500"}, 400),  # the body is shorter
        ({"CONTENT_TYPE": "text/plain"}, 415),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, 411),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(app: Any, headers: dict[str, str], code: int) -> None:
    answer = ask(
        lambda environ, start: app(environ | headers, start), "/api/studies/1/note", "PUT", raw=b"{}", **PAGE
    )
    assert answer.code == code and reason(answer)


def test_a_path_that_is_not_utf8_reaches_nothing(send: Send) -> None:
    """optuna-dashboard drops such bytes from a path, so that it would serve artifacts without our safe headers."""
    file = {"file": "data:text/html;base64,PGI+", "filename": "a.html"}
    artifact = json.loads(send("POST", "/api/artifacts/1", file).body)["artifact_id"]
    assert send("GET", f"/artifacts/1/{artifact}").headers["Content-Security-Policy"].startswith("sandbox")
    for path in (f"/arti%FFfacts/1/{artifact}", f"/%FFartifacts/1/{artifact}", "/ap%FFi/studies", "/cs%FFv/1"):
        answer = send("GET", path)
        assert answer.code == 404 and reason(answer)


def test_what_the_server_itself_cannot_do_is_told_in_one_line(
    app: Any, send: Send, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise AttributeError("no such\nthing")

    monkeypatch.setattr(StudyApi, "list_studies", fail)
    answer = send("GET", "/api/studies")
    assert answer.code == 503 and "AttributeError: no such" in reason(answer)
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "tuner: GET /api/studies cannot be answered: AttributeError: no such"


# What is answered as before


def test_the_page_loads_for_clients_that_accept_nothing(send: Send) -> None:
    assert send("GET", "/favicon.ico").code == send("GET", "/static/bundle.js").code == 200
    assert send("GET", "/static/bundle.js", accept_encoding="gzip").headers["Content-Encoding"] == "gzip"
    assert send("HEAD", "/api/meta").code == 200


def test_notes_are_saved(send: Send) -> None:
    text = "größer ∂ \\ud800 " * 1000
    assert send("PUT", "/api/studies/1/note", {"version": 1, "body": text}).code == 200
    assert send("PUT", f"/api/studies/1/{FINISHED}/note/", {"version": 1, "body": "seen"}).code == 200
    found = json.loads(send("GET", "/api/studies/1?after=0").body)
    assert found["note"] == {"version": 1, "body": text} and found["trials"][0]["note"]["body"] == "seen"


def test_studies_are_made_renamed_and_deleted(send: Send) -> None:
    new = {"study_name": "neu: größer", "directions": ["minimize", "MAXIMIZE"]}
    made = json.loads(send("POST", "/api/studies", new).body)["study_summary"]
    assert made["directions"] == ["minimize", "maximize"]
    assert json.loads(send("GET", f"/api/studies/{made['study_id']}").body)["trials"] == []
    renamed = json.loads(send("POST", "/api/studies/1/rename", {"study_name": "other"}).body)
    assert renamed["study_name"] == "other"
    for study in (made["study_id"], renamed["study_id"]):
        assert send("DELETE", f"/api/studies/{study}", {"remove_associated_artifacts": False}).code == 200
    deleted = send("DELETE", "/api/studies/2")  # without a body
    assert deleted.code == 200 and json.loads(deleted.body) == {}  # the page reads JSON from every answer
    assert json.loads(send("GET", "/api/studies").body) == {"study_summaries": []}


def test_trials_are_told_and_given_attributes(send: Send, database: Path) -> None:
    assert send("POST", f"/api/trials/{RUNNING}/user-attrs", {"user_attrs": {"seen by": ["me", 1.5]}}).code == 200
    assert send("POST", f"/api/trials/{RUNNING}/tell", {"state": "Complete", "values": [1]}).code == 200
    trial = optuna.load_study(study_name="made", storage=f"sqlite:///{database}").trials[1]
    assert trial.value == 1.0 and trial.user_attrs["seen by"] == ["me", 1.5]


def test_artifacts_are_added_and_deleted(send: Send) -> None:
    file = {"file": "data:text/plain;base64,aGVsbG8=", "filename": "a b.txt"}
    for place in ("1", f"1/{RUNNING}"):
        added = send("POST", f"/api/artifacts/{place}", file)
        artifact = json.loads(added.body)["artifact_id"]
        assert added.code == 201 and send("GET", f"/artifacts/{place}/{artifact}").body == b"hello"
        assert send("DELETE", f"/api/artifacts/{place}/{artifact}").code == 200
        assert send("GET", f"/artifacts/{place}/{artifact}").code == 404


def test_trials_are_compared(send: Send) -> None:
    assert send("POST", "/api/studies/2/preference", CHOICE).code == 200
    found = json.loads(send("GET", "/api/studies/2").body)
    (entry,) = found["preference_history"]
    history = entry["history"]["id"]
    assert send("DELETE", f"/api/studies/2/preference/{history}").code == 200
    assert send("POST", f"/api/studies/2/preference/{history}").code == 200
    assert send("POST", f"/api/studies/2/{ELSEWHERE}/skip").code == 200
    component = {"output_type": "artifact", "artifact_key": "picture"}
    assert send("PUT", "/api/studies/2/preference_feedback_component", component).code == 200


def test_plots_and_tables_are_drawn(send: Send) -> None:
    for kind in ("contour", "slice", "parallel_coordinate", "rank", "edf", "timeline"):
        answer = send("GET", f"/api/studies/1/plot/{kind}")
        assert answer.code == 200 and "data" in json.loads(answer.body), kind
    assert send("GET", "/csv/1?trial_ids=0,1").body.startswith(b"Number,State,")
