"""The help of every command, as it is printed on a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from tuner.cli import main


def list_commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield words
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from list_commands(command, (*words, name))
        else:
            yield (*words, name)


@pytest.mark.parametrize("words", list(list_commands(main)), ids=" ".join)
def test_no_line_of_the_help_is_cut(words: tuple[str, ...]) -> None:
    text = CliRunner().invoke(main, [*words, "--help"], terminal_width=80).output
    _, *lines = text.splitlines()  # without the usage, where "..." is an argument that may be repeated
    assert not [line for line in lines if line.endswith("...")], text
