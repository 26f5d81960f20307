"""tuner: hyperparameter search for image models.

A search space needs three names: `maximize` or `minimize`, `use`, and `Recipe`; `Stage` where it trains in stages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuner.goal import Goal, maximize, minimize
    from tuner.recipe import Part, Recipe, Stage, use

__version__ = "0.1.0"
__all__ = ["Goal", "Part", "Recipe", "Stage", "maximize", "minimize", "use"]

_HOME = {
    **dict.fromkeys(("Part", "Recipe", "Stage", "use"), "tuner.recipe"),
    **dict.fromkeys(("Goal", "maximize", "minimize"), "tuner.goal"),
}


def __getattr__(name: str) -> Any:
    """Import on first use: `import tuner` alone must stay as cheap as the command line needs."""
    if name not in _HOME:
        raise AttributeError(f"module 'tuner' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
