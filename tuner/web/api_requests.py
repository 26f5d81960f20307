"""Checks of every request that optuna-dashboard answers, and reasons in JSON for all that it cannot answer.

optuna-dashboard itself checks few fields of a request, so that a wrong one ends in an exception or is stored.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from sqlalchemy.exc import SQLAlchemyError

from tuner.errors import TunerError, first_line, shorten
from tuner.paths import parse_json
from tuner.study import optuna_tables as tables
from tuner.web import wsgi
from tuner.web.api_routes import Route, find_route
from tuner.web.artifacts import read_record
from tuner.web.study_api import StudyApi, parse_after
from tuner.web.wsgi import (
    BAD_REQUEST,
    CONFLICT,
    JSON,
    NOT_FOUND,
    UNAVAILABLE,
    App,
    Environ,
    RequestError,
    StartResponse,
)

LONGEST_ID = 18  # digits: below 2^63


@dataclass(frozen=True)
class ApiMiddleware:
    """Passes on requests that can be answered, and answers all others with a 4xx status and the reason.

    Nothing is changed by a request that is refused.
    """

    studies: StudyApi

    def __call__(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        try:
            return forward(self.studies, self.check(environ), start)
        except RequestError as error:
            return wsgi.respond_error(environ, start, error.status, error.reason)
        except (SQLAlchemyError, StorageInternalError, TunerError):
            raise  # the database is away
        except UpdateFinishedTrialError:
            return wsgi.respond_error(environ, start, CONFLICT, "the trial is finished: it cannot be changed")
        except KeyError:
            return wsgi.respond_error(environ, start, NOT_FOUND, "the study or trial does not exist any more")
        except ValueError as error:
            return wsgi.respond_error(environ, start, BAD_REQUEST, shorten(first_line(error)))
        except Exception as error:
            asked = f"{environ['REQUEST_METHOD']} {wsgi.request_path(environ)}"
            reason = shorten(f"{asked} cannot be answered: {type(error).__name__}: {first_line(error)}")
            print(f"tuner: {reason}", file=sys.stderr)
            return wsgi.respond_error(environ, start, UNAVAILABLE, reason)

    def check(self, environ: Environ) -> Environ:
        """Return the request as it is passed on; raise RequestError for one that cannot be answered."""
        is_read = wsgi.is_read_request(environ)
        route, ids = find_route("GET" if is_read else environ["REQUEST_METHOD"], wsgi.request_path(environ))
        if parse_after(environ) is None:
            raise RequestError(BAD_REQUEST, "the parameter after is not a whole number")
        body = {} if is_read else read_fields(environ, route)
        study = self.find_study(**ids)
        if route.preferential and study not in self.studies.preferential_ids():
            raise RequestError(BAD_REQUEST, f"study {study} is not preferential")
        if study is not None and "candidates" in body:
            self.check_candidates(study, {*body["candidates"], body["clicked"]})
        if study is not None and body.get("values") is not None:
            self.check_values(study, body["values"])
        return replace_body(environ, b"" if is_read else json.dumps(body).encode())

    def find_study(self, study: str = "", trial: str = "", artifact: str = "") -> int | None:
        """Return the study that a request is about, if any; raise RequestError if a part of it does not exist."""
        if not study and not trial:
            return None
        s, t = tables.studies.c, tables.trials.c
        query = sa.select(t.study_id if trial else s.study_id)
        if study:
            query = query.where((t if trial else s).study_id == parse_id(study))
        if trial:
            query = query.where(t.trial_id == parse_id(trial))
        with self.studies.engine.connect() as db:
            found: int | None = db.scalar(query)
        if found is None:
            where = f"study {shorten_id(study)}" * bool(study)
            what = f"{where or 'the database'} has no trial of the id {shorten_id(trial)}"
            raise RequestError(NOT_FOUND, what if trial else f"there is no {where}")
        if artifact and not read_record(self.studies.engine, study, trial or None, artifact):
            raise RequestError(NOT_FOUND, "there is no such artifact")
        return found

    def check_candidates(self, study: int, numbers: set[int]) -> None:
        """Raise RequestError if not all are numbers of trials that can be compared."""
        t = tables.trials.c
        usable = t.study_id == study, t.number.in_(numbers), t.state.not_in(["FAIL", "PRUNED"])
        with self.studies.engine.connect() as db:
            found = db.scalar(sa.select(sa.func.count()).where(*usable))
        if found != len(numbers):
            raise RequestError(BAD_REQUEST, "not all candidates are trials of the study that can be compared")

    def check_values(self, study: int, values: list[float]) -> None:
        """Raise RequestError if a trial of the study has another number of values: it could not be read."""
        needed = len(self.studies.storage.get_study_directions(study))
        if len(values) != needed:
            raise RequestError(
                BAD_REQUEST, f"values has {len(values)} numbers; {needed} needed, one for each goal"
            )


def parse_id(text: str) -> int:
    """Return an id; -1, which no record has, if it is larger than a database can compare."""
    return int(text) if len(text) <= LONGEST_ID else -1


def shorten_id(text: str) -> str:
    return text if len(text) <= LONGEST_ID else f"{text[:LONGEST_ID]}..."


def read_fields(environ: Environ, route: Route) -> dict[str, Any]:
    """Return the JSON object in the body of a request; raise RequestError if it does not fit the route."""
    data = wsgi.read_body(environ, route.most)
    kind = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
    if data and kind != JSON:
        raise RequestError("415 Unsupported Media Type", f"the body is {kind[:80]!r}; {JSON} is needed")
    try:
        body = parse_json(data.decode(), "the body") if data else {}
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except TunerError as error:
        raise RequestError(BAD_REQUEST, str(error)) from error
    except UnicodeError as error:
        raise RequestError(BAD_REQUEST, "the body is not UTF-8 text") from error
    except ValueError as error:
        raise RequestError(BAD_REQUEST, "the body holds a number that is not finite") from error
    return route.pick_fields(body)


def replace_body(environ: Environ, body: bytes) -> Environ:
    """Return the request with another body, and without what optuna-dashboard cannot read."""
    passed = {name: value for name, value in environ.items() if name != "HTTP_TRANSFER_ENCODING"}
    encoding = wsgi.request_header(environ, "Accept-Encoding")  # it expects one
    about = {"CONTENT_TYPE": JSON, "CONTENT_LENGTH": str(len(body)), "HTTP_ACCEPT_ENCODING": encoding}
    return passed | about | {"wsgi.input": io.BytesIO(body)}


def forward(app: App, environ: Environ, start: StartResponse) -> Iterable[bytes]:
    """Answer by `app`, with errors as JSON, and none of its own that look like errors of the client."""
    started: list[Any] = []
    body = app(environ, lambda *response: started.append(response))
    status, headers, *more = started[0]
    if status.startswith("204"):  # the page reads JSON from every answer, and reports one without as a failure
        return wsgi.respond_json(environ, start, b"{}")
    if status < "4":
        start(status, headers, *more)
        return body
    if dict(headers).get("Content-Type", "").startswith(JSON):
        start(UNAVAILABLE if status >= "5" else status, headers, *more)
        return body
    if close := getattr(body, "close", None):
        close()
    return wsgi.respond_error(environ, start, status, f"there is nothing at {wsgi.request_path(environ)}")
