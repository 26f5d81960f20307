"""Instances: how well two watersheds separate touching cells, against the connected pieces of a mask; timings.

Two models for each seed, trained as a worker trains them, with the same width and epochs. The validation split is
scored twice from the weights of deep_watershed: by the watershed, and by connected components of its mask alone;
and once from those of watershed_cascade.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, Section, Setting, child, median, spread

TARGET_AP50 = 0.8
TARGET_SECONDS = 180
TARGET_SHARE = 0.2
METRICS = ("ap50", "ap", "pq", "count_error", "merged")
WAYS = ("watershed", "pieces", "cascade")
STAGES = (0.4, 0.4)  # shares of the epochs in the first two stages of the cascade


def quality_row(name: str, flood: list[float], pieces: list[float], cascade: list[float]) -> Row:
    """Return the row of a metric, by seed for each column; ap50 has a target."""
    ratio = f"{median(flood) / median(pieces):.2f}" if median(pieces) else ""
    target, met = (f"at least {TARGET_AP50}", min(flood) >= TARGET_AP50) if name == "ap50" else ("", None)
    told = [spread(values, 3) for values in (flood, pieces, cascade)]
    return Row(f"{name} on cells, {len(flood)} seeds", told[0], told[1], ratio, target, met, third=told[2])


def measure(setting: Setting) -> Section:
    config = {"seeds": setting.pick(3, 1), "k": setting.pick(24, 4), "size": 128, "epochs": setting.pick(40, 3)}
    config["width"] = setting.pick(32, 4)
    found = child("instances", config)
    share = median(found["finding"]) / median(found["validating"])
    rows = [quality_row(name, *(found[way][name] for way in WAYS)) for name in METRICS]
    took = max(found["training"])
    rows += [
        Row(
            "training, with validation, s",
            spread(found["training"]),
            "",
            "",
            f"under {TARGET_SECONDS}",
            took < TARGET_SECONDS,
            third=spread(found["cascade_training"]),
        ),
        Row("one validation, s", spread(found["validating"], 2), "", "", "", None),
        Row(
            "- of it making instances of the heads, s",
            spread(found["finding"], 3),
            "",
            f"{share:.0%}",
            f"under {TARGET_SHARE:.0%}",
            share < TARGET_SHARE,
        ),
        Row("- of it ranking them for AP, s", spread(found["ranking"], 3), "", "", "", None),
    ]
    reading = [
        f"Models of k = {config['k']}, {config['size']} px, {config['epochs']} epochs on generated cells:"
        f" {found['images'][0]} images to learn from, {found['images'][1]} to validate, with"
        f" {found['cells'][0]} cells of which {found['cells'][1]:.0%} touch another.",
        "The first two columns use the same weights of deep_watershed. In the second, each connected piece of the "
        "mask is one instance, with the same minimum size; its score is that of the mask.",
        f"The third is watershed_cascade of width {config['width']}, whose epochs are those of all three stages. "
        "Ratio, targets and the times of validation are of the first.",
    ]
    head = ("", "watershed", "pieces of the mask", "cascade")
    return Section("instances", "Instances", head, rows, reading)


def main(config: dict[str, Any]) -> dict[str, Any]:
    import tempfile

    import cv2

    from tuner.data.cache import load_cached
    from tuner.data.survey import survey
    from tuner.data.synthetic.cells import cells
    from tuner.train.memory import keep_pages

    cv2.setNumThreads(1)  # as a worker does
    keep_pages()
    times = ("training", "cascade_training", "validating", "finding", "ranking")
    found: dict[str, Any] = {name: [] for name in times}
    found |= {way: {name: [] for name in METRICS} for way in WAYS}
    with tempfile.TemporaryDirectory() as place:
        folder, source = Path(place), cells(image_size=config["size"])
        data = load_cached(source, survey(source, folder).fingerprint, config["size"], folder)
        for seed in range(config["seeds"]):
            one_seed(config, data, folder / str(seed), seed, found)
        found["images"] = [len(data.train), len(data.val)]
        found["cells"] = crowd([data.targets[at] for at in data.val])
    return found


def one_seed(config: dict[str, Any], data: Any, folder: Path, seed: int, found: dict[str, Any]) -> None:
    """Train both models, then score their best weights, those of deep_watershed both ways."""
    from dataclasses import replace

    from tuner.recipe import Recipe, Stage, use
    from tuner.train.validation import make_batches, validate

    epochs, lr = config["epochs"], 2e-3
    recipe = Recipe(
        task="instance", data=use("cells", image_size=config["size"]), augment=use("flip"),
        model=use("deep_watershed", k=config["k"]), loss=use("watershed", energy_weight=4.0),
        optimizer=use("adam", lr=lr), schedule=use("cosine"), epochs=epochs, batch_size=8, seed=seed,
    )  # fmt: skip
    first, second = (round(epochs * share) for share in STAGES)
    in_stages = replace(
        recipe, model=use("watershed_cascade", k=config["k"], width=config["width"]), loss=use("own"),
        stages=(Stage(first, "watershed"), Stage(second, "direction"), Stage(epochs - first - second, lr=lr / 4)),
    )  # fmt: skip
    trainer, took = train_model(recipe, data, folder / "one")
    found["training"].append(took)
    cascade, took = train_model(in_stages, data, folder / "cascade")
    found["cascade_training"].append(took)
    scores = validate(cascade, make_batches(in_stages, data, cascade.device)).scores()
    for name in METRICS:
        found["cascade"][name].append(scores[name])
    flood = trainer.find
    for way, find in (("watershed", flood), ("pieces", lambda heads: pieces_of(heads, flood))):
        timed = trainer.find = Timed(find)
        batches = make_batches(recipe, data, trainer.device)
        began = time.perf_counter()
        scores = validate(trainer, batches).scores()
        took = time.perf_counter() - began
        for name in METRICS:
            found[way][name].append(scores[name])
        if way == "watershed":
            found["validating"].append(took)
            found["finding"].append(timed.spent)
            found["ranking"].append(ranking_seconds(timed.given, batches))


def train_model(recipe: Any, data: Any, folder: Path) -> tuple[Any, float]:
    """Return a trainer with the best weights of a training, and how long it took."""
    from tuner.goal import maximize
    from tuner.paths import Run
    from tuner.train.loop import train
    from tuner.train.memory import MicroBatches
    from tuner.train.precision import find_device
    from tuner.train.trainer import Trainer

    device, memory = find_device(), MicroBatches(folder / "micro.json")
    began = time.perf_counter()
    outcome = train(
        recipe, maximize("ap"), data, Run(folder).make(), device=device, micro_batches=memory,
        on_epoch=lambda report: None,
    )  # fmt: skip
    took = time.perf_counter() - began
    trainer = Trainer(recipe, device, memory)
    assert outcome.model is not None and trainer.find is not None
    trainer.model.load_state_dict(outcome.model.state_dict())
    return trainer, took


def pieces_of(heads: Any, flood: Any) -> Any:
    """Find the connected components of the mask alone: the energy threshold is never reached."""
    import torch

    from tuner.models.deep_watershed import WatershedInstances

    flat = torch.cat([heads[:, :1], torch.zeros_like(heads[:, :1])], 1)  # an energy of one half everywhere
    return WatershedInstances(flood.mask, 0.999, flood.min_size)(flat)


class Timed:
    """A function with the time spent in it and its last result."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.spent = inner, 0.0
        self.given: list[Any] = []

    def __call__(self, *args: Any) -> Any:
        began = time.perf_counter()
        try:
            self.given.append(self.inner(*args))
            return self.given[-1]
        finally:
            self.spent += time.perf_counter() - began


def ranking_seconds(found: list[Any], batches: Any) -> float:
    """Measure the time of ranking the predictions for AP."""
    from tuner.train.instance_metrics import InstanceRanking

    targets = [target for _, target in batches.val()]
    began = time.perf_counter()
    ranked = InstanceRanking()
    for some, target in zip(found, targets, strict=True):
        ranked.add(some, target)
    ranked.scores()
    return time.perf_counter() - began


def crowd(maps: list[Any]) -> list[float]:
    """Return the number of cells and the share that touches another."""
    import numpy as np
    from skimage.morphology import dilation

    number = touching = 0
    for labels in maps:
        grown = dilation(np.asarray(labels), np.ones((3, 3), bool))
        met = np.unique(np.stack([labels[labels > 0], grown[labels > 0]], 1), axis=0)
        pairs = {pair for one, other in met if one != other for pair in (int(one), int(other))}
        number, touching = number + len(np.unique(labels[labels > 0])), touching + len(pairs)
    return [number, touching / max(1, number)]


if __name__ == "__main__":
    import json
    import sys

    print(json.dumps(main(json.loads(sys.argv[1]))))
