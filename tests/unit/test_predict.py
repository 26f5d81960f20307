"""Prediction with a bundle alone: masks as large as the images, whatever their size and mode."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from made import make_bundle
from PIL import Image

from tuner.bundle import load
from tuner.data.images import read_image, shrink
from tuner.errors import BundleError, DataError, FilesError
from tuner.predict import names, predict_files, predict_image
from tuner.recipe import Recipe
from tuner.train.trainer import normaliser

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
    model = load(bundle)
    small = torch.from_numpy(shrink(read_image(path), 32))[None]
    with torch.no_grad():
        found = model(normaliser(torch.device("cpu"))(small)).sigmoid()[0, 0].numpy()
    expected = cv2.resize(found, (50, 70), interpolation=cv2.INTER_LINEAR) > 0.5
    assert np.array_equal(predict_image(model, path, image_size=32), expected)
    assert 0 < expected.mean() < 1  # a fresh model finds something somewhere


def test_paths_are_told_one_by_one(bundle: Path, tmp_path: Path) -> None:
    images = [picture(tmp_path / f"{name}.png") for name in "ab"]
    told = predict_files(bundle, images, tmp_path / "out")
    assert next(told) == str(tmp_path / "out" / "a_mask.png")
    assert not (tmp_path / "out" / "b_mask.png").exists()
    assert list(told) == [str(tmp_path / "out" / "b_mask.png")]


def test_all_bad_images_are_listed_at_once_and_nothing_is_written(bundle: Path, tmp_path: Path) -> None:
    good = picture(tmp_path / "good.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "notes.png").write_text("hello")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:200])
    images = [tmp_path / name for name in ("good.png", "empty.png", "notes.png", "cut.png", "absent.png", "best")]
    with pytest.raises(DataError) as failed:
        list(predict_files(bundle, images, tmp_path / "out"))
    message = str(failed.value)
    assert message.startswith("5 of 6 images cannot be read:")
    assert all(name in message for name in ("empty.png", "notes.png", "cut.png", "absent.png", "best"))
    assert "good.png" not in message
    assert not (tmp_path / "out").exists()


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
        (["x/a.jpg", "y/a.jpg", "z/a.jpg"], ["a", "a_2", "a_3"]),
        (["a.jpg", "a.png", "a_2.png"], ["a", "a_3", "a_2"]),
        (["a_2.png", "a.jpg", "a.png"], ["a_2", "a", "a_3"]),
        (["a.jpg", "a.jpg", "a_2.jpg", "a_2.png"], ["a", "a_3", "a_2", "a_2_2"]),
    ],
)
def test_no_two_predictions_have_one_name(given: list[str], expected: list[str]) -> None:
    assert list(names([Path(path) for path in given])) == expected
