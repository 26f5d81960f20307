"""Every option that takes a path, with texts that are none, special files, and names that are not UTF-8."""

from __future__ import annotations

import os
import random

import matplotlib.font_manager  # noqa: F401 - it writes a cache and adds filters of warnings, at its first import
from helpers.fuzzing import TEXTS, Case, Ground, words

import tuner.export.explain
import tuner.report.html  # noqa: F401 - likewise


def make_case(rng: random.Random, ground: Ground) -> Case:
    os.mkfifo(ground.cwd / "fifo")
    (ground.cwd / "loop").symlink_to("loop")
    (ground.cwd / "file").write_bytes(b"x" * 10)
    image = str(sorted((ground.photos / "images").iterdir())[0])
    path = rng.choice(
        (*TEXTS, "fifo", "loop", "file", "file/x", f"{image}/x", os.fsdecode(b"caf\xe9"), "/dev/null")
    )
    path += rng.choice(("", "", "", ".png", ".html", ".toml", ".py", "/x"))
    home = ["--home", str(ground.home)]
    commands = (
        ["status", "--home", path], ["status", "--storage", path], ["status", "--storage", f"sqlite:///{path}"],
        ["table", path, *home], ["compare", "0", "1", "--out", path, *home], ["best", "--home", path],
        ["data", path, *home], ["data", "get", "weizmann_horse", "--to", path], ["check", path],
        ["evaluate", path, *home], ["evaluate", path, "--confusion", path, *home], ["predict", path, image],
        ["predict", path, path], ["explain", path, image], ["explain", path, path],
        ["run", "--space", path, *home], ["run", "--table", path, *home],
        ["report", "--out", path, "--home", path], ["extend", "--epochs", "3", "--home", path],
    )  # fmt: skip
    args = rng.choice(commands)
    return Case(words(args), lambda: ground.command(*args), ("*", "../...html"))  # "../.." may be an output
