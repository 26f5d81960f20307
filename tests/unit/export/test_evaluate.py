"""A bundle is scored on images that no search has seen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.image_folders import make_photos
from helpers.made_studies import make_bundle
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix

from tuner.data.images import read_image, resize_image
from tuner.data.synthetic.badges import CLASSES, draw_badge
from tuner.data.synthetic.scenes import draw_scene
from tuner.errors import BundleError, DataError, PartError
from tuner.export.bundle import load_model, open_bundle
from tuner.export.evaluate import check_has_confusion, choose_data, evaluate_bundle, open_split, place_recipe
from tuner.export.predict import predict_image
from tuner.paths import Home
from tuner.recipe import Part, Recipe, use
from tuner.train.trainer import make_normalizer

THREE = CLASSES[:3]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def save(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


@pytest.fixture
def badges(tmp_path: Path) -> Path:
    """Class folders with a test split of four a class."""
    for split, number in (("train", 3), ("test", 4)):
        for kind, name in enumerate(THREE):
            for at in range(number):
                picture = draw_badge(np.random.default_rng([at, kind, number]), name)
                save(tmp_path / "badges" / split / name / f"{at}.png", picture)
    return tmp_path / "badges"


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Label maps without names for their numbers, with a test split of three."""
    for split, number in (("train", 3), ("test", 3)):
        for at in range(number):
            picture, labels = draw_scene(np.random.default_rng([at, len(split)]))
            save(tmp_path / "scenes" / split / "images" / f"{at}.jpg", picture)
            save(tmp_path / "scenes" / split / "labels" / f"{at}.png", labels)
    return tmp_path / "scenes"


def bundle_of(recipe: Recipe, data: Path | str, classes: tuple[str, ...], folder: Path) -> Path:
    named = replace(recipe, data=Part(str(data), {"image_size": 32}), classes=classes)
    return make_bundle(named, folder / "best")


def test_classes_are_scored_on_the_test_split_alone(
    class_recipe: Recipe, badges: Path, tmp_path: Path, home: Home
) -> None:
    bundle = bundle_of(class_recipe, badges, THREE, tmp_path)
    found = evaluate_bundle(open_bundle(bundle, trust=True), None, "test", home)
    model, files = load_model(bundle, trust=True), sorted((badges / "test").rglob("*.png"))
    truth = [THREE.index(file.parent.name) for file in files]
    shares = [predict_image(model, file, image_size=32, task="classification") for file in files]
    guess = [int(each.argmax()) for each in shares]
    assert (found.images, found.split, found.data, found.classes) == (12, "test", "badges", THREE)
    assert found.metrics["accuracy"] == pytest.approx(accuracy_score(truth, guess))
    assert found.confusion == confusion_matrix(truth, guess, labels=range(3)).tolist()
    assert found.metrics["loss"] == pytest.approx(
        -np.mean([np.log(each[at]) for each, at in zip(shares, truth, strict=True)]), rel=1e-4
    )
    assert "map" in found.metrics and not any(name.startswith(("val_", "test_")) for name in found.metrics)


def test_label_maps_are_scored_pixel_by_pixel(
    label_recipe: Recipe, scenes: Path, tmp_path: Path, home: Home
) -> None:
    bundle = bundle_of(label_recipe, scenes, ("0", "1", "2", "3"), tmp_path)
    found = evaluate_bundle(bundle, None, "test", home)
    model = load_model(bundle)
    right = seen = 0
    for file in sorted((scenes / "test" / "images").iterdir()):
        labels = np.asarray(Image.open(scenes / "test" / "labels" / f"{file.stem}.png").resize((32, 32), 0))
        pixels = torch.from_numpy(resize_image(read_image(file), 32))[None]
        with torch.no_grad():
            guess = model(make_normalizer(torch.device("cpu"))(pixels))[0].argmax(0).numpy()
        right, seen = right + ((guess == labels) & (labels != 255)).sum(), seen + (labels != 255).sum()
    assert sum(map(sum, found.confusion)) == pytest.approx(seen, rel=0.02)  # the nearest pixel of another library
    assert found.metrics["accuracy"] == pytest.approx(right / seen, abs=0.05)
    assert found.images == 3 and {"miou", "iou:0", "map"} <= found.metrics.keys()


