"""Text that every command and report writes in one way: counts, durations and commands to type."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count

STORAGE_VARIABLE = '"$TUNER_STORAGE"'  # stands for a database URL with a password, which is never printed
HOME_ONLY = ("data", "evaluate", "explain")  # commands that read no database
PLACELESS = ("data get", "parts", "predict", "spaces")  # commands without --home and --storage
typed_options: dict[str, str] = {}  # --home and --storage of the running command, where they were typed


def pluralize(number: int, noun: str) -> str:
    """Return text such as '1 trial', '3 trials' or '2 studies'."""
    if number == 1:
        return f"1 {noun}"
    if noun.endswith("y"):
        return f"{number} {noun[:-1]}ies"
    return f"{number} {noun}{'es' if noun.endswith(('s', 'x')) else 's'}"


def count_of(number: int, total: int | None, noun: str, participle: str = "") -> str:
    """Return text such as '3 of 8 trials started', '3 trials started' or, above a limit, '9 trials (limit 8)'."""
    verb = f" {participle}" if participle else ""
    if total is not None and number <= total:
        return f"{number} of {pluralize(total, noun)}{verb}"
    return pluralize(number, noun) + verb + ("" if total is None else f" (limit {total})")


def format_seconds(seconds: float) -> str:
    """Return text such as '0.5 s', '45 s', '1.5 min', '12 min' or '3.4 h'."""
    for limit, unit, name in ((90, 1, "s"), (3600, 60, "min")):
        if seconds < limit:
            return f"{format_short(seconds / unit)} {name}"
    return f"{format_short(seconds / 3600)} h"


def format_short(number: float) -> str:
    """Return a number with one decimal below 10, without one from there on: '0', '0.001', '1.5', '4' or '140'."""
    if 0 < number < 0.1:
        return f"{number:.1g}"
    return f"{number:.1f}".removesuffix(".0") if round(number, 1) < 10 else f"{number:.0f}"


def format_time_of(seconds: float, limit: float) -> str:
    """Return text such as '12 min of 8 h', or '1.1 h (limit 1 h)' above the limit; both are in seconds."""
    spent, most = format_seconds(seconds), format_seconds(limit)
    return f"{spent} of {most}" if seconds <= limit else f"{spent} (limit {most})"


def write_command(name: str, *words: object, **options: object) -> str:
    """Return a command of tuner as it is typed, quoted for the shell.

    Options without a value (None or "") are left out, and True stands for an option that takes none. --home and
    --storage of the running command follow, so that the printed one finds the same study.
    """
    parts = ["tuner", *name.split(), *map(str, words)]
    repeated = {option: value for option, value in typed_options.items() if has_option(name, option)}
    for option, value in (options | {key: value for key, value in repeated.items() if key not in options}).items():
        if value is None or value is False or value == "":
            continue
        parts += [f"--{option.replace('_', '-')}", *([] if value is True else [str(value)])]
    return " ".join(part if part == STORAGE_VARIABLE else shlex.quote(part) for part in parts)


def has_option(name: str, option: str) -> bool:
    """Return whether a command has the option "home" or "storage"."""
    return name not in PLACELESS and (option == "home" or name not in HOME_ONLY)


@contextmanager
def repeat_options(**typed: str) -> Iterator[None]:
    """Repeat these options in every command that is written meanwhile."""
    before = dict(typed_options)
    typed_options.update(typed)
    try:
        yield
    finally:
        typed_options.clear()
        typed_options.update(before)


def start_hint(table: str | None = None) -> str:
    """Return how to begin where there is no study yet, with a table or with the example."""
    command = write_command("run", table=table) if table else write_command("run", space="unet_k", rehearse=True)
    return f"Start one with: {command}"


def free_folder(name: str) -> str:
    """Return the name of a folder that does not exist yet, to export into: 'best', or else 'best_2' and so on."""
    names = chain([name], (f"{name}_{number}" for number in count(2)))
    return next(each for each in names if not os.path.lexists(each))
