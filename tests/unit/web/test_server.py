"""The dashboard's server: where it listens, what is loaded before it is ready, compression."""

from __future__ import annotations

import gzip
import json
import re
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from helpers.made_studies import add_trial, make_study
from helpers.wsgi_client import ask, nothing_behind

from tuner.errors import TunerError
from tuner.paths import Home
from tuner.study.storage import open_storage
from tuner.web import server
from tuner.web.auth import BURST
from tuner.web.dashboard_compat import dashboard_app
from tuner.web.proxies import parse_proxies
from tuner.web.server import ServerOptions, build_app, open_artifacts, preload, serve, with_compression
from tuner.web.study_api import StudyApi


class Ready(Exception):
    """Raised instead of serving."""


def begun(folder: Path, **options: Any) -> str:
    """Return the address that `serve` reports, without serving."""

    def ready(address: str) -> None:
        raise Ready(address)

    with pytest.raises(Ready) as told:
        serve(
            f"sqlite:///{folder / 'tuner.db'}",
            Home(folder / "home"),
            None,
            ServerOptions(port=0, **options),
            ready,
        )
    return str(told.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "tuner.example"])
def test_it_listens_on_loopback_alone_until_there_is_a_password(tmp_path: Path, host: str) -> None:
    make_study(tmp_path).engine.dispose()
    with pytest.raises(TunerError, match=f"at {re.escape(host)} it needs a password: --password-file"):
        begun(tmp_path, host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_on_loopback_it_needs_none(tmp_path: Path, host: str) -> None:
    make_study(tmp_path).engine.dispose()
    assert begun(tmp_path, host=host).startswith(f"http://{host}:")


def test_with_a_password_it_listens_where_it_is_told(tmp_path: Path) -> None:
    make_study(tmp_path).engine.dispose()
    assert begun(tmp_path, host="0.0.0.0", password="correct horse").startswith("http://0.0.0.0:")
    assert begun(tmp_path, base="/tuner").endswith("/tuner/dashboard/")


def test_an_address_that_is_not_of_this_host_is_named(tmp_path: Path) -> None:
    make_study(tmp_path).engine.dispose()
    with pytest.raises(TunerError, match=r"port 0 of 192\.0\.2\.1 cannot be used"):
        serve(
            f"sqlite:///{tmp_path / 'tuner.db'}", Home(tmp_path), None,
            ServerOptions("192.0.2.1", 0, "correct horse"), lambda address: None,
        )  # fmt: skip


@pytest.fixture
def whole(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Yield a function that builds the app as `serve` does."""
    joined = make_study(tmp_path)
    add_trial(joined, [0.5])
    joined.engine.dispose()
    storage, engine = open_storage(f"sqlite:///{tmp_path / 'tuner.db'}")
    pictures = open_artifacts(engine, Home(tmp_path).make(), None)
    studies = StudyApi(dashboard_app(storage, pictures), storage, engine)
    yield lambda **options: build_app(studies, pictures, ServerOptions(**options))
    engine.dispose()


def test_every_answer_is_told_to_be_safe(whole: Callable[..., Any]) -> None:
    app = whole(password="correct horse", base="/tuner")
    for target in (
        "/tuner/login",
        "/tuner/api/studies",
        "/tuner/dashboard/",
        "/elsewhere",
        "/tuner/artifacts/1/1/x",
    ):
        headers = ask(app, target).headers
        assert headers["X-Content-Type-Options"] == "nosniff" and "Content-Security-Policy" in headers


def test_a_study_can_be_changed_by_its_page_unless_it_is_read_only(whole: Callable[..., Any]) -> None:
    note = {"version": 1, "body": "seen"}
    for read_only, code in ((True, 403), (False, 200)):
        app = whole(read_only=read_only)
        assert ask(app, "/api/studies/1/note", "PUT", json=note).code == 403  # from nowhere
        there = {"origin": "http://127.0.0.1:8080"}
        assert ask(app, "/api/studies/1/note", "PUT", json=note, **there).code == code
        assert ask(app, "/api/studies").code == ask(app, "/api/studies/1?after=0").code == 200
    assert json.loads(ask(app, "/api/studies/1").body)["note"]["body"] == "seen"
    assert ask(whole(read_only=True), "/api/studies/1", "DELETE", **there).code == 403
    assert ask(whole(), "/api/studies/1", "DELETE", json={}, **there).code == 200
    assert json.loads(ask(whole(), "/api/studies").body) == {"study_summaries": []}


def test_a_database_that_cannot_be_read_is_told_in_one_line(whole: Callable[..., Any], tmp_path: Path) -> None:
    app = whole()
    with closing(sqlite3.connect(tmp_path / "tuner.db")) as db:
        db.execute("ALTER TABLE study_system_attributes RENAME TO elsewhere")
    for target in ("/api/studies", "/api/studies/1", "/artifacts/1/ab"):
        told = ask(app, target)
        assert told.code == 503 and "the database cannot be read now" in json.loads(told.body)["reason"]


def test_nobody_learns_a_study_without_the_password(whole: Callable[..., Any]) -> None:
    app = whole(password="correct horse")
    for target in ("/api/studies", "/api/studies/1?after=0", "/api/meta", "/csv/1", "/dashboard/studies/1"):
        assert b"made" not in ask(app, target).body
    form = {"password": "correct horse"}
    cookie = ask(app, "/login", form=form).cookie
    assert b"made" in ask(app, "/api/studies", cookie=cookie).body
    assert ask(app, "/login", "POST", password="correct horse").code == 403  # another site's form


def test_a_body_that_never_arrives_is_told_and_keeps_nobody_waiting(
    whole: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(server.QuietHandler, "timeout", 0.2)
    head = (
        "Host: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 99\r\n"
    )
    with server.open_server(whole(), ServerOptions(port=0)) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        for silent in (True, False):  # or ended
            with socket.create_connection(("127.0.0.1", running.server_port), 10) as client:
                client.sendall(f"PUT /api/studies/1/note HTTP/1.1\r\n{head}\r\n{{".encode())
                if not silent:
                    client.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: client.recv(10_000), b""))
            assert answer.split()[1] == (b"408" if silent else b"400") and b'{"reason": "the body' in answer
        running.shutdown()
    assert capfd.readouterr().err == ""


def test_visitors_behind_a_declared_proxy_do_not_wait_for_each_other(whole: Callable[..., Any]) -> None:
    app = whole(password="correct horse", proxies=parse_proxies(["127.0.0.1"]))
    wrong, right = {"password": "correct zebra"}, {"password": "correct horse"}
    for at in range(3 * BURST):
        code = ask(app, "/login", form=wrong, x_forwarded_for="192.0.2.1").code
        assert code == (403 if at < BURST else 429)
    assert ask(app, "/login", form=right, x_forwarded_for="192.0.2.2").code == 303


def test_the_trials_are_loaded_before_it_says_it_is_ready(tmp_path: Path) -> None:
    joined = make_study(tmp_path)
    for value in (0.3, 0.9):
        add_trial(joined, [value])
    joined.engine.dispose()
    storage, engine = open_storage(f"sqlite:///{tmp_path / 'tuner.db'}")
    preload(StudyApi(nothing_behind, storage, engine))
    queries: list[str] = []
    server.database.sa.event.listen(engine, "before_cursor_execute", lambda *call: queries.append(call[2]))
    assert [trial.value for trial in storage.get_all_trials(1, deepcopy=False)] == [0.3, 0.9]
    assert not [query for query in queries if "trial_params" in query]  # finished ones are not read again
    engine.dispose()


def test_an_empty_database_can_be_shown(tmp_path: Path) -> None:
    storage, engine = open_storage(f"sqlite:///{tmp_path / 'tuner.db'}")
    preload(StudyApi(nothing_behind, storage, engine))
    assert open_artifacts(engine, Home(tmp_path), None).stores == []
    engine.dispose()


def test_pictures_are_looked_for_in_every_store_that_a_study_notes(tmp_path: Path) -> None:
    from tuner.study.study import set_artifact_store

    joined = make_study(tmp_path)
    set_artifact_store(joined, str(tmp_path / "noted"))
    stores = open_artifacts(joined.engine, Home(tmp_path), str(tmp_path / "given")).stores
    shown = [store.location for store in stores]
    assert shown == [str(tmp_path / "given"), str(tmp_path / "noted")]
    joined.engine.dispose()


def answer(body: bytes, kind: str, accepted: str, status: str = "200 OK") -> tuple[dict[str, str], bytes]:
    def app(environ: dict[str, Any], start: Any) -> list[bytes]:
        start(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body[:10], body[10:]]

    told: list[Any] = []
    whole = b"".join(with_compression(app)({"HTTP_ACCEPT_ENCODING": accepted}, lambda *how: told.append(how)))
    assert told[0][0] == status
    return dict(told[0][1]), whole


LARGE = json.dumps({"trials": ["trial"] * 50_000}).encode()


def test_large_texts_are_compressed_for_those_who_take_it() -> None:
    headers, body = answer(LARGE, "application/json", "gzip, deflate")
    assert headers["Content-Encoding"] == "gzip" and int(headers["Content-Length"]) == len(body) < len(LARGE) / 10
    assert gzip.decompress(body) == LARGE


@pytest.mark.parametrize(
    ("body", "kind", "accepted", "status"),
    [
        (LARGE, "application/json", "", "200 OK"),
        (LARGE, "image/png", "gzip", "200 OK"),
        (LARGE, "application/json", "gzip", "404 Not Found"),
        (b'{"small": true}', "application/json", "gzip", "200 OK"),
    ],
    ids=["not accepted", "an image", "an error", "small"],  # a process is started with the name of the test
)
def test_everything_else_is_passed_on_as_it_is(body: bytes, kind: str, accepted: str, status: str) -> None:
    headers, came = answer(body, kind, accepted, status)
    assert came == body and headers == {"Content-Type": kind, "Content-Length": str(len(body))}