def test_the_validation_split_and_another_folder_can_be_scored(
    toy_recipe: Recipe, photos: Path, tmp_path: Path, home: Home
) -> None:
    bundle = make_bundle(toy_recipe, tmp_path / "best", bias=100.0)  # everything is object
    found = evaluate_bundle(bundle, str(photos), "val", home)
    assert found.metrics["recall"] == 1 and found.confusion[0][0] == found.confusion[1][0] == 0
    assert 0 < found.images < 12 and found.data == "photos" and found.classes == ()
    assert evaluate_bundle(bundle, None, "val", home).data == "shapes"


def test_another_folder_is_read_as_asked_for_and_not_like_the_own_one(toy_recipe: Recipe, photos: Path) -> None:
    own = replace(toy_recipe, data=use(str(photos), layout="masks=images,masks"))
    assert choose_data(own, None, None).data == choose_data(own, str(photos), None).data == own.data
    assert choose_data(own, str(photos.parent), None).data == use(str(photos.parent))
    assert choose_data(own, str(photos.parent), "classes").data == use(str(photos.parent), layout="classes")
    with pytest.raises(DataError, match="--layout needs a folder"):
        choose_data(own, "shapes", "masks")


def test_the_way_in_which_another_folder_is_read_is_told(
    toy_recipe: Recipe, tmp_path: Path, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    horses = str(make_photos(tmp_path / "horses", 5, "horse", "mask"))
    found, _ = open_split(place_recipe(toy_recipe, horses), "val", home)
    assert len(found.val) == 1 and "horses: read as horse/ + mask/ (masks); it can also" in caplog.text
    caplog.clear()
    open_split(place_recipe(toy_recipe, horses, "masks=horse,mask"), "val", home)
    assert "read as" not in caplog.text


@pytest.mark.slow
def test_instances_are_scored_and_have_no_confusion(
    instance_recipe: Recipe, toy_recipe: Recipe, tmp_path: Path, home: Home
) -> None:
    bundle = make_bundle(instance_recipe, tmp_path / "finds", bias=-100.0)  # finds nothing
    found = evaluate_bundle(bundle, None, "val", home)
    assert found.metrics["recall"] == found.metrics["ap"] == 0 < found.metrics["count_error"]
    assert found.confusion == [] and found.images > 0
    with pytest.raises(PartError, match=r"finds predicts instances, which have no confusion matrix"):
        check_has_confusion(bundle)
    check_has_confusion(make_bundle(toy_recipe, tmp_path / "masks"))


def test_a_dataset_without_a_test_split_is_told(
    toy_recipe: Recipe, photos: Path, tmp_path: Path, home: Home
) -> None:
    bundle = make_bundle(toy_recipe, tmp_path / "best")
    with pytest.raises(DataError, match=r"photos has no test split. Score its validation split with --split val"):
        evaluate_bundle(bundle, str(photos), "test", home)


@pytest.mark.parametrize(
    ("classes", "said"),
    [(("bar", "cross", "owl"), "other classes than the bundle was trained on: disc, owl"),
     (("cross", "bar", "disc"), "other classes than the bundle was trained on: another order")],
    ids=["other", "order"],
)  # fmt: skip
def test_other_classes_are_told(
    class_recipe: Recipe, badges: Path, tmp_path: Path, home: Home, classes: tuple[str, ...], said: str
) -> None:
    bundle = bundle_of(class_recipe, badges, classes, tmp_path)
    with pytest.raises(DataError, match=said):
        evaluate_bundle(open_bundle(bundle, trust=True), None, "test", home)


def test_other_targets_an_unknown_dataset_and_a_broken_bundle_are_told(
    class_recipe: Recipe, badges: Path, scenes: Path, tmp_path: Path, home: Home
) -> None:
    bundle = bundle_of(class_recipe, badges, THREE, tmp_path)
    opened = open_bundle(bundle, trust=True)
    with pytest.raises(DataError, match=r"scenes holds labels; the task 'classification' needs classes"):
        evaluate_bundle(opened, str(scenes), "test", home)
    with pytest.raises((DataError, PartError), match="Did you mean 'badges'"):
        evaluate_bundle(opened, "badgs", "test", home)
    (bundle / "recipe.json").write_text("{}")
    with pytest.raises(BundleError, match=r"altered: recipe\.json"):
        evaluate_bundle(bundle, None, "test", home)


def test_the_named_data_sets_take_the_same_arguments(class_recipe: Recipe, tmp_path: Path, home: Home) -> None:
    bundle = make_bundle(replace(class_recipe, data=use("badges", image_size=32)), tmp_path / "best")
    assert evaluate_bundle(open_bundle(bundle, trust=True), None, "val", home).classes == CLASSES
