"""Every method of telling things apart, from a COCO file to label maps of new photographs, as a user types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.command_line import home_url, rows, run
from helpers.dataset_layouts import make_coco, make_penn_fudan
from PIL import Image
from pycocotools.coco import COCO

from tuner.artifacts.attempts import open_attempts
from tuner.cli import main
from tuner.cli.common import open_engine
from tuner.data.synthetic.cells import draw_culture
from tuner.export.best_trial import find_best
from tuner.export.bundle import export_bundle
from tuner.paths import Home
from tuner.study.trial_queries import read_trials

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("instances"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # pycocotools and numpy 2
]
SPACE = '''"""Tiny: instances."""

from tuner import Recipe, Stage, maximize, use

GOAL = maximize("pq")


def suggest(trial):
    method = trial.suggest_categorical("method", ["deep_watershed", "mask_rcnn", "watershed_cascade"])
    stages = []
    if method == "deep_watershed":
        model, loss = use(method, k=trial.suggest_int("k", 4, 8)), use("watershed")
    elif method == "watershed_cascade":
        cut = trial.suggest_int("cut", 0, 5)
        model, loss = use(method, k=4, width=4, cut=cut, min_size=1), use("own", weights={"levels": 2.0})
        stages = [Stage(1, "watershed", judged=False), Stage(1, "direction", judged=False), Stage(1)]
    else:
        anchor = trial.suggest_categorical("anchor", [8, 16])
        model, loss = use(method, backbone="mobilenet_v3_small", k=8, anchor=anchor, num_regions=16), use("own")
    return Recipe(
        task="instance",
        data=use("cultures", image_size=64),
        augment=use("crop_flip"),
        model=model,
        loss=loss,
        optimizer=use("adam", lr=trial.suggest_float("lr", 1e-3, 1e-2)),
        epochs=len(stages) or 2,
        stages=stages,
        batch_size=4,
    )
'''
TABLE = """space = "cells_space.py"
metric = "pq"
also = ["ap50", "count_error"]
compare = "none"
[[rows]]
params = { method = "deep_watershed", k = 8, lr = 5e-3 }
[[rows]]
params = { method = "mask_rcnn", anchor = 8, lr = 1e-3 }
[[rows]]
params = { method = "watershed_cascade", cut = 0, lr = 5e-3 }
"""


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of all methods, trained on photographs with COCO's JSON."""
    folder = tmp_path_factory.mktemp("instances")
    make_coco(folder / "cultures" / "images", folder / "cultures" / "annotations.json", 10)
    (folder / "cells_space.py").write_text(SPACE)
    (folder / "both.toml").write_text(TABLE)
    done = run(folder, "run", "--table", "both.toml", "--home", "home")
    assert done.returncode == 0, done.stdout + done.stderr
    for number in (0, 1):
        picture, _ = draw_culture(np.random.default_rng(number))
        Image.fromarray(picture).resize((200 + number, 150)).save(folder / f"new{number}.png")
    Image.new("RGB", (90, 70), "grey").save(folder / "bare.png")
    return folder


@pytest.fixture
def tuner(searched: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """The command line in this process, for the commands that show and use; what it said on stdout."""
    monkeypatch.chdir(searched)

    def call(*args: str | Path) -> str:
        done = CliRunner().invoke(main, [str(arg) for arg in args], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return call


def test_all_rows_are_trained_and_stand_in_one_table(tuner: Callable[..., str], searched: Path) -> None:
    found = json.loads(tuner("table", "both.toml", "--home", "home", "--json"))
    assert found["metrics"] == ["val_pq", "val_ap50", "val_count_error"] and found["compare"] == "none"
    for row in found["rows"]:
        assert row["state"] == "done" and row["published"] == dict.fromkeys(found["metrics"])
        assert all(row["ours"][name] >= 0 for name in found["metrics"])
    shown = tuner("table", "both.toml", "--home", "home")
    assert "val pq ours" in shown and "published" not in shown
    epochs = rows(home_url(searched / "home"), "SELECT metrics FROM tuner_epoch")
    assert len(epochs) == 7


def exported(home: Path, number: int) -> Path:
    """The bundle of a trial, whether it is the best or not."""
    engine = open_engine(None, str(home))
    found = find_best(engine, "both")
    other = next(trial for trial in read_trials(engine, found.study) if trial.number == number)
    found, bundle = replace(found, trial=other), Path(f"bundle{number}")
    export_bundle(found, found.fetch_files(open_attempts(Home(home), None)), bundle, force=False)
    return bundle


@pytest.mark.parametrize("number", [0, 1, 2], ids=["deep_watershed", "mask_rcnn", "watershed_cascade"])
def test_the_model_of_each_finds_instances_in_new_photographs(tuner: Callable[..., str], number: int) -> None:
    bundle, out = exported(Path("home"), number), Path(f"out{number}")
    assert {"predictions.png", "curves.png", "quality.png", "strip.png"} <= {f.name for f in bundle.iterdir()}
    assert not (bundle / "confusion.csv").exists()
    tuner("predict", bundle, "new0.png", "new1.png", "bare.png", "--out", out)
    read = COCO(str(out / "instances.json"))
    for image in read.loadImgs(read.getImgIds()):
        stem = Path(image["file_name"]).stem
        with Image.open(out / f"{stem}_instances.png") as file:
            labels = np.asarray(file)
        assert labels.shape == (image["height"], image["width"]) and labels.max() < 65536
        told = read.loadAnns(read.getAnnIds(image["id"]))
        assert len(told) == labels.max()
        masks = [read.annToMask(one).astype(bool) for one in told]
        assert sorted(int(np.unique(labels[mask])[0]) for mask in masks) == list(range(1, labels.max() + 1))
        assert (out / f"{stem}_overlay.png").exists()
    tuner("explain", bundle, "new0.png", "--out", out / "seen")
    assert list((out / "seen").glob("new0*.png"))


def test_the_report_and_the_comparison_tell_of_all(tuner: Callable[..., str], searched: Path) -> None:
    tuner("report", "--home", "home", "--out", "report.html", "--force")
    page = (searched / "report.html").read_text()
    assert "mask_rcnn" in page and "deep_watershed" in page and "count_error" in page
    assert "watershed_cascade" in page
    tuner("compare", "0", "1", "2", "--home", "home", "--out", "both.html", "--force")
    assert (searched / "both.html").stat().st_size > 10_000


@pytest.mark.slow
def test_the_table_of_pedestrians_trains_a_row_of_each_method(tmp_path: Path) -> None:
    make_penn_fudan(tmp_path / "data" / "penn_fudan", 8)
    table = ("instances_penn_fudan", "--home", "home")
    done = run(tmp_path, "run", "--table", *table, "--shrink", "16", "--shorten", "60")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(run(tmp_path, "table", *table, "--json").stdout)
    methods = ["deep_watershed", "deep_watershed", "watershed_cascade", "mask_rcnn"]
    assert [row["params"]["method"] for row in found["rows"]] == methods
    assert [row["params"].get("direction") for row in found["rows"]] == [False, True, None, None]
    for row in found["rows"]:
        assert row["state"] == "done" and all(row["ours"][name] >= 0 for name in found["metrics"])
