"""Name the installed packages that parts of the user's own come from, with their versions.

An editable installation (PEP 660) runs the files of a source folder, which its version does not describe: it has a
hash of these files beside it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from tuner.errors import TunerError
from tuner.paths import hash_file
from tuner.registry.own_modules import find_own_file, top_of


@dataclass(frozen=True)
class InstalledPackage:
    """A package's name and version, and of an editable installation the hash of its source."""

    name: str
    version: str
    source_hash: str = ""


def own_packages(names: Iterable[str]) -> list[InstalledPackage]:
    """Return the installed packages that parts of the user's own come from, by name."""
    modules = {name.partition(":")[0] for name in names if ":" in name}
    found: dict[str, set[str]] = {}
    editable: set[str] = set()
    for module in sorted(modules):
        if find_own_file(module) or top_of(module) in sys.stdlib_module_names:
            continue
        sources = find_editable(module)
        editable |= sources
        for package in sources or find_copied(module):
            found.setdefault(package, set()).add(module)
    hashes = {name: hash_source(tuple(sorted(found[name]))) for name in editable}
    return [InstalledPackage(name, metadata.version(name), hashes.get(name, "")) for name in sorted(found)]


def find_copied(module: str) -> set[str]:
    """Return the packages that list a module: several may share its first name, as those of google do."""
    packages = {*filter(None, read_packages().get(top_of(module), ()))}  # a broken installation leaves no name
    if len(packages) > 1 and (file := module_file(module)):
        return {name for name in packages if file in package_files(name)}
    return packages


@cache
def read_packages() -> Mapping[str, list[str]]:
    """Return the names of the installed packages by the first names of their modules; reads thousands of lines."""
    return metadata.packages_distributions()


def package_files(name: str) -> set[Path]:
    package = metadata.distribution(name)
    return {Path(str(package.locate_file(file))) for file in package.files or ()}


def find_editable(module: str) -> set[str]:
    """Return the editable packages whose source folder has the file of a module; the innermost folder counts."""
    if not (file := module_file(module)):
        return set()
    file = file.resolve()
    holding = [
        (len(source.parts), package)
        for package, (source, site) in read_editable().items()
        if file.is_relative_to(source) and not file.is_relative_to(site)
    ]
    return {package for depth, package in holding if depth == max(holding)[0]}


@cache
def read_editable() -> Mapping[str, tuple[Path, Path]]:
    """Return the source folder of each editable package, and that of its metadata, which may be inside it."""
    found: dict[str, tuple[Path, Path]] = {}
    for package in metadata.distributions():
        with suppress(
            ValueError, TypeError, KeyError, AttributeError, OSError
        ):  # any installer may have written it
            origin = json.loads(package.read_text("direct_url.json") or "{}")
            if origin.get("dir_info", {}).get("editable") is True:
                source = Path(url2pathname(urlsplit(origin["url"]).path)).resolve()
                found[package.metadata["Name"]] = source, Path(str(package.locate_file(""))).resolve()
    return found


@cache
def hash_source(modules: tuple[str, ...]) -> str:
    """Return a hash of the Python files of the packages that modules are in, as they are at the first call.

    Later edits are not in it, because a process imports an installed module once.
    """
    files = {name: file for module in modules for name, file in source_files(module).items()}
    digest = hashlib.sha256()
    for name, file in sorted(files.items()):
        with suppress(TunerError):  # what cannot be read was not imported
            digest.update(f"{name} {hash_file(file)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def source_files(module: str) -> dict[str, Path]:
    """Return the Python files of the first package that a module is in, by their paths beside it."""
    file, top = module_file(module), find_spec(top_of(module))
    folders = [Path(folder) for folder in (top and top.submodule_search_locations) or ()]
    folder = next((folder for folder in folders if file and file.is_relative_to(folder)), None)
    files = folder.rglob("*.py") if folder else filter(None, [file])
    return {f.relative_to((folder or f).parent).as_posix(): f for f in files if f.is_file()}


def module_file(module: str) -> Path | None:
    spec = find_spec(module)
    return Path(spec.origin) if spec and spec.has_location and spec.origin else None


def find_spec(module: str) -> ModuleSpec | None:
    with suppress(Exception):  # the packages above a module are imported, and can raise anything
        return importlib.util.find_spec(module)
    return None
