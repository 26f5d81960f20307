"""Pictures and files of trials and studies: only those that a trial or study names itself, and none that runs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote
from wsgiref.util import FileWrapper

import sqlalchemy as sa
from optuna.artifacts.exceptions import ArtifactNotFound

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.report.on_demand import (
    open_artifact,
    parse_artifact,
    read_draw_request,
)
from tuner.study.optuna_tables import ARTIFACT_PREFIX, study_system_attrs, trial_system_attrs, trials
from tuner.web.wsgi import UNKNOWN, App, Environ, Header, Start, is_read, path_of, refuse

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

PLACE = "/artifacts/"
ADDRESS = re.compile(r"/artifacts/([0-9]{1,18})/(?:([0-9]{1,18})/)?([0-9a-fA-F-]{1,64})/?")
SHOWN = re.compile(r"(image|audio|video)/[\w.+-]{1,100}")  # types that browsers show and never run
DRAWN = "image/svg+xml"  # a picture within a page; a page of its own when opened
READ = ("text/plain", "text/csv", "application/json")  # read by the dashboard's tables
BYTES = "application/octet-stream"
NO_SCRIPT = "sandbox; default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Artifacts:
    """A WSGI app that answers for artifacts, and leaves all else to the one behind it."""

    app: App
    engine: Engine
    artifacts: TrialArtifacts

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        if not path_of(environ).startswith(PLACE):
            return self.app(environ, start)
        found = ADDRESS.fullmatch(path_of(environ)) if is_read(environ) else None
        named = named_by(self.engine, *found.groups()) if found else None
        if not found or not named:
            return refuse(environ, start, UNKNOWN, "there is no such artifact")
        try:
            file = self.opened(named, *found.groups())
        except ArtifactNotFound:
            return refuse(environ, start, UNKNOWN, "the file of this artifact is gone")
        start("200 OK", headers_of(named, size_of(file)))
        if environ["REQUEST_METHOD"] == "HEAD":
            file.close()
            return []
        return FileWrapper(file, 1 << 16)

    def opened(self, named: dict[str, Any], study: str, trial: str | None, artifact: str) -> BinaryIO:
        """The file. A trial's is drawn now, where it is one that is drawn when somebody looks at it."""
        if trial is None:
            return self.artifacts.open_reader(artifact)
        name, where = str(named.get("filename")), (int(study), int(trial))
        return open_artifact(
            self.artifacts, artifact, name, lambda: read_draw_request(self.engine, *where, self.artifacts)
        )


def size_of(file: BinaryIO) -> int:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return size


def named_by(engine: Engine, study: str, trial: str | None, artifact: str) -> dict[str, Any] | None:
    """What the trial, or else the study itself, says of its artifact; None where it names none of this id."""
    keys = [ARTIFACT_PREFIX + artifact]
    s, t = study_system_attrs.c, trial_system_attrs.c
    queries = []
    if trial is None:
        queries.append(sa.select(s.value_json).where(s.study_id == int(study), s.key.in_(keys)))
    else:
        joined = sa.select(t.value_json).join(trials, trials.c.trial_id == t.trial_id)
        mine = trials.c.study_id == int(study), t.trial_id == int(trial)
        queries.append(joined.where(*mine, t.key.in_(keys)))
        older = f"dashboard:artifacts:{int(trial)}:{artifact}"  # where earlier dashboards wrote it down
        queries.append(sa.select(s.value_json).where(s.study_id == int(study), s.key == older))
    with engine.connect() as db:
        texts = [text for query in queries for text in db.scalars(query)]
    return next(filter(None, map(parse_artifact, texts)), None)


def headers_of(told: dict[str, Any], size: int) -> list[Header]:
    """Whatever a file says it is: pictures, sound and film are shown, the rest is downloaded; nothing runs."""
    kind = str(told.get("mimetype") or "").lower()
    is_shown = bool(SHOWN.fullmatch(kind)) and kind != DRAWN
    name = quote(str(told.get("filename") or "artifact"), safe="")
    return [
        ("Content-Type", kind if is_shown or kind == DRAWN or kind in READ else BYTES),
        ("Content-Length", str(size)),
        ("Content-Disposition", f"{'inline' if is_shown else 'attachment'}; filename*=UTF-8''{name}"),
        ("Content-Security-Policy", NO_SCRIPT),
        ("Cache-Control", "private, no-cache"),
    ]
