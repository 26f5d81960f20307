"""Malformed requests to the dashboard: methods, paths, parameters, headers and bodies."""

from __future__ import annotations

import io
import json
import random
import shutil
import sqlite3
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.util import setup_testing_defaults

import optuna
from helpers.fuzzing import Answer, Case, Ground, mutate_bytes, mutate_data
from helpers.made_studies import add_trial, make_study
from helpers.wsgi_client import HERE, ask
from optuna.trial import TrialState
from sqlalchemy.engine import Engine

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.paths import Home
from tuner.study.storage import StudyStorage, open_storage
from tuner.web.api_routes import ROUTES, Route
from tuner.web.dashboard_compat import dashboard_app
from tuner.web.proxies import parse_proxies
from tuner.web.server import ServerOptions, build_app
from tuner.web.study_api import StudyApi

SHARED = ServerOptions(password="correct horse", base="/tuner", proxies=parse_proxies(["127.0.0.1"]))
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "FOO", "")
LIKELY = ("1", "2", "edf", "bundle.js")  # parts of a path that often name something
PARTS = (
    *("1", "2", "0", "999", "-1", "1" + "0" * 23, "9" * 5000, "1.5", "abc", "%00", "%D9%A3", "%FF", "1%0A", ""),
    *("a/b", "..", "//", "%2F", "plot", "edf", "note", "bundle.js", "api", "studies", "artifacts", "x" * 5000),
)
PAGES = (
    "/",
    "/dashboard/",
    "/dashboard/%FF",
    "/login",
    "/logout",
    "/artifacts/1/1/ab",
    "/artifacts/1/ab",
    "/other",
)
QUERIES = ("after=", "trial_ids=", "next=", "%FF=", "=&;", "after=1&after=", "x" * 5000)
VALID: dict[str, Any] = {
    **{"study_name": "new", "directions": ["minimize"], "version": 1, "body": "seen", "state": "Complete"},
    **{"values": [0.5], "user_attrs": {"a": 1}, "file": "data:;base64,YQ==", "filename": "a.txt", "clicked": 0},
    **{"candidates": [0, 1], "mode": "ChooseWorst", "output_type": "note", "artifact_key": "a"},
    **{"remove_associated_artifacts": False, "unknown": 1},
}
RAW = (b"", b"[]", b"null", b"{{{", b"\xff\xfe", b"[" * 100_000, b'{"a": ' * 200, b'{"a": ' + b"9" * 5000 + b"}")
HEADERS = {
    "HTTP_ACCEPT_ENCODING": ["", "gzip", "\xff", "x" * 3000],
    "HTTP_COOKIE": ["", "tuner_8080=x", "\xff=;;=", "=" * 3000],
    "HTTP_HOST": [HERE, "[", "", "evil.example", "a:b:c", "\xff"],
    "HTTP_ORIGIN": [f"http://{HERE}", "null", "http://[", "://", ""],
    "HTTP_X_FORWARDED_FOR": ["192.0.2.1", "a, b", "[::1", ",,,", "9" * 3000, "fe80::1%x"],
    "HTTP_X_FORWARDED_PREFIX": ["/tuner", "/", "//", "\xff"],
    "HTTP_TRANSFER_ENCODING": ["chunked"],
    "HTTP_RANGE": ["bytes=0-", "bytes=9-1", "x"],
    "HTTP_IF_MODIFIED_SINCE": ["x", "9" * 3000],
    "CONTENT_TYPE": ["", "application/json", "text/plain", "multipart/form-data; boundary=", "\xff"],
    "CONTENT_LENGTH": ["", "0", "-1", "abc", "9" * 5000, "99", "1e3", "\xb2"],
}


@dataclass(frozen=True)
class Dashboard:
    """A database with a study and one whose trials people compare, and the storage on it."""

    first: sqlite3.Connection  # to the content that the database has before each case
    now: sqlite3.Connection
    storage: StudyStorage
    engine: Engine

    def restore(self) -> None:
        self.first.backup(self.now)
        self.storage.caches.clear()

    @property
    def version(self) -> int:
        """A number that changes with each change of the database."""
        found: int = self.now.execute("PRAGMA data_version").fetchone()[0]
        return found

    def build(self, home: Path, options: ServerOptions) -> Any:
        """The app as a new process has it; uploaded files are below `home`."""
        pictures = TrialArtifacts(Home(home).make())
        studies = StudyApi(dashboard_app(self.storage, pictures), self.storage, self.engine)
        return build_app(studies, pictures, options)


