"""Delete folders with all that is in them, and nothing outside the folder that they belong to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tuner.errors import FilesError, writing


def delete_below(root: Path, folder: Path) -> int:
    """Delete a folder below `root`; return the bytes that are free now, which files linked elsewhere are not.

    Raise FilesError if a part of its path below `root` is a link: what it leads to may belong to others.
    """
    parts = folder.relative_to(root).parts
    if not parts or ".." in parts:
        raise FilesError(f"{folder} is not inside {root}; it was not deleted.")
    for number in range(len(parts)):
        if (path := root.joinpath(*parts[: number + 1])).is_symlink():
            raise FilesError(f"{path} is a link; what it leads to was not deleted. Delete it by hand.")
    if not folder.is_dir():
        return 0
    with writing(folder):
        size = measure_folder(folder)
        shutil.rmtree(folder)
    return size


def measure_folder(folder: Path) -> int:
    """Return the bytes of all files that have no name outside the folder; links are not followed."""
    sizes: dict[tuple[int, int], int] = {}
    unseen: dict[tuple[int, int], int] = {}  # names of each file that are not met yet
    for place, _, names in os.walk(folder):
        for name in names:
            found = os.lstat(os.path.join(place, name))  # noqa: PTH118
            file = found.st_dev, found.st_ino
            sizes[file] = found.st_size
            unseen[file] = unseen.get(file, found.st_nlink) - 1
    return sum(size for file, size in sizes.items() if unseen[file] == 0)
