"""Explain images with a bundle: a panel of heat maps for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from tuner.data.images import resize_image
from tuner.data.source import Image
from tuner.errors import PartError, did_you_mean, format_names, writing
from tuner.export.bundle import BundleLike, open_bundle
from tuner.export.evaluate import check_sample, describe_shortage, open_split, place_recipe
from tuner.export.gradcam import explain
from tuner.export.inputs import find_images, refuse_unread, unique_names
from tuner.export.layers import choose_layers, layers_of
from tuner.export.predict import read_images
from tuner.paths import Home
from tuner.plots.grid import split_rows
from tuner.plots.heatmaps import Cell, Explanation, Score, draw_cells, explanation_cells
from tuner.recipe import Recipe
from tuner.tasks import BINARY_CLASSES
from tuner.train.details import choose_sample
from tuner.train.precision import find_device

CELL = 256  # pixels of a picture's longer side
COLUMNS = 4
SHEET = "explanations.png"


@dataclass(frozen=True)
class Sample:
    """Which random images to take: of a split of a bundle's own dataset, or of another."""

    number: int
    seed: int = 0
    split: str = "val"
    data: str | None = None
    layout: str | None = None


@dataclass(frozen=True)
class SampledImage:
    """An image of a dataset with its name and its truth."""

    name: str
    picture: Image
    truth: Any


def explain_files(
    bundle: BundleLike,
    images: list[Path],
    out: Path,
    layers: Sequence[str] = (),
    name: str | None = None,
    score: Score | None = None,
) -> Iterator[str]:
    """Write NAME_explanation.png for every image, also those in folders, into `out`; yield one line about each.

    `layers` and the class `name` are checked before any image is read. At the end, DataError names the images that
    could not be read.
    """
    recipe, model, target = open_model(bundle, layers, name)
    inputs, unread = find_images(images, out), list[str]()
    for each, picture in read_images(inputs, unread):
        explanation, cells = explain_pixels(model, recipe, picture, layers, target, score)
        yield write_panel(out / f"{each.name}_explanation.png", explanation, cells, recipe)
    refuse_unread(unread, inputs, out)


def explain_sample(
    bundle: BundleLike,
    sample: Sample,
    home: Home,
    out: Path,
    layers: Sequence[str] = (),
    name: str | None = None,
    score: Score | None = None,
) -> Iterator[str]:
    """Write NAME_explanation.png for each image of a sample, and all in explanations.png, with their truths.

    Yield one line about each file.
    """
    recipe, model, target = open_model(bundle, layers, name)
    images = read_sample(bundle, sample, home)
    rows: list[list[Cell]] = []
    stems = unique_names([Path(Path(one.name).name) for one in images])
    for stem, one in zip(stems, images, strict=True):
        explanation, cells = explain_pixels(model, recipe, one.picture, layers, target, score, one.truth)
        yield write_panel(out / f"{stem}_explanation.png", explanation, cells, recipe)
        small = explanation_cells(one.picture, explanation, recipe, one.truth)
        rows.append([(stem if caption == "image" else caption, cell) for caption, cell in small])
    draw_cells(rows, out / SHEET)
    yield f"{out / SHEET}{describe_shortage(sample.number, len(images), sample.split)}"


def read_sample(bundle: BundleLike, sample: Sample, home: Home) -> list[SampledImage]:
    """Return the images of a sample, in the order of the split and at the size of training."""
    check_sample(sample.number, sample.seed)
    recipe = place_recipe(open_bundle(bundle).recipe, sample.data, sample.layout)
    found, _ = open_split(recipe, sample.split, home)
    chosen = [found.val[at] for at in choose_sample(len(found.val), sample.number, sample.seed)]
    return [
        SampledImage(found.keys[at], np.asarray(found.images[at]), np.asarray(found.targets[at])) for at in chosen
    ]


def open_model(
    bundle: BundleLike, layers: Sequence[str], name: str | None
) -> tuple[Recipe, nn.Module, int | None]:
    """Return a bundle's recipe, its model, and the number of the class `name`; PartError for unknown layers."""
    opened = open_bundle(bundle)
    recipe = opened.recipe
    target = None if name is None else class_number(recipe, name)
    model = opened.load_model().to(find_device())
    if layers:
        choose_layers(model, layers, recipe.image_size)
    return recipe, model, target


def write_panel(file: Path, explanation: Explanation, cells: Sequence[Cell], recipe: Recipe) -> str:
    """Write the panel of one image and return a line about it."""
    with writing(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
    draw_panel(cells, file)
    return f"{file}{describe_caveats(explanation, recipe)}"


def explain_pixels(
    model: nn.Module,
    recipe: Recipe,
    picture: Image,
    layers: Sequence[str] | None,
    target: int | None,
    score: Score | None = None,
    truth: Any = None,
) -> tuple[Explanation, list[Cell]]:
    """Explain one picture; return the explanation and the pictures of its panel, the truth among them if known."""
    explanation = explain(model, [resize_image(picture, recipe.image_size)], layers or None, target, score)[0]
    return explanation, explanation_cells(picture, explanation, recipe, truth, CELL)


def draw_panel(cells: Sequence[Cell], file: Path) -> None:
    draw_cells(split_rows(cells, COLUMNS), file)


def describe_caveats(explanation: Explanation, recipe: Recipe) -> str:
    """Return remarks on the heat maps, such as that the class was not predicted, in parentheses."""
    classes = recipe.classes or BINARY_CLASSES
    remarks = []
    if not explanation.found:
        remarks.append(f"no {classes[explanation.target]} found: the maps explain the whole output")
    if explanation.saturated:
        remarks.append("no probability of these pixels has a gradient: the maps explain their logits")
    if dark := [name for name, heat in explanation.maps.items() if not heat.any()]:
        remarks.append(f"no positive evidence at {format_names(dark)}")
    return f" ({'; '.join(remarks)})" if remarks else ""


def class_number(recipe: Recipe, name: str) -> int:
    """Return the number of a class by its name; PartError for an unknown name."""
    classes = recipe.classes or BINARY_CLASSES
    if name not in classes:
        close = did_you_mean(name, classes)
        raise PartError(f"the bundle has no class '{name}'.{close} Known: {format_names(classes, 20)}.")
    return classes.index(name)


def list_layers(bundle: BundleLike) -> Iterator[str]:
    """Yield a line per layer: first the default layers by their short names, then every module."""
    opened = open_bundle(bundle)
    model, recipe = opened.load_model(), opened.recipe
    paths: dict[nn.Module, str] = {module: path for path, module in model.named_modules()}
    for name, module in layers_of(model, recipe.image_size).items():
        yield f"{name} = {paths[module]}" if name != paths[module] else name
    yield "any module of the model by its path:"
    yield from (f"  {path}" for path in paths.values() if path)
