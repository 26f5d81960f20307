"""Draw pictures of a trial at their first request, from the records of the trial.

A worker only registers them as artifacts. Pictures of an ended trial are stored, because they no longer change;
those of a paused one are not.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.errors import FilesError, TunerError
from tuner.plots import quality
from tuner.plots.charts import Chart
from tuner.plots.curves import metric_charts
from tuner.plots.render_png import charts_to_png
from tuner.recipe import Recipe
from tuner.study import epoch_queries, queries, trial_queries
from tuner.study.optuna_tables import ARTIFACT_PREFIX, trial_system_attrs, trials
from tuner.train import details

DETAILS = "details.json"  # as in `Run`
ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class DrawRequest:
    """The data that the pictures of a trial are drawn from."""

    goal: str  # metric whose curves come first
    rows: Sequence[dict[str, Any]]  # its epochs, flat
    notes: Mapping[str, Any]
    details: Callable[[], bytes | Path]  # raises LookupError or OSError without details
    ended: bool = True


def curve_charts(records: DrawRequest) -> list[Chart]:
    return metric_charts(records.rows, records.goal, best_epoch(records.notes), stage_lengths(records.notes))


def quality_charts(records: DrawRequest) -> list[Chart]:
    """Return the charts of the details, [] if they are missing or damaged."""
    try:
        content = details.read_details(records.details())
    except (LookupError, OSError):
        return []
    return quality.quality_charts(content.to_json()) if content else []


CHARTS: dict[str, Callable[[DrawRequest], list[Chart]]] = {
    "curves.png": curve_charts,
    "quality.png": quality_charts,
}


def best_epoch(notes: Mapping[str, Any]) -> int:
    """Return the best epoch, 0 if it is not recorded."""
    result = notes.get("result")
    epoch = result.get("best_epoch") if isinstance(result, dict) else None
    return epoch if isinstance(epoch, int) else 0


def stage_lengths(notes: Mapping[str, Any]) -> list[int]:
    """Return the number of epochs of each stage, [] if the recipe cannot be read."""
    try:
        return [stage.epochs for stage in Recipe.from_json(notes["recipe"]).resolved_stages]
    except (TunerError, LookupError, TypeError, ValueError, AttributeError):
        return []


def open_artifact(
    artifacts: TrialArtifacts, artifact_id: str, name: str, read_request: Callable[[], DrawRequest | None]
) -> BinaryIO:
    """Open the file of an artifact; a picture that is drawn on demand is drawn at the first request.

    Raise ArtifactNotFound if it was deleted, or without the data to draw it from, which `read_request` reads.
    """
    from optuna.artifacts.exceptions import ArtifactNotFound

    try:
        return artifacts.open_reader(artifact_id)
    except ArtifactNotFound:
        records = read_request() if name in CHARTS else None
        charts = CHARTS[name](records) if records else []
        if records is None or not charts:
            raise
    with ONE_AT_A_TIME:
        if artifacts.path(artifact_id).is_file():  # another request has drawn it meanwhile
            return artifacts.open_reader(artifact_id)
        png = charts_to_png(charts)
        if records.ended:
            with suppress(FilesError):  # a read-only home: the next request draws it again
                artifacts.write(artifact_id, io.BytesIO(png))
    return io.BytesIO(png)


def draw_missing_pictures(records: DrawRequest, folder: Path) -> None:
    for name, charts_in in CHARTS.items():
        if not (folder / name).exists() and (charts := charts_in(records)):
            (folder / name).write_bytes(charts_to_png(charts))


# --- from the database ---


def read_draw_request(
    engine: Engine, study_id: int, trial_id: int, artifacts: TrialArtifacts
) -> DrawRequest | None:
    """Return the data of a trial, None if its study is not one of tuner."""
    info = next((info for info in queries.read_studies(engine) if info.id == study_id), None)
    with engine.connect() as db:
        trial = next(iter(trial_queries.read_trials_by_id(db, [trial_id])), None)
        files = read_artifact_ids(db, trials.c.trial_id == trial_id).get(trial_id, {})
    if info is None or trial is None:
        return None
    rows = epoch_queries.read_epochs(engine, trial_id)
    ended = trial.state in trial_queries.FINISHED and trial.paused_at is None
    return DrawRequest(
        info.goal.metric, rows, trial.attrs, lambda: read_artifact(artifacts, files[DETAILS]), ended
    )


def read_artifact(artifacts: TrialArtifacts, artifact_id: str) -> bytes:
    """Return the content of an artifact; LookupError if it was deleted."""
    from optuna.artifacts.exceptions import ArtifactNotFound

    try:
        with artifacts.open_reader(artifact_id) as file:
            return file.read()
    except ArtifactNotFound as error:
        raise LookupError(str(error)) from None


def read_artifact_ids(db: Connection, where: sa.ColumnElement[bool]) -> dict[int, dict[str, str]]:
    """Return the newest artifact of each name, by trial id; unreadable attributes are ignored."""
    t = trial_system_attrs.c
    query = sa.select(t.trial_id, t.key, t.value_json).join(trials, trials.c.trial_id == t.trial_id)
    query = query.where(where, t.key.startswith(ARTIFACT_PREFIX, autoescape=True))
    files: dict[int, dict[str, str]] = {}
    for trial_id, key, content in db.execute(query.order_by(t.trial_system_attribute_id)):
        if name := (parse_artifact(content) or {}).get("filename"):
            files.setdefault(trial_id, {})[str(name)] = key.removeprefix(ARTIFACT_PREFIX)
    return files


def parse_artifact(text: str) -> dict[str, Any] | None:
    """Return an attribute of an artifact, None if it is unreadable or null, which a deleted artifact is."""
    try:
        about = json.loads(text)
        about = json.loads(about) if isinstance(about, str) else about
    except ValueError:
        return None
    return about if isinstance(about, dict) else None
