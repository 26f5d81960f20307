"""The exported model as an object: predict, explain, evaluate."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from tuner.api.arguments import to_home, to_path, to_text
from tuner.data.limits import MAX_PIXELS, limit_pixels
from tuner.errors import BundleError, DataError, FilesError, PartError, describe_value
from tuner.paths import expand_path, read_bytes
from tuner.recipe import is_list_of

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage
    from torch import nn

    from tuner.export.bundle import OpenBundle
    from tuner.export.evaluate import Evaluation
    from tuner.plots.heatmaps import Cell, Score

ImageLike: TypeAlias = "str | os.PathLike[str] | PilImage | NDArray[Any]"
T = TypeVar("T")


@dataclass(frozen=True)
class ImageExplanation:
    """Where a model looked in one image.

    maps: per layer a heat map, a float32 array from 0 to 1 of the size that the model was trained on.
    class_name: the class that is explained.
    is_found: whether the model predicted that class at all; if not, the maps explain the whole output.
    """

    maps: Mapping[str, NDArray[np.float32]] = field(repr=False)
    class_name: str
    is_found: bool
    cells: Sequence[Cell] = field(repr=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Draw the image, the prediction and the heat maps into a PNG or JPEG file, and return its path."""
        from tuner.export.explain import draw_panel
        from tuner.plots.grid import ENCODING

        file = to_path("path", path, "FILE")
        if file.suffix.lower() not in ENCODING:
            raise FilesError(f"path={describe_value(path)}: a name that ends in {', '.join(ENCODING)} is needed.")
        draw_panel(self.cells, file)
        return file

    def _repr_png_(self) -> bytes:
        """The panel, for notebooks."""
        from tempfile import TemporaryDirectory

        with TemporaryDirectory() as folder:
            return read_bytes(self.save(Path(folder) / "panel.png"))


