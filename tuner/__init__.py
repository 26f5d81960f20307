"""tuner: hyperparameter search for image models.

A search space needs three names: `maximize` or `minimize`, `use`, and `Recipe`; `Stage` where it trains in stages.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tuner import deprecated

if TYPE_CHECKING:
    from tuner.goal import Goal, maximize, minimize
    from tuner.recipe import Part, Recipe, Stage, use

__version__ = "0.2.0"
__all__ = ["Goal", "Part", "Recipe", "Stage", "maximize", "minimize", "use"]

_HOME = {
    **dict.fromkeys(("Part", "Recipe", "Stage", "use"), "tuner.recipe"),
    **dict.fromkeys(("Goal", "maximize", "minimize"), "tuner.goal"),
}

deprecated.install()


def __getattr__(name: str) -> Any:
    """Import on first use: `import tuner` alone must stay as cheap as the command line needs."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    if f"tuner.{name}" in deprecated.MOVED_MODULES:
        return import_module(f"tuner.{name}")
    raise AttributeError(f"module 'tuner' has no attribute '{name}'")
