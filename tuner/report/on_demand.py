"""Pictures that are drawn when they are looked at: what they show stands in the records of a trial.

A worker only names them on its trial. Whoever asks first has them drawn, and they are kept in the gallery once
the trial has ended: from then on they stay the same.
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
from tuner.study.optuna_tables import ARTIFACT_PREFIX, trial_system_attrs
from tuner.train import details

DETAILS = "details.json"  # as a run calls it
ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class DrawRequest:
    """What the late pictures of a trial are drawn from."""

    goal: str  # the metric
    rows: Sequence[dict[str, Any]]  # its epochs, flat
    notes: Mapping[str, Any]
    details: Callable[[], bytes | Path]  # LookupError or OSError where there are none
    ended: bool = True


def curve_charts(records: DrawRequest) -> list[Chart]:
    return metric_charts(records.rows, records.goal, best_epoch(records.notes), stages(records.notes))


def quality_charts(records: DrawRequest) -> list[Chart]:
    """Nothing where the details are missing or damaged."""
    try:
        found = details.read_details(records.details())
    except (LookupError, OSError):
        return []
    return quality.quality_charts(found.to_json()) if found else []


CHARTS: dict[str, Callable[[DrawRequest], list[Chart]]] = {
    "curves.png": curve_charts,
    "quality.png": quality_charts,
}


def best_epoch(notes: Mapping[str, Any]) -> int:
    """0 where it is not noted."""
    result = notes.get("result")
    found = result.get("best_epoch") if isinstance(result, dict) else None
    return found if isinstance(found, int) else 0


def stages(notes: Mapping[str, Any]) -> list[int]:
    """How many epochs each stage has; none where the recipe cannot be read."""
    try:
        return [stage.epochs for stage in Recipe.from_json(notes["recipe"]).resolved_stages]
    except (TunerError, LookupError, TypeError, ValueError, AttributeError):
        return []


def open_artifact(
    artifacts: TrialArtifacts, artifact_id: str, name: str, find: Callable[[], DrawRequest | None]
) -> BinaryIO:
    """The file of an artifact, drawn now if it is one of these and nobody looked at it before.

    ArtifactNotFound where it is gone, or where there is nothing to draw it from. `find` reads the records.
    """
    from optuna.artifacts.exceptions import ArtifactNotFound

    try:
        return artifacts.open_reader(artifact_id)
    except ArtifactNotFound:
        records = find() if name in CHARTS else None
        charts = CHARTS[name](records) if records else []
        if records is None or not charts:
            raise
    with ONE_AT_A_TIME:
        if artifacts.path(artifact_id).is_file():  # drawn for somebody else meanwhile
            return artifacts.open_reader(artifact_id)
        drawn = charts_to_png(charts)
        if records.ended:
            with suppress(FilesError):  # a home that cannot be written to: the next look draws it again
                artifacts.write(artifact_id, io.BytesIO(drawn))
    return io.BytesIO(drawn)


def draw_missing_pictures(records: DrawRequest, folder: Path) -> None:
    """Draw into a folder what it lacks of them."""
    for name, charts_in in CHARTS.items():
        if not (folder / name).exists() and (charts := charts_in(records)):
            (folder / name).write_bytes(charts_to_png(charts))


# --- from the database ---


def read_draw_request(
    engine: Engine, study_id: int, trial_id: int, artifacts: TrialArtifacts
) -> DrawRequest | None:
    """Of a trial; None if its study is not tuner's."""
    info = next((info for info in queries.read_studies(engine) if info.id == study_id), None)
    with engine.connect() as db:
        found = next(iter(trial_queries.read_trials_by_id(db, [trial_id])), None)
        files = read_artifact_ids(db, trial_id)
    if info is None or found is None:
        return None
    rows, ended = epoch_queries.read_epochs(engine, trial_id), found.state in trial_queries.FINISHED
    return DrawRequest(
        info.goal.metric, rows, found.attrs, lambda: read_artifact(artifacts, files[DETAILS]), ended
    )


def read_artifact(artifacts: TrialArtifacts, artifact_id: str) -> bytes:
    """LookupError where it is gone."""
    from optuna.artifacts.exceptions import ArtifactNotFound

    try:
        with artifacts.open_reader(artifact_id) as file:
            return file.read()
    except ArtifactNotFound as error:
        raise LookupError(str(error)) from None


def read_artifact_ids(db: Connection, trial_id: int) -> dict[str, str]:
    """The newest artifact of each name. A line that cannot be read is none."""
    t = trial_system_attrs.c
    query = sa.select(t.key, t.value_json).where(
        t.trial_id == trial_id, t.key.startswith(ARTIFACT_PREFIX, autoescape=True)
    )
    lines = db.execute(query.order_by(t.trial_system_attribute_id)).all()
    return {name: key.removeprefix(ARTIFACT_PREFIX) for key, text in lines if (name := artifact_filename(text))}


def artifact_filename(text: str) -> str:
    """What a line about an artifact calls it."""
    return str((parse_artifact(text) or {}).get("filename") or "")


def parse_artifact(text: str) -> dict[str, Any] | None:
    """What a line says of an artifact. Optuna keeps JSON in JSON; null is one that was deleted."""
    try:
        about = json.loads(text)
        about = json.loads(about) if isinstance(about, str) else about
    except ValueError:
        return None
    return about if isinstance(about, dict) else None
