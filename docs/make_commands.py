"""Write commands.md from the commands' own help: python docs/make_commands.py"""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from tuner.cli import main

HEAD = """# Commands

Exit codes: 0 done, or stopped on request; 2 a mistake or fault, reported in one line; 1 a bug, with a
traceback in the log; 130 a second Ctrl-C. Results go to stdout, progress and logs to stderr. `TUNER_STORAGE`
replaces `--storage`; `TUNER_DATA` lists folders with datasets.

This page is the output of `tuner COMMAND --help`.
"""


def page() -> str:
    """Return the whole page, in the order of `tuner --help`."""
    return "\n".join([HEAD, *(section(name) for command in main.commands for name in (command, *below(command)))])


def below(command: str) -> list[str]:
    """Return the subcommands of a command, such as "data get"."""
    inner = getattr(main.commands[command], "commands", {})
    return [f"{command} {name}" for name, found in inner.items() if not found.hidden]


def section(name: str) -> str:
    shown = CliRunner().invoke(main, [*name.split(), "--help"], prog_name="tuner", terminal_width=100)
    return f"## tuner {name}\n\n```\n{shown.output.strip()}\n```\n"


if __name__ == "__main__":
    Path(__file__).with_name("commands.md").write_text(page())
