"""What `tuner predict` and `explain` are given: images, folders, a threshold. Checked before torch is imported."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path, PurePath

from tuner.data.limits import SUFFIXES
from tuner.errors import BundleError, DataError, bullets, describe_value
from tuner.recipe import Recipe, is_number
from tuner.tasks import find_task
from tuner.wording import pluralize

THRESHOLD = 0.5
CHOSEN = {  # what decides where there is no threshold
    "labels": "each pixel gets its likeliest class",
    "classes": "each image gets its likeliest class; classes.csv has the probabilities",
    "instances": "the model decides what an instance is; instances.json has their scores",
}


@dataclass(frozen=True)
class Wanted:
    """What is written of a prediction: masks above a threshold, and with `probabilities` those too."""

    threshold: float | None = None  # THRESHOLD
    probabilities: bool = False


DEFAULT = Wanted()


@dataclass(frozen=True)
class InputImage:
    """An image file, and the name that its results begin with: no other image of the command has it."""

    path: Path
    name: str  # with the subfolder, if it was found in a folder


def find_images(given: Sequence[Path], out: Path) -> list[InputImage]:
    """Return the given files, and the images in given folders and their subfolders, in order.

    Hidden files and what is in `out` are left out of folders. DataError for a folder without images, for one into
    which the results are to be written, and if no given path exists.
    """
    absent = [path for path in given if not os.path.lexists(path)]
    if len(absent) == len(given):
        more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
        raise DataError(f"no image {absent[0]}{more}. Give image files, or folders with images.")
    paths: list[Path] = []
    names: list[PurePath] = []
    for path in given:
        found = list(walk_images(path, out)) if path.is_dir() else [path]
        if not found:
            raise DataError(f"folder {path} has no images: no file that ends in {', '.join(sorted(SUFFIXES))}.")
        paths += found
        names += [each.relative_to(path) if path.is_dir() else PurePath(each.name) for each in found]
    return [InputImage(path, name) for path, name in zip(paths, unique_names(names), strict=True)]


def walk_images(folder: Path, out: Path) -> Iterator[Path]:
    """Yield the images in a folder and its subfolders, sorted, without hidden ones and those in `out`."""
    skipped = os.path.realpath(out)
    if os.path.realpath(folder) == skipped:
        raise DataError(f"the results would be among the images of {folder}. Choose another folder with --out.")
    for place, folders, files in os.walk(folder):
        shown = (name for name in sorted(folders) if not name.startswith("."))
        folders[:] = [name for name in shown if os.path.realpath(Path(place, name)) != skipped]
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                yield Path(place, name)


def unique_names(images: Sequence[PurePath]) -> Iterator[str]:
    """Yield each path without its ending; one that is repeated gets a number that makes it unique."""
    stems = [path.with_suffix("").as_posix() for path in images]
    taken: set[str] = set()
    for stem in stems:
        name = stem
        numbered = (f"{stem}_{number}" for number in count(2))
        while name in taken:
            name = next(other for other in numbered if other not in stems)
        taken.add(name)
        yield name


def refuse_unread(unread: Sequence[str], inputs: Sequence[InputImage], out: Path) -> None:
    """Raise DataError that names the images which could not be read, if there are any."""
    if unread:
        rest = f"; the results of the others are in {out}" if len(unread) < len(inputs) else ""
        raise DataError(
            f"{len(unread)} of {pluralize(len(inputs), 'image')} cannot be read{rest}:{bullets(unread)}"
        )


def check_wanted(wanted: Wanted, recipe: Recipe) -> None:
    """Raise BundleError for what predictions of the recipe's task do not have, and a threshold that cannot be."""
    targets, threshold = find_task(recipe.task).targets, wanted.threshold
    if threshold is not None and not (is_number(threshold) and 0 < threshold < 1):
        raise BundleError(f"the threshold is {describe_value(threshold)}; a number between 0 and 1 is needed.")
    if threshold is not None and targets != "masks":
        raise BundleError(
            f"a threshold, here {threshold:g}, is for masks of the task 'binary'. The bundle's task is "
            f"'{recipe.task}': {CHOSEN[targets]}. Leave the threshold out."
        )
    if wanted.probabilities and targets == "instances":
        raise BundleError(
            "probabilities are for masks, label maps and classes. The bundle's task is 'instance': "
            "instances.json has the score of each instance. Leave them out."
        )