@cache
def open_dashboard(folder: Path) -> Dashboard:
    folder.mkdir()
    joined = make_study(folder)
    add_trial(joined, [0.5])
    add_trial(joined, [0.4], TrialState.RUNNING)
    optuna.create_study(storage=joined.storage, study_name="compared").ask()
    joined.storage.set_study_system_attr(2, "preference:is_preferential", True)
    joined.engine.dispose()
    shutil.copy(folder / "tuner.db", folder / "first.db")
    first, now = (sqlite3.connect(folder / name) for name in ("first.db", "tuner.db"))
    return Dashboard(first, now, *open_storage(f"sqlite:///{folder / 'tuner.db'}"))


def make_case(rng: random.Random, ground: Ground) -> Case:
    board = open_dashboard(ground.folder / "board")
    board.restore()
    options = rng.choice((ServerOptions(), ServerOptions(), SHARED))
    app = board.build(ground.cwd, options)
    cookie = log_in(app) if options.password and rng.random() < 0.8 else ""
    requests = [make_request(rng, options.base, cookie) for _ in range(rng.randint(1, 3))]
    shown = [
        f"{each['REQUEST_METHOD']} {each['PATH_INFO'][:60]!r} {each['wsgi.input'].getvalue()[:60]!r}"
        for each in requests
    ]

    def run() -> Answer:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna's, about importances and plots of few trials
            return call_all(app, requests, board)

    return Case("; ".join(shown), run, makes=("artifacts", "artifacts/*"))


def log_in(app: Any) -> str:
    """The cookie of a session."""
    return ask(app, f"{SHARED.base}/login", form={"password": str(SHARED.password)}).cookie


def call_all(app: Any, requests: list[dict[str, Any]], board: Dashboard) -> Answer:
    """The answer to the requests: done, or what is wrong with the answer to one of them."""
    for environ in requests:
        before = board.version
        try:
            code, headers, body = send(app, environ)
        except Exception as error:
            return Answer(1, error=error)
        problem = find_problem(code, headers, body)
        if code >= 400 and board.version != before:
            problem = f"status {code}, and the database has changed"
        if problem:
            return Answer(1, error=AssertionError(problem))
    return Answer()


def make_body(rng: random.Random, route: Route) -> bytes:
    """A body that fits the route, nearly does, or does not at all."""
    if rng.random() < 0.2:
        return rng.choice(RAW)
    names = [name for name in (*route.needed, *route.optional, rng.choice(list(VALID))) if rng.random() < 0.95]
    fields = {n: VALID[n] if rng.random() < 0.8 else mutate_data(rng, VALID[n]) for n in names}
    body = json.dumps(fields).encode()
    return mutate_bytes(rng, body) if rng.random() < 0.1 else body


def make_path(rng: random.Random, route: Route) -> str:
    """A path of the route, with parts that may name something."""
    if rng.random() < 0.1:
        return rng.choice(PAGES)
    is_safe = route.method != "DELETE" and not route.path.endswith("/rename")  # else the study is gone
    parts = []
    for part in route.path.split("/")[1:]:
        if part.isupper():
            parts.append(rng.choice(LIKELY if is_safe and rng.random() < 0.7 else PARTS))
        else:
            parts.append(part if rng.random() < 0.97 else rng.choice(PARTS))
    return "/" + "/".join(parts)


def make_request(rng: random.Random, base: str, cookie: str = "") -> dict[str, Any]:
    """A WSGI environment as a server makes it of any request."""
    route = rng.choice(ROUTES)
    body = make_body(rng, route)
    environ = {
        "REQUEST_METHOD": rng.choice(METHODS) if rng.random() < 0.1 else route.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": base * (rng.random() < 0.95) + unquote_to_bytes(make_path(rng, route)).decode("latin-1"),
        "QUERY_STRING": rng.choice(QUERIES) + rng.choice(PARTS) if rng.random() < 0.3 else "",
        "REMOTE_ADDR": rng.choice(["127.0.0.1", "192.0.2.1", "::1", ""]),
        "SERVER_PORT": "8080",
        "HTTP_HOST": HERE,
        "HTTP_ORIGIN": f"http://{HERE}",
        "HTTP_COOKIE": cookie,
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    environ |= {name: rng.choice(values) for name, values in HEADERS.items() if rng.random() < 0.03}
    setup_testing_defaults(environ)
    return environ


def send(app: Callable[..., Any], environ: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer."""
    started: list[Any] = []
    found = app(environ, lambda status, headers, *_: started.append((int(status.split()[0]), dict(headers))))
    body = b"".join(found)
    if close := getattr(found, "close", None):
        close()
    return *started[0], body


def find_problem(code: int, headers: dict[str, str], body: bytes) -> str:
    """What is wrong with an answer, or ""."""
    if code >= 500:
        return f"status {code}: {body[:200]!r}"
    is_page = headers.get("Content-Type", "").startswith("text/html")
    if code >= 400 and body and not is_page and not isinstance(json.loads(body).get("reason"), str):
        return f"status {code} without a reason"
    return "a traceback" if b"Traceback" in body else ""
