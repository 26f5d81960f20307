"""Find the modules of the user's own, which hold parts named by "package.module:function".

They are looked for among the installed packages and then in the own folders: beside the space, and the working
folder.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from types import ModuleType
from typing import Any

from tuner.errors import PartError, TunerError, did_you_mean, locate_error
from tuner.paths import read_text

OWN_FOLDERS: dict[Path, str] = {}  # where modules of the user's own are looked for, each with its description
SEARCHED: list[str] = []  # those of them that were added to sys.path
OWN_MODULES: set[str] = set()  # names of the modules imported from there


def search_in(folders: Mapping[Path, str]) -> None:
    """Look for modules of the user's own in these folders, after the installed packages; each has a description.

    What was imported from the folders before is imported anew: it may have been edited, or be another project's.
    """
    for name in OWN_MODULES:
        sys.modules.pop(name, None)
    OWN_MODULES.clear()
    for path in SEARCHED:
        with suppress(ValueError):
            sys.path.remove(path)
    OWN_FOLDERS.clear()
    OWN_FOLDERS.update((folder.absolute(), what) for folder, what in folders.items())
    SEARCHED[:] = [path for path in map(str, OWN_FOLDERS) if path not in sys.path]
    sys.path += SEARCHED  # last, so that they hide nothing
    importlib.invalidate_caches()


def search_beside(*space: Path) -> None:
    """Look for modules of the user's own beside a space, if there is one, and in the working folder."""
    folders = {path.parent.absolute(): "beside the space" for path in space}
    for here, what in working_folder().items():
        folders[here] = f"{folders[here]}, {what}" if here in folders else what
    search_in(folders)


def working_folder() -> dict[Path, str]:
    """Return the working folder with its description, for `search_in`; nothing if it was deleted."""
    with suppress(OSError):
        return {Path.cwd(): "the working folder"}
    return {}


@contextmanager
def importing_own() -> Iterator[None]:
    """Note which modules of the user's own are imported; write no bytecode, which hides two edits in a second."""
    last, keep = next(reversed(sys.modules)), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = keep
        if next(reversed(sys.modules)) != last:  # new modules stand behind it; there are thousands before
            imported = list(takewhile(lambda name: name != last, reversed(list(sys.modules))))
            OWN_MODULES.update(filter(is_own, imported))


def import_own(kind: str, name: str) -> Any:
    """Return what "package.module:function" names; PartError says where it was looked for."""
    module, _, function = name.partition(":")
    if not module or not function:
        raise PartError(f"{kind} '{name}' cannot be imported; write it as 'package.module:function'.")
    if not OWN_FOLDERS:
        search_beside()
    if (file := find_own_file(module)) and (other := find_hiding(module)):
        raise PartError(f"{kind} '{name}': the module {file} is hidden by {other}; rename yours.")
    try:
        with importing_own():
            found = import_module(module)
    except (Exception, SystemExit) as error:  # a user's module can raise anything
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            raise PartError(describe_missing(module)) from error
        reason = locate_error(error, file or Path())
        raise PartError(f"{kind} '{name}' cannot be imported: {reason}.") from error
    if not hasattr(found, function):
        maybe = did_you_mean(function, [each for each in vars(found) if not each.startswith("_")])
        where = getattr(found, "__file__", None) or module
        raise PartError(f"{kind} '{name}' cannot be imported: {where} has no attribute '{function}'.{maybe}")
    return getattr(found, function)


def describe_missing(module: str) -> str:
    """Return where a module was looked for; the same text for all parts that name it."""
    places = ", ".join(f"{folder} ({what})" for folder, what in OWN_FOLDERS.items())
    file = f"{module.replace('.', '/')}.py"
    return (
        f"there is no module '{module}'. Looked in {places} and the installed packages. "
        f"Put {file} into one of these folders, or install its package."
    )


def own_candidates(module: str) -> list[Path]:
    """Return the files that a module of the user's own may have, in the order of the search."""
    bases = [folder.joinpath(*module.split(".")) for folder in OWN_FOLDERS]
    return [file for base in bases for file in (base / "__init__.py", base.with_name(f"{base.name}.py"))]


def find_own_file(module: str) -> Path | None:
    """Return the file of a module in the own folders, without importing anything; never one of tuner's."""
    if top_of(module) == "tuner":
        return None
    return next((file for file in own_candidates(module) if file.is_file()), None)


def find_hiding(module: str) -> str:
    """Return the module that Python imports instead of the own one of this name, or ""."""
    top = top_of(module)
    if top in sys.stdlib_module_names:
        return f"Python's own module {top}"
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return ""
    origin = spec.origin if spec else None
    own = {file.resolve() for file in own_candidates(top)}  # a table names its space as ../NAME.py
    return "" if not origin or Path(origin).resolve() in own else f"the installed {origin}"


def own_sources(names: Iterable[str]) -> dict[str, Path]:
    """Return the files of the user's own modules that parts need, by their paths below the own folders.

    These are the modules of the parts and, as far as they lie in own folders too, all that these import, also
    inside functions. Nothing is imported for this.
    """
    if not OWN_FOLDERS:
        search_beside()
    modules = (name.partition(":")[0] for name in names if ":" in name)
    waiting = [module for module in modules if all(part.isidentifier() for part in module.split("."))]
    found: dict[str, Path] = {}
    while waiting:
        parts = waiting.pop().split(".")
        for module in (".".join(parts[:number]) for number in range(1, len(parts) + 1)):
            file = find_own_file(module)
            place = next((folder for folder in OWN_FOLDERS if file and file.is_relative_to(folder)), None)
            if file is None or place is None or find_hiding(module):
                continue
            path = file.relative_to(place).as_posix()
            if path not in found:
                found[path] = file
                waiting += imported_modules(file, module)
    return dict(sorted(found.items()))


def space_sources(path: Path) -> dict[str, Path]:
    """Return the files of the user's own modules that a space imports or names, as `own_sources` does."""
    if path.parent.absolute() not in OWN_FOLDERS:
        search_beside(path)
    constants = (node.value for node in walk_code(path) if isinstance(node, ast.Constant))
    texts = [value for value in constants if isinstance(value, str)]
    return own_sources([*texts, *(f"{module}:" for module in imported_modules(path, path.stem))])


def top_of(module: str) -> str:
    return module.partition(".")[0]


def imported_modules(file: Path, module: str) -> Iterator[str]:
    """Yield every module that a file imports, and names in it that may be modules."""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in walk_code(file):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield from (f"{base}.{alias.name}".strip(".") for alias in node.names)


def walk_code(file: Path) -> list[ast.AST]:
    """Return every node of a file's code; none if it cannot be read or is not Python."""
    try:
        return list(ast.walk(ast.parse(read_text(file))))
    except (SyntaxError, ValueError, TunerError):
        return []


def is_own(name: str) -> bool:
    """Return whether an imported module, or the package that it is in, lies in an own folder."""
    top = top_of(name)
    found: ModuleType | None = sys.modules.get(top)
    places = [getattr(found, "__file__", None), *getattr(found, "__path__", ())]
    known = {*own_candidates(top), *(folder / top for folder in OWN_FOLDERS)}
    return top != "tuner" and any(Path(place).absolute() in known for place in places if place)
