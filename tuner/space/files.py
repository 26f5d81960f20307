"""Find the file of a space or of a published table by name or path."""

from __future__ import annotations

import os
from pathlib import Path

from tuner.errors import TunerError, did_you_mean, format_names
from tuner.paths import expand_path

PACKAGE = Path(__file__).parent.parent
TIMEOUT = 60.0  # seconds in which the code of a space must be loaded and drawn from, or checked


def known_files(folder: str, pattern: str) -> dict[str, Path]:
    """Return every file of a folder by name: those of the user's own folder take precedence over shipped ones."""
    found: dict[str, Path] = {}
    for place in (Path(folder), PACKAGE / "shipped" / folder, PACKAGE.parent / folder):
        for path in sorted(place.rglob(pattern)):
            found.setdefault(path.relative_to(place).with_suffix("").as_posix(), path)
    return found


def find_file(what: str, name: str, known: dict[str, Path], suffix: str, error: type[TunerError]) -> Path:
    """Return the file given by its path, or by one of the known names; raise the error if there is none."""
    if name.endswith(suffix) or name.startswith((".", "~", os.sep)):
        path = expand_path(name)
        if path.is_dir():
            raise error(f"{path} is a folder; give one {suffix} file of it.{list_files(path, suffix)}")
        if not path.is_file():
            raise error(f"no {what} file {path}.{list_files(path.parent, suffix)}")
        return path.absolute()  # as in tracebacks
    if name not in known:
        names = ", ".join(sorted(known)) or "none"
        hint = did_you_mean(name, known)
        raise error(f"no {what} '{name}'.{hint} Known: {names}; or give the path of a {suffix} file.")
    return known[name]


def name_to_type(path: Path, known: dict[str, Path]) -> str:
    """Return what a command accepts for a file: its name if it is a known one, else its path."""
    return next((name for name, file in known.items() if file.absolute() == path.absolute()), str(path.absolute()))


def list_files(folder: Path, suffix: str) -> str:
    """Return ' FOLDER contains: ...' for a folder with such files, else ''."""
    found = sorted(path.name for path in folder.glob(f"*{suffix}")) if folder.is_dir() else []
    return f" {folder} contains: {format_names(found)}." if found else ""
