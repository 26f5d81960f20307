"""Every name that a recipe or a goal may use, each with what a space may search of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from tuner.errors import PartError, near
from tuner.parts import locate, searchable
from tuner.tasks import TASKS

TABLES = {  # kind -> the table of its names
    "models": "tuner.models:MODELS",
    "losses": "tuner.losses:LOSSES",
    "optimizers": "tuner.optims:OPTIMIZERS",
    "schedules": "tuner.optims:SCHEDULES",
    "datasets": "tuner.data.datasets:DATASETS",
    "augmentations": "tuner.data.augment:AUGMENTATIONS",
}
KINDS = (*TABLES, "metrics")


@dataclass(frozen=True)
class Entry:
    """A name, one line of what it is, and its searchable arguments with their defaults.

    An argument without a default stands under `needs`; a metric has the task it belongs to.
    """

    kind: str
    name: str
    about: str
    args: dict[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    task: str = ""


def entries(kind: str) -> list[Entry]:
    """The names of a kind, in the order of their table; PartError with the near name for an unknown kind."""
    if kind not in KINDS:
        raise PartError(f"no parts called '{kind}'.{near(kind, KINDS)} Known: {', '.join(KINDS)}.")
    if kind == "metrics":
        return [Entry(kind, name, about, task=t.name) for t in TASKS.values() for name, about in t.metrics.items()]
    module, _, table = TABLES[kind].partition(":")
    names: dict[str, str] = getattr(import_module(module), table)
    return [entry(kind, name, locate(kind, names, name)) for name in names]


def entry(kind: str, name: str, builder: Callable[..., Any]) -> Entry:
    """What a builder's signature and the first line of its docstring say."""
    known = searchable(builder)
    return Entry(
        kind=kind,
        name=name,
        about=(inspect.getdoc(builder) or "").partition("\n")[0],
        args={n: as_plain(p.default) for n, p in known.items() if p.default is not p.empty},
        needs=tuple(n for n, p in known.items() if p.default is p.empty),
    )


def as_plain(value: Any) -> Any:
    """A default as JSON can hold it."""
    if isinstance(value, tuple | list):
        return [as_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
