"""The table of datasets. All builders take the same arguments, so that `--data` can swap one for another."""

from __future__ import annotations

from dataclasses import replace

from tuner import paths
from tuner.data.folder import folder, ignore_problem, pair_files, read_with_mask
from tuner.data.layouts import layout_problem
from tuner.data.locate import find_folder, require_files, require_one_of
from tuner.data.own_reader import open_own
from tuner.data.source import IGNORED, Source
from tuner.data.split import fraction_problem, hold_out, split_problem
from tuner.errors import DataError, PartError, did_you_mean
from tuner.paths import expand_path
from tuner.recipe import Part, Recipe
from tuner.registry import build, find_builder, part_problems, searchable_args

DATASETS = {
    "shapes": "tuner.data.synthetic.shapes:shapes",
    "scenes": "tuner.data.synthetic.scenes:scenes",
    "badges": "tuner.data.synthetic.badges:badges",
    "cells": "tuner.data.synthetic.cells:cells",
    "weizmann_horse": "tuner.data.datasets:weizmann_horse",
    "oxford_pet": "tuner.data.oxford_pet:oxford_pet",
    "oxford_pet_trimap": "tuner.data.oxford_pet:oxford_pet_trimap",
    "penn_fudan": "tuner.data.datasets:penn_fudan",
    "isic2016": "tuner.data.datasets:isic2016",
    "cityscapes": "tuner.data.cityscapes:cityscapes",
    "scene": "tuner.data.datasets:scene",
    "sports100": "tuner.data.datasets:sports100",
}
FOLDER_ARGS = ("layout", "ignore")  # arguments that datasets by name do not have
GENERATED = ("shapes", "scenes", "badges", "cells")
ISIC = [
    f"ISBI2016_ISIC_Part1_{part}"
    for part in ("Training_Data", "Training_GroundTruth", "Test_Data", "Test_GroundTruth")
]
HORSES = (("rgb", "figure_ground"), ("horse", "mask"))
PEDESTRIANS = ("PNGImages", "PedMasks")


def weizmann_horse(
    *, image_size: int = 256, val: float = 0.2, split_seed: int = 0, split: str = "stable"
) -> Source:
    """Weizmann Horse: 328 photos of horses with masks, in rgb/ and figure_ground/, or 327 in horse/ and mask/."""
    where, pair = require_one_of("weizmann_horse", HORSES, "weizmann_horse_db")
    name, layout = "weizmann_horse", f"masks={','.join(pair)}"
    return folder(
        where, name=name, image_size=image_size, val=val, split_seed=split_seed, split=split, layout=layout
    )


def isic2016(*, image_size: int = 256, val: float = 0.2, split_seed: int = 0, split: str = "stable") -> Source:
    """ISIC 2016: 900 photos of skin lesions with masks, and 379 for testing."""
    where = require_files("isic2016", ISIC)
    images, masks, test_images, test_masks = (where / part for part in ISIC)
    items = [*pair_files(images, masks, "train"), *pair_files(test_images, test_masks, "test")]
    return Source("isic2016", str(where), "masks", hold_out(tuple(items), val, split_seed, split), read_with_mask)


def penn_fudan(*, image_size: int = 256, val: float = 0.2, split_seed: int = 0, split: str = "stable") -> Source:
    """Penn-Fudan: 170 photos of streets with instance maps of the pedestrians."""
    where = find_folder("penn_fudan")
    unpacked = "" if any((where / part).is_dir() for part in PEDESTRIANS) else "PennFudanPed/"
    require_files("penn_fudan", [f"{unpacked}{part}" for part in PEDESTRIANS])
    return folder(
        where / unpacked, name="penn_fudan", image_size=image_size, val=val, split_seed=split_seed, split=split
    )


def scene(*, image_size: int = 256, val: float = 0.2, split_seed: int = 0, split: str = "stable") -> Source:
    """Your own scenes: images/ with label maps in labels/, any number of classes, named in classes.txt."""
    where = find_folder("scene")
    if not (where / "train").is_dir():
        require_files("scene", ["images", "labels"])
    source = folder(where, name="scene", image_size=image_size, val=val, split_seed=split_seed, split=split)
    if source.targets != "labels":
        raise DataError(f"scene at {where} holds {source.targets}; label maps in labels/ are needed.")
    return source


