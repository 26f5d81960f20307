"""Savings and losses of pruning, replayed on real learning curves in many orders."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna

from benchmarks.measure import Row, Section, Setting, child
from tuner.goal import maximize

NEAR = 0.01  # of IoU: this close to the best counts as found
SAVING_TARGET, FOUND_TARGET = 3.0, 0.9
Curve = list[float]


def measure(setting: Setting) -> Section:
    curves = collect(setting)
    config = setting.pick(300, 20)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    halving = optuna.pruners.SuccessiveHalvingPruner
    ours = "tuner's: factor 3, first rung at epoch 1"
    ways: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        ours: lambda: halving(min_resource=1, reduction_factor=3),
        "factor 4, first rung at epoch 1": lambda: halving(min_resource=1, reduction_factor=4),
        "Optuna's SuccessiveHalvingPruner(): factor 4, auto": halving,
        "none": optuna.pruners.NopPruner,
    }
    full = sum(map(len, curves))
    rows = []
    for name, make in ways.items():
        used, found = replay_all(curves, make, config)
        mine = name == ours
        rows.append(
            Row(name, f"{full / used:.1f} times fewer", f"{found:.0%}", "",
                f"at least {SAVING_TARGET:g} and {FOUND_TARGET:.0%}" if mine else "",
                (full / used >= SAVING_TARGET and found >= FOUND_TARGET) if mine else None)
        )  # fmt: skip
    reading = [
        f"{len(curves)} recipes (learning rate x width x loss) were trained to the end, {len(curves[0])} epochs "
        f"each, and replayed in {config} random orders, one trial after the other.",
        f"Found: the best finished trial is within {NEAR} IoU of the best of all {len(curves)}, which is "
        f"{max(map(max, curves)):.3f}.",
    ]
    blank = sum(curve[0] < NEAR for curve in curves)
    if blank:
        reading.append(
            f"{blank} of the {len(curves)} predict nothing yet after one epoch (IoU below {NEAR}): the first rung "
            "cannot tell these apart, and what blooms late is lost there."
        )
    return Section("pruning", "Pruning", ("pruner", "epochs", "found"), rows, reading)


def collect(setting: Setting) -> list[Curve]:
    """Return the learning curves; they are trained once and then read from the folder."""
    config: dict[str, Any] = {
        "rates": [1e-4, 7e-4, 5e-3] if not setting.quick else [2e-4, 3e-3],
        "widths": [4, 8, 12] if not setting.quick else [4],
        "losses": ["bce", "focal", "dice"] if not setting.quick else ["bce", "dice"],
        "epochs": setting.pick(27, 9),
        "size": setting.pick(48, 32),
        "data": str(setting.data or "shapes"),
        "cache": str(setting.folder / "cache"),
    }
    kept = setting.folder / f"curves-{hashlib.sha256(json.dumps(config).encode()).hexdigest()[:12]}.json"
    if not kept.exists():
        kept.write_text(json.dumps(child("pruning", config)["curves"]))
    curves: list[Curve] = json.loads(kept.read_text())
    return curves


def replay_all(curves: Sequence[Curve], make: Callable[[], Any], config: int) -> tuple[float, float]:
    """Return the mean number of epochs and the share of orders that found a near-best trial."""
    best = max(map(max, curves))
    results = [replay(shuffled(curves, seed), make()) for seed in range(config)]
    return sum(used for used, _ in results) / config, sum(best - value <= NEAR for _, value in results) / config


def shuffled(curves: Sequence[Curve], seed: int) -> list[Curve]:
    order = list(curves)
    random.Random(seed).shuffle(order)
    return order


def replay(curves: Sequence[Curve], judge: optuna.pruners.BasePruner) -> tuple[int, float]:
    """Replay one study: return its epochs and its best finished trial."""
    study = optuna.create_study(direction="maximize", pruner=judge, sampler=optuna.samplers.RandomSampler(seed=0))
    used, best = 0, 0.0
    for curve in curves:
        trial = study.ask()
        for epoch, value in enumerate(curve, start=1):
            used += 1
            trial.report(value, epoch)
            if epoch < len(curve) and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            best = max(best, *curve)
            study.tell(trial, max(curve))
    return used, best


def main(config: dict[str, Any]) -> dict[str, list[Curve]]:
    """Train every recipe to its end."""
    grid = itertools.product(config["rates"], config["widths"], config["losses"])
    return {"curves": [curve(config, *point) for point in grid]}


def curve(config: dict[str, Any], lr: float, k: int, loss: str) -> Curve:
    from tuner.data.cache import load_cached
    from tuner.data.datasets import open_data
    from tuner.data.survey import survey
    from tuner.paths import Run
    from tuner.recipe import Recipe, use
    from tuner.train.loop import EpochReport, train
    from tuner.train.memory import MicroBatches
    from tuner.train.precision import find_device

    recipe = Recipe(
        task="binary", data=use(config["data"], image_size=config["size"]), model=use("unet", k=k, dropout=0.1),
        loss=use(loss), optimizer=use("adam", lr=lr), schedule=use("plateau"), augment=use("flip"),
        epochs=config["epochs"], seed=1,
    )  # fmt: skip
    values: Curve = []

    def on_epoch(report: EpochReport) -> None:
        assert report.value is not None
        values.append(report.value)

    source, store = open_data(recipe.data), Path(config["cache"])
    store.mkdir(parents=True, exist_ok=True)
    data = load_cached(source, survey(source, store).fingerprint, recipe.image_size, store)
    with tempfile.TemporaryDirectory() as place:
        train(recipe, maximize("iou"), data, Run(Path(place)), device=find_device(),
              micro_batches=MicroBatches(Path(place) / "micro.json"), on_epoch=on_epoch)  # fmt: skip
    return values


if __name__ == "__main__":
    import sys

    print(json.dumps(main(json.loads(sys.argv[1]))))
