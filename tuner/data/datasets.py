"""The table of datasets. Every builder takes the same arguments, so `--data` swaps one for another."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from tuner.data.folder import folder
from tuner.data.source import Source, fraction_problem
from tuner.errors import DataError, near
from tuner.parts import locate, problems
from tuner.recipe import Part, Recipe

DATASETS = {
    "shapes": "tuner.data.shapes:shapes",
    "scenes": "tuner.data.scenes:scenes",
    "badges": "tuner.data.badges:badges",
    "weizmann_horse": "tuner.data.datasets:weizmann_horse",
}
HOW_TO_GET = {
    "weizmann_horse": "It is on Kaggle as 'Weizmann Horse Database': put its rgb/ and figure_ground/ there",
}


def weizmann_horse(*, image_size: int = 256, val: float = 0.2, split_seed: int = 0) -> Source:
    """Weizmann Horse: 328 photographs of horses with a mask each; rgb/ and figure_ground/."""
    where = find_folder("weizmann_horse")
    return folder(where, name="weizmann_horse", image_size=image_size, val=val, split_seed=split_seed)


def roots() -> list[Path]:
    """The folders in which a named dataset is looked for, in order."""
    given = [Path(p).expanduser() for p in os.environ.get("TUNER_DATA", "").split(os.pathsep) if p]
    return [*given, Path("data"), Path.home() / ".cache" / "tuner" / "data"]


def find_folder(name: str) -> Path:
    """The folder of a named dataset, or a DataError that says where to put it."""
    places = [root / name for root in roots()]
    for place in places:
        if place.is_dir():
            return place
    raise DataError(
        f"dataset '{name}' is not on this machine; looked for {', '.join(map(str, places))}. "
        f"{HOW_TO_GET[name]}, name its parent folder in TUNER_DATA, or use your own with --data FOLDER."
    )


def is_path(name: str) -> bool:
    """A dataset that is no name of the table is a folder when it looks like one."""
    if not name or name in DATASETS:
        return False
    return os.sep in name or name.startswith((".", "~")) or exists(name)


def exists(name: str) -> bool:
    try:
        return Path(name).exists()
    except OSError:  # a name longer than any file's, a parent that may not be read
        return False


def open_data(part: Part) -> Source:
    """The source a recipe names: a dataset of the table, or a folder."""
    try:
        return open_named(part)
    except OSError as error:
        raise DataError(f"{part.name} cannot be read: {error.strerror}.") from error


def open_named(part: Part) -> Source:
    args = dict(part.args)
    if is_path(part.name):
        return folder(Path(part.name).expanduser(), **args)  # type: ignore[arg-type]
    source: Source = locate("dataset", DATASETS, part.name)(**args)
    return source


def data_problems(part: Part) -> list[str]:
    """What is wrong with a dataset's name and arguments, without opening it."""
    if is_path(part.name):
        wrong = problems("dataset", {part.name: "tuner.data.folder:folder"}, part)
    elif part.name not in DATASETS:
        known = ", ".join(sorted(DATASETS))
        maybe = near(part.name, DATASETS)
        return [f"no dataset or folder '{part.name}'.{maybe} Known: {known}, or the path of a folder."]
    else:
        wrong = problems("dataset", DATASETS, part)
    odd = fraction_problem(part.args.get("val", 0.2))
    return [*wrong, odd] if odd else wrong


def swap_data(recipe: Recipe, data: str) -> Recipe:
    """The same recipe on another dataset; every dataset takes the same arguments."""
    return replace(recipe, data=Part(data, recipe.data.args))


def data_name(recipe: Recipe, given: str | None) -> str:
    """The dataset a study is of: as given, or the recipe's; a folder by its full path."""
    name = recipe.data.name if given is None else given
    return str(Path(name).expanduser().absolute()) if is_path(name) else name
