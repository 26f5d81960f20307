"""From class folders to a segmentation of scenes that begins with their encoder, as a user types it."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.command_line import home_url, rows, run
from PIL import Image

from tuner.cli import main
from tuner.data.synthetic.badges import CLASSES, draw_badge
from tuner.data.synthetic.scenes import draw_scene

pytestmark = pytest.mark.xdist_group("evaluate")  # one search for all of them
NETS = '''"""Two models with the same encoder."""

from torch import nn


class Net(nn.Module):
    def __init__(self, channels, classes, pooled):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.head, self.pooled = nn.Conv2d(4, classes, 1), pooled

    def forward(self, image):
        scores = self.head(self.encoder(image))
        return scores.mean((2, 3)) if self.pooled else scores


def sorter(channels, classes):
    return Net(channels, classes, True)


def painter(channels, classes):
    return Net(channels, classes, False)
'''
SPACE = '''"""Tiny: {task}."""

from tuner import Recipe, Stage, maximize, use

GOAL = maximize("{goal}")


def suggest(trial):
    return Recipe(
        task="{task}",
        data=use("{data}", image_size=32),
        model=use("nets:{model}"),
        loss=use("cross_entropy", weights="frequency"),
        optimizer=use("adam", lr=trial.suggest_float("lr", 1e-3, 1e-2)),
        batch_size=8,
        {more},
    )
'''


def save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def write(folder: Path, name: str, **parts: str) -> Path:
    (folder / f"{name}.py").write_text(SPACE.format(data=folder / name, **parts))
    return folder / f"{name}.py"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies: one of badges, and one of scenes that begins with the encoder of the first one's best."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "nets.py").write_text(NETS)
    for split, number in (("train", 3), ("test", 1)):
        for kind, name in enumerate(CLASSES):
            for at in range(number):
                picture = draw_badge(np.random.default_rng([at, kind, number]), name)
                save(folder / "badges" / split / name / f"{at}.png", picture)
        for at in range(6 if split == "train" else 2):
            picture, labels = draw_scene(np.random.default_rng([at, number]))
            save(folder / "scenes" / split / "images" / f"{at}.jpg", picture)
            save(folder / "scenes" / split / "labels" / f"{at}.png", labels)
    badges = write(
        folder, "badges", task="classification", goal="accuracy", model="sorter",
        more="epochs=2, validate_every=2",
    )  # fmt: skip
    scenes = write(
        folder, "scenes", task="multiclass", goal="miou", model="painter",
        more='weights=use("badges", part="encoder"), stages=[Stage(1, "encoder"), Stage(1, encoder_lr=1e-5)]',
    )  # fmt: skip
    for space in (badges, scenes):
        done = run(folder, "run", "--space", space, "--trials", "1", "--home", "home")
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_second_study_began_with_the_encoder_of_the_first(searched: Path) -> None:
    notes = rows(
        home_url(searched / "home"),
        "SELECT value_json FROM trial_user_attributes WHERE key = 'result' ORDER BY trial_id",
    )
    first, second = (json.loads(row.value_json) for row in notes)
    assert "weights" not in first
    assert second["weights"].startswith("7 tensors of the encoder loaded from ")
    assert second["weights"].endswith("best.safetensors; 2 of the file not used, 2 of the model newly initialized")


@pytest.fixture
def tuner(searched: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The command line in this process, for the commands that show and use; what it said on stdout."""
    monkeypatch.chdir(searched)
    monkeypatch.syspath_prepend(searched)

    def call(*args: str | Path) -> str:
        done = CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)
        assert done.exit_code == 0 and done.stderr == "", done.output
        return done.stdout

    return call


@pytest.mark.parametrize(("study", "images"), [pytest.param("badges", 6, marks=pytest.mark.slow), ("scenes", 2)])
def test_the_best_is_exported_scored_on_the_test_split_and_used(
    tuner: Callable[..., str], study: str, images: int
) -> None:
    bundle = Path(f"best_{study}")
    tuner("best", "--study", study, "--home", "home", "--export", bundle)
    assert {"predictions.png", "curves.png", "confusion.csv"} <= {file.name for file in bundle.iterdir()}
    found = json.loads(tuner("evaluate", bundle, "--trust", "--json", "--confusion", "who.csv", "--home", "home"))
    assert (found["images"], found["split"], found["data"]) == (images, "test", study)
    with Path("who.csv").open(newline="") as file:
        _, *table = csv.reader(file)
    assert [row[0] for row in table] == found["classes"] == (list(CLASSES) if study == "badges" else list("0123"))
    assert [[int(number) for number in row[1:]] for row in table] == found["confusion"]
    right = sum(found["confusion"][at][at] for at in range(len(table)))
    assert found["metrics"]["accuracy"] == pytest.approx(right / sum(map(sum, found["confusion"])))
    out = Path(f"tested_{study}")
    shown = tuner("evaluate", bundle, "--trust", "--home", "home", "--out", out, "--sample", "5")
    assert shown.startswith(f"{study}, test split: {images} images\n  loss ")
    assert f"\nwritten to {out}: confusion.csv, details.json, examples.png, images.csv, metrics.json, " in shown
    assert shown.endswith("sample.png (all 2 images of the test split)\n") == (images < 5)
    assert (out / "confusion.csv").read_bytes() == Path("who.csv").read_bytes()
    with (out / "images.csv").open(newline="") as file:
        scores = {row["image"]: float(row["score"]) for row in csv.DictReader(file) if row["split"] == "test"}
    assert len(scores) == images and {Path(name).suffix for name in scores} == {""}
    assert json.loads((out / "metrics.json").read_text())["metrics"] == found["metrics"]

    image = next(Path(study, "test").rglob("0.*"))
    tuner("predict", bundle, image, "--trust", "--out", f"out_{study}")
    names = {file.name for file in Path(f"out_{study}").iterdir()}
    assert names == ({"classes.csv"} if study == "badges" else {"0_labels.png", "0_overlay.png"})
