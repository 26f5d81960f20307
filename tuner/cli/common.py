"""What the commands share: how errors are told, the options that all take, where a study is found."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tuner.fleet.config import HANG_TIMEOUT, HEARTBEAT_TIMEOUT

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from tuner.paths import Home

DEFAULT_HOME = "runs"


@contextmanager
def deprecations_shown() -> Iterator[None]:
    """Print a line on stderr for each old import path of tuner that a user's own code uses."""
    with warnings.catch_warnings():
        show_other = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if category is DeprecationWarning and str(message).startswith("tuner."):
                click.echo(f"tuner: {message}", err=True)
            else:
                show_other(message, category, *place, **more)

        warnings.filterwarnings("always", r"tuner\.[\w.]+ is deprecated", DeprecationWarning)
        warnings.showwarning = show
        yield


class CommandGroup(click.Group):
    """Errors of ours become one line and exit code 2; a mistyped command gets the near name."""

    def invoke(self, ctx: click.Context) -> Any:
        from tuner.errors import TunerError

        try:
            with deprecations_shown():
                return super().invoke(ctx)
        except TunerError as error:
            click.echo(f"tuner: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:  # the commands that work save first
            click.echo("stopped", err=True)
            sys.exit(0)
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(0)
        except Exception as error:
            if not type(error).__module__.startswith("sqlalchemy."):
                raise
            click.echo(f"tuner: the database failed: {str(error).splitlines()[0]}", err=True)
            sys.exit(2)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order in which they were added

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            from tuner.errors import did_you_mean

            commands = self.list_commands(ctx)
            ctx.fail(f"no command '{name}'.{did_you_mean(name, commands)} Known: {', '.join(commands)}.")
        return super().resolve_command(ctx, args)


home_option = click.option(
    "--home",
    default=DEFAULT_HOME,
    show_default=True,
    metavar="DIR",
    help="Folder of the database, caches, checkpoints and pictures.",
)


class FiniteFloat(click.FloatRange):
    """A number that is one: Python would also read nan and inf."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is no amount.", param, ctx)
        return number


def storage_options(command: Any) -> Any:
    storage = click.option(
        "--storage",
        envvar="TUNER_STORAGE",
        metavar="URL",
        help="Database: sqlite:///FILE or postgresql://USER@HOST/NAME. Default: tuner.db in the home.",
    )
    return home_option(storage(command))


artifacts_option = click.option(
    "--artifacts",
    envvar="TUNER_ARTIFACTS",
    metavar="URL|DIR",
    help="Where all hosts keep checkpoints and pictures: a folder or s3://BUCKET/PREFIX. Default: the home.",
)
WORKER_OPTIONS = (
    click.option(
        "--hours",
        type=FiniteFloat(min=0, min_open=True),
        help="Hours by the clock in all, over every worker.",
    ),
    click.option(
        "--gpu-hours", type=FiniteFloat(min=0, min_open=True), help="Hours of all GPUs together, in all."
    ),
    click.option(
        "--workers", type=click.IntRange(min=1), help="Worker processes here.  [default: one a GPU, or one]"
    ),
    click.option("--gpus", metavar="all|0,2", help="Which GPUs, one worker each.  [default: all]"),
    click.option("--per-gpu", metavar="N|auto", help="Workers on each GPU; auto: as many as memory allows."),
    click.option("--ray", metavar="ADDRESS|local", help="Place the workers on a Ray cluster."),
    click.option(
        "--gpus-per-worker",
        type=FiniteFloat(min=0),
        metavar="X",
        help="With --ray: GPUs a worker asks for; may be a fraction.",
    ),
    artifacts_option,
    click.option(
        "--checkpoint-minutes",
        type=FiniteFloat(min=0, min_open=True),
        metavar="M",
        help="Save every M minutes, within epochs too.  [default: after each epoch]",
    ),
    click.option(
        "--lease",
        type=FiniteFloat(min=2),
        default=HEARTBEAT_TIMEOUT,
        show_default=True,
        metavar="SECONDS",
        help="A worker silent for so long has lost its trial.",
    ),
    click.option(
        "--hang",
        type=FiniteFloat(min=2),
        default=HANG_TIMEOUT,
        show_default=True,
        metavar="SECONDS",
        help="A worker without a step for so long has lost it too.",
    ),
    click.option(
        "--cache-gb",
        type=FiniteFloat(min=0),
        default=20.0,
        show_default=True,
        help="Room for decoded images.",
    ),
)


def worker_options(command: Any) -> Any:
    """With what to work: the same for everything that starts workers."""
    for option in reversed(WORKER_OPTIONS):
        command = option(command)
    return command


def to_home(folder: str) -> Home:
    from tuner.paths import Home

    return Home(Path(folder).expanduser())


def open_engine(storage: str | None, home: str) -> Engine:
    """An engine to read from; a database that is not there yet is not made."""
    from tuner.errors import StudyError
    from tuner.study import database, tables

    url = storage or to_home(home).database
    if database.is_absent(url):
        raise StudyError(f"no study yet in {database.shown(url)}. Begin one with: tuner run --space unet_k")
    engine = database.reach(url)
    with database.told(url):
        tables.refuse_others(engine)
    return engine


def storage_hint(home: str, storage: str | None) -> str:
    """What to add to the next command so that it finds the same study."""
    shown = "" if home == DEFAULT_HOME else f" --home {home}"
    return shown + (" --storage ..." if storage and "TUNER_STORAGE" not in os.environ else "")


def echo_json(data: Any) -> None:
    import json

    click.echo(json.dumps(data, indent=2))
