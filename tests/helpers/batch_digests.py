"""Digests of batches, to compare epochs that threads or other processes make."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

from tuner.data.batches import Batch, Batches
from tuner.data.cache import load_cached
from tuner.data.synthetic.shapes import shapes
from tuner.recipe import use


def digest(epoch: list[Batch]) -> str:
    whole = hashlib.sha256()
    for images, targets in epoch:
        whole.update(images.numpy().tobytes() + targets.numpy().tobytes())
    return whole.hexdigest()


def digest_epochs(folder: Path, num_threads: int) -> list[str]:
    """Three epochs of generated pictures, cached in `folder`."""
    data = load_cached(shapes(), "batches", 16, folder)
    made = Batches(data, 7, 5, use("flip"), num_threads)
    return [digest(list(made.train(epoch))) for epoch in (1, 2, 3)]


if __name__ == "__main__":
    print(json.dumps(digest_epochs(Path(sys.argv[1]), int(sys.argv[2]))))
