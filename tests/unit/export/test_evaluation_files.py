"""The files of an evaluation: of every task, complete, equal to the scores, and drawn by a seed."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.made_studies import make_bundle
from PIL import Image

from tuner.data.source import IGNORED
from tuner.errors import DataError, FilesError
from tuner.export.bundle import load_model, open_bundle
from tuner.export.evaluate import Evaluation, evaluate_bundle
from tuner.export.evaluation_files import check_replaceable
from tuner.export.predict import predict_image
from tuner.paths import Home
from tuner.recipe import Recipe
from tuner.train import predictions
from tuner.train.details import choose_sample, read_details

EVERY = {"metrics.json", "details.json", "images.csv", "examples.png", "sample.png", "quality.png"}
Evaluate = Callable[..., Evaluation]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Generated datasets are drawn once for all tests."""
    return Home(tmp_path_factory.mktemp("home"))


@pytest.fixture
def evaluate(tmp_path: Path, home: Home) -> Evaluate:
    """Evaluate a new model of a recipe on its own validation split, into the folder `out`."""
    bundle = tmp_path / "best"

    def call(recipe: Recipe, data: Path | None = None, out: str = "out", **given: int) -> Evaluation:
        if not bundle.exists():
            make_bundle(recipe, bundle)
        named = None if data is None else str(data)
        opened = open_bundle(bundle, trust=True)  # the model of some is one of the tests
        return evaluate_bundle(opened, named, "val", home, tmp_path / out, **given)

    return call


