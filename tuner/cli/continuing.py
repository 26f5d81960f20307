"""The commands that make a study go on, as they are typed: printed when its workers end or are stopped."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING

import click

from tuner.wording import STORAGE_VARIABLE

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from tuner.console import StudyView
    from tuner.study.info import StudyInfo

TYPED = "typed words"  # key of the words after "tuner", in the context of the command


def typed_command(**changes: object) -> str:
    """Return the running command as it was typed, with options added or replaced; "" outside the command line."""
    context = click.get_current_context(silent=True)
    words = list(context.find_root().meta.get(TYPED, ())) if context else []
    if not words:
        return ""
    from tuner.study.commands import replace_option

    for name, value in changes.items():
        words = replace_option(words, f"--{name.replace('_', '-')}", str(value))
    return " ".join(["tuner", *quote_words(words)])


def quote_words(words: Sequence[str]) -> list[str]:
    """Return the words quoted, and a variable in place of a database URL with a password."""
    from tuner.study.database import has_password

    quoted, before = [], ""
    for word in words:
        option, url = ("", word) if before == "--storage" else ("--storage=", word.removeprefix("--storage="))
        is_url = before == "--storage" or url != word
        quoted.append(f"{option}{STORAGE_VARIABLE}" if is_url and has_password(url) else quote(word))
        before = word
    return quoted


def view_and_store(engine: Engine, info: StudyInfo) -> StudyView:
    """Return the view of a run, and store its command with the study, so that other commands can name it."""
    from tuner.cli.live import make_view
    from tuner.study.commands import store_command

    if command := typed_command():
        store_command(engine, info.id, command)
    return make_view(engine, info)


def describe_run_command(engine: Engine, info: StudyInfo) -> str:
    """Return how the study goes on, such as 'continue with: tuner run --space unet_k'."""
    from tuner.study.commands import read_command

    found = read_command(engine, info.id)
    if found is None:
        return "continue it as it was started"
    return f"continue{found.where} with: {found}"
