"""The parts that a recipe can name: `tuner.parts`."""

from __future__ import annotations

from tuner.registry import KINDS, PartInfo, list_parts


def parts(kind: str | None = None) -> list[PartInfo]:
    """Return what a recipe can name, each with the arguments that a space can search and their defaults.

    kind: "models", "losses", "optimizers", "schedules", "datasets", "augmentations" or "metrics". Default: all.
    PartError for another kind.
    """
    return [part for name in ([kind] if kind is not None else KINDS) for part in list_parts(name)]
