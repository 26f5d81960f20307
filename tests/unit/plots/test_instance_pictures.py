"""What a trial of instances leaves: pictures, numbers and explanations of its real training, and its bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from helpers.local_training import Trial
from helpers.made_studies import make_best
from optuna.artifacts import get_all_artifact_meta
from PIL import Image

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.data.cache import CachedDataset
from tuner.data.instances import match_instances
from tuner.export.bundle import export_bundle
from tuner.export.explain import explain_files
from tuner.goal import maximize, minimize
from tuner.paths import Home
from tuner.plots.examples import CELL
from tuner.plots.grid import GAP, LINE
from tuner.plots.quality import quality_charts
from tuner.recipe import Recipe
from tuner.search.trial_pictures import TrialPictures, write_pictures
from tuner.train import details
from tuner.train.details import Details


@pytest.fixture
def trained(instance_recipe: Recipe, toy_cells: CachedDataset, tmp_path: Path) -> Trial:
    return Trial(replace(instance_recipe, epochs=3), toy_cells, tmp_path / "run", maximize("pq"))


@pytest.fixture
def pictures(trained: Trial, tmp_path: Path) -> TrialPictures:
    asked = optuna.create_study().ask()
    return TrialPictures(
        asked, trained.recipe, trained.data, trained.run, TrialArtifacts(Home(tmp_path / "home").make())
    )


def read_details(trial: Trial) -> Details:
    found = details.read_details(trial.run.details)
    assert found is not None
    return found


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        picture.load()
        return picture.size


def test_a_trial_of_instances_leaves_every_picture_but_a_confusion(
    trained: Trial, pictures: TrialPictures
) -> None:
    outcome = trained.train()
    write_pictures(pictures, outcome, is_explained=True)
    names = [meta.filename for meta in get_all_artifact_meta(pictures.trial)]
    assert names == [
        *("strip.png", "predictions.png", "explanation.png", "curves.png", "quality.png", "details.json"),
    ]
    number = len(trained.data.val)
    assert size_of(trained.run.predictions) == (
        4 * (CELL + GAP) + GAP,
        GAP + 2 * (LINE + GAP) + min(9, number) * (LINE + CELL + 2 * GAP),
    )
    assert size_of(trained.run.explanation) == (9 * 134 + 6, min(6, number) * 152 + 6)
    assert size_of(trained.run.strip)[0] > size_of(trained.run.strip)[1]


def test_its_details_are_of_its_best_epoch(trained: Trial, pictures: TrialPictures) -> None:
    outcome = trained.train()
    write_pictures(pictures, outcome, is_explained=False)
    found, best = read_details(trained), trained.reports[outcome.progress.best_epoch].metrics
    assert (found.metric, found.classes, found.epoch) == ("PQ", ["object"], outcome.progress.best_epoch)
    assert not found.confusion and not found.curves and not found.calibration
    assert outcome.examples is not None and found.images["shown"] == outcome.examples.positions
    told = found.instances
    assert told["ap"] == pytest.approx(best["val_ap"], abs=1e-6)
    assert (told["aps"][0], told["aps"][5]) == pytest.approx((best["val_ap50"], best["val_ap75"]), abs=1e-6)
    val = trained.data.val
    assert [true for true, _ in told["numbers"]] == [len(np.unique(trained.data.targets[at])) - 1 for at in val]
    apart = [abs(true - said) for true, said in told["numbers"]]
    assert np.mean(apart) == pytest.approx(best["val_count_error"])
    for at, guess in outcome.examples.guesses.items():
        assert guess.max(initial=0) == told["numbers"][at][1]
        compared = match_instances(guess, np.asarray(trained.data.targets[val[at]]))
        tp, wrong = len(compared.pairs), len(compared.wrong) + len(compared.missed)
        quality = sum(iou for *_, iou in compared.pairs) / (tp + wrong / 2) if tp + wrong else 1.0
        assert found.scores[at] == pytest.approx(quality, abs=1e-6)
    assert len(quality_charts(found.to_json())) == 3


def test_a_trial_whose_goal_is_the_count_is_judged_by_the_least(trained: Trial, pictures: TrialPictures) -> None:
    trained.goal = minimize("count_error")
    progress = trained.train().progress
    assert progress.best_value == min(report.metrics["val_count_error"] for report in trained.reports.values())


def test_an_interrupted_trial_leaves_the_same_details(
    trained: Trial, pictures: TrialPictures, tmp_path: Path
) -> None:
    asked = iter(range(10**9))
    unbroken = Trial(trained.recipe, trained.data, tmp_path / "unbroken", trained.goal)
    whole = unbroken.train()
    write_pictures(replace(pictures, run=unbroken.run), whole, is_explained=False)
    assert trained.train(lambda: "stopped" if next(asked) > 5 else "").end == "stopped"
    outcome = trained.train()
    write_pictures(pictures, outcome, is_explained=False)
    assert read_details(trained) == read_details(unbroken)


def test_its_bundle_tells_how_to_use_it_and_explains(
    trained: Trial, pictures: TrialPictures, tmp_path: Path
) -> None:
    outcome = trained.train()
    write_pictures(pictures, outcome, is_explained=True)
    bundle = export_bundle(make_best(trained.recipe), trained.run, tmp_path / "best", force=False)
    assert json.loads((bundle / "details.json").read_text())["instances"]["numbers"]
    card = (bundle / "card.md").read_text(encoding="utf-8")
    assert 'labels = bundle.predict("photo.jpg")  # an instance number for each pixel' in card
    assert "![quality.png](quality.png)" in card and "predicted against true counts" in card
    assert "classes are confused" not in card and "confusion" not in card
    Image.fromarray(np.asarray(trained.data.images[trained.data.val[0]])).resize((90, 60)).save(tmp_path / "a.png")
    (line,) = explain_files(bundle, [tmp_path / "a.png"], tmp_path / "seen")
    assert line.startswith(str(tmp_path / "seen" / "a_explanation.png"))
    width, height = size_of(tmp_path / "seen" / "a_explanation.png")
    assert width > 4 * 256 and height < 2 * width  # image, prediction, x1 to x6, four in a row
