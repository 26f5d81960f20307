"""A step of training: every model against itself in a bare loop, and a frozen encoder against a free one."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, Section, Setting, child, median, spread

SIDE, BATCH = 128, 8
MODELS = {  # arguments that keep a step below a few seconds on two cores; everything else as the table has it
    "unet": {"k": 32},
    "unet_transposed": {"k": 32},
    "basic_cnn": {},
    "resnet18_unet": {},
    "resnet34_unet": {},
    "mobilenet_unet": {},
    "mobilenet_segnet_attention": {},
    "mobilenet_segnet_attention_atrous": {},
    "fcn_resnet50": {},
    "segformer": {},
    "smp": {},
    "sport_vgg": {},
    "timm": {},
}
CLASSIFIERS = ("sport_vgg", "timm")
FROZEN = ("mobilenet_unet", "resnet18_unet", "resnet34_unet", "fcn_resnet50", "segformer", "sport_vgg")
TARGET, TARGET_FROZEN = 0.97, 1.5
TURN = 1.0  # seconds that a turn lasts at least


def measure(setting: Setting) -> Section:
    shared = {
        "side": setting.pick(SIDE, 64),
        "rounds": setting.pick(13, 2),
        "turn": 0.1 if setting.quick else TURN,
        "folder": str(setting.folder),
    }
    rows = []
    for name, args in MODELS.items():
        bare = child("models", shared | {"model": name, "args": args, "what": "bare"})
        setting.log(f"models {name}: {median(bare['ours']):.1f} images/s, bare {median(bare['other']):.1f}")
        rows.append(row(f"{name}, images/s", bare, TARGET))
    for name in FROZEN:
        frozen = child("models", shared | {"model": name, "args": MODELS[name], "what": "frozen"})
        setting.log(
            f"models {name}: {median(frozen['ours']):.1f} images/s frozen, {median(frozen['other']):.1f} free"
        )
        rows.append(row(f"{name}, encoder frozen against free, images/s", frozen, TARGET_FROZEN))
    return Section("models", "A step of every model", ("", "tuner", "other"), rows, reading(setting))


def row(what: str, runs: dict[str, list[float]], target: float) -> Row:
    """Compute the median of the rounds' ratios; both sides of a round run directly after each other."""
    ratio = median([a / b for a, b in zip(runs["ours"], runs["other"], strict=True)])
    return Row(
        what, spread(runs["ours"]), spread(runs["other"]), f"{ratio:.2f}", f"at least {target}", ratio >= target
    )


def reading(setting: Setting) -> list[str]:
    side = setting.pick(SIDE, 64)
    return [
        f"Batches of {BATCH} at {side} px, bf16 where the processor gains from it, channels last, "
        "Adam; median of the rounds, a few steps of each side in turns. The bare loop is forward, loss, backward, "
        "step on images that are floats already; ours takes bytes, normalises them, and counts every metric of a "
        "training epoch.",
        "The last rows compare our step with a frozen encoder and with everything trained.",
    ]


def run(config: dict[str, Any]) -> dict[str, list[float]]:
    """Return images per second of each side and round, measured in a separate process."""
    from tuner.train.memory import keep_pages

    keep_pages()  # as a worker does; it serves both sides
    ours, other = (frozen if config["what"] == "frozen" else bare)(config)
    for step in (ours, other):
        speed(step, 2)  # the first steps choose kernels and fill the allocator
    number = max(4, round(config["turn"] * speed(ours, 2) / BATCH))
    found: dict[str, list[float]] = {"ours": [], "other": []}
    for at in range(config["rounds"]):
        sides = [("ours", ours), ("other", other)]
        for name, step in sides if at % 2 else sides[::-1]:
            found[name].append(speed(step, number))
    return found


def speed(step: Callable[[], None], number: int) -> float:
    began = time.perf_counter()
    for _ in range(number):
        step()
    return number * BATCH / (time.perf_counter() - began)


def bare(config: dict[str, Any]) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return our training step and a minimal one for the same model."""
    import torch

    ours = trainer(config, frozen=False)
    theirs = trainer(config, frozen=False)
    images, targets = batch(config)
    ready, target = theirs.normalise(images), theirs.target(targets)
    optimizer = torch.optim.Adam(theirs.model.parameters(), lr=1e-4, fused=True)

    def loop() -> None:
        with torch.autocast("cpu", theirs.dtype, enabled=theirs.dtype is not torch.float32):
            logits = theirs.model(ready)
        theirs.loss(logits.float(), target).backward()
        optimizer.step()
        optimizer.zero_grad()

    return stepping(ours, images, targets), loop


def frozen(config: dict[str, Any]) -> tuple[Callable[[], None], Callable[[], None]]:
    images, targets = batch(config)
    return (
        stepping(trainer(config, frozen=True), images, targets),
        stepping(trainer(config, frozen=False), images, targets),
    )


def trainer(config: dict[str, Any], frozen: bool) -> Any:
    import torch

    from tuner.recipe import Recipe, Stage, use
    from tuner.train.memory import MicroBatches
    from tuner.train.trainer import Trainer

    name = config["model"]
    recipe = Recipe(
        task="classification" if name in CLASSIFIERS else "binary",
        data=use("shapes", image_size=config["side"]),
        model=use(name, **config["args"]),
        loss=use("cross_entropy" if name in CLASSIFIERS else "bce"),
        optimizer=use("adam", lr=1e-4),
        stages=(Stage(1, frozen="encoder" if frozen else ()),),
        batch_size=BATCH,
        classes=tuple(map(str, range(10))) if name in CLASSIFIERS else (),
    )
    made = Trainer(recipe, torch.device("cpu"), MicroBatches(Path(config["folder"]) / "micro.json"))
    made.set_train_mode()
    return made


def batch(config: dict[str, Any]) -> tuple[Any, Any]:
    import torch

    side = config["side"]
    images = torch.randint(0, 256, (BATCH, side, side, 3), dtype=torch.uint8)
    if config["model"] in CLASSIFIERS:
        return images, torch.randint(0, 10, (BATCH,))
    return images, torch.randint(0, 2, (BATCH, side, side), dtype=torch.uint8)


def stepping(ours: Any, images: Any, targets: Any) -> Callable[[], None]:
    from tuner.train.totals import Totals

    totals = Totals(ours.task, ours.device, ours.recipe.classes)
    return lambda: ours.step(images, targets, totals)


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.argv[1]))))
