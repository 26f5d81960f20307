"""Prediction with a bundle alone: masks as large as the images, whatever their size and mode."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.made_studies import make_bundle
from PIL import Image
from pycocotools.coco import COCO

import tuner
from tuner.data.folder import folder
from tuner.data.images import read_image, resize_image
from tuner.data.instances import Instances, match_instances
from tuner.errors import BundleError, DataError, FilesError
from tuner.export.bundle import load_model, open_bundle
from tuner.export.inputs import Wanted, check_wanted, find_images, unique_names
from tuner.export.predict import predict_files, predict_image, write_instances
from tuner.recipe import Part, Recipe, use
from tuner.train.trainer import make_normalizer

COCOS_OWN = "ignore:__array__ implementation:DeprecationWarning"  # of pycocotools with NumPy 2
SIZES = [(1, 1), (8, 300), (31, 33), (200, 120), (640, 480)]


@pytest.fixture
def bundle(tmp_path: Path, toy_recipe: Recipe) -> Path:
    return make_bundle(toy_recipe, tmp_path / "best")


def picture(path: Path, size: tuple[int, int] = (60, 40), mode: str = "RGB") -> Path:
    noise = np.random.default_rng(size[0]).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(noise).convert(mode).save(path)
    return path


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_mask_and_overlay_are_as_large_as_the_image(bundle: Path, tmp_path: Path, size: tuple[int, int]) -> None:
    list(predict_files(bundle, [picture(tmp_path / "photo.png", size)], tmp_path / "out"))
    mask, overlay = read(tmp_path / "out" / "photo_mask.png"), read(tmp_path / "out" / "photo_overlay.png")
    assert mask.shape == (size[1], size[0]) and overlay.shape == (size[1], size[0], 3)
    assert set(np.unique(mask)) <= {0, 255}


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA", "I;16"])
def test_every_mode_of_image_is_read(bundle: Path, tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("photo.tif" if mode == "CMYK" else "photo.png")
    if mode == "I;16":
        Image.fromarray(np.arange(2400, dtype=np.uint16).reshape(40, 60) * 27).save(path)
    else:
        picture(path, mode=mode)
    list(predict_files(bundle, [path], tmp_path / "out"))
    assert read(tmp_path / "out" / "photo_mask.png").shape == (40, 60)


def test_a_rotated_photograph_is_predicted_upright(bundle: Path, tmp_path: Path) -> None:
    image = Image.open(picture(tmp_path / "plain.png"))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "turned.jpg", exif=exif)
    list(predict_files(bundle, [tmp_path / "turned.jpg"], tmp_path / "out"))
    assert read(tmp_path / "out" / "turned_mask.png").shape == (60, 40)


@pytest.mark.parametrize(("bias", "value"), [(100.0, 255), (-100.0, 0)], ids=["all", "nothing"])
def test_masks_are_white_where_the_object_is(tmp_path: Path, toy_recipe: Recipe, bias: float, value: int) -> None:
    sure = make_bundle(toy_recipe, tmp_path / "sure", bias=bias)
    list(predict_files(sure, [picture(tmp_path / "photo.png")], tmp_path / "out"))
    assert (read(tmp_path / "out" / "photo_mask.png") == value).all()
    same = (read(tmp_path / "out" / "photo_overlay.png") == read(tmp_path / "photo.png")).all()
    assert bool(same) == (value == 0)


def test_the_mask_is_the_models_own_answer(bundle: Path, tmp_path: Path) -> None:
    path = picture(tmp_path / "photo.png", (50, 70))
    model = load_model(bundle)
    small = torch.from_numpy(resize_image(read_image(path), 32))[None]
    with torch.no_grad():
        found = model(make_normalizer(torch.device("cpu"))(small)).sigmoid()[0, 0].numpy()
    expected = cv2.resize(found, (50, 70), interpolation=cv2.INTER_LINEAR) > 0.5
    assert np.array_equal(predict_image(model, path, image_size=32), expected)
    assert 0 < expected.mean() < 1  # a fresh model finds something somewhere


def test_paths_are_told_one_by_one(bundle: Path, tmp_path: Path) -> None:
    images = [picture(tmp_path / f"{name}.png") for name in "ab"]
    told = predict_files(bundle, images, tmp_path / "out")
    assert next(told) == str(tmp_path / "out" / "a_mask.png")
    assert not (tmp_path / "out" / "b_mask.png").exists()
    assert list(told) == [str(tmp_path / "out" / "b_mask.png")]


def test_bad_images_are_listed_at_the_end_and_the_others_are_predicted(bundle: Path, tmp_path: Path) -> None:
    good = picture(tmp_path / "good.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.png").write_text("hello")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:200])
    images = [tmp_path / name for name in ("empty.png", "notes.png", "cut.png", "good.png", "absent.png")]
    told = predict_files(bundle, images, tmp_path / "out")
    assert next(told) == str(tmp_path / "out" / "good_mask.png")
    with pytest.raises(DataError) as failed:
        next(told)
    message = str(failed.value)
    assert message.startswith(
        f"4 of 5 images cannot be read; the results of the others are in {tmp_path / 'out'}:"
    )
    assert all(name in message for name in ("empty.png", "notes.png", "cut.png", "absent.png"))
    assert "good.png" not in message
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["good_mask.png", "good_overlay.png"]


def test_nothing_is_written_where_no_image_can_be_read(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataError, match=r"^2 of 2 images cannot be read:\n"):
        list(predict_files(bundle, [tmp_path / "empty.png", tmp_path / "gone.png"], tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def make_album(folder: Path) -> Path:
    """A folder of four images, two of them of one name in subfolders, with what is not to be predicted."""
    for name in ("a.png", "x/b.PNG", "y/b.png", "y/z/c.png", ".hidden.png", ".cache/d.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(folder / name)
    (folder / "notes.txt").write_text("hello")
    return folder


def test_a_folder_is_predicted_with_its_names_and_subfolders(bundle: Path, tmp_path: Path) -> None:
    album = make_album(tmp_path / "album")
    out = album / "found"  # is not predicted the second time
    names = ["a", "x/b", "y/b", "y/z/c"]
    for _ in range(2):
        assert list(predict_files(bundle, [album], out)) == [str(out / f"{name}_mask.png") for name in names]
    files = {file.relative_to(out).as_posix() for file in out.rglob("*.*")}
    assert files == {f"{name}_{kind}.png" for name in names for kind in ("mask", "overlay")}


def test_a_folder_of_classes_is_one_table_with_the_paths(tmp_path: Path, class_recipe: Recipe) -> None:
    bundle = open_bundle(make_bundle(class_recipe, tmp_path / "classes"), trust=True)
    album = make_album(tmp_path / "album")
    (album / "broken.png").touch()
    with pytest.raises(DataError, match=r"1 of 5 images cannot be read; .*/album/broken\.png is empty"):
        list(predict_files(bundle, [album], tmp_path / "out"))
    with (tmp_path / "out" / "classes.csv").open(newline="", encoding="utf-8") as file:
        found = [row["image"] for row in csv.DictReader(file)]
    assert found == [str(album / name) for name in ("a.png", "x/b.PNG", "y/b.png", "y/z/c.png")]


def test_files_of_one_name_in_two_folders_have_a_number(tmp_path: Path) -> None:
    album = make_album(tmp_path / "album")
    files = [album / "x" / "b.PNG", album / "y" / "b.png", album / "y"]
    assert [one.name for one in find_images(files, tmp_path / "out")] == ["b", "b_2", "b_3", "z/c"]


def test_what_is_no_input_is_refused(tmp_path: Path) -> None:
    album, empty = make_album(tmp_path / "album"), tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"folder .*/empty has no images: no file that ends in \.bmp, "):
        find_images([album, empty], tmp_path / "out")
    with pytest.raises(DataError, match=r"among the images of .*/album\. Choose another folder with --out"):
        find_images([album], album)
    with pytest.raises(DataError, match=r"no image .*/gone\.png \(and 1 more\)\. Give image files, or folders"):
        find_images([tmp_path / "gone.png", tmp_path / "lost.png"], tmp_path / "out")


def test_the_threshold_decides_what_a_mask_holds(bundle: Path, tmp_path: Path) -> None:
    path = picture(tmp_path / "photo.png", (50, 70))
    list(predict_files(bundle, [path], tmp_path / "plain", Wanted(probabilities=True)))
    shares = read(tmp_path / "plain" / "photo_probability.png")
    assert shares.dtype == np.uint16 and shares.shape == (70, 50)
    middle = float(np.median(shares)) / 65535
    for threshold, out in ((None, "plain"), (middle, "other")):
        list(predict_files(bundle, [path], tmp_path / out, Wanted(threshold, probabilities=True)))
        mask = read(tmp_path / out / "photo_mask.png") > 0
        sure = np.abs(shares / 65535 - (threshold or 0.5)) > 1e-4  # beyond the rounding of 16 bits
        assert np.array_equal(mask[sure], (shares / 65535 > (threshold or 0.5))[sure])
        assert 0 < mask.mean() < 1


def test_python_has_the_threshold_and_the_probabilities(
    bundle: Path, tmp_path: Path, label_recipe: Recipe
) -> None:
    path = picture(tmp_path / "photo.png", (50, 70))
    loaded = tuner.load_bundle(bundle)
    shares = loaded.predict(path, probabilities=True)
    assert shares.dtype == np.float32 and shares.shape == (70, 50)
    middle = float(np.median(shares))
    assert np.array_equal(loaded.predict(path), shares > 0.5)
    (mask,) = loaded.predict([path], threshold=middle)
    assert np.array_equal(mask, shares > middle) and 0 < mask.mean() < 1
    for odd in (0, 1.0, float("nan"), "0.5", True):
        with pytest.raises(BundleError, match=r"^the threshold is .*; a number between 0 and 1 is needed\.$"):
            loaded.predict(path, threshold=odd)  # type: ignore[call-overload]
    labels = tuner.load_bundle(make_bundle(label_recipe, tmp_path / "labels"))
    of_classes = labels.predict(path, probabilities=True)
    assert of_classes.shape == (len(label_recipe.classes), 70, 50)
    assert np.allclose(of_classes.sum(0), 1, atol=1e-5)
    assert np.array_equal(of_classes.argmax(0), labels.predict(path))
    with pytest.raises(BundleError, match=r"a threshold, here 0\.3, is for masks of the task 'binary'"):
        labels.predict(path, threshold=0.3)


def test_what_a_task_does_not_have_is_refused(
    tmp_path: Path, label_recipe: Recipe, class_recipe: Recipe, toy_recipe: Recipe
) -> None:
    check_wanted(Wanted(0.3, probabilities=True), toy_recipe)
    check_wanted(Wanted(probabilities=True), class_recipe)  # which the table has in any case
    with pytest.raises(
        BundleError, match=r"a threshold, here 0\.3, is for masks .* 'multiclass': each pixel gets its like"
    ):
        check_wanted(Wanted(0.3), label_recipe)
    with pytest.raises(
        BundleError, match=r"'classification': each image gets its likeliest class; classes\.csv has"
    ):
        check_wanted(Wanted(0.3), class_recipe)
    with pytest.raises(BundleError, match=r"probabilities are for masks, .* instances\.json has the score"):
        check_wanted(Wanted(probabilities=True), replace(toy_recipe, task="instance"))


def test_a_broken_bundle_is_told_before_any_image_is_read(bundle: Path, tmp_path: Path) -> None:
    (bundle / "weights.safetensors").unlink()
    with pytest.raises(BundleError, match=r"missing: weights.safetensors"):
        list(predict_files(bundle, [tmp_path / "absent.png"], tmp_path / "out"))


def test_an_output_that_is_a_file_is_told(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(FilesError, match="is a file where a folder is needed"):
        list(predict_files(bundle, [picture(tmp_path / "photo.png")], tmp_path / "out"))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a.jpg", "b.jpg"], ["a", "b"]),
        (["x/a.jpg", "y/a.jpg", "x/a.png"], ["x/a", "y/a", "x/a_2"]),
        (["a.jpg", "a.png", "a_2.png"], ["a", "a_3", "a_2"]),
        (["a_2.png", "a.jpg", "a.png"], ["a_2", "a", "a_3"]),
        (["a.jpg", "a.jpg", "a_2.jpg", "a_2.png"], ["a", "a_3", "a_2", "a_2_2"]),
    ],
)
def test_no_two_predictions_have_one_name(given: list[str], expected: list[str]) -> None:
    assert list(unique_names([Path(path) for path in given])) == expected


# --- label maps ---


def test_a_label_map_holds_class_numbers_as_large_as_the_image(tmp_path: Path, label_recipe: Recipe) -> None:
    bundle = make_bundle(label_recipe, tmp_path / "labels")
    images = [picture(tmp_path / f"{width}.png", (width, 40)) for width in (50, 33)]
    told = list(predict_files(bundle, images, tmp_path / "out", Wanted(probabilities=True)))
    assert told == [str(tmp_path / "out" / f"{width}_labels.png") for width in (50, 33)]
    model = load_model(bundle)
    for path, width in zip(images, (50, 33), strict=True):
        labels = read(tmp_path / "out" / f"{width}_labels.png")
        assert labels.shape == (40, width) and labels.dtype == np.uint8
        small = torch.from_numpy(resize_image(read_image(path), 32))[None]
        with torch.no_grad():
            scores = model(make_normalizer(torch.device("cpu"))(small))[0].numpy()
        full = [cv2.resize(score, (width, 40), interpolation=cv2.INTER_LINEAR) for score in scores]
        assert np.array_equal(labels, np.argmax(full, axis=0))
        assert len(np.unique(labels)) > 1  # a fresh model says this and that
        shares = np.load(tmp_path / "out" / f"{width}_probabilities.npy").astype(np.float32)
        assert shares.shape == (len(full), 40, width) and np.allclose(shares.sum(0), 1, atol=0.01)
        assert np.allclose(np.take_along_axis(shares, labels[None].astype(int), 0)[0], shares.max(0))
        assert np.array_equal(predict_image(model, path, image_size=32, task="multiclass"), labels)
        assert read(tmp_path / "out" / f"{width}_overlay.png").shape == (40, width, 3)


# --- classes ---


def test_classes_are_written_as_a_table_with_the_share_of_each(tmp_path: Path, class_recipe: Recipe) -> None:
    bundle = open_bundle(make_bundle(class_recipe, tmp_path / "classes"), trust=True)
    images = [picture(tmp_path / f"{name}.png", size) for name, size in (("a", (50, 40)), ("b, c", (9, 90)))]
    *said, last = predict_files(bundle, images, tmp_path / "out")
    assert last == str(tmp_path / "out" / "classes.csv")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["classes.csv"]
    with (tmp_path / "out" / "classes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "class", *class_recipe.classes]
    model = load_model(bundle)
    for path, row, line in zip(images, rows, said, strict=True):
        shares = predict_image(model, path, image_size=32, task="classification")
        assert shares.sum() == pytest.approx(1) and shares.shape == (6,)
        assert [float(row[name]) for name in class_recipe.classes] == pytest.approx(shares.tolist(), abs=1e-6)
        best = class_recipe.classes[int(shares.argmax())]
        assert (row["image"], row["class"]) == (str(path), best)
        assert line == f"{path}: {best} ({shares.max():.1%})"


def test_a_table_cut_short_is_never_seen(tmp_path: Path, class_recipe: Recipe) -> None:
    bundle = open_bundle(make_bundle(class_recipe, tmp_path / "classes"), trust=True)
    told = predict_files(bundle, [picture(tmp_path / f"{name}.png") for name in "ab"], tmp_path / "out")
    next(told)
    assert not (tmp_path / "out" / "classes.csv").exists()
    told.close()  # type: ignore[attr-defined]
    assert list((tmp_path / "out").iterdir()) == []


# --- instances ---


def found_by(bundle: Path, path: Path) -> Instances:
    """What the bundle's model finds at the photo's own size, asked by hand."""
    model, photo = load_model(bundle), read_image(path)
    small = torch.from_numpy(resize_image(photo, 32))[None]
    with torch.no_grad():
        answer = model(make_normalizer(torch.device("cpu"))(small))
    (found,) = model.instances(answer, [photo.shape[:2]])  # type: ignore[operator]
    assert isinstance(found, Instances)
    return found


@pytest.mark.filterwarnings(COCOS_OWN)
@pytest.mark.parametrize(
    "model",
    [
        use("deep_watershed", k=4),
        use("watershed_cascade", k=4, width=4, cut=0, min_size=1),
        pytest.param(use("mask_rcnn", backbone="resnet18", k=4, score=0), marks=pytest.mark.slow),
    ],
)
def test_instances_are_label_maps_overlays_and_one_coco_file(
    tmp_path: Path, instance_recipe: Recipe, model: Part
) -> None:
    loss = use("watershed" if model.name == "deep_watershed" else "own")
    bundle = make_bundle(replace(instance_recipe, model=model, loss=loss), tmp_path / "finds")
    images = [picture(tmp_path / f"{width}.png", (width, 60)) for width in (90, 47)]
    *said, last = predict_files(bundle, images, tmp_path / "out")
    assert last == str(tmp_path / "out" / "instances.json")
    kinds = [f"{width}_{what}.png" for width in (47, 90) for what in ("instances", "overlay")]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [*kinds, "instances.json"]
    coco = COCO(last)
    assert [(one["file_name"], one["width"], one["height"]) for one in coco.dataset["images"]] == [
        ("90.png", 90, 60),
        ("47.png", 47, 60),
    ]
    assert coco.dataset["categories"] == [{"id": 1, "name": "object"}]
    for number, (path, line) in enumerate(zip(images, said, strict=True), start=1):
        found = found_by(bundle, path)
        labels = read(tmp_path / "out" / f"{path.stem}_instances.png")
        assert labels.dtype == np.uint16 and np.array_equal(labels, found.labels)
        assert np.array_equal(
            predict_image(load_model(bundle), path, image_size=32, task="instance"), found.labels
        )
        assert line == f"{tmp_path / 'out' / path.stem}_instances.png ({len(found.scores)} instances)"
        kept = coco.loadAnns(coco.getAnnIds(number))
        assert len(kept) == len(found.scores) > 1  # a fresh model says this and that
        for at, one in enumerate(kept, start=1):
            assert np.array_equal(coco.annToMask(one), found.labels == at)
            assert one["score"] == pytest.approx(float(found.scores[at - 1]), abs=1e-6)
        drawn = read(tmp_path / "out" / f"{path.stem}_overlay.png")
        same = (drawn == read(path)).all(2)
        assert same[found.labels == 0].all() and same[found.labels > 0].mean() < 0.2


def test_what_was_found_can_be_learned_from(tmp_path: Path, instance_recipe: Recipe) -> None:
    """Photos of two folders, and their JSON laid into the folder that holds both."""
    bundle = make_bundle(instance_recipe, tmp_path / "finds")
    photos = tmp_path / "photos"
    for part in ("left", "right"):
        (photos / part).mkdir(parents=True)
    images = [picture(photos / "left" / "a.png", (90, 60)), picture(photos / "right" / "a.png", (47, 60))]
    *_, last = predict_files(bundle, images, tmp_path / "out")
    Path(last).rename(photos / "annotations.json")
    source = folder(photos)
    assert source.targets == "instances" and [item.image for item in source.items] == images
    for item, name in zip(source.items, ("a", "a_2"), strict=True):
        image, target = source.read(item)
        assert item.image and np.array_equal(image, read_image(item.image)) and isinstance(target, np.ndarray)
        labels = read(tmp_path / "out" / f"{name}_instances.png")
        compared = match_instances(target, labels)
        assert len(compared.pairs) == labels.max() and all(iou == 1 for *_, iou in compared.pairs)


@pytest.mark.filterwarnings(COCOS_OWN)
@pytest.mark.parametrize(("bias", "number"), [(100.0, 1), (-100.0, 0)], ids=["all", "nothing"])
def test_an_image_full_of_one_and_one_of_none(
    tmp_path: Path, instance_recipe: Recipe, bias: float, number: int
) -> None:
    bundle = make_bundle(instance_recipe, tmp_path / "sure", bias=bias)
    first, last = predict_files(bundle, [picture(tmp_path / "photo.png")], tmp_path / "out")
    assert first.endswith(f"photo_instances.png ({number} instance{'s' * (number != 1)})")
    assert (read(tmp_path / "out" / "photo_instances.png") == number).all()
    coco = COCO(last)
    assert [coco.annToMask(one).all() for one in coco.dataset["annotations"]] == [True] * number


def test_a_coco_file_cut_short_is_never_seen(tmp_path: Path, instance_recipe: Recipe) -> None:
    bundle = make_bundle(instance_recipe, tmp_path / "finds")
    told = predict_files(bundle, [picture(tmp_path / f"{name}.png") for name in "ab"], tmp_path / "out")
    next(told)
    told.close()  # type: ignore[attr-defined]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a_instances.png", "a_overlay.png"]


def test_more_instances_than_sixteen_bits_hold_are_told(tmp_path: Path) -> None:
    number = 256 * 256
    labels = np.arange(1, number + 1, dtype=np.int32).reshape(256, 256)
    many = Instances(labels, np.ones(number, np.float32))
    said = write_instances(many, np.zeros((256, 256, 3), np.uint8), tmp_path, "many")
    assert said.endswith("(65536 instances; the first 65535 of them, all are in instances.json)")
    assert read(tmp_path / "many_instances.png").ravel().tolist() == [*range(1, number), 0]


def test_a_model_that_counts_predicts_too(tmp_path: Path, label_recipe: Recipe) -> None:
    """It has no weights to tell on which device it is."""
    bundle = make_bundle(replace(label_recipe, model=use("pixel_frequency", side=8)), tmp_path / "counts")
    (told,) = predict_files(bundle, [picture(tmp_path / "photo.png")], tmp_path / "out")
    assert read(Path(told)).shape == (40, 60)
