"""Write a Python function as a search space file, because worker processes load spaces from files.

The file holds the source of the function, of the functions it calls, and the values of the variables it reads.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import inspect
import math
import site
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from tuner.errors import SpaceError, create_file, describe_value
from tuner.goal import Goal, read_goals
from tuner.paths import Home
from tuner.recipe import Part, Recipe, Stage

REMEDY = "Define it inside the function, or write the space as a .py file and give its path."


def write_function_space(
    function: Callable[..., Any], goal: Goal | Sequence[Goal] | None, home: Home, start: Sequence[Any] = ()
) -> Path:
    """Write the function as a space file in the home and return its path; SpaceError if that is not possible.

    The path depends on the content, so that running workers keep their file when the function is edited.
    """
    text = space_source(function, goal, start)
    key = hashlib.sha256(text.encode()).hexdigest()[:8]
    path = home.folder / "spaces" / key / f"{function.__name__}.py"
    if not path.is_file():
        with create_file(path) as beside:
            beside.write_text(text, encoding="utf-8")
    return path.absolute()


def space_source(
    function: Callable[..., Any], goal: Goal | Sequence[Goal] | None, start: Sequence[Any] = ()
) -> str:
    """Return the text of a space file with this function, its goals, and the points that are trained first."""
    if not isinstance(function, FunctionType) or function.__name__ == "<lambda>":
        raise SpaceError(f"the space is {function!r}; a function defined with def is needed, or a name or path.")
    try:
        goals = read_goals(goal)
    except ValueError as error:
        raise SpaceError(f"the goal of {function.__name__}() cannot be used: {error}.") from None
    points = to_expression(list(start)) if isinstance(start, list | tuple) else None
    if points is None:
        raise SpaceError(f"start is {describe_value(start)}; a list of parameters with plain values is needed.")
    collector = SourceCollector(function.__module__)
    collector.add(function.__name__, function)
    if function.__name__ != "suggest":
        if "suggest" in collector.seen:
            raise SpaceError(f"{function.__name__}() uses another function named suggest; rename that one.")
        collector.definitions.append(f"suggest = {function.__name__}")
    about = (inspect.getdoc(function) or f"The function {function.__name__}().").partition("\n")[0]
    paths = f"sys.path += [path for path in {sorted(collector.paths)} if path not in sys.path]"
    return "\n".join(
        [
            f"{about!r}",
            "from __future__ import annotations",
            *(["import sys", paths] if collector.paths else []),
            "from tuner import Goal, Part, Recipe, Stage",
            *collector.imports,
            *collector.definitions,
            f"GOAL = {to_expression(list(goals) if goals[1:] else goals[0])}",
            *([f"START = {points}"] if start else []),
            "",
        ]
    )


@dataclass
class SourceCollector:
    """The definitions that a function needs, each after those it needs itself.

    What is defined in the function's own module is written, what comes from other modules is imported.
    """

    module: str
    seen: dict[str, object] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)  # to import the user's own modules from
    imports: list[str] = field(default_factory=list)
    definitions: list[str] = field(default_factory=list)

    def add(self, name: str, value: object, user: str = "") -> None:
        """Add the definition of a name that the function `user` reads."""
        if name in self.seen:
            if self.seen[name] is not value and self.seen[name] != value:
                raise SpaceError(f"the functions of the space use two different things named '{name}'. {REMEDY}")
            return
        self.seen[name] = value
        if isinstance(value, ModuleType):
            self.add_import(value.__name__, f"import {value.__name__} as {name}")
        elif (module := importable_from(value)) not in (None, self.module):
            self.add_import(module, f"from {module} import {value.__qualname__} as {name}")  # type: ignore[attr-defined]
        elif isinstance(value, FunctionType):
            self.add_function(name, value)
        elif (text := to_expression(value)) is not None:
            self.definitions.append(f"{name} = {text}")
        else:
            kind = type(value).__name__
            raise SpaceError(f"{user}() uses '{name}', a {kind}, which cannot be written to a file. {REMEDY}")

    def add_import(self, module: str, line: str) -> None:
        if module == "__main__":
            raise SpaceError("the space uses the module __main__, which a worker process cannot import.")
        self.imports.append(line)
        if (folder := folder_of(module)) is not None:
            self.paths.add(folder)

    def add_function(self, name: str, function: FunctionType) -> None:
        source, visible = source_of(function), visible_variables(function)
        for used in names_in(source):
            if used in visible:
                self.add(used, visible[used], function.__name__)
        self.definitions.append(source)
        if name != function.__name__:
            self.definitions.append(f"{name} = {function.__name__}")


def visible_variables(function: FunctionType) -> dict[str, object]:
    """Return the variables that a function can read: those of its module, and of the functions around it."""
    visible = dict(function.__globals__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # it has no value yet
            visible[name] = cell.cell_contents
    return visible


def source_of(function: FunctionType) -> str:
    """Return the source of a function defined with def, without indentation."""
    if function.__name__ == "<lambda>":
        raise SpaceError(f"the space uses a lambda, whose source cannot be read. {REMEDY}")
    try:
        source = textwrap.dedent(inspect.getsource(function))
        (found,) = ast.parse(source).body
    except (OSError, TypeError, SyntaxError, ValueError) as error:
        raise SpaceError(
            f"the source of {function.__name__}() cannot be read, as in an interactive python or python -c. "
            "Run it in a notebook or a script, or write the space as a .py file and give its path."
        ) from error
    if not isinstance(found, ast.FunctionDef):
        raise SpaceError(f"{function.__name__} is not defined with def. {REMEDY}")
    return source


def names_in(source: str) -> list[str]:
    """Return every name that the source reads, in order, without builtins."""
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name))
    return list(dict.fromkeys(node.id for node in nodes if not hasattr(builtins, node.id)))


def importable_from(value: object) -> str | None:
    """Return the module that a function or class can be imported from in another process."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if not isinstance(module, str) or module == "__main__" or not callable(value):
        return None
    if getattr(sys.modules.get(module), name, None) is not value:
        return None
    try:
        return module if find_spec(module) else None
    except (ImportError, ValueError):
        return None


