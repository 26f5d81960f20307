"""List what a recipe and SEARCH can name, with the arguments that a space can search."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from tuner.errors import PartError, did_you_mean
from tuner.registry.builders import find_builder, searchable_args
from tuner.registry.own_modules import OWN_FOLDERS, search_in
from tuner.tasks import TASKS

TABLES = {  # kind -> the table of its names
    "models": "tuner.models:MODELS",
    "losses": "tuner.train.losses:LOSSES",
    "optimizers": "tuner.train.optimizers:OPTIMIZERS",
    "schedules": "tuner.train.schedules:SCHEDULES",
    "datasets": "tuner.data.datasets:DATASETS",
    "augmentations": "tuner.data.augment:AUGMENTATIONS",
    "samplers": "tuner.space.search_settings:SAMPLERS",
}
KINDS = (*TABLES, "metrics")
OWN = "own"  # the kind of a function of the user's own


@dataclass(frozen=True)
class PartInfo:
    """A part's kind and name, a one-line description, and its searchable arguments with their defaults.

    Arguments without a default are listed in `needs`. A metric has the `task` that it belongs to. The kind of a
    function of the user's own is "own".
    """

    kind: str
    name: str
    about: str
    args: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    task: str = ""


def list_parts(kind: str | None = None) -> list[PartInfo]:
    """Return what a recipe or SEARCH can name, each with the arguments that a space can search and their defaults.

    kind: "models", "losses", "optimizers", "schedules", "datasets", "augmentations", "samplers" or "metrics", or a
        function of your own, "package.module:function". Default: all of tuner's. PartError for another kind, and
        for a function that cannot be imported.
    """
    if kind is None:
        return [part for each in KINDS for part in list_parts(each)]
    if ":" in kind:
        return [describe_own(kind)]
    if kind not in KINDS:
        raise PartError(
            f"no parts called '{kind}'.{did_you_mean(kind, KINDS)} Known: {', '.join(KINDS)}, "
            "or 'package.module:function' of your own."
        )
    if kind == "metrics":
        return [
            PartInfo(kind, name, about, task=t.name) for t in TASKS.values() for name, about in t.metrics.items()
        ]
    module, _, table = TABLES[kind].partition(":")
    names: dict[str, str] = getattr(import_module(module), table)
    return [describe_builder(kind, name, find_builder(kind, names, name)) for name in names]


def describe_own(name: str) -> PartInfo:
    """Return the description of a function of the user's own, whose module is imported anew."""
    search_in(dict(OWN_FOLDERS))
    return describe_builder(OWN, name, find_builder("part", {}, name))


def describe_builder(kind: str, name: str, builder: Callable[..., Any]) -> PartInfo:
    """Return a part's description from its builder's signature and docstring."""
    known = searchable_args(builder)
    return PartInfo(
        kind=kind,
        name=name,
        about=(inspect.getdoc(builder) or "").partition("\n")[0],
        args={n: to_plain(p.default) for n, p in known.items() if p.default is not p.empty},
        needs=tuple(n for n, p in known.items() if p.default is p.empty),
    )


def to_plain(value: Any) -> Any:
    """Return a default value as plain JSON."""
    if isinstance(value, tuple | list):
        return [to_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
