"""Keep torch from importing its compiler where nothing is trained: 400 modules, two seconds of `tuner run`."""

from __future__ import annotations

import gc
from functools import cache
from types import FunctionType

import torch


@cache
def avoid_compiler_import() -> None:
    """Have what torch excludes from compilation run as it is, without importing the compiler first.

    What runs on the meta device and the making of an optimizer are excluded by `torch._disable_dynamo`: at its
    first call, such a function imports the compiler only to be marked. One that is marked already is called as it
    is. The first step of an optimizer imports the compiler in any case.
    """
    exclude = getattr(torch, "_disable_dynamo", None)
    code = getattr(exclude and exclude(gc.collect), "__code__", None)
    if code is None or "fn" not in code.co_freevars:
        return  # another version of torch: the import costs its seconds
    at = code.co_freevars.index("fn")
    for function in gc.get_objects():
        if type(function) is FunctionType and function.__code__ is code and function.__closure__:
            excluded = function.__closure__[at].cell_contents
            if not hasattr(excluded, "__dynamo_disable"):
                excluded.__dynamo_disable = excluded