class Bundle:
    """An exported model. It needs only its folder, not the database. Returned by `tuner.load_bundle`."""

    def __init__(self, opened: OpenBundle) -> None:
        self._opened = opened
        self.path, self.recipe = opened.folder, opened.recipe

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the exported epoch by name, such as "val_iou"."""
        return dict(self._opened.facts["metrics"])

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of the exported trial by name."""
        return dict(self._opened.facts["params"])

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their numbers; of a binary task, background and object."""
        from tuner.tasks import BINARY_CLASSES

        return self.recipe.classes or BINARY_CLASSES

    @cached_property
    def model(self) -> nn.Module:
        """The trained model as a `torch.nn.Module` in eval mode, on the GPU if there is one."""
        from tuner.train.precision import find_device

        return self._opened.load_model().to(find_device())

    @overload
    def predict(  # type: ignore[overload-overlap]
        self,
        images: ImageLike,
        *,
        threshold: float | None = None,
        probabilities: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> NDArray[Any]: ...
    @overload
    def predict(
        self,
        images: Iterable[ImageLike],
        *,
        threshold: float | None = None,
        probabilities: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> list[NDArray[Any]]: ...
    def predict(
        self,
        images: ImageLike | Iterable[ImageLike],
        *,
        threshold: float | None = None,
        probabilities: bool = False,
        max_pixels: int = MAX_PIXELS,
    ) -> NDArray[Any] | list[NDArray[Any]]:
        """Return the prediction for one image, or a list of predictions for a list of images.

        An image is a path, a PIL image, or an array (height, width, 3) or (height, width) of uint8. The prediction
        is an array that depends on the task of the recipe:

        - binary: a mask of 0 and 1, uint8, as large as the image.
        - multiclass: a class number for each pixel, uint8, as large as the image.
        - instance: an instance number for each pixel, 0 for the background, as large as the image.
        - classification: the probability of each class, float32, in the order of `classes`.

        threshold: of a mask; the object is where its probability is above it. Default: 0.5.
        probabilities: return those at each pixel instead, float32: of a mask (height, width), of a multiclass task
            (classes, height, width).
        max_pixels: a file or PIL image of more pixels is refused, before it is decoded.
        """
        from tuner.export.inputs import Wanted, check_wanted

        wanted = Wanted(threshold, probabilities)
        check_wanted(wanted, self.recipe)

        from tuner.export.predict import predict_pixels

        def predict_one(image: ImageLike) -> NDArray[Any]:
            return predict_pixels(self.model, to_pixels(image), self.recipe.image_size, self.recipe.task, wanted)

        with limit_pixels(max_pixels):
            return for_each(images, predict_one)

    @overload
    def explain(  # type: ignore[overload-overlap]
        self,
        images: ImageLike,
        layers: Sequence[str] | None = None,
        class_name: str | None = None,
        *,
        score: Score | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> ImageExplanation: ...
    @overload
    def explain(
        self,
        images: Iterable[ImageLike],
        layers: Sequence[str] | None = None,
        class_name: str | None = None,
        *,
        score: Score | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> list[ImageExplanation]: ...
    def explain(
        self,
        images: ImageLike | Iterable[ImageLike],
        layers: Sequence[str] | None = None,
        class_name: str | None = None,
        *,
        score: Score | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> ImageExplanation | list[ImageExplanation]:
        """Return an ImageExplanation (Grad-CAM) for one image, or a list of them for a list of images.

        layers: names or module paths of layers. Default: those that the model names.
        class_name: the class to explain. Default: the one that was predicted.
        score: for masks and label maps, what is summed over the predicted pixels, "probability" (the default) or
            "logit".
        max_pixels: as of `predict`.
        """
        with limit_pixels(max_pixels):
            return for_each(images, lambda image: self._explain(to_pixels(image), layers, class_name, score))

    def explain_sample(
        self,
        number: int,
        *,
        data: str | os.PathLike[str] | None = None,
        split: str = "val",
        seed: int = 0,
        layers: Sequence[str] | None = None,
        class_name: str | None = None,
        score: Score | None = None,
        home: str | os.PathLike[str] = "runs",
        layout: str | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> list[ImageExplanation]:
        """Explain random images of the "test" or "val" split, with their truths; see `explain` and `evaluate`.

        The same seed chooses the same images. Returns all of them if the split has fewer than `number`.
        """
        from tuner.export.evaluate import check_split
        from tuner.export.explain import Sample, read_sample

        check_split(split)
        source = None if data is None else to_text("data", data, "DATASET")
        with limit_pixels(max_pixels):
            images = read_sample(self._opened, Sample(number, seed, split, source, layout), to_home(home))
        return [self._explain(one.picture, layers, class_name, score, one.truth) for one in images]

    def _explain(
        self,
        picture: NDArray[np.uint8],
        layers: Sequence[str] | None,
        class_name: str | None,
        score: Score | None,
        truth: Any = None,
    ) -> ImageExplanation:
        from tuner.export.explain import class_number, explain_pixels

        if layers is not None and not is_list_of(str, layers):
            raise PartError(f"layers are {describe_value(layers)}; a list of names is needed.")
        target = None if class_name is None else class_number(self.recipe, class_name)
        seen, cells = explain_pixels(self.model, self.recipe, picture, layers, target, score, truth)
        return ImageExplanation(seen.maps, self.classes[seen.target], seen.found, cells)

    def evaluate(
        self, data: str | os.PathLike[str] | None = None, *, split: str = "test",
        home: str | os.PathLike[str] = "runs", out: str | os.PathLike[str] | None = None, sample: int = 10,
        seed: int = 0, layout: str | None = None, max_pixels: int = MAX_PIXELS,
    ) -> Evaluation:  # fmt: skip
        """Score the model on the "test" or "val" split of its own dataset, or of another with the same classes.

        home: holds the cache of decoded images.
        out: a folder for pictures, curves and the score of each image; an earlier evaluation there is replaced.
        sample: how many random images are drawn there beside the worst, median and best; `seed` chooses them.
        layout: how to read the folder `data`, such as "masks=photos,truth".
        max_pixels: images of more pixels are refused.

        DataError if the dataset has no such split.
        """
        from tuner.export.evaluate import check_split, evaluate_bundle

        check_split(split)
        source = None if data is None else to_text("data", data, "DATASET")
        into = None if out is None else to_path("out", out)
        with limit_pixels(max_pixels):
            return evaluate_bundle(self._opened, source, split, to_home(home), into, sample, seed, layout)

    def __repr__(self) -> str:
        score = f"{self._opened.facts['goal']['metric']} {self._opened.facts['value']:.4g}"
        return f"<Bundle '{self.path}': {self.recipe.model} for {self.recipe.data.name}, {score}>"


def load_bundle(path: str | os.PathLike[str], *, trust: bool = False) -> Bundle:
    """Return the bundle in a folder; BundleError unless all is as it was exported and has the types it must have.

    trust: whether code that is not of tuner may run, such as a model of its own that the recipe names.
    """
    from tuner.export.bundle import open_bundle

    if not isinstance(trust, bool):
        raise BundleError(f"trust is {describe_value(trust)}; True or False is needed.")
    return Bundle(open_bundle(path, trust))


def for_each(images: ImageLike | Iterable[ImageLike], function: Callable[[ImageLike], T]) -> T | list[T]:
    """Apply a function to one image, or to each of several."""
    is_one = isinstance(images, str | os.PathLike | np.ndarray) or not isinstance(images, Iterable)
    return function(images) if is_one else [function(image) for image in images]  # type: ignore[arg-type, union-attr]


def to_pixels(image: ImageLike) -> NDArray[np.uint8]:
    """Return an image as an array (height, width, 3) of uint8; DataError for what is not an image."""
    from PIL import Image as Pillow

    from tuner.data.images import check_size, read_image

    if isinstance(image, str | os.PathLike):
        return read_image(expand_path(image))
    if isinstance(image, Pillow.Image):  # it may not be decoded yet
        check_size(Path(getattr(image, "filename", "")).name or "the image", *image.size)
        return np.asarray(image.convert("RGB"))
    pixels = np.asarray(image)
    if pixels.dtype == np.uint8 and pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=-1)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        given = f"{pixels.dtype} {pixels.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise DataError(
            f"an image is {given}; a path, a PIL image, or a uint8 array (height, width, 3) or (height, width) "
            "is needed."
        )
    return np.ascontiguousarray(pixels)
