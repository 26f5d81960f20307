"""The options that several commands have."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click

from tuner.fleet.config import HANG_TIMEOUT, HEARTBEAT_TIMEOUT

DEFAULT_HOME = "runs"
Decorator = Callable[[Any], Any]


home_option = click.option(
    "--home", default=DEFAULT_HOME, metavar="DIR", help="Folder of the database, caches, checkpoints and pictures."
)


class FiniteFloat(click.FloatRange):
    """A finite number: unlike click.FloatRange, nan and inf are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


POSITIVE, NOT_NEGATIVE, COUNT = FiniteFloat(min=0, min_open=True), FiniteFloat(min=0), click.IntRange(min=1)


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
json_option = click.option("--json", "as_json", is_flag=True, help="As JSON.")


def study_option(default: str = "the most recent") -> Decorator:
    return click.option("--study", metavar="NAME", help=f"Name of the study.  [default: {default}]")


def timeout_option(name: str, old_name: str, default: float, what: str) -> Decorator:
    text = f"Put a worker's trial back after so long without {what}."
    return click.option(name, old_name, type=FiniteFloat(min=2), default=default, metavar="SECONDS", help=text)


WORKER_OPTIONS = (
    click.option("--hours", type=POSITIVE, help="Budget of wall-clock hours during which any worker runs."),
    click.option("--gpu-hours", type=POSITIVE, help="Budget of GPU-hours over all GPUs."),
    click.option("--workers", type=COUNT, help="Worker processes on this host.  [default: one per GPU, or one]"),
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
)


def worker_options(command: Any) -> Any:
    """Add the options of every command that starts workers."""
    for option in reversed(WORKER_OPTIONS):
        command = option(command)
    return command
