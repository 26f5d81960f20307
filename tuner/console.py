"""Logging and terminal output. Results go to stdout, logs and progress to stderr."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console


def log_to_stderr(level: int = logging.INFO) -> None:
    """Write the log lines of tuner to stderr, with the time of day."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("tuner")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


def show_status(title: str) -> AbstractContextManager[object]:
    """Show a status line on stderr while something takes a moment, if stderr is a terminal."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console
    from rich.text import Text

    return Console(stderr=True, markup=False).status(Text(title))


@contextmanager
def progress_bar(title: str) -> Iterator[ProgressCallback]:
    """Show a progress bar on stderr, if stderr is a terminal; yields the function that updates it."""
    if not sys.stderr.isatty():
        yield lambda done, of: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escape(title), total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def open_terminal(stream: TextIO) -> Console:
    """Return a rich console that uses ASCII on a terminal without Unicode, and never fails to encode."""
    from rich.console import Console

    if supports_unicode(stream):
        return Console(file=stream)
    plain = io.FileIO(stream.fileno(), "w", closefd=False)
    return Console(file=io.TextIOWrapper(plain, "ascii", errors="replace", write_through=True))


def supports_unicode(stream: TextIO) -> bool:
    """Return whether a terminal supports Unicode; check the locale too, because Python reports UTF-8 for C."""
    if not (stream.encoding or "").lower().startswith("utf"):
        return False
    spoken = os.environ.get("LC_CTYPE", "")
    if spoken in ("", "C.UTF-8"):  # Python sets the latter itself in the C locale
        spoken = os.environ.get("LANG", "")
    return (os.environ.get("LC_ALL") or spoken) not in ("C", "POSIX")


ProgressCallback = Callable[[int, int], None]  # number done, total


class StudyView(AbstractContextManager[Any], Protocol):
    """A view of a study: calling it updates it.

    `away` shows a notice while the database is unreachable, and '' when it is reachable again.
    """

    def __call__(self) -> None: ...

    def away(self, notice: str) -> None: ...
