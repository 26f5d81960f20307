"""Find the folder of a named dataset; errors say where to put it and how to obtain it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from tuner.errors import DataError, first_lines
from tuner.paths import expand_path, is_path
from tuner.wording import pluralize, write_command

HOW_TO_GET = {
    "weizmann_horse": "It is on Kaggle as 'Weizmann Horse Database': put its rgb/ and figure_ground/ "
    "(or horse/ and mask/) there",
    "cityscapes": "It is at cityscapes-dataset.com, behind a login: put its leftImg8bit/ and gtFine/ there",
    "sports100": "It is on Kaggle as '100 Sports Image Classification': put its train/, valid/ and test/ there",
    "scene": "Create it yourself: put images/ and labels/ there, and the class names in classes.txt",
}
FOLDERS = {"oxford_pet_trimap": "oxford_pet"}  # where it differs from the name of the dataset


def data_roots() -> list[Path]:
    """Return the folders that are searched for named datasets, in order."""
    given = [expand_path(p, DataError) for p in os.environ.get("TUNER_DATA", "").split(os.pathsep) if p]
    return [*given, Path("data"), Path.home() / ".cache" / "tuner" / "data"]


def check_exists(data: str | None) -> None:
    """Raise DataError for a dataset given as a path that does not exist; quick, before anything is imported."""
    if data is not None and is_path(data) and not os.path.lexists(path := expand_path(data, DataError)):
        raise DataError(f"folder {path.absolute()} does not exist.")


def candidate_folders(name: str) -> list[Path]:
    return [root / FOLDERS.get(name, name) for root in data_roots()]


def how_to_get(name: str) -> str:
    """Return a sentence without its full stop; most datasets can be downloaded."""
    return HOW_TO_GET.get(name, f"Fetch it with: {write_command('data get', FOLDERS.get(name, name))}")


def find_folder(name: str) -> Path:
    """Return the folder of a named dataset, or raise DataError with the places searched."""
    for place in candidate_folders(name):
        if place.is_dir():
            return place.absolute()
    raise DataError(
        f"dataset '{name}' is not on this machine; looked for {', '.join(map(str, candidate_folders(name)))}.\n"
        f"{how_to_get(name)}, name its parent folder in TUNER_DATA, or use your own with --data FOLDER."
    )


def require_files(name: str, needed: Iterable[str]) -> Path:
    """Return the folder of a named dataset; DataError names the first missing file or folder."""
    where, needed = find_folder(name), list(needed)
    for part in needed:
        if not (where / part).exists():
            raise DataError(f"{name} at {where} has no {part}; expected {', '.join(needed)}. {how_to_get(name)}.")
    return where


def require_one_of(name: str, choices: Sequence[Sequence[str]], inside: str) -> tuple[Path, Sequence[str]]:
    """Return the folder of a named dataset, or the one `inside` it, that holds all of one choice, and that choice.

    DataError names what is missing of the choice of which the most is there.
    """
    where = find_folder(name)
    for place in (where, where / inside):
        for needed in choices:
            if all((place / part).exists() for part in needed):
                return place, needed
    nearest = max(choices, key=lambda needed: sum((where / part).exists() for part in needed))
    missing = next(part for part in nearest if not (where / part).exists())
    expected = ", or ".join(", ".join(needed) for needed in choices)
    raise DataError(f"{name} at {where} has no {missing}; expected {expected}. {how_to_get(name)}.")


def refuse_missing(name: str, where: Path, missing: list[str]) -> None:
    """Raise DataError with the files that are listed or paired but do not exist."""
    if missing:
        raise DataError(f"{name} at {where}: {pluralize(len(missing), 'missing file')}.{first_lines(missing)}")
