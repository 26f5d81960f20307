"""The options that several commands have."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import click
from click.core import ParameterSource

from tuner.data.limits import MAX_PIXELS, limit_pixels
from tuner.errors import FilesError, describe_value, printable
from tuner.fleet.config import HANG_TIMEOUT, HEARTBEAT_TIMEOUT
from tuner.goal import MEASURES, read_limits
from tuner.recipe import is_number, is_whole_number
from tuner.space.files import TIMEOUT
from tuner.space.rungs import FirstRung, first_rung_problem, parse_first_rung
from tuner.space.search_settings import PRUNINGS, SAMPLERS
from tuner.wording import repeat_options

DEFAULT_HOME = "runs"
MOST_COUNTED = 2**31 - 1  # in an INTEGER column of PostgreSQL
WHOLE_TEXT = re.compile(r"[+-]?[0-9]{1,20}")
NUMBER_TEXT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
Decorator = Callable[[Any], Any]


class PathText(click.ParamType):  # type: ignore[type-arg]  # generic in later versions of click only
    """The text of a path, with `~` expanded; refuses an empty one, a name that cannot exist, a device, a FIFO."""

    def __init__(self, needed: str) -> None:
        self.name = self.needed = needed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value == "":
            self.fail(f"it is empty; {self.needed} is needed.", param, ctx)
        path = self.expand(value, param, ctx)
        try:
            kind = stat.S_IFMT(path.stat().st_mode)
        except OSError:  # does not exist yet, or is told by the one who opens it
            return str(path)
        if kind not in (stat.S_IFREG, stat.S_IFDIR):
            from tuner.paths import name_kind

            self.fail(f"{path} is {name_kind(kind)}; {self.needed} is needed.", param, ctx)
        return str(path)

    def expand(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        from tuner.paths import expand_path

        try:
            return expand_path(value)
        except FilesError as error:
            self.fail(str(error), param, ctx)


class NameOrPath(PathText):
    """The name of a space, table or dataset, or a path, as it was typed: `./name` is a path and `name` is not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not isinstance(value, str) or os.sep in value or value.startswith((".", "~")):
            super().convert(value, param, ctx)
        return str(value)


class Location(PathText):
    """A URL as it was typed, or the path of a folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        is_url = isinstance(value, str) and ":" in value.partition("/")[0]
        return str(value) if is_url else super().convert(value, param, ctx)


class DatabaseUrl(click.ParamType):  # type: ignore[type-arg]  # generic in later versions of click only
    """The URL of a database; refuses an empty one, which would stand for the default."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not isinstance(value, str) or not value:
            given = "empty" if value == "" else describe_value(value)
            self.fail(f"it is {given}; a database URL is needed.", param, ctx)
        return str(value)


FOLDER, FILE = PathText("a folder"), PathText("a file")
SPACE, TABLE, DATASET = NameOrPath("a .py file"), NameOrPath("a .toml file"), NameOrPath("a folder")
LOCATION, DATABASE_URL = Location("a folder"), DatabaseUrl()


def repeat_option(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Repeat the option, if it was typed, in the commands that are printed until this one ends."""
    name = str(param.name)
    if value is not None and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
        typed = {name: value if name == "home" else hide_url(value)}
        ctx.find_root().with_resource(repeat_options(**typed))  # that of a command is not closed on a usage error
    return value


def hide_url(url: str) -> str:
    """Return the value of --storage that is printed: of a URL with a password, a variable."""
    from tuner.study.database import storage_to_type

    return storage_to_type(url)


home_option = click.option(
    "--home",
    type=FOLDER,
    default=DEFAULT_HOME,
    callback=repeat_option,
    metavar="DIR",
    help="Folder of the database, caches, checkpoints and pictures.",
)


class FiniteFloat(click.FloatRange):
    """A finite number in the digits 0 to 9: unlike click.FloatRange, nan, inf and 1_000 are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, str) and not NUMBER_TEXT.fullmatch(value):
            self.fail(f"'{printable(value, 80)}' is not a finite number, such as 0.5 or 1e-3.", param, ctx)
        if isinstance(value, bool) or not is_number(value := super().convert(value, param, ctx)):
            self.fail(f"{describe_value(value)} is not a finite number.", param, ctx)
        return float(value)


