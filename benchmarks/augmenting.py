"""Whether training waits for the heaviest augmentations, and their time per image."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, Section, Setting, child, in_turns, median, seconds, spread

SIZE = 256
BATCH = 16
TARGET = 10.0  # % of a step
PROCESSES = 2


def measure(setting: Setting) -> Section:
    config = {
        "cache": str(setting.folder / "cache"),
        "size": setting.pick(SIZE, 64),
        "batch": setting.pick(BATCH, 4),
        "steps": setting.pick(5, 3),
        "rounds": setting.pick(3, 1),
        "images": setting.pick(96, 16),
    }
    found = child("augmenting", config)
    rows = [waited(found, name, said) for name, said in
            (("chosen", "as it chooses"), ("processes", f"{PROCESSES} processes"))]  # fmt: skip
    ours, theirs = found["set"], found["library"]
    rows += [
        Row("an image, ms", spread(ours, 2), f"albumentations' own noise: {spread(theirs, 2)}",
            f"{median(theirs) / median(ours):.1f}"),
        Row("images/s, 1 thread", spread(found["one"], 0), ""),
        Row("images/s, 2 processes / 2 threads", spread(found["in_processes"], 0), spread(found["in_threads"], 0),
            f"{median(found['in_processes']) / median(found['in_threads']):.1f}"),
    ]  # fmt: skip
    reading = [
        f"The set 'pet' at {SIZE} px (crop, flips, shift-zoom-turn, colour jitter, RGB shift, noise), batches "
        f"of {BATCH}; steps are of resnet34_unet. On a processor training has every core: no process is started.",
        "With a GPU, processes use the cores that training leaves free; in the second row they share this "
        "machine's cores with training.",
    ]
    return Section("augmenting", "Augmenting", ("the set 'pet'", "tuner", "other"), rows, reading)


def waited(found: dict[str, Any], name: str, said: str) -> Row:
    waits, whole = found[f"{name}_wait"], found[f"{name}_step"]
    share = 100 * median(waits) / median(whole)
    return Row(f"wait for a batch / a step, {said}, s", spread(waits, 4), spread(whole, 2),
               f"{share:.2f} %", f"under {TARGET:g} %", share < TARGET)  # fmt: skip


def main(config: dict[str, Any]) -> dict[str, Any]:
    """Measure in a separate process, with a worker's settings."""
    import cv2

    from tuner.train.memory import keep_pages

    cv2.setNumThreads(1)
    keep_pages()
    data = generated(config)
    batches = batches_of(config, data)
    few = replace(data, train=data.train[: config["images"]])
    speed = partial(images_a_second, few, config)
    return {
        **stepping(config, {"chosen": batches, "processes": replace(batches, num_processes=PROCESSES)}),
        **in_turns(config["rounds"], set=lambda: an_image(data, False), library=lambda: an_image(data, True)),
        **in_turns(
            config["rounds"],
            one=speed(),
            in_threads=speed(num_threads=PROCESSES),
            in_processes=speed(num_processes=PROCESSES),
        ),
    }


def generated(config: dict[str, Any]) -> Any:
    from tuner.data.cache import load_cached
    from tuner.data.synthetic.shapes import shapes

    store = Path(config["cache"])
    store.mkdir(parents=True, exist_ok=True)
    return load_cached(shapes(), "augmenting", config["size"], store)


def batches_of(config: dict[str, Any], data: Any) -> Any:
    from tuner.data.batches import Batches
    from tuner.recipe import use

    return Batches(data, config["batch"], 0, use("pet"))


def stepping(config: dict[str, Any], ways: dict[str, Any]) -> dict[str, list[float]]:
    """Return the seconds waited for each batch and the seconds per step, without the first step."""
    from tuner.data import augment_pool
    from tuner.recipe import Recipe, use
    from tuner.tasks import find_task
    from tuner.train.memory import MicroBatches
    from tuner.train.precision import find_device
    from tuner.train.totals import Totals
    from tuner.train.trainer import Trainer

    recipe = Recipe(
        task="binary",
        data=use("shapes", image_size=config["size"]),
        model=use("resnet34_unet"),
        loss=use("dice_bce"),
        optimizer=use("adam", lr=1e-4),
        epochs=1,
        batch_size=config["batch"],
    )
    device = find_device()
    trainer = Trainer(recipe, device, MicroBatches(Path("unused")))
    trainer.model.train()
    found: dict[str, list[float]] = {}
    for name, batches in ways.items():
        if batches.pool_size:
            augment_pool.start_pool(batches.pool_size).result()
        totals, waits, whole = Totals(find_task("binary"), device), [], []
        epoch, ended = islice(batches.train(1), config["steps"] + 1), time.perf_counter()
        for images, targets in epoch:
            came = time.perf_counter()
            trainer.step(images, targets, totals)
            float(totals.loss)  # wait for the device
            waits.append(came - ended)
            whole.append(time.perf_counter() - ended)
            ended = time.perf_counter()
        found |= {f"{name}_wait": waits[1:], f"{name}_step": whole[1:]}
    return found


def an_image(data: Any, library: bool) -> float:
    """Return this thread's milliseconds per image, with albumentations' noise or ours."""
    import albumentations
    import numpy as np

    from tuner.data import augment

    transforms = augment.pet(data.images.shape[1])
    if library:
        transforms[-1] = albumentations.GaussNoise(std_range=(0.0, 0.05))
    pipeline = albumentations.Compose(transforms)
    image, mask = np.array(data.images[0]), np.array(data.targets[0])
    pipeline(image=image, mask=mask)
    began = time.thread_time()
    for seed in range(100):
        pipeline.set_random_seed(seed)
        pipeline(image=image, mask=mask)
    return (time.thread_time() - began) * 10


def images_a_second(data: Any, config: dict[str, Any], **how: int) -> Callable[[], float]:
    """Measure augmentation alone, without training."""
    from tuner.data import augment_pool

    batches = replace(batches_of(config, data), **how)
    if batches.pool_size:
        augment_pool.start_pool(batches.pool_size).result()
    list(batches.train(0))  # the libraries are loaded
    return lambda: len(data.train) / seconds(lambda: list(batches.train(1)))


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
