"""The source of a trial's own parts: kept with its files, so that an extension and a bundle have it.

The database has its hash: what somebody else has written into the folder or the artifact store is not run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from tuner.errors import FilesError, create_file
from tuner.paths import Run, hash_file, parse_json, read_bytes, read_text
from tuner.registry.own_modules import own_sources, search_in, working_folder

MOST_BYTES = 1 << 22  # of all modules together


def read_own_code(names: Iterable[str]) -> dict[str, str]:
    """Return the text of the user's own modules that parts need, by path, as they are now."""
    found = {path: read_text(file) for path, file in own_sources(names).items()}
    if sum(map(len, found.values())) > MOST_BYTES:
        raise FilesError(f"the modules of your own have more than {MOST_BYTES >> 20} MB: {', '.join(found)}.")
    return found


def save_code(names: Iterable[str], run: Run) -> str:
    """Write the user's own modules that parts need into a run that has none; return their hash, "" for none."""
    if not run.code.is_file() and (code := read_own_code(names)):
        with create_file(run.code) as beside:
            beside.write_text(json.dumps(code, sort_keys=True), encoding="utf-8")
    return hash_file(run.code) if run.code.is_file() else ""


def load_code(run: Run, digest: str) -> dict[str, str]:
    """Return the modules of a run by path, if their hash is that of the database; else {}."""
    if not digest or not run.code.is_file():
        return {}
    data = read_bytes(run.code, most=2 * MOST_BYTES)
    if hashlib.sha256(data).hexdigest() != digest:
        return {}
    code: dict[str, str] = parse_json(data, str(run.code))
    if odd := [path for path in code if not is_module_path(path)]:
        raise FilesError(f"{run.code} has the path {odd[0]!r}, which is not that of a module in a folder.")
    return code


def is_module_path(path: str) -> bool:
    """Return whether a path is one of a Python file inside a folder."""
    plain = PurePosixPath(path)
    return plain.suffix == ".py" and not plain.is_absolute() and ".." not in plain.parts


def write_code(code: Mapping[str, str], folder: Path) -> None:
    for path, text in code.items():
        with create_file(folder / path) as beside:
            beside.write_text(text, encoding="utf-8")


def use_code(run: Run, digest: str, cache: Path) -> bool:
    """Look for the user's own modules among those of a run first; return False if it has none of this hash."""
    code = load_code(run, digest)
    if code:
        folder = cache / "code" / digest[:16]
        write_code(code, folder)
        search_in({folder: "the code of the trial", **working_folder()})
    return bool(code)