class Whole(click.IntRange):
    """A whole number in the digits 0 to 9, by default one that every database can count to."""

    def __init__(self, least: int, most: int = MOST_COUNTED) -> None:
        super().__init__(least, most)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, str) and not WHOLE_TEXT.fullmatch(value):
            self.fail(f"'{printable(value, 80)}' is not a whole number of at most 20 digits.", param, ctx)
        is_odd = isinstance(value, float) and not value.is_integer()
        if is_odd or isinstance(value, bool) or (isinstance(value, int) and not is_whole_number(value)):
            self.fail(f"{describe_value(value)} is not a whole number of at most 64 bits.", param, ctx)
        return int(super().convert(value, param, ctx))


POSITIVE, NOT_NEGATIVE = FiniteFloat(min=0, min_open=True), FiniteFloat(min=0)
COUNT, NUMBER, EPOCHS, WORKERS = Whole(1), Whole(0), Whole(1, 1_000_000), Whole(1, 10_000)
TRIAL = Whole(-MOST_COUNTED)  # of a trial that must exist: the error names those that there are
STUDY_SEED, SEED = Whole(1 - 2**63, 2**63 - 1), Whole(0, 2**63 - 1)


def storage_options(command: Any) -> Any:
    storage = click.option(
        "--storage",
        type=DATABASE_URL,
        envvar="TUNER_STORAGE",
        callback=repeat_option,
        metavar="URL",
        help="Database URL: sqlite:///FILE or postgresql://USER@HOST/NAME.  [default: tuner.db in --home]",
    )
    return home_option(storage(command))


