"""Studies for measuring: opened by the program's functions, filled in bulk."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tuner.paths import Home
from tuner.space.space import draw_recipes, load_space
from tuner.study import budget
from tuner.study.claims import utc_now
from tuner.study.info import StudyInfo
from tuner.study.optuna_tables import (
    study_system_attrs,
    trial_attrs,
    trial_params,
    trial_steps,
    trial_system_attrs,
    trial_values,
    trials,
)
from tuner.study.pending import step_columns, value_rows
from tuner.study.study import JoinedStudy, join_study
from tuner.study.tables import claim_table, epoch_table

CHUNK = 250  # trials written in one transaction
Rows = dict[sa.Table, list[dict[str, Any]]]


def begin(place: Path, space_file: Path, num_trials: int) -> tuple[Home, str]:
    """Create a study of a space in a home below `place`; return the home and the storage URL."""
    home = Home(place / "home").make()
    joined = open_study(home.database, space_file, space_file.stem)
    budget.set_budget(joined.engine, joined.id, num_trials=num_trials)
    joined.engine.dispose()
    return home, home.database


def open_study(url: str, space_file: Path, name: str) -> JoinedStudy:
    space = load_space(str(space_file))
    draws = draw_recipes(space)
    data = draws.recipes[0].data.name
    return join_study(url, StudyInfo(name, space.name, space.goal, data, parameters=draws.parameters))


def fill(joined: JoinedStudy, num_trials: int, num_epochs: int, whole: bool = True) -> None:
    """Add finished trials with parameters, reports, attributes and epochs, as a search stores them.

    With `whole`, all of them are complete; otherwise three of five were pruned, most of them at epoch 1.
    """
    chance = random.Random(0)
    drawn = params_of(joined)
    with joined.engine.connect() as db:
        number = db.scalar(sa.select(sa.func.count()).where(trials.c.study_id == joined.id)) or 0
    for begin in range(number, number + num_trials, CHUNK):
        numbers = range(begin, min(begin + CHUNK, number + num_trials))
        with joined.engine.begin() as db:
            began = utc_now() - timedelta(hours=1)
            head = {"study_id": joined.id, "datetime_start": began, "datetime_complete": utc_now()}
            made = [{**head, "number": at, "state": state_at(at, whole)} for at in numbers]
            db.execute(sa.insert(trials), made)
            known = dict(
                db.execute(
                    sa.select(trials.c.number, trials.c.trial_id).where(
                        trials.c.study_id == joined.id, trials.c.number >= begin
                    )
                )
                .tuples()
                .all()
            )
            rows: Rows = {}
            for at in numbers:
                ended = 1 if not whole and at % 5 < 2 else 3 if not whole and at % 5 == 2 else num_epochs
                for table, row in one(known[at], at, state_at(at, whole), min(ended, num_epochs), drawn, chance):
                    rows.setdefault(table, []).append(row)
            for row in rows[claim_table]:
                row["study_id"] = joined.id
            for table, some in rows.items():
                db.execute(sa.insert(table), some)


def annotate(joined: JoinedStudy) -> None:
    """Add a note and the records of two pictures to every trial, as a search stores them."""
    with joined.engine.begin() as db:
        ids = db.scalars(sa.select(trials.c.trial_id).where(trials.c.study_id == joined.id)).all()
        for begin in range(0, len(ids), CHUNK):
            notes, pictures = [], []
            for trial in ids[begin : begin + CHUNK]:
                for key, text in (
                    (f"dashboard:{trial}:note_ver", 1),
                    (f"dashboard:{trial}:note_str:0", "x" * 1200),
                ):
                    notes.append({"study_id": joined.id, "key": key, "value_json": json.dumps(text)})
                for name in ("curves.png", "predictions.png"):
                    key = f"{trial:08x}-{len(name):04x}"
                    meta = {"artifact_id": key, "filename": name, "mimetype": "image/png", "encoding": None}
                    told = json.dumps(json.dumps(meta))
                    pictures.append({"trial_id": trial, "key": f"artifacts:{key}", "value_json": told})
            db.execute(sa.insert(study_system_attrs), notes)
            db.execute(sa.insert(trial_system_attrs), pictures)


def state_at(number: int, whole: bool) -> str:
    return "COMPLETE" if whole or number % 5 > 2 else "PRUNED"


def params_of(joined: JoinedStudy) -> dict[str, tuple[str, dict[str, Any]]]:
    """Every parameter of a study's plan with its distribution, as Optuna writes it down, and as plain JSON."""
    names = {"float": "FloatDistribution", "int": "IntDistribution", "categorical": "CategoricalDistribution"}
    found = {}
    for name, kind in joined.info.parameters.items():
        attributes = {key: value for key, value in kind.items() if key != "kind"}
        found[name] = json.dumps({"name": names[kind["kind"]], "attributes": attributes}), kind
    return found


