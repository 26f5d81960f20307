"""Every option and argument that takes a path refuses what cannot be one, with a message that names it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tuner.cli import main
from tuner.cli.options import DatabaseUrl, Location, NameOrPath, PathText
from tuner.errors import LONGEST_LINE

PLAIN = {  # parameters whose text is not a path
    *(
        "kind",
        "sort",
        "study",
        "gpus",
        "per_gpu",
        "ray",
        "trials",
        "parameter",
        "metric",
        "layers",
        "name",
        "host",
    ),
    *("base_path", "names", "proxies", "layout", "each", "by", "sampler", "pick", "limits"),
}
PATHS = (PathText, DatabaseUrl)


def parameters(group: click.Group = main) -> Iterator[tuple[str, click.Parameter]]:
    """Yield every parameter of every command, with the command's name."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from parameters(command)
        else:
            yield from ((name, one) for one in command.params)


def test_every_text_is_a_path_or_listed_as_something_else() -> None:
    plain = {
        (command, one.name) for command, one in parameters() if isinstance(one.type, click.types.StringParamType)
    }
    assert {name for _, name in plain} <= PLAIN
    assert not [one.name for _, one in parameters() if isinstance(one.type, click.Path)]
    kinds = {type(one.type) for _, one in parameters()}
    assert {PathText, NameOrPath, Location, DatabaseUrl} <= kinds


def test_what_is_said_to_be_a_path_is_one() -> None:
    for command, one in parameters():
        shown = one.metavar or one.name or ""
        if any(word in shown for word in ("DIR", "FILE", "PATH", "URL", "bundle", "images")) and shown != "/PATH":
            assert isinstance(one.type, PATHS), f"{command} {one.name}"


@pytest.fixture(scope="module")
def special(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Files that are neither regular nor folders, by what messages call them."""
    folder = tmp_path_factory.mktemp("special")
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        yield {"a FIFO": str(folder / "fifo"), "a device": "/dev/zero", "a socket": str(folder / "socket")}


def arguments(command: str, one: click.Parameter, value: str) -> list[str]:
    """Return a command line in which one parameter has a value, and others that are needed a plain one."""
    group = main.commands["data"]
    assert isinstance(group, click.Group)
    words = ["data"] if command == "show" else ["data", command] if command == "get" else [command]
    wanted = (group.commands if command in group.commands else main.commands)[command].params
    line = [*words, one.opts[0], value] if isinstance(one, click.Option) else words
    for other in wanted:
        if isinstance(other, click.Argument):
            line.append(value if other is one else "x.png" if other.required else "0")
        elif other.required and other is not one:
            line += [other.opts[0], "1"]
    return line[:2] if command == "show" and line[1:2] == [value] else line


def answer(command: str, one: click.Parameter, value: str) -> str:
    result = CliRunner().invoke(main, arguments(command, one, value))
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit), result.output
    assert all(len(line) <= LONGEST_LINE + 100 for line in result.stderr.splitlines())
    return result.stderr


TAKERS = [
    pytest.param(command, one, id=f"{command} {one.name}")
    for command, one in parameters()
    if isinstance(one.type, PathText)
]


@pytest.mark.parametrize(("command", "one"), TAKERS)
def test_a_path_that_cannot_be_used_is_refused(
    command: str, one: click.Parameter, special: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "~nobodyx: no user has this name" in answer(command, one, "~nobodyx/y")
    assert "is too long" in answer(command, one, "/tmp/" + "y" * 5000)
    for kind, path in special.items():
        assert f"{path} is {kind}; " in answer(command, one, path)
    if not isinstance(one.type, NameOrPath):
        assert "it is empty; " in answer(command, one, "")
    assert not list(tmp_path.iterdir())


def test_an_empty_storage_is_not_the_default_one() -> None:
    result = CliRunner().invoke(main, ["status", "--storage", ""])
    assert result.exit_code == 2 and "it is empty; a database URL is needed" in result.stderr


def test_a_path_is_expanded_and_a_name_stays_as_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere")
    assert PathText("a folder").convert("~/best", None, None) == "/nowhere/best"
    assert NameOrPath("a folder").convert("~/photos", None, None) == "~/photos"
    assert NameOrPath("a folder").convert("./shapes", None, None) == "./shapes"
    assert Location("a folder").convert("s3://bucket/" + "x" * 300, None, None).startswith("s3://")
    assert Location("a folder").convert("~/store", None, None) == "/nowhere/store"
