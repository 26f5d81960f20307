"""Predict images with a bundle: masks, label maps, classes or instances."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor, nn

from tuner.data.images import read_image, resize_image
from tuner.data.instances import MAX_INSTANCES, Instances, Labels
from tuner.data.source import Image
from tuner.errors import BundleError, DataError, atomic_write, create_file, first_line, writing
from tuner.export.bundle import BundleLike, open_bundle
from tuner.export.coco import CocoWriter, file_names
from tuner.export.inputs import DEFAULT, THRESHOLD, InputImage, Wanted, check_wanted, find_images, refuse_unread
from tuner.export.layers import device_of
from tuner.plots.overlays import instance_overlay, target_overlay
from tuner.recipe import Recipe
from tuner.tasks import find_task
from tuner.train.precision import find_device
from tuner.train.trainer import make_normalizer
from tuner.wording import pluralize

Pictures = Iterator[tuple[InputImage, Image]]


def predict_files(
    bundle: BundleLike, images: Sequence[Path], out: Path, wanted: Wanted = DEFAULT
) -> Iterator[str]:
    """Predict images and those in folders, write the results into `out`, and yield one line about each.

    masks: NAME_mask.png (0 and 255); labels: NAME_labels.png (class numbers); each with NAME_overlay.png and, if
    wanted, NAME_probability.png or NAME_probabilities.npy.
    instances: NAME_instances.png (ids, 16 bits) with NAME_overlay.png, and instances.json for all images.
    classes: one table, classes.csv, with the predicted class and the probability of each class.

    NAME has the subfolder of an image that was found in a folder. At the end, DataError names the images that
    could not be read; without any other, nothing is written.
    """
    opened = open_bundle(bundle)
    recipe = opened.recipe
    inputs = find_images(images, out)
    check_wanted(wanted, recipe)
    unread: list[str] = []
    pictures = read_images(inputs, unread)
    first = next(pictures, None)
    if first:
        model = opened.load_model(is_tried=False).to(find_device())
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            yield from predict_all(model, recipe, chain([first], pictures), out, wanted, inputs)
    refuse_unread(unread, inputs, out)


def read_images(inputs: Iterable[InputImage], unread: list[str]) -> Pictures:
    """Yield each image that can be read; add to `unread` why the others cannot be."""
    for each in inputs:
        try:
            picture = read_image(each.path)
        except DataError as error:
            unread.append(str(error).replace(each.path.name, str(each.path), 1))  # its name may be in many folders
        else:
            yield each, picture


def predict_all(
    model: nn.Module, recipe: Recipe, pictures: Pictures, out: Path, wanted: Wanted, inputs: Sequence[InputImage]
) -> Iterator[str]:
    """Write the predictions of the recipe's task, and yield one line about each."""
    targets = find_task(recipe.task).targets
    if targets == "classes":
        yield from predict_classes(model, recipe, pictures, out / "classes.csv")
    elif targets == "instances":
        yield from predict_instances(model, recipe, pictures, out, [each.path for each in inputs])
    else:
        for each, picture in pictures:
            place = out / each.name
            if targets == "masks":
                shares = mask_probabilities(model, picture, recipe.image_size)
                values = to_mask(shares, wanted.threshold)
                file = save_picture(values * np.uint8(255), place, "_mask")
                if wanted.probabilities:
                    save_picture(np.rint(shares * 65535).astype(np.uint16), place, "_probability")
            else:
                values = predict_labels(model, picture, recipe.image_size)
                file = save_picture(values, place, "_labels")
                if wanted.probabilities:
                    save_probabilities(model, picture, recipe.image_size, place)
            save_picture(target_overlay(picture, values, targets), place, "_overlay")
            yield str(file)


def save_picture(values: NDArray[Any], place: Path, ending: str) -> Path:
    """Write a PNG atomically, in a folder that is created if needed, and return its path."""
    file = place.with_name(f"{place.name}{ending}.png")
    with create_file(file) as beside:
        Pillow.fromarray(values).save(beside)
    return file


def save_probabilities(model: nn.Module, picture: Image, size: int, place: Path) -> None:
    """Write the probability of each class at each pixel: float16 (classes, height, width)."""
    shares = label_probabilities(model, picture, size)
    with create_file(place.with_name(f"{place.name}_probabilities.npy")) as beside:
        np.save(beside, shares.astype(np.float16))


def predict_classes(model: nn.Module, recipe: Recipe, pictures: Pictures, table: Path) -> Iterator[str]:
    """Write a table with a row per image, atomically."""
    with (
        atomic_write(table) as beside,
        beside.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["image", "class", *recipe.classes])
        for each, picture in pictures:
            shares = predict_shares(model, picture, recipe.image_size)
            best = int(shares.argmax())
            writer.writerow([each.path, recipe.classes[best], *(f"{share:.6f}" for share in shares)])
            yield f"{each.path}: {recipe.classes[best]} ({shares[best]:.1%})"
    yield str(table)


