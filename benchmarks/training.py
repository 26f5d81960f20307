"""Training speed and resulting IoU, against the script a user would write."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, Section, Setting, child, median, spread
from benchmarks.photos import write_photos
from tuner.train.precision import has_amx

WIDTH = 32  # the narrowest U-Net of the space unet_k
TARGETS = {128: 2.5, 256: 3.0}  # with AMX
TARGET_FP32 = 1.05
NOISE = 2.0  # standard errors within which two means count as equal


def measure(setting: Setting) -> Section:
    ways = ["plain", "fp32", *(["bf16"] if has_amx() else [])]
    rows: list[Row] = []
    for size, target in TARGETS.items():
        runs = throughput(setting, size, ways)
        rows += speed_rows(runs, size, target)
    curves = quality(setting, ways)
    rows += iou_rows(curves)
    return Section("training", "Training", ("", "tuner", "plain script"), rows, reading(setting))


def throughput(setting: Setting, size: int, ways: list[str]) -> dict[str, list[dict[str, float]]]:
    """Measure the speed with short trials, alternating between all ways."""
    # a wider image costs four times as much: fewer of them
    number = setting.pick(300 if size == 128 else 120, 24)
    config = common(setting, number) | {"size": size, "k": setting.pick(WIDTH, 8), "epochs": setting.pick(2, 1)}
    return turns(setting, config, ways, setting.pick(3, 2))


def quality(setting: Setting, ways: list[str]) -> dict[str, list[dict[str, float]]]:
    """Measure the IoU of longer trials of a small model, one per seed."""
    config = common(setting, setting.pick(200, 24))
    config |= {"size": 96, "k": setting.pick(12, 4), "epochs": setting.pick(10, 2)}
    return turns(setting, config, ways, setting.pick(4, 2))


def common(setting: Setting, number: int) -> dict[str, Any]:
    photos = setting.data or write_photos(setting.folder / f"photos{number}", number)
    return {"photos": str(photos), "cache": str(setting.folder / "cache"), "lr": 1e-3}


def turns(
    setting: Setting, config: dict[str, Any], ways: list[str], rounds: int
) -> dict[str, list[dict[str, float]]]:
    """Run all ways once per round; the seed changes with the round."""
    Path(config["cache"]).mkdir(parents=True, exist_ok=True)
    results: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for seed in range(rounds):
        for way in ways:
            result = child("trial", config | {"way": way, "seed": seed})
            result["speed"] = result["images"] * config["epochs"] / result["seconds"]
            results[way].append(result)
            setting.log(
                f"training {config['size']} px {way}: {result['speed']:.1f} images/s, iou {result['iou']:.3f}"
            )
    return results


def speed_rows(runs: dict[str, list[dict[str, float]]], size: int, target: float) -> list[Row]:
    speeds = {way: [run["speed"] for run in results] for way, results in runs.items()}
    theirs = median(speeds["plain"])
    wanted = {"bf16": target, "fp32": TARGET_FP32}
    return [
        Row(
            f"{size} px, {way}, images/s", spread(values), spread(speeds["plain"]),
            f"{median(values) / theirs:.2f}", f"at least {wanted[way]}", median(values) / theirs >= wanted[way],
        )
        for way, values in speeds.items() if way != "plain"
    ]  # fmt: skip


def iou_rows(runs: dict[str, list[dict[str, float]]]) -> list[Row]:
    """Compare means over the seeds; equal if they differ by less than the seed noise."""
    ious = {way: [run["iou"] for run in results] for way, results in runs.items()}
    return [
        Row(
            f"best validation IoU, {way}, mean of {len(values)} seeds", mean_and_deviation(values),
            mean_and_deviation(ious["plain"]), f"{statistics.mean(values) - statistics.mean(ious['plain']):+.3f}",
            "equal within seed noise", is_no_worse(values, ious["plain"]),
        )
        for way, values in ious.items() if way != "plain"
    ]  # fmt: skip


def mean_and_deviation(values: list[float]) -> str:
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def is_no_worse(ours: list[float], theirs: list[float]) -> bool:
    error = (statistics.variance(ours) / len(ours) + statistics.variance(theirs) / len(theirs)) ** 0.5
    return statistics.mean(ours) >= statistics.mean(theirs) - NOISE * error


def reading(setting: Setting) -> list[str]:
    return [
        f"A trial from its first line to its last (model built, {setting.pick(2, 1)} epochs of training and "
        "validation, best weights and checkpoints written), in a process of its own; importing the libraries "
        "is not counted on either side. U-Net of width "
        f"{setting.pick(WIDTH, 8)}, batch 8, Adam, plateau schedule, flips.",
        "The gain in fp32 comes from the decoded cache and the channels-last layout; the gain of bf16 from "
        "the processor's matrix units.",
        "The decoded cache was filled before the measurement; filling it costs one pass over the files for "
        "each image size of a study.",
    ]