def read_scores(folder: Path) -> dict[str, float]:
    """Return the score of each image as written."""
    with (folder / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(list(row) == ["image", "split", "score"] and row["split"] == "val" for row in rows)
    return {row["image"]: float(row["score"]) for row in rows}


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_masks_leave_pictures_curves_and_the_score_of_each_image(
    toy_recipe: Recipe, photos: Path, tmp_path: Path, evaluate: Evaluate
) -> None:
    found = evaluate(toy_recipe, photos, sample=100)  # all that there are
    out = tmp_path / "out"
    assert {file.name for file in out.iterdir()} == EVERY | {"confusion.csv"}
    scores = read_scores(out)
    assert len(scores) == found.images < 100 and set(scores) <= {
        file.stem for file in (photos / "images").iterdir()
    }
    assert np.mean(list(scores.values())) == pytest.approx(found.metrics["image_iou"], abs=1e-5)
    table = [line.split(",")[1:] for line in (out / "confusion.csv").read_text().splitlines()]
    assert table[0] == ["background", "object"]
    assert [[int(cell) for cell in row] for row in table[1:]] == found.confusion
    written = json.loads((out / "metrics.json").read_text())
    assert written["metrics"] == found.metrics and written["images"] == found.images
    assert written["evaluation"] == {
        "bundle": str(tmp_path / "best"), "seed": 0, "sample": found.images, "image_score": "IoU"
    }  # fmt: skip
    details = read_details(out / "details.json")
    assert details is not None and details.scores == pytest.approx(list(scores.values()), abs=1e-6)
    model = load_model(tmp_path / "best")
    for name, score in scores.items():
        (file,), (mask,) = ((photos / kind).glob(f"{name}.*") for kind in ("images", "masks"))
        found_here = predict_image(model, file, image_size=32) > 0
        there = np.asarray(Image.open(mask).convert("L")) > 127
        expected = (found_here & there).sum() / (found_here | there).sum()
        assert score == pytest.approx(expected, abs=0.1)  # measured at 32 pixels


@pytest.mark.parametrize(
    "task", ["label_recipe", "instance_recipe", pytest.param("class_recipe", marks=pytest.mark.slow)]
)
def test_every_task_has_its_files(task: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    recipe: Recipe = request.getfixturevalue(task)
    evaluate: Evaluate = request.getfixturevalue("evaluate")
    found = evaluate(recipe, sample=3)
    out = tmp_path / "out"
    tables = set() if task == "instance_recipe" else {"confusion.csv"}
    assert {file.name for file in out.iterdir()} == EVERY | tables
    scores = read_scores(out)
    assert len(scores) == found.images > 9
    mean = {"label_recipe": "image_iou"}.get(task)
    assert not mean or np.mean(list(scores.values())) == pytest.approx(found.metrics[mean], abs=1e-5)
    if tables:
        rows = [line.split(",") for line in (out / "confusion.csv").read_text().splitlines()][1:]
        assert [row[0] for row in rows] == list(recipe.classes)
        assert [[int(cell) for cell in row[1:]] for row in rows] == found.confusion
    assert size_of(out / "sample.png")[1] < size_of(out / "examples.png")[1]  # three images, and nine


def test_numbers_that_json_has_not_are_null(
    toy_recipe: Recipe, tmp_path: Path, evaluate: Evaluate, own_folder: Path
) -> None:
    """An own metric that is NaN, and a model whose loss is."""
    (own_folder / "never.py").write_text("def score(prediction, target):\n    return float('nan')\n")
    make_bundle(replace(toy_recipe, metrics=("never:score",)), tmp_path / "best", bias=math.nan)
    found = evaluate(toy_recipe, sample=3)
    assert math.isnan(found.metrics["never:score"]) and math.isnan(found.metrics["loss"])

    def refuse(word: str) -> None:
        raise AssertionError(word)

    for name in ("metrics.json", "details.json"):
        json.loads((tmp_path / "out" / name).read_text(), parse_constant=refuse)
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert written["metrics"]["never:score"] is None and written["metrics"]["loss"] is None


@pytest.mark.slow
def test_the_seed_chooses_the_images(toy_recipe: Recipe, tmp_path: Path, evaluate: Evaluate) -> None:
    for out, seed in (("one", 0), ("other", 1)):
        evaluate(toy_recipe, out=out, sample=4, seed=seed)
    one, other = (
        {file.name: file.read_bytes() for file in (tmp_path / out).iterdir()} for out in ("one", "other")
    )
    assert {name for name in one if one[name] != other[name]} == {"sample.png", "metrics.json"}


@pytest.mark.slow
def test_a_split_too_large_to_keep_its_predictions_has_the_same_pictures(
    toy_recipe: Recipe, photos: Path, tmp_path: Path, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(toy_recipe, photos)
    monkeypatch.setattr(predictions, "MAX_BUFFER_BYTES", 0)
    evaluate(toy_recipe, photos, out="again")
    for name in ("examples.png", "sample.png"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.slow
def test_an_earlier_evaluation_is_replaced_and_nothing_else(
    toy_recipe: Recipe, photos: Path, tmp_path: Path, evaluate: Evaluate
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    evaluate(toy_recipe, photos)  # an empty folder
    (out / "left").write_text("by an earlier version")
    evaluate(toy_recipe, photos, seed=1)
    assert (
        not (out / "left").exists() and json.loads((out / "metrics.json").read_text())["evaluation"]["seed"] == 1
    )
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years")
    for folder in ("thesis", "best", "best/card.md"):  # of the user, a bundle, a file
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(FilesError, match=r"exists and is not an evaluation.* Choose another folder"):
            evaluate(toy_recipe, photos, out=folder)
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("text", ["", "[" * 100_000, '"evaluation"', "7", '{"epoch": 1}', b"\xff"])
def test_a_file_that_only_has_the_name_is_not_an_evaluation(text: str | bytes, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FilesError, match="is not an evaluation"):
        check_replaceable(tmp_path)


@pytest.mark.parametrize(
    ("given", "told"),
    [({"sample": 0}, "sample is 0; a whole number of at least 1 and at most 100 is needed"),
     ({"sample": 2.5}, "sample is 2.5"), ({"seed": -1}, "seed is -1")],
)  # fmt: skip
def test_what_is_no_sample_is_refused(
    toy_recipe: Recipe, tmp_path: Path, evaluate: Evaluate, given: dict[str, int], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        evaluate(toy_recipe, **given)
    assert not (tmp_path / "out").exists()


def test_images_of_ignored_pixels_have_no_score(tmp_path: Path, label_recipe: Recipe, evaluate: Evaluate) -> None:
    """They may be drawn among the random ones."""
    labels = np.arange(4, dtype=np.uint8).repeat(256).reshape(32, 32)
    for split in ("train", "val"):
        for at, truth in enumerate((labels, labels if split == "train" else np.full_like(labels, IGNORED))):
            for kind, picture in (("images", np.full((32, 32, 3), 60 * at, np.uint8)), ("labels", truth)):
                path = tmp_path / "scenes" / split / kind / f"{at}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(path)
    evaluate(replace(label_recipe, classes=("0", "1", "2", "3")), tmp_path / "scenes")
    lines = (tmp_path / "out" / "images.csv").read_text().splitlines()
    assert lines[2].endswith("1,val,") and len(lines[1].split(",")[2]) > 0
    assert (tmp_path / "out" / "sample.png").is_file()


def test_a_sample_has_no_repeats_and_is_chosen_by_the_seed() -> None:
    assert choose_sample(20, 5, 3) == choose_sample(20, 5, 3) != choose_sample(20, 5, 4)
    assert len(set(choose_sample(20, 5))) == 5 and choose_sample(20, 5) == sorted(choose_sample(20, 5))
    assert set(choose_sample(20, 5)) < set(choose_sample(20, 10))
    assert choose_sample(3, 10) == [0, 1, 2] and choose_sample(0, 10) == []