def value_of(kind: dict[str, Any], chance: random.Random) -> float:
    """Draw a value of a distribution, in Optuna's internal form."""
    if kind["kind"] == "categorical":
        return float(chance.randrange(len(kind["choices"])))
    low, high = kind["low"], kind["high"]
    value = low * (high / low) ** chance.random() if kind["log"] else chance.uniform(low, high)
    if kind["kind"] == "int" or kind["step"]:
        step = kind["step"] or 1
        return float(low + step * ((value - low) // step))
    return float(value)


def one(
    trial_id: int, number: int, state: str, epochs: int, drawn: dict[str, tuple[str, dict[str, Any]]],
    chance: random.Random,
) -> Iterator[tuple[sa.Table, dict[str, Any]]]:  # fmt: skip
    """Yield the rows of a trial in all tables but its own."""
    of = {"trial_id": trial_id}
    yield claim_table, {**of, "slot": number + 1, "worker": "bench", "attempt": 1}
    params = {name: value_of(kind, chance) for name, (_, kind) in drawn.items()}
    for name, value in params.items():
        yield trial_params, {**of, "param_name": name, "param_value": value, "distribution_json": drawn[name][0]}
    best = 0.3 + 0.6 * chance.random()
    for epoch in range(1, epochs + 1):
        value = best * (0.5 + 0.5 * epoch / epochs)
        yield trial_steps, {**of, "step": epoch, **step_columns(value)}
        yield epoch_table, {**of, **row_of(epoch, value)}
        if epoch in (1, 3, 9, 27, 81):
            rung = {"key": f"completed_rung_{(1, 3, 9, 27, 81).index(epoch)}", "value_json": json.dumps(value)}
            yield trial_system_attrs, {**of, **rung}
    if state == "COMPLETE":
        for row in value_rows(("COMPLETE", best), of):
            yield trial_values, row
    result = {"best_value": best, "best_epoch": epochs, "last_value": best, "epochs": epochs, "attempt": 1}
    for key, note in (("recipe", RECIPE), ("made_with", MADE_WITH), ("result", {**result, **ENDED})):
        yield trial_attrs, {**of, "key": key, "value_json": json.dumps(note)}


def row_of(epoch: int, value: float) -> dict[str, Any]:
    """Return an epoch's row as training records it."""
    metrics = {f"{split}_{name}": value for split in ("train", "val") for name in ("loss", "iou", "dice", "f1")}
    return {"epoch": epoch, "value": value, "seconds": 0.1, "images_per_second": 100.0, "peak_memory": 1 << 30,
            "lr": 1e-3, "metrics": metrics}  # fmt: skip


RECIPE = {
    **{"task": "binary", "model": {"name": "unet", "arguments": {"k": 64}}, "data": {"name": "shapes"}},
    **{"loss": {"name": "bce"}, "optimizer": {"name": "adam", "arguments": {"lr": 1e-3}}, "epochs": 10},
}
MADE_WITH = {"commit": "none", "python": "3.11", "data": "shapes", "data_hash": "0" * 16, "train_images": 200}
ENDED = {"precision": "fp32", "micro_batch": 8, "device": "cpu", "host": "here"}
