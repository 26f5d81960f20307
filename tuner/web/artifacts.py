"""Serve pictures and files of trials and studies: only those that a trial or study names, and never as code."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote
from wsgiref.util import FileWrapper

import sqlalchemy as sa
from optuna.artifacts.exceptions import ArtifactNotFound
from sqlalchemy.engine import Engine

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.report.on_demand import open_artifact, parse_artifact, read_draw_request
from tuner.study.optuna_tables import ARTIFACT_PREFIX, study_system_attrs, trial_system_attrs, trials
from tuner.web import wsgi
from tuner.web.wsgi import App, Environ, Header, StartResponse

PREFIX = "/artifacts/"
ADDRESS = re.compile(r"/artifacts/([0-9]{1,18})/(?:([0-9]{1,18})/)?([0-9a-fA-F-]{1,64})/?")
INLINE = re.compile(r"(image|audio|video)/[\w.+-]{1,100}")  # types that browsers display without running them
SVG = "image/svg+xml"  # displayed within a page; runs scripts when opened alone, so it is offered as a download
TEXT_TYPES = ("text/plain", "text/csv", "application/json")  # read by the dashboard's tables
BYTES = "application/octet-stream"
NO_SCRIPT = "sandbox; default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class ArtifactMiddleware:
    """Answers requests for artifacts, and passes all others on to `app`."""

    app: App
    engine: Engine
    artifacts: TrialArtifacts

    def __call__(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        path = wsgi.request_path(environ)
        if not path.startswith(PREFIX):
            return self.app(environ, start)
        match = ADDRESS.fullmatch(path) if wsgi.is_read_request(environ) else None
        record = read_record(self.engine, *match.groups()) if match else None
        if not match or not record:
            return wsgi.respond_error(environ, start, wsgi.NOT_FOUND, "there is no such artifact")
        try:
            file = self.open_file(record, *match.groups())
        except ArtifactNotFound:
            return wsgi.respond_error(environ, start, wsgi.NOT_FOUND, "the file of this artifact is gone")
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        start("200 OK", artifact_headers(record, size))
        if environ["REQUEST_METHOD"] == "HEAD":
            file.close()
            return []
        return FileWrapper(file, 1 << 16)

    def open_file(self, record: dict[str, Any], study: str, trial: str | None, artifact: str) -> BinaryIO:
        """Open an artifact; pictures of a trial that are made on demand are drawn now."""
        if trial is None:
            return self.artifacts.open_reader(artifact)
        name, where = str(record.get("filename")), (int(study), int(trial))
        return open_artifact(
            self.artifacts, artifact, name, lambda: read_draw_request(self.engine, *where, self.artifacts)
        )


def read_record(engine: Engine, study: str, trial: str | None, artifact: str) -> dict[str, Any] | None:
    """Return the record of an artifact on its trial, or on its study without one; None if there is none."""
    key = ARTIFACT_PREFIX + artifact
    s, t = study_system_attrs.c, trial_system_attrs.c
    of_study = sa.select(s.value_json).where(s.study_id == int(study))
    if trial is None:
        queries = [of_study.where(s.key == key)]
    else:
        joined = sa.select(t.value_json).join(trials, trials.c.trial_id == t.trial_id)
        of_trial = trials.c.study_id == int(study), t.trial_id == int(trial)
        earlier = f"dashboard:artifacts:{int(trial)}:{artifact}"  # the key in earlier versions of optuna-dashboard
        queries = [joined.where(*of_trial, t.key == key), of_study.where(s.key == earlier)]
    with engine.connect() as db:
        texts = [text for query in queries for text in db.scalars(query)]
    return next(filter(None, map(parse_artifact, texts)), None)


def artifact_headers(record: dict[str, Any], size: int) -> list[Header]:
    """Return the headers of an artifact. Pictures, sound and film are displayed, all else is a download.

    The type comes from the artifact's record, which may say anything: no value of it makes a browser run the file.
    """
    kind = str(record.get("mimetype") or "").lower()
    is_inline = bool(INLINE.fullmatch(kind)) and kind != SVG
    name = quote(str(record.get("filename") or "artifact"), safe="")
    return [
        ("Content-Type", kind if is_inline or kind == SVG or kind in TEXT_TYPES else BYTES),
        ("Content-Length", str(size)),
        ("Content-Disposition", f"{'inline' if is_inline else 'attachment'}; filename*=UTF-8''{name}"),
        ("Content-Security-Policy", NO_SCRIPT),
        ("Cache-Control", "private, no-cache"),
    ]
