"""Cost of the input pipeline: an epoch of input alone, and what it adds to the training steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, Section, Setting, child, in_turns, median, seconds, spread
from benchmarks.photos import write_photos
from benchmarks.trial import recipe_of

SIZE = 256
INPUT_TARGET = 4.0
STEPS_TARGET = 1.05


def measure(setting: Setting) -> Section:
    number = setting.pick(300, 40)
    photos = setting.data or write_photos(setting.folder / f"photos{number}", number)
    config = {"photos": str(photos), "cache": str(setting.folder / "cache"), "size": SIZE, "way": "auto",
              "k": setting.pick(32, 8), "lr": 1e-3, "epochs": 1, "seed": 0}  # fmt: skip
    found = child("input", config | {"rounds": setting.pick(7, 3), "steps": setting.pick(10, 3)})
    loader, ours, whole, bare = (found[name] for name in ("loader", "ours", "whole", "bare"))
    faster, costs = median(loader) / median(ours), median(whole) / median(bare)
    rows = [
        Row(f"input of {found['images']} photographs at {SIZE} px, s", spread(ours, 2), spread(loader, 2),
            f"{faster:.1f}", f"at least {INPUT_TARGET:g}", faster >= INPUT_TARGET),
        Row("an epoch's steps / the bare model's, s", spread(whole, 2), spread(bare, 2),
            f"{costs:.3f}", f"at most {STEPS_TARGET}", costs <= STEPS_TARGET),
    ]  # fmt: skip
    reading = [
        "The first row compares a DataLoader over the files with 2 workers (decode, resize, flip, normalise) "
        "with tuner's batches from the decoded cache (flip, normalise), each for one epoch without training.",
        f"The second row holds the training part of an epoch (U-Net of width {config['k']}: input, metrics, "
        "all bookkeeping of a step) against forward, loss, backward and optimizer step on batches in memory.",
    ]
    return Section("input", "Input", ("", "tuner", "other"), rows, reading)


def main(config: dict[str, Any]) -> dict[str, Any]:
    """Measure both sides of both rows, alternating, in a separate process."""
    import cv2

    from benchmarks.plain import loader
    from benchmarks.trial import paths
    from tuner.data.batches import Batches
    from tuner.data.cache import load_cached
    from tuner.data.folder import folder
    from tuner.data.survey import survey
    from tuner.train.memory import keep_pages

    cv2.setNumThreads(1)  # as a worker does, and:
    keep_pages()
    source = folder(Path(config["photos"]), image_size=SIZE, val=0.01)  # nearly all for training
    store = Path(config["cache"])
    store.mkdir(parents=True, exist_ok=True)
    recipe = recipe_of(config)
    data = load_cached(source, survey(source, store).fingerprint, SIZE, store)
    batches = Batches(data, recipe.batch_size, recipe.seed, recipe.augment)
    files = loader(paths(source.split("train")), SIZE, True)
    step_ways = steps(recipe, batches, config["steps"])
    input_ways: dict[str, Callable[[], float]] = {
        "loader": lambda: seconds(lambda: [None for _ in files]),
        "ours": lambda: seconds(lambda: [None for _ in map(normalised(), batches.train(1))]),
    }
    in_turns(1, **input_ways)  # the first of each warms up
    return {
        **in_turns(config["rounds"], **input_ways),
        **in_turns(config["rounds"], **step_ways),
        "images": len(data.train),
    }


def normalised() -> Callable[[Any], Any]:
    """Normalise a batch as the trainer does; the DataLoader's workers have done it already."""
    import torch

    from tuner.train.trainer import make_normalizer

    normalise = make_normalizer(torch.device("cpu"))
    return lambda batch: (normalise(batch[0]), batch[1].unsqueeze(1).float())


def steps(recipe: Any, batches: Any, number: int) -> dict[str, Callable[[], float]]:
    """Train the first `number` steps of an epoch: by the trainer from the cache, and bare from memory."""
    from itertools import islice

    import torch

    from tuner.train.memory import MicroBatches
    from tuner.train.precision import find_device
    from tuner.train.totals import Totals
    from tuner.train.trainer import Trainer

    device = find_device()
    trainer = Trainer(recipe, device, MicroBatches(Path("unused")))
    trainer.model.train()
    ready = [(trainer.normalise(x.to(device)), y.to(device).unsqueeze(1).float()) for x, y in
             islice(batches.train(1), number)]  # fmt: skip

    def whole() -> None:
        totals = Totals(trainer.task, device)
        for images, targets in islice(batches.train(1), number):
            trainer.step(images, targets, totals)
        totals.scores("train_")

    def bare() -> None:
        for batch, target in ready:
            with torch.autocast(device.type, trainer.dtype, enabled=trainer.dtype is not torch.float32):
                logits = trainer.model(batch)
            trainer.loss(logits.float(), target).backward()
            trainer.optimizer.step()
            trainer.optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()

    whole()
    bare()
    return {"whole": lambda: seconds(whole), "bare": lambda: seconds(bare)}


if __name__ == "__main__":
    import json
    import sys

    print(json.dumps(main(json.loads(sys.argv[1]))))
