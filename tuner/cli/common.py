"""What the commands share: how errors are told, the options that all take, where a study is found."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from tuner.runs import Home

DEFAULT_HOME = "runs"


class Commands(click.Group):
    """Errors of ours become one line and exit code 2; a mistyped command gets the near name."""

    def invoke(self, ctx: click.Context) -> Any:
        from tuner.errors import TunerError

        try:
            return super().invoke(ctx)
        except TunerError as error:
            click.echo(f"tuner: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            sys.exit(0)
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(0)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order in which they were added

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            from tuner.errors import near

            commands = self.list_commands(ctx)
            ctx.fail(f"no command '{name}'.{near(name, commands)} Known: {', '.join(commands)}.")
        return super().resolve_command(ctx, args)


home_option = click.option(
    "--home",
    default=DEFAULT_HOME,
    show_default=True,
    metavar="DIR",
    help="Folder of the database, caches, checkpoints and pictures.",
)


def storage_options(command: Any) -> Any:
    storage = click.option(
        "--storage",
        envvar="TUNER_STORAGE",
        metavar="URL",
        help="Database: sqlite:///FILE or postgresql://USER@HOST/NAME. Default: tuner.db in the home.",
    )
    return home_option(storage(command))


def home_of(folder: str) -> Home:
    from tuner.runs import Home

    return Home(Path(folder).expanduser())


def engine_of(storage: str | None, home: str) -> Engine:
    """An engine to read from; a database that is not there yet is not made."""
    from tuner import database
    from tuner.errors import StudyError

    url = storage or home_of(home).database
    if database.is_absent(url):
        raise StudyError(f"no study yet in {database.shown(url)}. Begin one with: tuner run --space unet_k")
    return database.reach(url)


def at(home: str, storage: str | None) -> str:
    """What to add to the next command so that it finds the same study."""
    shown = "" if home == DEFAULT_HOME else f" --home {home}"
    return shown + (" --storage ..." if storage and "TUNER_STORAGE" not in os.environ else "")


def echo_json(data: Any) -> None:
    import json

    click.echo(json.dumps(data, indent=2))
