"""A study as a search leaves it, in a real database: trials with recipes, epochs, failures, pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import optuna
import sqlalchemy as sa
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from PIL import Image

from helpers.optuna_revisions import prepare_file
from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.goal import maximize
from tuner.paths import Home
from tuner.recipe import Recipe, use
from tuner.report.study_data import StudyData, read_study
from tuner.study import queries
from tuner.study.info import StudyInfo
from tuner.study.study import JoinedStudy, join_study
from tuner.study.tables import epoch_table

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"
BEGAN = datetime(2026, 11, 20, 9, 0)
KINDS: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-5, 1e-2, log=True),
    "k": IntDistribution(8, 64, step=2),
    "loss": CategoricalDistribution(("bce", "dice", "focal")),
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "lr": {"kind": "float", "log": True, "step": None, "low": 1e-5, "high": 1e-2},
    "k": {"kind": "int", "log": False, "step": 2, "low": 8, "high": 64},
    "loss": {"kind": "categorical", "choices": ["bce", "dice", "focal"]},
}
PICTURES = ("strip.png", "predictions.png", "quality.png", "explanation.png")


def open_study(folder: Path, name: str = "searched", **changes: Any) -> JoinedStudy:
    """An empty study in folder/tuner.db, with a space of three parameters."""
    prepare_file(folder / "tuner.db")
    info = StudyInfo(name, "unet_k", maximize("iou"), "shapes", parameters=PARAMETERS)
    return join_study(f"sqlite:///{folder / 'tuner.db'}", replace(info, **changes))


def study_data(joined: JoinedStudy) -> StudyData:
    """Return a study as reports read it."""
    return read_study(joined.engine, queries.find_study(joined.engine, None))


def add(
    joined: JoinedStudy,
    params: dict[str, Any],
    curve: Sequence[float],
    state: TrialState = TrialState.COMPLETE,
    *,
    planned: int = 0,
    seconds: float = 60.0,
    loss: Sequence[float] = (),
    notes: dict[str, Any] | None = None,
    files: dict[str, bytes] | None = None,
) -> int:
    """A trial with an epoch for each value of its curve; `loss` is the validation's. Its number."""
    best = int(np.argmax(curve)) if len(curve) else 0
    attrs: dict[str, Any] = {"recipe": recipe(params, planned or len(curve)).to_json()}
    if len(curve):
        result = {
            "best_value": curve[best],
            "best_epoch": best + 1,
            "epochs": len(curve),
            "host": "vm",
            "device": "cpu",
        }
        attrs["result"] = result
    number = len(joined.study.get_trials(deepcopy=False))
    frozen = create_trial(
        state=state,
        value=curve[best] if state is TrialState.COMPLETE else None,
        params=params,
        distributions={name: KINDS[name] for name in params},
        user_attrs=attrs | (notes or {}),
        system_attrs=kept(Path(str(joined.engine.url.database)).parent, files or {}),
    )
    frozen.datetime_start = BEGAN + timedelta(minutes=number)
    frozen.datetime_complete = frozen.datetime_start + timedelta(seconds=seconds * len(curve))
    joined.study.add_trial(frozen)
    made = joined.study.get_trials(deepcopy=False)[-1]
    rows = [
        {
            "trial_id": made._trial_id,
            "epoch": epoch,
            "value": value,
            "seconds": seconds,
            "images_per_second": 20.0,
            "peak_memory": 2**30,
            "lr": params.get("lr", 0.01),
            "metrics": {
                "train_loss": 1 / epoch,
                "train_iou": value + 0.01,
                "val_loss": loss[epoch - 1] if len(loss) else 1.1 / epoch,
                "val_iou": value,
            },
        }
        for epoch, value in enumerate(map(float, curve), start=1)
    ]
    if rows:
        with joined.engine.begin() as db:
            db.execute(sa.insert(epoch_table), rows)
    return made.number


def recipe(params: dict[str, Any], epochs: int) -> Recipe:
    return Recipe(
        task="binary",
        data=use("shapes", image_size=32),
        augment=use("flip"),
        model=use("unet", k=params.get("k", 8), dropout=0.1),
        loss=use(str(params.get("loss", "bce"))),
        optimizer=use("adam", lr=params.get("lr", 0.01)),
        epochs=epochs,
    )


def kept(home: Path, files: dict[str, bytes]) -> dict[str, str]:
    """Put files into the home as artifacts; what Optuna notes of them on the trial."""
    artifacts, noted = TrialArtifacts(Home(home).make()), {}
    for name, body in files.items():
        made = str(uuid4())
        artifacts.write(made, BytesIO(body))
        about = {"artifact_id": made, "filename": name, "mimetype": "image/png", "encoding": None}
        noted[f"artifacts:{made}"] = json.dumps(about)
    return noted


@cache
def picture(seed: int = 0, size: tuple[int, int] = (480, 320)) -> bytes:
    """A real PNG that does not compress to nothing."""
    small = np.random.default_rng(seed).integers(0, 255, (12, 18, 3), dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def details(
    scores: Sequence[float], metric: str = "image_iou", groups: dict[str, list[int]] | None = None
) -> bytes:
    """details.json, as far as a study is judged by it."""
    images = {"scores": list(map(float, scores))} | ({} if groups is None else {"groups": groups})
    plain = {
        "version": 1,
        "epoch": 1,
        "metric": metric,
        "classes": [],
        "images": images,
    }
    return json.dumps(plain).encode()


def search(folder: Path, number: int = 40, name: str = "searched", images: int = 30) -> JoinedStudy:
    """A search that found something: lr matters, loss a little, k hardly; some were pruned, some failed."""
    joined = open_study(folder, name)
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 0.08, images)
    for at in range(number):
        params = {
            "lr": float(10 ** rng.uniform(-5, -2)),
            "k": int(rng.integers(4, 33)) * 2,
            "loss": ("bce", "dice", "focal")[int(rng.integers(3))],
        }
        top = 0.82 - 0.12 * (np.log10(params["lr"]) + 2.6) ** 2 - 0.05 * (params["loss"] == "focal")
        top = max(top, 0.1) + rng.normal(0, 0.006)
        curve = top * (1 - np.exp(-np.arange(1, 21) / 4)) + rng.normal(0, 0.004, 20)
        if at % 13 == 12:
            why = "Traceback\nout of memory at one image: k=64 does not fit"
            add(joined, params, curve[:1], TrialState.FAIL, planned=20, notes={"failure": why})
        elif at > 5 and top < 0.55:
            add(joined, params, curve[:3], TrialState.PRUNED, planned=20, seconds=20 + params["k"])
        else:
            files = {file: picture(seed) for seed, file in enumerate(PICTURES)}
            files["details.json"] = details(np.clip(max(curve) + hard + rng.normal(0, 0.03, images), 0, 1))
            add(joined, params, curve, seconds=20 + params["k"], files=files)
    return joined


optuna.logging.set_verbosity(optuna.logging.WARNING)