def sports100(*, image_size: int = 256, val: float = 0.2, split_seed: int = 0, split: str = "stable") -> Source:
    """100 sports: photos in one folder per sport, in train/, valid/ and test/."""
    where = require_files("sports100", ["train", "valid", "test"])
    return folder(where, name="sports100", image_size=image_size, val=val, split_seed=split_seed, split=split)


def is_path(name: str) -> bool:
    """Return whether the name of a dataset, not being one of the table, looks like the path of a folder."""
    return name not in DATASETS and paths.is_path(name)


def is_own(name: str) -> bool:
    """Return whether the name of a dataset is that of a reader of the user's own, "package.module:function"."""
    return ":" in name and name not in DATASETS and not is_path(name)


def dataset_table(name: str) -> dict[str, str]:
    """Return the table that has the builder of a name, where it is known; a path is opened by `folder`."""
    return {name: "tuner.data.folder:folder"} if is_path(name) else DATASETS


def open_data(part: Part) -> Source:
    """Open the source that a recipe names: a dataset of the table, a folder, or a reader of the user's own."""
    try:
        if is_own(part.name):
            return open_own(part)
        source: Source = build("dataset", dataset_table(part.name), part, expand_path(part.name, DataError))
        return source
    except OSError as error:
        raise DataError(f"{part.name} cannot be read: {error.strerror}.") from error


def data_problems(part: Part) -> list[str]:
    """Return what is wrong with a dataset's name and arguments, without opening it."""
    table = dataset_table(part.name)
    if part.name not in table and not is_own(part.name):
        known = ", ".join(sorted(DATASETS))
        maybe = did_you_mean(part.name, DATASETS)
        return [f"no dataset or folder '{part.name}'.{maybe} Known: {known}, or the path of a folder."]
    wrong = part_problems("dataset", table, part)
    given = {"val": 0.2, "split": "stable", "layout": "", "ignore": IGNORED, **part.args}
    odd = [fraction_problem(given["val"]), split_problem(given["split"])]
    odd += [layout_problem(given["layout"]), ignore_problem(given["ignore"])] if is_path(part.name) else []
    return wrong + [line for line in odd if line]


def swap_data(recipe: Recipe, data: str, split: str = "stable", layout: str = "") -> Recipe:
    """Return the recipe with another dataset, divided as `split` says unless its own arguments say it.

    All datasets take the same arguments, and a folder also those of FOLDER_ARGS.
    """
    args = dict(recipe.data.without(*FOLDER_ARGS).args if data in DATASETS else recipe.data.args)
    return replace(recipe, data=add_split(Part(data, args | ({"layout": layout} if layout else {})), split))


def refuse_layout(data: str, layout: str | None) -> None:
    """Raise DataError for a layout of a dataset by name, which has its own."""
    if layout is not None and data in DATASETS:
        raise DataError(f"--layout needs a folder, as in --data FOLDER; '{data}' is a dataset by name.")


def check_layout(recipe: Recipe, data: str, layout: str | None) -> None:
    """Raise DataError for a layout of a dataset by name, and for another folder than a layout was written for."""
    refuse_layout(data, layout)
    own = recipe.data.args.get("layout")
    if own and not layout and is_path(data) and data != data_name(recipe, None):
        raise DataError(
            f"the space reads its own folder with layout={own!r}; say with --layout how to read {data}."
        )


def add_split(part: Part, split: str) -> Part:
    """Return a dataset with its argument `split`, where its builder takes one and it is not the default."""
    if split == "stable" or "split" in part.args or not takes_split(part.name):
        return part
    return Part(part.name, {**part.args, "split": split})


def takes_split(name: str) -> bool:
    try:
        return "split" in searchable_args(find_builder("dataset", dataset_table(name), name))
    except PartError:
        return False  # data_problems tells why


def data_name(recipe: Recipe, given: str | None) -> str:
    """Return the dataset of a study: the given one, or the recipe's; a folder by its absolute path."""
    name = recipe.data.name if given is None else given
    return str(expand_path(name, DataError).absolute()) if is_path(name) else name
