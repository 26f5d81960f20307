"""A recipe with ignore=NUMBER, from the search to the score of its bundle: no ignored pixel is counted."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from helpers.command_line import run
from PIL import Image

SPACE = """
from tuner import Recipe, maximize, use

GOAL = maximize("miou")


def suggest(trial):
    lr = trial.suggest_float("lr", 1e-2, 3e-2, log=True)
    data = use("./maps", image_size=32, ignore=11)
    return Recipe("multiclass", data, use("unet", k=4), use("cross_entropy"), use("adam", lr=lr), epochs=1)
"""


@pytest.mark.slow
def test_a_search_and_a_bundle_count_no_ignored_pixel(tmp_path: Path) -> None:
    rng, expected = np.random.default_rng(0), np.zeros(2, int)
    for split, number in (("train", 6), ("val", 3)):
        for at in range(number):
            labels = np.repeat([0, 1], 16)[None].repeat(32, 0).astype(np.uint8)
            labels[rng.random((32, 32)) < 0.25] = 11
            expected += [(labels == value).sum() for value in (0, 1)] if split == "val" else [0, 0]
            image = rng.integers(0, 255, (32, 32, 3), np.uint8)
            for name, values in (("images", image), ("labels", labels)):
                (tmp_path / "maps" / split / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(tmp_path / "maps" / split / name / f"{at}.png")
    (tmp_path / "space.py").write_text(SPACE)
    done = run(tmp_path, "run", "--space", "space.py", "--trials", "1")
    assert done.returncode == 0 and "maps: the data has ignore=11: pixels" in done.stderr, done.stderr
    assert run(tmp_path, "best", "--export", "out").returncode == 0
    assert run(tmp_path, "evaluate", "out", "--split", "val", "--confusion", "counts.csv").returncode == 0
    table = [*csv.reader((tmp_path / "counts.csv").read_text().splitlines())]
    assert table[0][1:] == ["0", "1"]
    assert [sum(map(int, row[1:])) for row in table[1:]] == expected.tolist()
