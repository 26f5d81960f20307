"""Bundles: a file changed, cut, replaced or rewritten, with a manifest that fits or does not."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from helpers.fuzzing import TEXTS, Case, Ground, call, mutate_bytes, mutate_data

from tuner.export.bundle import open_bundle
from tuner.export.manifest import MANIFEST, WEIGHTS, hash_bounded
from tuner.export.predict import predict_pixels

JSON_FILES = ("recipe.json", "metrics.json", MANIFEST)
NAMES = (*TEXTS, "../../etc/passwd", "os:system", "shutil:rmtree", "unet", "mask_rcnn", "module:function")
IMAGE = np.zeros((24, 32, 3), np.uint8)


def make_case(rng: random.Random, ground: Ground) -> Case:
    folder = ground.cwd / "best"
    shutil.copytree(ground.bundle, folder)
    what = rng.choice(
        (change_json, change_json, change_json, change_recipe, change_recipe, change_bytes, change_files)
    )
    told = what(rng, folder)
    if rng.random() < 0.8:
        rehash(folder)
    return Case(f"bundle with {told}", lambda: call(use_bundle, folder))


def use_bundle(folder: Path) -> None:
    """Open the bundle, and predict if it is not refused."""
    bundle = open_bundle(folder)
    predict_pixels(bundle.load_model(), IMAGE, bundle.recipe.image_size, bundle.recipe.task)


def rehash(folder: Path) -> None:
    """Write a manifest that fits the files, as one who alters a bundle on purpose does."""
    manifest = folder / MANIFEST
    if manifest.is_file() and not manifest.is_symlink():
        names = [
            path for path in folder.iterdir() if path.is_file() and not path.is_symlink() and path != manifest
        ]
        manifest.write_text(json.dumps({"version": 1, "files": {path.name: hash_bounded(path) for path in names}}))


def change_json(rng: random.Random, folder: Path) -> str:
    name = rng.choice(JSON_FILES)
    data = json.loads((folder / name).read_text())
    for _ in range(rng.randint(1, 3)):
        data = mutate_data(rng, data)
    (folder / name).write_text(json.dumps(data, default=str))
    return f"changed data in {name}"


def change_recipe(rng: random.Random, folder: Path) -> str:
    path = folder / "recipe.json"
    recipe: dict[str, Any] = json.loads(path.read_text())
    part = rng.choice(("model", "data", "loss", "optimizer", "schedule", "augment", "weights"))
    value = rng.choice((rng.choice(NAMES), mutate_data(rng, {"k": 4, "image_size": 32})))
    key = "name" if isinstance(value, str) else "args"
    recipe[part] = {**recipe[part], key: value}
    path.write_text(json.dumps(recipe, default=str))
    return f"{key} of {part} {str(value)[:60]!r}"


def change_bytes(rng: random.Random, folder: Path) -> str:
    name = rng.choice((WEIGHTS, WEIGHTS, *JSON_FILES))
    path = folder / name
    path.write_bytes(mutate_bytes(rng, path.read_bytes(), 4))
    return f"changed bytes of {name}"


def change_files(rng: random.Random, folder: Path) -> str:
    """Remove a file, or put a link, FIFO, folder or another file in its place."""
    path = rng.choice(sorted(folder.iterdir()))
    path.unlink()
    match how := rng.choice(("nothing", "a link", "a FIFO", "a folder", "an empty file", "text")):
        case "a link":
            path.symlink_to(rng.choice(("/dev/zero", "/etc/hostname", path.name, "missing")))
        case "a FIFO":
            os.mkfifo(path)
        case "a folder":
            path.mkdir()
        case "an empty file":
            path.touch()
        case "text":
            path.write_text(rng.choice(("{}", "[]", "null", "[" * 100_000, '{"a": ' + "9" * 5000 + "}")))
    return f"{how} in place of {path.name}"
