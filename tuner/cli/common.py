"""What the commands share: error output, how a study is found, lists and tables."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

import click

from tuner.cli.continuing import TYPED
from tuner.errors import first_line, shorten
from tuner.wording import start_hint

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from tuner.paths import Home

WIDE = 200  # columns, if the output is not a terminal
LONGEST_HELP = 1000  # characters of the first sentence of a command


@contextmanager
def show_deprecations() -> Iterator[None]:
    """Print a line for each old import path of tuner in a user's code; hide Pillow's remarks on damaged files."""
    with warnings.catch_warnings():
        show_other = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if category is DeprecationWarning and str(message).startswith("tuner."):
                click.echo(f"tuner: {message}", err=True)
            else:
                show_other(message, category, *place, **more)

        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.filterwarnings("always", r"tuner\.[\w.]+ is deprecated", DeprecationWarning)
        warnings.showwarning = show
        yield


@contextmanager
def shorten_usage_errors() -> Iterator[None]:
    """Cut the message of a usage error that repeats a very long value, and escape odd characters."""
    try:
        yield
    except click.UsageError as error:
        message = error.format_message()
        shown = shorten(message)
        if shown == message or isinstance(error, click.exceptions.NoArgsIsHelpError):
            raise
        raise click.UsageError(shown, error.ctx) from error


class WholeHelpGroup(click.Group):
    """A group whose help has the whole first sentence of each command: click cuts it at the width."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the name and first sentence of each command, wrapped."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        shown = [(name, command.get_short_help_str(LONGEST_HELP)) for name, command in found if command]
        shown = [each for each in shown if not self.commands[each[0]].hidden]
        if shown:
            with formatter.section("Commands"):
                formatter.write_dl(shown)


class CommandGroup(WholeHelpGroup):
    """The group of commands: prints a TunerError as one line with exit code 2, and suggests mistyped commands."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command, with long values in errors cut and names that are not UTF-8 shown as escapes."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[TYPED] = tuple(args)
        return super().parse_args(ctx, args)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        with shorten_usage_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        from tuner.errors import TunerError

        try:
            with show_deprecations(), shorten_usage_errors():
                return super().invoke(ctx)
        except TunerError as error:
            click.echo(f"tuner: {error}", err=True)
            sys.exit(2)
        except MemoryError:
            click.echo(
                "tuner: not enough memory. Take smaller images or a smaller model, or another host.", err=True
            )
            sys.exit(2)
        except KeyboardInterrupt:  # after saving
            click.echo("stopped", err=True)
            sys.exit(0)
        except BrokenPipeError:  # the reader has enough; what is still buffered must not fail at the exit
            for stream in (sys.stdout, sys.stderr):  # both, for `2>&1 | head`
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            sys.exit(0)
        except Exception as error:
            if not type(error).__module__.startswith("sqlalchemy."):
                raise
            click.echo(f"tuner: the database failed: {first_line(error)}", err=True)
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


class TrialCommand(click.Command):
    """A command with the number of a trial, which reads -1 as a number and not as an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, [*args])
        except click.NoSuchOption:
            numbers = [each for each in args if each.startswith("-") and each[1:].isdecimal()]
            if not numbers:
                raise
            return super().parse_args(ctx, [*(each for each in args if each not in numbers), "--", *numbers])


def to_home(folder: str) -> Home:
    from tuner.paths import Home, expand_path

    return Home(expand_path(folder))


def open_engine(storage: str | None, home: str) -> Engine:
    """Return an engine to read from; StudyError if the database is missing: none is created.

    Tables of an earlier version get the columns that reading needs.
    """
    from tuner.errors import StudyError
    from tuner.study import database, tables

    url = storage or to_home(home).database
    if database.is_absent(url):
        raise StudyError(f"no study yet in {database.hide_password(url)}. {start_hint()}")
    return tables.open_to_read(url)


def echo_json(data: Any) -> None:
    from tuner.paths import format_json

    click.echo(format_json(data, 2))


def echo_list(rows: Sequence[tuple[str, str, str]], indent: str = "") -> None:
    """Print for each row a name with a description, and below it, where there are any, dimmed details."""
    width = max((len(name) for name, _, _ in rows), default=0)
    for name, about, details in rows:
        click.echo(f"{indent}{name:<{width}}  {about}")
        if details:
            click.echo(f"{indent}{'':<{width}}  {click.style(details, dim=True)}")


def print_table(columns: Sequence[tuple[str, Any]], rows: Iterable[Iterable[str]], **texts: str | None) -> None:
    """Print a table on stdout; a column is its heading and "left" or "right", `texts` are title and caption."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title_justify="left", **{name: escape(text) for name, text in texts.items() if text})  # type: ignore[arg-type]
    for heading, side in columns:
        table.add_column(escape(heading), justify=side, overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)
