"""Find the builder of a part by name, and check arguments against its signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from tuner.errors import PartError, did_you_mean, format_names
from tuner.recipe import Part
from tuner.registry.own_modules import import_own

PartTable = Mapping[str, str]


def find_builder(kind: str, table: PartTable, name: str) -> Callable[..., Any]:
    """Return the builder of a name in the table, or of the user's own "package.module:function"."""
    if name not in table and ":" not in name:
        raise PartError(f"no {kind} '{name}'.{did_you_mean(name, table)} Known: {', '.join(sorted(table))}.")
    builder: Callable[..., Any]
    if name in table:
        module, _, function = table[name].partition(":")
        builder = getattr(import_module(module), function)  # a broken entry is a bug, not a user's mistake
    else:
        builder = import_own(kind, name)
    if not callable(builder):
        raise PartError(f"{kind} '{name}' is {builder!r}; a function is needed.")
    return builder


def searchable_args(builder: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the arguments that a space can set, in the order of the signature."""
    return {p.name: p for p in read_parameters(builder) if p.kind is p.KEYWORD_ONLY}


def read_parameters(builder: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters of a builder; PartError for one without a signature, such as `dict`."""
    try:
        return list(inspect.signature(builder).parameters.values())
    except (TypeError, ValueError) as error:
        raise PartError(f"{builder!r} has no signature that Python can read; wrap it in a function.") from error


def part_problems(kind: str, table: PartTable, part: Part) -> list[str]:
    """Return everything that is wrong with a part's name and argument names, one line each."""
    try:
        known = searchable_args(find_builder(kind, table, part.name))
    except PartError as error:
        return [str(error)]
    takes = format_names(known, 12) if known else "no arguments"
    unknown = [
        f"{kind} '{part.name}' takes no argument '{arg}'.{did_you_mean(arg, known)} It takes: {takes}."
        for arg in part.args
        if arg not in known
    ]
    needed = (p.name for p in known.values() if p.default is p.empty and p.name not in part.args)
    return unknown + [f"{kind} '{part.name}' needs the argument '{arg}'." for arg in needed]


def build(kind: str, table: PartTable, part: Part, *supplied: Any) -> Any:
    """Call a part's builder with the supplied values and the arguments that the space chose.

    A builder receives as many of the supplied values, in order, as it has positional parameters.
    """
    if wrong := part_problems(kind, table, part):
        raise PartError(" ".join(wrong))
    builder = find_builder(kind, table, part.name)
    return builder(*supplied[: count_positional(builder)], **part.args)


def count_positional(builder: Callable[..., Any]) -> int | None:
    """Return the number of positional parameters of a builder; None for any number."""
    parameters = read_parameters(builder)
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
