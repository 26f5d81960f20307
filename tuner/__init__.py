"""tuner: hyperparameter search for image models.

`run` searches a space on a dataset and returns a `Study`; `load_study` and `load_bundle` open earlier results.
A search space is written with `maximize` or `minimize`, `use`, and `Recipe`; with `Stage` to train in stages, and
`search` to choose how it is searched.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tuner import deprecated

if TYPE_CHECKING:
    from tuner.api.bundle import Bundle, ImageExplanation, load_bundle
    from tuner.api.parts import parts
    from tuner.api.run import load_study, run
    from tuner.api.study import Study, TrialResult
    from tuner.errors import TunerError
    from tuner.goal import Goal, maximize, minimize
    from tuner.recipe import Part, Recipe, Stage, use
    from tuner.space.search_settings import search

__version__ = "0.2.0"
__all__ = [
    "Bundle",
    "Goal",
    "ImageExplanation",
    "Part",
    "Recipe",
    "Stage",
    "Study",
    "TrialResult",
    "TunerError",
    "load_bundle",
    "load_study",
    "maximize",
    "minimize",
    "parts",
    "run",
    "search",
    "use",
]

_HOME = {
    **dict.fromkeys(("Part", "Recipe", "Stage", "use"), "tuner.recipe"),
    **dict.fromkeys(("Goal", "maximize", "minimize"), "tuner.goal"),
    **dict.fromkeys(("load_study", "run"), "tuner.api.run"),
    **dict.fromkeys(("Study", "TrialResult"), "tuner.api.study"),
    **dict.fromkeys(("Bundle", "ImageExplanation", "load_bundle"), "tuner.api.bundle"),
    "parts": "tuner.api.parts",
    "search": "tuner.space.search_settings",
    "TunerError": "tuner.errors",
}

deprecated.install()


def __getattr__(name: str) -> Any:
    """Import on first use: `import tuner` alone must stay as cheap as the command line needs."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if f"tuner.{name}" in deprecated.MOVED_MODULES:
        return import_module(f"tuner.{name}")
    raise AttributeError(f"module 'tuner' has no attribute '{name}'")


class _Package(ModuleType):
    """Keep the import of a module, `tuner.search` or `tuner.parts` of version 0.1, from hiding a public name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _HOME or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
