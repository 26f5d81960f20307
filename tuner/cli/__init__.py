"""The command line: parse, call, print, exit code. Everything heavy is imported inside the commands."""

from __future__ import annotations

import click

from tuner.cli.common import CommandGroup
from tuner.cli.confirm import confirm
from tuner.cli.control import budget, init, pause, resume, stop, workers
from tuner.cli.dashboard import dashboard
from tuner.cli.data import data_command
from tuner.cli.decisions import decisions
from tuner.cli.export import best, evaluate, explain, predict
from tuner.cli.extend import extend
from tuner.cli.parts import parts_command
from tuner.cli.report import compare, report
from tuner.cli.run import run
from tuner.cli.spaces import check, spaces
from tuner.cli.status import status
from tuner.cli.table import table
from tuner.cli.trials import show, trials_command


@click.group(
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100, "show_default": True},
)
@click.version_option(package_name="tuner", prog_name="tuner")
def main() -> None:
    """Hyperparameter search for image models.

    \b
      tuner run --space unet_k --rehearse     try it: minutes, generated data
      tuner run --space unet_k --data PHOTOS  search on your own images/ and masks/
      tuner best --export best                the best model as a folder
      tuner predict best photo.jpg            use it
    """


for commands in (  # in the order of --help
    (run, confirm, extend, status, decisions, workers, stop, pause, resume, budget),
    (best, trials_command, show, report, compare, table, evaluate, predict, explain, dashboard),
    (spaces, check, data_command, parts_command, init),
):
    for command in commands:
        main.add_command(command)
