"""The manifest of a bundle: its format version, and the hash of every other file."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.errors import BundleError, format_names
from tuner.paths import expand_path, open_file, parse_json, read_text
from tuner.wording import write_command

VERSION = 1
MANIFEST = "bundle.json"
CODE = "code"  # folder
WEIGHTS = "weights.safetensors"
REQUIRED_FILES = (WEIGHTS, "recipe.json", "metrics.json", "history.csv", "card.md")
MOST_FILES = 1000
LARGEST_WEIGHTS, LARGEST_FILE = 8 << 30, 256 << 20  # bytes
FILE_NAME = re.compile(r"(?:[\w-][\w. -]*/)*[\w-][\w. -]*")  # inside the folder, and not hidden
HASH = re.compile(r"[0-9a-f]{64}")


def verify_bundle(folder: Path) -> None:
    """Raise BundleError that names every missing or altered file."""
    if not os.path.isdir(folder):  # noqa: PTH112 - False, where Path.is_dir raises, without access to a parent
        raise BundleError(f"no bundle {folder}. Export one with: {write_command('best', export=folder)}")
    check_files(folder, read_hashes(folder))


def read_hashes(folder: Path) -> Mapping[str, str]:
    """Return the hash of each file by its name, as the manifest says; BundleError if that cannot be so."""
    path = expand_path(folder / MANIFEST, BundleError)
    if not exists(path):
        raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST}.")
    altered = f"{path} was altered: it"
    manifest = parse_json(read_text(path, BundleError), altered, BundleError)
    if not isinstance(manifest, dict) or not {"version", "files"} <= set(manifest):
        raise BundleError(f"{altered} holds no version and files.")
    version, files = manifest["version"], manifest["files"]
    if isinstance(version, bool) or not isinstance(version, int):
        raise BundleError(f"{altered} holds no version as a number.")
    if version != VERSION:
        raise BundleError(f"{folder} is a bundle of version {version}; this tuner reads version {VERSION}.")
    if wrong := files_problem(files):
        raise BundleError(f"{altered} {wrong}.")
    return dict(files)


def files_problem(files: Any) -> str:
    """Return what is wrong with the files of a manifest, "" if nothing is."""
    if not isinstance(files, dict):
        return "holds no object of files, each with its hash"
    if len(files) > MOST_FILES:
        return f"lists {len(files):,} files; at most {MOST_FILES:,} are read"
    odd = [name for name in files if len(name) > 200 or not FILE_NAME.fullmatch(name)]
    if odd:
        return f"lists names that are not of files in the bundle: {format_names(map(repr, odd), 3)}"
    unhashed = [name for name, value in files.items() if not isinstance(value, str) or not HASH.fullmatch(value)]
    return f"has no SHA-256 of {format_names(unhashed, 3)}" if unhashed else ""


def check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Raise BundleError unless every file is there and has its hash."""
    listed = dict.fromkeys([*REQUIRED_FILES, *files])
    missing = [name for name in listed if not exists(folder / name)]
    altered = [name for name in listed if name not in missing and files.get(name) != hash_bounded(folder / name)]
    code = (path.relative_to(folder).as_posix() for path in (folder / CODE).rglob("*") if not path.is_dir())
    kinds = {"missing": missing, "altered": altered, "added": sorted(set(code) - set(files))}
    wrong = [f"{kind}: {format_names(names, 20)}" for kind, names in kinds.items() if names]
    if wrong:
        raise BundleError(f"{folder} differs from what was exported ({'; '.join(wrong)}). Export it again.")


def exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - False, where Path.exists raises, without access to a parent


def hash_bounded(path: Path) -> str:
    """Return the hash of a regular file; BundleError for another kind, or one that is too large."""
    largest = LARGEST_WEIGHTS if path.name == WEIGHTS else LARGEST_FILE
    with open_file(path, BundleError) as file:
        if (size := os.fstat(file.fileno()).st_size) > largest:
            raise BundleError(f"{path} has {size:,} bytes; a bundle's has at most {largest:,}.")
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as failed:
            raise BundleError(f"{path} cannot be read ({failed.strerror}).") from failed
