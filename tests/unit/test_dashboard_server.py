"""The dashboard's server: whom it answers, what it has loaded when it says it is ready, how it packs answers."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from made import add_trial, make_study

from tuner import dashboard
from tuner.dashboard import gallery, serve, smaller, warm
from tuner.errors import TunerError
from tuner.runs import Home
from tuner.storage import open_storage


class Ready(Exception):
    """It would serve from here on."""


def begun(folder: Path, host: str) -> str:
    """The address it says it has; it ends before it serves."""

    def ready(address: str) -> None:
        raise Ready(address)

    with pytest.raises(Ready) as told:
        serve(f"sqlite:///{folder / 'tuner.db'}", Home(folder / "home"), None, host, 0, ready)
    return str(told.value)


def test_it_listens_on_loopback_and_elsewhere_only_in_a_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_study(tmp_path).engine.dispose()
    for value in (None, "0", ""):
        monkeypatch.setenv("TUNER_IN_CONTAINER", value) if value is not None else None
        with pytest.raises(TunerError, match=r"0\.0\.0\.0 is not allowed"):
            begun(tmp_path, "0.0.0.0")
    assert begun(tmp_path, "127.0.0.1").startswith("http://127.0.0.1:")
    monkeypatch.setenv("TUNER_IN_CONTAINER", "1")
    assert begun(tmp_path, "0.0.0.0").startswith("http://0.0.0.0:")
    with pytest.raises(TunerError, match=r"192\.0\.2\.1 is not allowed"):
        begun(tmp_path, "192.0.2.1")


def test_the_trials_are_loaded_before_it_says_it_is_ready(tmp_path: Path) -> None:
    joined = make_study(tmp_path)
    for value in (0.3, 0.9):
        add_trial(joined, [value])
    joined.engine.dispose()
    storage, engine = open_storage(f"sqlite:///{tmp_path / 'tuner.db'}")
    warm(storage, engine)
    queries: list[str] = []
    dashboard.database.sa.event.listen(engine, "before_cursor_execute", lambda *call: queries.append(call[2]))
    assert [trial.value for trial in storage.get_all_trials(1, deepcopy=False)] == [0.3, 0.9]
    assert not [query for query in queries if "trial_params" in query]  # finished ones are not read again
    engine.dispose()


def test_an_empty_database_can_be_shown(tmp_path: Path) -> None:
    storage, engine = open_storage(f"sqlite:///{tmp_path / 'tuner.db'}")
    warm(storage, engine)
    assert gallery(engine, Home(tmp_path), None).stores == []
    engine.dispose()


def test_pictures_are_looked_for_in_every_store_that_a_study_notes(tmp_path: Path) -> None:
    from tuner.study import keep_artifacts

    joined = make_study(tmp_path)
    keep_artifacts(joined, str(tmp_path / "noted"))
    shown = [store.shown for store in gallery(joined.engine, Home(tmp_path), str(tmp_path / "given")).stores]
    assert shown == [str(tmp_path / "given"), str(tmp_path / "noted")]
    joined.engine.dispose()


def answer(body: bytes, kind: str, accepted: str, status: str = "200 OK") -> tuple[dict[str, str], bytes]:
    def app(environ: dict[str, Any], start: Any) -> list[bytes]:
        start(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [body[:10], body[10:]]

    told: list[Any] = []
    whole = b"".join(smaller(app)({"HTTP_ACCEPT_ENCODING": accepted}, lambda *how: told.append(how)))
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
)
def test_everything_else_is_passed_on_as_it_is(body: bytes, kind: str, accepted: str, status: str) -> None:
    headers, came = answer(body, kind, accepted, status)
    assert came == body and headers == {"Content-Type": kind, "Content-Length": str(len(body))}