def folder_of(module: str) -> str | None:
    """Return the folder to import a user's module from; None for installed modules."""
    package = module.partition(".")[0]
    spec = find_spec(package)
    if package == "tuner" or spec is None or spec.origin is None or spec.origin in ("built-in", "frozen"):
        return None
    file = Path(spec.origin)
    folder = file.parent.parent if file.name == "__init__.py" else file.parent
    installed = [sysconfig.get_path("stdlib"), *site.getsitepackages(), site.getusersitepackages()]
    is_installed = any(folder.is_relative_to(each) for each in installed)
    return None if is_installed or "site-packages" in folder.parts else str(folder)


def to_expression(value: object) -> str | None:
    """Return Python source that evaluates to an equal value; None for types that have no such source here."""
    if value is None or isinstance(value, bool | str) or type(value) is int:
        return repr(value)
    if type(value) is float:
        return repr(value) if math.isfinite(value) else f'float("{value}")'
    if isinstance(value, Path):
        return f"__import__('pathlib').Path({str(value)!r})"
    if isinstance(value, Goal):
        return f"Goal({value.metric!r}, {value.direction!r})"
    if isinstance(value, Part):
        return f"Part({value.name!r}, {to_expression(dict(value.args))})"
    if isinstance(value, Stage | Recipe):
        return f"{type(value).__name__}.from_json({to_expression(value.to_json())})"
    if type(value) is dict:
        pairs = [(to_expression(key), to_expression(each)) for key, each in value.items()]
        return None if any(None in pair for pair in pairs) else f"{{{', '.join(f'{k}: {v}' for k, v in pairs)}}}"
    if type(value) in (list, tuple):
        inner = [to_expression(each) for each in value]  # type: ignore[attr-defined]
        return None if None in inner else f"{type(value).__name__}([{', '.join(map(str, inner))}])"
    return None
