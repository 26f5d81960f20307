"""Logging and the terminal, set up here only. Results go to stdout, logs to stderr."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console


def log_to_stderr(level: int = logging.INFO) -> None:
    """Our own log lines with the time of day; other libraries only when they warn."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("tuner")
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


@contextmanager
def show_status(title: str) -> Iterator[None]:
    """Say on stderr what takes a moment; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True, markup=False).status(Text(title)):
        yield


@contextmanager
def progress_bar(title: str) -> Iterator[ProgressCallback]:
    """A bar on stderr while something is done piece by piece; nothing where stderr is no terminal."""
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
    """A console on a terminal, which draws in ASCII where the terminal shows no more, and never fails to write."""
    from rich.console import Console

    if supports_unicode(stream):
        return Console(file=stream)
    plain = io.FileIO(stream.fileno(), "w", closefd=False)
    return Console(file=io.TextIOWrapper(plain, "ascii", errors="replace", write_through=True))


def supports_unicode(stream: TextIO) -> bool:
    """By its encoding, and by the locale: for the C locale Python writes UTF-8, whatever the terminal shows."""
    if not (stream.encoding or "").lower().startswith("utf"):
        return False
    spoken = os.environ.get("LC_CTYPE", "")
    if spoken in ("", "C.UTF-8"):  # the latter is set by Python itself, in the C locale
        spoken = os.environ.get("LANG", "")
    return (os.environ.get("LC_ALL") or spoken) not in ("C", "POSIX")


ProgressCallback = Callable[[int, int], None]  # done, of how many


class StudyView(Protocol):
    """Call it to look and show; `away` says since when the database is, or that it is back with ''."""

    def __enter__(self) -> Any: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self) -> None: ...

    def away(self, notice: str) -> None: ...
