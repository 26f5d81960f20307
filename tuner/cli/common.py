"""What the commands share: error output, common options, how a study is found."""

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
    """The group of commands: prints a TunerError as one line with exit code 2, and suggests mistyped commands."""

    def invoke(self, ctx: click.Context) -> Any:
        from tuner.errors import TunerError

        try:
            with deprecations_shown():
                return super().invoke(ctx)
        except TunerError as error:
            click.echo(f"tuner: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:  # after saving
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
        return list(self.commands)  # as added, not sorted

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
    """A finite number: unlike click.FloatRange, nan and inf are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def storage_options(command: Any) -> Any:
    storage = click.option(
        "--storage",
        envvar="TUNER_STORAGE",
        metavar="URL",
        help="Database URL: sqlite:///FILE or postgresql://USER@HOST/NAME.  [default: tuner.db in --home]",
    )
    return home_option(storage(command))


artifacts_option = click.option(
    "--artifacts",
    envvar="TUNER_ARTIFACTS",
    metavar="URL|DIR",
    help="Where all hosts keep checkpoints and pictures: a folder or s3://BUCKET/PREFIX.  [default: --home]",
)
WORKER_OPTIONS = (
    click.option(
        "--hours",
        type=FiniteFloat(min=0, min_open=True),
        help="Budget of wall-clock hours during which any worker runs.",
    ),
    click.option("--gpu-hours", type=FiniteFloat(min=0, min_open=True), help="Budget of GPU-hours over all GPUs."),
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        help="Worker processes on this host.  [default: one per GPU, or one]",
    ),
    click.option("--gpus", metavar="all|0,2", help="GPUs to use, one worker on each.  [default: all]"),
    click.option("--per-gpu", metavar="N|auto", help="Workers per GPU; auto: as many as fit in memory."),
    click.option("--ray", metavar="ADDRESS|local", help="Run the workers on a Ray cluster."),
    click.option(
        "--gpus-per-worker",
        type=FiniteFloat(min=0),
        metavar="X",
        help="With --ray: GPUs per worker; may be a fraction.",
    ),
    artifacts_option,
    click.option(
        "--checkpoint-minutes",
        type=FiniteFloat(min=0, min_open=True),
        metavar="M",
        help="Save every M minutes, also within epochs.  [default: after each epoch]",
    ),
    click.option(
        "--heartbeat-timeout",
        "--lease",
        type=FiniteFloat(min=2),
        default=HEARTBEAT_TIMEOUT,
        show_default=True,
        metavar="SECONDS",
        help="Put a worker's trial back after so long without a heartbeat.",
    ),
    click.option(
        "--hang-timeout",
        "--hang",
        type=FiniteFloat(min=2),
        default=HANG_TIMEOUT,
        show_default=True,
        metavar="SECONDS",
        help="Put a worker's trial back after so long without a training step.",
    ),
    click.option(
        "--cache-gb",
        type=FiniteFloat(min=0),
        default=20.0,
        show_default=True,
        help="Disk space for decoded images, in GB.",
    ),
)


def worker_options(command: Any) -> Any:
    """Add the options of every command that starts workers."""
    for option in reversed(WORKER_OPTIONS):
        command = option(command)
    return command


def to_home(folder: str) -> Home:
    from tuner.paths import Home

    return Home(Path(folder).expanduser())


def open_engine(storage: str | None, home: str) -> Engine:
    """Return an engine to read from; StudyError if there is no database: none is created."""
    from tuner.errors import StudyError
    from tuner.study import database, tables

    url = storage or to_home(home).database
    if database.is_absent(url):
        raise StudyError(f"no study yet in {database.shown(url)}. Start one with: tuner run --space unet_k")
    engine = database.reach(url)
    with database.told(url):
        tables.refuse_others(engine)
    return engine


def storage_hint(home: str, storage: str | None) -> str:
    """Return the options that the next command needs to find the same study."""
    shown = "" if home == DEFAULT_HOME else f" --home {home}"
    return shown + (" --storage ..." if storage and "TUNER_STORAGE" not in os.environ else "")


def echo_json(data: Any) -> None:
    import json

    click.echo(json.dumps(data, indent=2))
