"""Arguments of the public functions, refused in one line as the command line refuses its options."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from tuner.errors import FilesError, TunerError, describe_value
from tuner.paths import Home

Kind = Literal["FOLDER", "FILE", "SPACE", "DATASET", "DATABASE_URL"]  # types of options


def to_text(name: str, value: object, kind: Kind, error: type[TunerError] = FilesError) -> str:
    """Return a path, name or URL as text; raise `error` for what an option of this kind does not take."""
    from click.exceptions import BadParameter

    from tuner.cli import options

    try:
        plain = os.fspath(value) if isinstance(value, os.PathLike) else value
        return str(getattr(options, kind).convert(plain, None, None))
    except (BadParameter, TypeError) as refused:
        message = getattr(refused, "message", refused)
        raise error(f"{name}={describe_value(value)}: {message}") from refused


def to_path(name: str, value: object, kind: Kind = "FOLDER") -> Path:
    return Path(to_text(name, value, kind))


def to_home(home: object) -> Home:
    return Home(to_path("home", home))


def given_or_environment(given: Any, variable: str) -> Any:
    """Return an argument, or the environment variable that stands for it; None without both."""
    return given if given is not None else os.environ.get(variable) or None
