"""List what a recipe can name, from Python: `tuner.parts`."""

from __future__ import annotations

import os

from tuner.api.arguments import to_text
from tuner.cli.parts import look_beside
from tuner.errors import PartError, SpaceError, describe_value
from tuner.registry.listing import PartInfo, list_parts
from tuner.registry.own_modules import OWN_FOLDERS, search_in


def parts(kind: str | None = None, *, space: str | os.PathLike[str] | None = None) -> list[PartInfo]:
    """Return what a recipe or SEARCH can name, each with the arguments that a space can search and their defaults.

    kind: "models", "losses", "optimizers", "schedules", "datasets", "augmentations", "samplers" or "metrics", or a
        function of your own, "package.module:function". Default: all of tuner's. PartError for another kind, and
        for a function that cannot be imported.
    space: the name or path of a space beside which the module of your own function is looked for first, then in
        the working folder, as by `tuner parts --space`; installed packages come before both.
    """
    if not isinstance(kind, str | None):
        raise PartError(f"kind={describe_value(kind)}: text is needed, such as 'models'.")
    if kind is None or ":" not in kind:
        if space is not None:
            raise PartError("space= needs kind='package.module:function', a function of your own.")
        return list_parts(kind)
    path = None if space is None else to_text("space", space, "SPACE", SpaceError)
    before = dict(OWN_FOLDERS)
    try:
        look_beside(path)
        return list_parts(kind)
    finally:
        search_in(before)
