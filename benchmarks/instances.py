"""Instances: how well deep_watershed separates touching cells, against the connected pieces of its mask; timings.

One model for each seed, trained as a worker trains it. Its validation split is then scored twice from the same
weights: by the watershed, and by connected components of the mask alone.
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


def measure(setting: Setting) -> Section:
    config = {"seeds": setting.pick(3, 1), "k": setting.pick(24, 4), "size": 128, "epochs": setting.pick(40, 2)}
    found = child("instances", config)
    flood, pieces = found["watershed"], found["pieces"]
    share = median(found["finding"]) / median(found["validating"])
    rows = [
        Row(
            f"{name} on cells, {len(flood[name])} seeds",
            spread(flood[name], 3),
            spread(pieces[name], 3),
            f"{median(flood[name]) / median(pieces[name]):.2f}" if median(pieces[name]) else "",
            *((f"at least {TARGET_AP50}", min(flood[name]) >= TARGET_AP50) if name == "ap50" else ("", None)),
        )
        for name in METRICS
    ]
    took = max(found["training"])
    rows += [
        Row(
            "training, with validation, s",
            spread(found["training"]),
            "",
            "",
            f"under {TARGET_SECONDS}",
            took < TARGET_SECONDS,
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
        f"deep_watershed of k = {config['k']}, {config['size']} px, {config['epochs']} epochs on generated cells:"
        f" {found['images'][0]} images to learn from, {found['images'][1]} to validate, with"
        f" {found['cells'][0]} cells of which {found['cells'][1]:.0%} touch another.",
        "The other column uses the same weights: each connected piece of the mask is one instance, with the "
        "same minimum size; its score is that of the mask.",
    ]
    return Section("instances", "Instances", ("", "watershed", "pieces of the mask"), rows, reading)


def main(config: dict[str, Any]) -> dict[str, Any]:
    import tempfile

    import cv2

    from tuner.data.cache import load_cached
    from tuner.data.survey import survey
    from tuner.data.synthetic.cells import cells
    from tuner.train.memory import keep_pages

    cv2.setNumThreads(1)  # as a worker does
    keep_pages()
    found: dict[str, Any] = {name: [] for name in ("training", "validating", "finding", "ranking")}
    found |= {way: {name: [] for name in METRICS} for way in ("watershed", "pieces")}
    with tempfile.TemporaryDirectory() as place:
        folder, source = Path(place), cells(image_size=config["size"])
        data = load_cached(source, survey(source, folder).fingerprint, config["size"], folder)
        for seed in range(config["seeds"]):
            one_seed(config, data, folder / str(seed), seed, found)
        found["images"] = [len(data.train), len(data.val)]
        found["cells"] = crowd([data.targets[at] for at in data.val])
    return found


def one_seed(config: dict[str, Any], data: Any, folder: Path, seed: int, found: dict[str, Any]) -> None:
    """Train, then score the best weights both ways."""
    from tuner.goal import maximize
    from tuner.paths import Run
    from tuner.recipe import Recipe, use
    from tuner.train.loop import train
    from tuner.train.memory import MicroBatches
    from tuner.train.precision import find_device
    from tuner.train.trainer import Trainer
    from tuner.train.validation import make_batches, validate

    recipe = Recipe(
        task="instance", data=use("cells", image_size=config["size"]), augment=use("flip"),
        model=use("deep_watershed", k=config["k"]), loss=use("watershed", energy_weight=4.0),
        optimizer=use("adam", lr=2e-3), schedule=use("cosine"), epochs=config["epochs"], batch_size=8, seed=seed,
    )  # fmt: skip
    device, memory = find_device(), MicroBatches(folder / "micro.json")
    began = time.perf_counter()
    outcome = train(
        recipe, maximize("ap"), data, Run(folder).make(), device=device, micro_batches=memory,
        on_epoch=lambda report: None,
    )  # fmt: skip
    found["training"].append(time.perf_counter() - began)
    trainer = Trainer(recipe, device, memory)
    assert outcome.model is not None and trainer.find is not None
    trainer.model.load_state_dict(outcome.model.state_dict())
    flood = trainer.find
    for way, find in (("watershed", flood), ("pieces", lambda heads: pieces_of(heads, flood))):
        timed = trainer.find = Timed(find)
        batches = make_batches(recipe, data, device)
        began = time.perf_counter()
        scores = validate(trainer, batches).scores()
        took = time.perf_counter() - began
        for name in METRICS:
            found[way][name].append(scores[name])
        if way == "watershed":
            found["validating"].append(took)
            found["finding"].append(timed.spent)
            found["ranking"].append(ranking_seconds(timed.given, batches))


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