data_option = click.option(
    "--data", type=DATASET, metavar="NAME|PATH", help="Dataset or folder.  [default: the space's own]"
)
layout_option = click.option(
    "--layout",
    metavar="NAME[=IMAGES,TARGETS]",
    help="How to read a folder: masks, labels, instances, coco or classes; or of two folders, masks=photos,truth.",
)
table_option = click.option(
    "--table",
    type=TABLE,
    metavar="NAME|PATH",
    help="Or a published table, each row trained once, see tuner table.",
)
artifacts_option = click.option(
    "--artifacts",
    type=LOCATION,
    envvar="TUNER_ARTIFACTS",
    metavar="URL|DIR",
    help="Where all hosts keep checkpoints and pictures: a folder or s3://BUCKET/PREFIX.  [default: --home]",
)
space_timeout_option = click.option(
    "--timeout",
    type=FiniteFloat(min=0, min_open=True, max=86400),
    default=TIMEOUT,
    metavar="SECONDS",
    help="Stop a space whose code takes longer to be loaded and drawn from, or to be checked.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="As JSON.")
trust_option = click.option(
    "--trust", is_flag=True, help="Run code that is not of tuner, such as a model of its own that a bundle names."
)


def study_option(default: str = "the most recent") -> Decorator:
    return click.option("--study", metavar="NAME", help=f"Name of the study.  [default: {default}]")


def timeout_option(name: str, old_name: str, default: float, what: str) -> Decorator:
    text = f"Put a worker's trial back after so long without {what}."
    return click.option(name, old_name, type=FiniteFloat(min=2), default=default, metavar="SECONDS", help=text)


def set_pixel_limit(ctx: click.Context, _: click.Parameter, value: int) -> None:
    ctx.with_resource(limit_pixels(value))


def pixels_option(**more: Any) -> Decorator:
    text = "Refuse images of more than N pixels."
    return click.option("--max-pixels", type=COUNT, default=MAX_PIXELS, metavar="N", help=text, **more)


# of a command that reads images in its own process
max_pixels_option = pixels_option(expose_value=False, callback=set_pixel_limit)
WORKER_OPTIONS = (
    click.option("--hours", type=POSITIVE, help="Budget of wall-clock hours during which any worker runs."),
    click.option(
        "--gpu-hours", type=POSITIVE, help="Budget of GPU-hours over all GPUs; of worker-hours without any."
    ),
    click.option("--epoch-budget", type=COUNT, metavar="N", help="Budget of epochs over all trials."),
    click.option("--workers", type=WORKERS, help="Worker processes on this host.  [default: one per GPU, or one]"),
    click.option("--gpus", metavar="all|0,2", help="GPUs to use, one worker on each.  [default: all]"),
    click.option("--per-gpu", metavar="N|auto", help="Workers per GPU; auto: as many as fit in memory."),
    click.option("--ray", metavar="ADDRESS|local", help="Run the workers on a Ray cluster."),
    click.option(
        "--gpus-per-worker", type=NOT_NEGATIVE, metavar="X", help="With --ray: GPUs per worker; may be a fraction."
    ),
    artifacts_option,
    click.option(
        "--checkpoint-minutes",
        type=POSITIVE,
        metavar="M",
        help="Save every M minutes, also within epochs.  [default: after each epoch]",
    ),
    timeout_option("--heartbeat-timeout", "--lease", HEARTBEAT_TIMEOUT, "a heartbeat"),
    timeout_option("--hang-timeout", "--hang", HANG_TIMEOUT, "a training step"),
    click.option("--cache-gb", type=NOT_NEGATIVE, default=20.0, help="Disk space for decoded images, in GB."),
    click.option(
        "--keep-gb",
        type=NOT_NEGATIVE,
        default=50.0,
        help="Disk space for checkpoints of paused trials, in GB; the least promising are dropped.",
    ),
    pixels_option(),
)


class RungText(click.ParamType):  # type: ignore[type-arg]  # generic in later versions of click only
    """A number of epochs, a part of the first one, or a time."""

    name = "epochs"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> FirstRung:
        rung = parse_first_rung(value) if isinstance(value, str) else value
        if problem := first_rung_problem(rung):
            self.fail(problem.removeprefix("first_rung is "), param, ctx)
        return cast("FirstRung", rung)


class Pruning(click.Choice[str]):
    """A way of pruning; from Python also False for "none" and True for "promote"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        plain = ("none", "promote")[value] if isinstance(value, bool) else value
        return str(super().convert(plain, param, ctx))


class NameList(click.ParamType):  # type: ignore[type-arg]  # generic in later versions of click only
    """Names with commas between them; from Python also a list."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        names = value.split(",") if isinstance(value, str) else list(value)
        if not names or not all(isinstance(name, str) and name.strip() for name in names):
            self.fail(f"{describe_value(value)} is not a list of names, such as horses,cells.", param, ctx)
        return [name.strip() for name in names]


SEARCH_OPTIONS = (
    click.option(
        "--sampler",
        metavar="NAME",
        help=f"What chooses new trials: {', '.join(SAMPLERS)}, MODULE:FUNCTION.  "
        "[default: the space's, or early; tpe if trials are not paused]",
    ),
    click.option(
        "--pruning",
        type=Pruning(list(PRUNINGS)),
        help="What happens to unpromising trials.  [default: the space's, or promote; stop with several goals]",
    ),
    click.option("--no-pruning", is_flag=True, help="The same as --pruning none."),
    click.option(
        "--first-rung",
        type=RungText(),
        metavar="EPOCHS",
        help="Judge trials first after so many, a part of the first, such as 1/3, or a time, such as 60s.  "
        "[default: 1]",
    ),
    click.option(
        "--factor", type=Whole(2), help="And after so many times as many; the best of so many go on.  [default: 3]"
    ),
    click.option(
        "--warm-from",
        type=NameList(),
        metavar="STUDY[,STUDY]",
        help="Studies to learn from, with other data or another space.  [default: the space's]",
    ),
)


def parse_limits(ctx: click.Context, param: click.Parameter, given: Sequence[str]) -> dict[str, float]:
    """Return the limits of `--limit NAME=NUMBER`."""
    limits: dict[str, float] = {}
    for text in given:
        name, is_pair, number = text.partition("=")
        if not is_pair or not NUMBER_TEXT.fullmatch(number):
            raise click.BadParameter(
                f"'{printable(text, 80)}' is not NAME=NUMBER, such as params=2e6.", ctx=ctx, param=param
            )
        limits[name] = float(number)
    try:
        return read_limits(limits)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", ctx=ctx, param=param) from None


limit_option = click.option(
    "--limit",
    "limits",
    multiple=True,
    callback=parse_limits,
    metavar="NAME=NUMBER",
    help=f"Train only models that cost at most so much: {', '.join(MEASURES)}.  [default: the space's]",
)


def search_options(command: Any) -> Any:
    """Add the options that override SEARCH and LIMITS of a space."""
    for option in (limit_option, *reversed(SEARCH_OPTIONS)):
        command = option(command)
    return command


def divisor_option(name: str, what: str) -> Decorator:
    return click.option(name, type=COUNT, default=1, metavar="N", help=f"Divide {what} by N, in a separate study.")


def size_options(command: Any) -> Any:
    shrink = divisor_option("--shrink", "image size and widths")
    shorten = divisor_option("--shorten", "the epochs")
    text = "Small sizes on generated data, in a separate study."
    return shrink(shorten(click.option("--rehearse", is_flag=True, help=text)(command)))


def worker_options(command: Any) -> Any:
    """Add the options of every command that starts workers."""
    for option in reversed(WORKER_OPTIONS):
        command = option(command)
    return command
