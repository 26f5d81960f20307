"""The configuration of a worker arrives unchanged, from the command line to the process."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from tuner.cli.options import WORKER_OPTIONS
from tuner.fleet.config import WorkerConfig, WorkerSettings
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
