"""A search as a plain script of Optuna, in a process of its own; started by benchmarks.live."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()


def main(config: dict[str, Any]) -> dict[str, Any]:
    import optuna
    import torch

    from benchmarks.plain import loader, train_trial
    from benchmarks.trial import paths
    from tuner.data.folder import folder
    from tuner.train.losses import bce, dice, focal

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    source = folder(Path(config["photos"]), image_size=config["size"])
    train, val = paths(source.split("train")), paths(source.split("val"))
    losses = {"bce": bce, "dice": dice, "focal": focal}
    seen = {"epochs": 0, "best": 0.0}

    with tempfile.TemporaryDirectory() as place:

        def is_over(iou: float) -> bool:
            seen["epochs"], seen["best"] = seen["epochs"] + 1, max(seen["best"], iou)
            return seen["best"] >= config["near"] or seen["epochs"] >= config["cap"]

        def objective(trial: optuna.Trial) -> float:
            torch.manual_seed(1000 * config["seed"] + trial.number)
            rate = trial.suggest_categorical("lr", config["rates"])
            width = trial.suggest_categorical("k", config["widths"])
            loss_of = losses[trial.suggest_categorical("loss", config["losses"])]("binary")
            batches = loader(train, config["size"], True), loader(val, config["size"], False)
            return train_trial(trial, width, rate, loss_of, batches, config["epochs"], Path(place), is_over)

        study = optuna.create_study(
            direction="maximize",
            storage=f"sqlite:///{place}/plain.db",
            sampler=optuna.samplers.TPESampler(seed=config["seed"]),
            pruner=optuna.pruners.SuccessiveHalvingPruner(),
        )
        study.optimize(objective)
        return {"seconds": time.perf_counter() - BEGAN, **seen}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
