"""Predict images with a bundle: masks, label maps, classes or instances."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor, nn

from tuner.data.images import read_image, resize_image
from tuner.data.instances import MAX_INSTANCES, Instances, Labels
from tuner.data.source import Image
from tuner.errors import DataError, atomic_write, bullets, writing
from tuner.export.bundle import BundleLike, open_bundle
from tuner.export.coco import CocoWriter, file_names
from tuner.export.layers import device_of
from tuner.plots.overlays import instance_overlay, target_overlay
from tuner.recipe import Recipe
from tuner.tasks import find_task
from tuner.train.precision import find_device
from tuner.train.trainer import make_normalizer


def predict_files(bundle: BundleLike, images: list[Path], out: Path) -> Iterator[str]:
    """Predict every image, write the results into `out`, and yield one line about each.

    masks: NAME_mask.png (0 and 255); labels: NAME_labels.png (class numbers); each with NAME_overlay.png.
    instances: NAME_instances.png (ids, 16 bits) with NAME_overlay.png, and instances.json for all images.
    classes: one table, classes.csv, with the predicted class and the probability of each class.
    """
    opened = open_bundle(bundle)
    recipe = opened.recipe
    check_images(images)
    model = opened.load_model().to(find_device())
    targets = find_task(recipe.task).targets
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        if targets == "classes":
            yield from predict_classes(model, recipe, images, out / "classes.csv")
            return
        if targets == "instances":
            yield from predict_instances(model, recipe, images, out)
            return
        for name, path in zip(unique_names(images), images, strict=True):
            picture = read_image(path)
            predict = predict_mask if targets == "masks" else predict_labels
            values = predict(model, picture, recipe.image_size)
            file = out / (f"{name}_mask.png" if targets == "masks" else f"{name}_labels.png")
            Pillow.fromarray(values * np.uint8(255) if targets == "masks" else values).save(file)
            Pillow.fromarray(target_overlay(picture, values, targets)).save(out / f"{name}_overlay.png")
            yield str(file)


def predict_classes(model: nn.Module, recipe: Recipe, images: list[Path], table: Path) -> Iterator[str]:
    """Write a table with a row per image, atomically."""
    with (
        atomic_write(table) as beside,
        beside.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["image", "class", *recipe.classes])
        for path in images:
            shares = predict_shares(model, read_image(path), recipe.image_size)
            best = int(shares.argmax())
            writer.writerow([path, recipe.classes[best], *(f"{share:.6f}" for share in shares)])
            yield f"{path}: {recipe.classes[best]} ({shares[best]:.1%})"
    yield str(table)


def predict_instances(model: nn.Module, recipe: Recipe, images: list[Path], out: Path) -> Iterator[str]:
    """Write a label map and an overlay per image, and a JSON file of all, which is written atomically."""
    table = out / "instances.json"
    with atomic_write(table) as beside, beside.open("w", encoding="utf-8") as file:
        kept = CocoWriter(file)
        for name, path, known in zip(unique_names(images), images, file_names(images), strict=True):
            picture = read_image(path)
            found = find_instances(model, picture, recipe.image_size)
            kept.add(known, found)
            yield write_instances(found, picture, out, name)
        kept.close()
    yield str(table)


def write_instances(found: Instances, picture: Image, out: Path, name: str) -> str:
    """Write the label map and overlay of one image; return a line with the file and the number of instances."""
    held = np.where(found.labels <= MAX_INSTANCES, found.labels, 0).astype(np.uint16)
    with atomic_write(out / f"{name}_instances.png") as beside:
        Pillow.fromarray(held).save(beside)
    Pillow.fromarray(instance_overlay(picture, found.labels)).save(out / f"{name}_overlay.png")
    number = len(found.scores)
    more = f"; the first {MAX_INSTANCES} of them, all are in instances.json" if number > MAX_INSTANCES else ""
    return f"{out / f'{name}_instances.png'} ({number} instance{'s' * (number != 1)}{more})"


def check_images(images: list[Path]) -> None:
    """Raise one DataError for all images that cannot be read, before anything is written.

    Images are decoded again one by one later, because a folder of images may not fit in memory.
    """
    wrong = []
    for path in images:
        try:
            read_image(path)
        except DataError as error:
            wrong.append(str(error))
    if wrong:
        raise DataError(f"{len(wrong)} of {len(images)} images cannot be read:{bullets(wrong)}")


def unique_names(images: list[Path]) -> Iterator[str]:
    """Yield the stem of each image; a repeated stem gets a number that makes it unique."""
    taken: set[str] = set()
    stems = {path.stem for path in images}
    for path in images:
        name = path.stem
        numbered = (f"{path.stem}_{number}" for number in count(2))
        while name in taken:
            name = next(other for other in numbered if other not in stems)
        taken.add(name)
        yield name


Prediction = NDArray[np.uint8] | NDArray[np.float32] | Labels


def predict_image(model: nn.Module, path: str | Path, *, image_size: int, task: str = "binary") -> Prediction:
    """Return the prediction for an image file, see `predict_pixels`."""
    return predict_pixels(model, read_image(Path(path)), image_size, task)


def predict_pixels(model: nn.Module, picture: Image, image_size: int, task: str) -> Prediction:
    """Return a mask or a label map as large as the picture, of classes or of instances (numbers from 1), or the
    probability of each class.
    """
    targets = find_task(task).targets
    if targets == "classes":
        return predict_shares(model, picture, image_size)
    if targets == "instances":
        return find_instances(model, picture, image_size).labels
    if targets == "labels":
        return predict_labels(model, picture, image_size)
    return predict_mask(model, picture, image_size)


@torch.inference_mode()
def compute_logits(model: nn.Module, picture: Image, size: int) -> Tensor:
    return model(to_batch(model, picture, size))[0].float()


def to_batch(model: nn.Module, picture: Image, size: int) -> Tensor:
    """Return a normalized batch of the picture on the model's device, resized as in training."""
    device = device_of(model)
    return make_normalizer(device)(torch.from_numpy(resize_image(picture, size))[None].to(device))


@torch.inference_mode()
def find_instances(model: nn.Module, picture: Image, size: int) -> Instances:
    """Return the predicted instances at the picture's own size."""
    answer = model(to_batch(model, picture, size))
    (found,) = model.instances(answer, sizes=[picture.shape[:2]])  # type: ignore[operator]
    return found


def predict_mask(model: nn.Module, picture: Image, size: int) -> Image:
    """Return a mask of 0 and 1; probabilities are resized to the picture before they are thresholded."""
    probabilities = compute_logits(model, picture, size)[0].sigmoid().cpu().numpy()
    full = cv2.resize(probabilities, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_LINEAR)
    return (full > 0.5).astype(np.uint8)


def predict_labels(model: nn.Module, picture: Image, size: int) -> Image:
    """Return the class of each pixel; scores are resized to the picture, one class at a time to save memory."""
    scores = compute_logits(model, picture, size).cpu().numpy()
    highest = np.full(picture.shape[:2], -np.inf, np.float32)
    labels = np.zeros(picture.shape[:2], np.uint8)
    for number, score in enumerate(scores):
        full = cv2.resize(score, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_LINEAR)
        labels[full > highest] = number
        highest = np.maximum(full, highest)
    return labels


def predict_shares(model: nn.Module, picture: Image, size: int) -> NDArray[np.float32]:
    """Return the probability of each class."""
    return compute_logits(model, picture, size).softmax(0).cpu().numpy()