def predict_instances(
    model: nn.Module, recipe: Recipe, pictures: Pictures, out: Path, paths: Sequence[Path]
) -> Iterator[str]:
    """Write a label map and an overlay per image, and a JSON file of all, which is written atomically."""
    table = out / "instances.json"
    known = dict(zip(paths, file_names(paths), strict=True))
    with atomic_write(table) as beside, beside.open("w", encoding="utf-8") as file:
        kept = CocoWriter(file)
        for each, picture in pictures:
            found = find_instances(model, picture, recipe.image_size)
            kept.add(known[each.path], found)
            yield write_instances(found, picture, out, each.name)
        kept.close()
    yield str(table)


def write_instances(found: Instances, picture: Image, out: Path, name: str) -> str:
    """Write the label map and overlay of one image; return a line with the file and the number of instances."""
    held = np.where(found.labels <= MAX_INSTANCES, found.labels, 0).astype(np.uint16)
    file = save_picture(held, out / name, "_instances")
    save_picture(instance_overlay(picture, found.labels), out / name, "_overlay")
    number = len(found.scores)
    more = f"; the first {MAX_INSTANCES} of them, all are in instances.json" if number > MAX_INSTANCES else ""
    return f"{file} ({pluralize(number, 'instance')}{more})"


Prediction = NDArray[np.uint8] | NDArray[np.float32] | Labels


def predict_image(model: nn.Module, path: str | Path, *, image_size: int, task: str = "binary") -> Prediction:
    """Return the prediction for an image file, see `predict_pixels`."""
    return predict_pixels(model, read_image(Path(path)), image_size, task)


def predict_pixels(
    model: nn.Module, picture: Image, image_size: int, task: str, wanted: Wanted = DEFAULT
) -> Prediction:
    """Return a mask or a label map as large as the picture, of classes or of instances (numbers from 1), or the
    probability of each class. If probabilities are wanted, those of a mask or label map in place of it.
    """
    targets = find_task(task).targets
    if targets == "classes":
        return predict_shares(model, picture, image_size)
    if targets == "instances":
        return find_instances(model, picture, image_size).labels
    if targets == "labels":
        predict = label_probabilities if wanted.probabilities else predict_labels
        return predict(model, picture, image_size)
    shares = mask_probabilities(model, picture, image_size)
    return shares if wanted.probabilities else to_mask(shares, wanted.threshold)


@torch.inference_mode()
def compute_logits(model: nn.Module, picture: Image, size: int, dimensions: int) -> Tensor:
    """Return the logits of an image; BundleError if the model rejects its size, or its output has others."""
    batch = to_batch(model, picture, size)
    try:
        logits = model(batch)[0].float()
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise BundleError(f"the bundle's model cannot be used at {size} px: {first_line(error)}.") from error
    if logits.ndim != dimensions:
        shape = tuple(logits.shape)
        raise BundleError(
            f"the bundle's model cannot be used: its output for an image is {shape}, of another task."
        )
    return logits


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


def to_mask(shares: NDArray[np.float32], threshold: float | None) -> Image:
    """Return a mask of 1 where the probability is above the threshold."""
    return (shares > (THRESHOLD if threshold is None else threshold)).astype(np.uint8)


def mask_probabilities(model: nn.Module, picture: Image, size: int) -> NDArray[np.float32]:
    """Return the probability of the object at each pixel; resized to the picture before it is thresholded."""
    return resize_to(compute_logits(model, picture, size, 3)[0].sigmoid().cpu().numpy(), picture)


def resize_to(values: NDArray[np.float32], picture: Image) -> NDArray[np.float32]:
    return cv2.resize(values, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_LINEAR)


def label_probabilities(model: nn.Module, picture: Image, size: int) -> NDArray[np.float32]:
    """Return the probability of each class at each pixel (classes, height, width)."""
    scores = [resize_to(score, picture) for score in compute_logits(model, picture, size, 3).cpu().numpy()]
    return torch.from_numpy(np.stack(scores)).softmax(0).numpy()


def predict_labels(model: nn.Module, picture: Image, size: int) -> Image:
    """Return the class of each pixel; scores are resized to the picture, one class at a time to save memory."""
    scores = compute_logits(model, picture, size, 3).cpu().numpy()
    highest = np.full(picture.shape[:2], -np.inf, np.float32)
    labels = np.zeros(picture.shape[:2], np.uint8)
    for number, score in enumerate(scores):
        full = resize_to(score, picture)
        labels[full > highest] = number
        highest = np.maximum(full, highest)
    return labels


def predict_shares(model: nn.Module, picture: Image, size: int) -> NDArray[np.float32]:
    """Return the probability of each class."""
    return compute_logits(model, picture, size, 1).softmax(0).cpu().numpy()
