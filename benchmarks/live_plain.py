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

    from benchmarks.plain import loader, train_epoch, validate
    from benchmarks.trial import paths
    from tuner.data.folder import folder
    from tuner.models.unet import unet
    from tuner.train.losses import bce, dice, focal

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    source = folder(Path(config["photos"]), image_size=config["size"])
    train, val = paths(source.split("train")), paths(source.split("val"))
    losses = {"bce": bce, "dice": dice, "focal": focal}
    seen = {"epochs": 0, "best": 0.0}

    with tempfile.TemporaryDirectory() as place:

        def objective(trial: optuna.Trial) -> float:
            torch.manual_seed(1000 * config["seed"] + trial.number)
            rate = trial.suggest_categorical("lr", config["rates"])
            width = trial.suggest_categorical("k", config["widths"])
            loss_of = losses[trial.suggest_categorical("loss", config["losses"])]("binary")
            model = unet(3, 1, k=width, dropout=0.1)
            optimizer = torch.optim.Adam(model.parameters(), lr=rate)
            schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=5)
            train_batches = loader(train, config["size"], True)
            val_batches = loader(val, config["size"], False)
            best = -1.0
            for epoch in range(1, config["epochs"] + 1):
                train_epoch(model, train_batches, loss_of, optimizer)
                scores = validate(model, val_batches, loss_of)
                schedule.step(scores["loss"])
                if scores["iou"] > best:
                    best = scores["iou"]
                    torch.save(model.state_dict(), Path(place) / f"best-{trial.number}.pt")
                seen["epochs"], seen["best"] = seen["epochs"] + 1, max(seen["best"], best)
                trial.report(scores["iou"], epoch)
                if seen["best"] >= config["near"] or seen["epochs"] >= config["cap"]:
                    trial.study.stop()
                    return best
                if trial.should_prune():
                    raise optuna.TrialPruned()
            return best

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
