"""One trial in a separate process, ours or the plain script's; started by benchmarks.training."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tuner.data.folder import folder
from tuner.data.source import Item, Source


def main(config: dict[str, Any]) -> dict[str, float]:
    source = folder(Path(config["photos"]), image_size=config["size"])
    with tempfile.TemporaryDirectory() as place:
        return (plain if config["way"] == "plain" else ours)(source, config, Path(place))


def plain(source: Source, config: dict[str, Any], place: Path) -> dict[str, float]:
    import optuna

    from benchmarks.plain import search

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    train, val = paths(source.split("train")), paths(source.split("val"))
    wanted = {name: config[name] for name in ("size", "k", "lr", "epochs", "seed")}
    began = time.perf_counter()
    best = search(train, val, **wanted, folder=place)
    return {"seconds": time.perf_counter() - began, "images": len(train) + len(val), "iou": best}


def paths(items: tuple[Item, ...]) -> list[tuple[Path, Path]]:
    return [(item.image, item.target) for item in items if item.image and isinstance(item.target, Path)]


def ours(source: Source, config: dict[str, Any], place: Path) -> dict[str, float]:
    """Train a trial as a worker does, with a filled cache."""
    import cv2

    from tuner.data.cache import load_cached
    from tuner.data.survey import survey
    from tuner.goal import maximize
    from tuner.paths import Run
    from tuner.train.loop import train
    from tuner.train.memory import MicroBatches, keep_pages
    from tuner.train.precision import find_device

    cv2.setNumThreads(1)  # as a worker does, and:
    keep_pages()
    store = Path(config["cache"])
    recipe = recipe_of(config)
    filling = time.perf_counter()
    data = load_cached(source, survey(source, store).fingerprint, config["size"], store)
    filled = time.perf_counter()
    done = train(
        recipe,
        maximize("iou"),
        data,
        Run(place),
        device=find_device(),
        micro_batches=MicroBatches(place / "micro.json"),
        on_epoch=lambda report: None,
    )
    took = time.perf_counter() - filled
    best = done.progress.best_value or 0.0
    images = len(data.train) + len(data.val)
    return {"seconds": took, "images": images, "iou": best, "filling": filled - filling}


def recipe_of(config: dict[str, Any]) -> Any:
    from tuner.recipe import Recipe, use

    return Recipe(
        task="binary",
        data=use(config["photos"], image_size=config["size"]),
        augment=use("flip"),
        model=use("unet", k=config["k"], dropout=0.1),
        loss=use("bce"),
        optimizer=use("adam", lr=config["lr"]),
        schedule=use("plateau"),
        epochs=config["epochs"],
        batch_size=8,
        precision=config["way"],
        seed=config["seed"],
    )


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
