"""The configuration of a worker arrives unchanged, from the command line to the process."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from tuner.cli.options import WORKER_OPTIONS
from tuner.fleet.config import WorkerConfig, WorkerSettings, hash_space_file
from tuner.fleet.placement import PlacementRequest
from tuner.paths import Home
from tuner.search.run import RunOptions


def test_a_configuration_survives_its_line() -> None:
    settings = WorkerSettings(1.5, 10.0, 6.0, 8.0)
    config = WorkerConfig("sqlite:///x.db", "s", "s.py", "/home", settings, "abc", "s3://b", "w", [0, 2], "1", 0.5)
    assert WorkerConfig.from_line(config.to_line()) == config


def test_each_option_of_the_command_line_reaches_its_dataclass() -> None:
    names = {param.name for param in map(parameter, WORKER_OPTIONS)}
    parts = [*fields(RunOptions), *fields(PlacementRequest), *fields(WorkerSettings)]
    assert names == {part.name for part in parts} - {"url", "home", "placement", "settings"}
    given = RunOptions.from_options("u", Home(Path("h")), {name: name for name in names})
    found = {**vars(given), **vars(given.placement), **vars(given.settings)}
    assert {name: found[name] for name in names} == {name: name for name in names}


def parameter(option: object) -> object:
    import click

    return click.command(option(lambda: None)).params[0]  # type: ignore[operator]


@pytest.mark.parametrize("edited", ["named_part", "imported_part", "inner_part"])
def test_the_hash_of_a_space_is_that_of_the_own_modules_that_it_needs(own_folder: Path, edited: str) -> None:
    space = own_folder / "hashed.py"
    space.write_text("import imported_part\nMODEL = 'named_part:net'\nTEXT = 'a: b'\n")
    (own_folder / "imported_part.py").touch()
    (own_folder / "named_part.py").write_text("def net():\n    import inner_part\n")
    (own_folder / "inner_part.py").touch()
    before = hash_space_file(space)
    (own_folder / "other_part.py").touch()
    assert hash_space_file(space) == before
    (own_folder / f"{edited}.py").write_text("x = 1\n")
    assert hash_space_file(space) not in ("", before)
