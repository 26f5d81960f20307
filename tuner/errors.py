"""The exceptions shown to users, as one hierarchy.

    TunerError              one clear line on stderr, exit code 2, nothing changed
    ├── SpaceError          a search space cannot be found, loaded, or draws bad recipes
    │   └── SpaceChanged    the space is no longer the one its study began with
    ├── TableError          a published table cannot be read, or does not fit its space
    ├── PartError           an unknown model, loss, ... or an argument it does not take
    ├── DataError           a dataset is missing, or holds files that cannot be used
    ├── StorageError        the database cannot be reached, read, or is not ours
    ├── FilesError          a folder cannot be written, a disk is full
    ├── StudyError          a study does not exist, or has no results yet
    ├── FleetError          workers cannot be placed as asked: no such GPU, no Ray cluster
    ├── BundleError         an exported model is missing a file, or a file was altered
    └── TrialFailed         this trial fails; the study continues

A message says what was given, what is allowed and what to do next. Any other exception that
reaches the user is a bug in tuner and keeps its traceback.
"""

from __future__ import annotations

import errno
import os
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from itertools import count
from pathlib import Path
from random import SystemRandom
from typing import TypeVar

T = TypeVar("T")


class TunerError(Exception):
    most_lines = 22  # of its message: a list of MOST_LINES with a heading and the number of the others

    def __init__(self, message: object = "") -> None:
        super().__init__(shorten(str(message), most_lines=self.most_lines))


class SpaceError(TunerError): ...


class SpaceChanged(SpaceError): ...


class TableError(TunerError): ...


class PartError(TunerError): ...


class DataError(TunerError): ...


class StorageError(TunerError):
    passes = False  # whether it may come back by itself


class FilesError(TunerError): ...


class StudyError(TunerError): ...


class FleetError(TunerError): ...


class BundleError(TunerError): ...


class FailureKind(StrEnum):
    """Why a trial failed. The values are stored in the database and shown to users."""

    OUT_OF_MEMORY = "out of memory"
    LOSS_NOT_FINITE = "loss not finite"
    VALUE_NOT_A_NUMBER = "value not a number"
    WORKERS_DIED = "workers died on it"
    SUGGEST = "suggest() of the space"
    NO_RECIPE = "no recipe"
    CHECKPOINT = "checkpoint cannot be used"
    WEIGHTS = "initial weights cannot be used"
    BATCH_NORM = "too few values for a batch norm"
    LOSS_PART = "unknown part of the loss"
    INSTANCES = "invalid instances"
    EXCEPTION = "exception"  # an unexpected one; its class is stored beside the kind
    UNKNOWN = "unknown"

    @classmethod
    def _missing_(cls, value: object) -> FailureKind:
        """Read a kind of a later version as unknown."""
        return cls.UNKNOWN


class TrialFailed(TunerError):
    most_lines = 1000  # of a traceback, whose last line tells most

    def __init__(self, kind: FailureKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class TrialLost(Exception):
    """Another worker owns this trial now; this worker's results are dropped. Never shown to a user."""


LONGEST_LINE = 500  # characters of one line of a message
LONGEST_VALUE = 120  # characters of a value in it
MOST_LINES = 20  # of one message


def shorten(text: str, longest: int = LONGEST_LINE, most_lines: int = MOST_LINES + 2) -> str:
    """Return a message that any terminal can show: long lines are cut in the middle, odd characters escaped."""
    lines = [cut(escape(line), longest) for line in text.split("\n")]
    more = [f"... and {len(lines) - most_lines} more lines"] if len(lines) > most_lines else []
    return "\n".join([*lines[:most_lines], *more])


def printable(value: object, longest: int = LONGEST_VALUE) -> str:
    """Return a value of the user's as part of one line: escaped, and cut if it is long."""
    return cut(escape(str(value)), longest)


def describe_value(value: object) -> str:
    """Return how Python shows a value, as part of one line; its type if it cannot be shown."""
    try:
        return printable(repr(value))
    except Exception:  # such as a number of thousands of digits, or a class of the user's
        return f"<{type(value).__name__}>"


def cut(line: str, longest: int) -> str:
    """Return the line; of a long one the beginning, how long it is, and the end."""
    if len(line) <= longest:
        return line
    end = longest // 8
    return f"{line[: longest - end - 40]} ... ({len(line):,} characters) ... {line[-end:]}"


def escape(text: str) -> str:
    """Return text in which control characters and bytes that are not UTF-8 are shown as escapes."""
    if text.isprintable():  # nearly always
        return text
    try:
        plain = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a surrogate pair, which a JSON file may hold
        plain = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in plain)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean ...?" for a mistyped name, or "" when no known name is close."""
    from difflib import get_close_matches

    close = get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    return f" Did you mean '{close[0]}'?" if close else ""


def format_names(names: Iterable[str], most: int = 5) -> str:
    """Return the first few names and the number of the others."""
    names = [str(name) for name in names]
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


BULLET = "  - "  # begins each line of a list in a message


def bullets(lines: Iterable[str]) -> str:
    """Return one line unchanged, several lines as a bulleted list."""
    lines = list(lines)
    return f" {lines[0]}" if len(lines) == 1 else "".join(f"\n{BULLET}{line}" for line in lines)


def first_lines(lines: Iterable[str]) -> str:
    """Return `bullets` of the first lines, and the number of the others."""
    lines = list(lines)
    more = [f"... and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else []
    return bullets([*lines[:MOST_LINES], *more])


RANDOM = SystemRandom()  # Python's global generator belongs to the training, which saves and restores it


def pause_seconds(attempt: int, first: float = 0.05, longest: float = 5.0) -> float:
    """Return how long to wait after failed attempt number 0, 1, ...: twice as long each time, within limits.

    The result varies at random by half, so that many workers do not retry at the same moment.
    """
    return RANDOM.uniform(0.5, 1.5) * min(longest, first * 2 ** min(attempt, 60))


def retry(
    act: Callable[[], T], may_retry: Callable[[Exception, int], bool], first: float = 0.05, longest: float = 5.0
) -> T:
    """Return what `act` returns; while `may_retry(error, attempt)` is true, pause and call it again.

    Why not tenacity: its random pauses draw from Python's global generator, it imports asyncio (40 ms in every
    command), and each caller here would still have its own condition.
    """
    for attempt in count():
        try:
            return act()
        except Exception as error:
            if not may_retry(error, attempt):
                raise
        time.sleep(pause_seconds(attempt, first, longest))
    raise AssertionError("unreachable")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class: AssertionError often has no message."""
    text = error_text(error).strip()
    return cut(escape((text or type(error).__name__).splitlines()[0]), LONGEST_LINE)


def error_text(error: BaseException) -> str:
    """Return an error's message; "" if that fails, as it may for a class of the user's."""
    try:
        return str(error)
    except Exception:
        return ""


def locate_error(error: BaseException, path: Path) -> str:
    """Return for example 'NameError: ... (line 12)', with the last line in the user's own file."""
    path = path.absolute()
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
    at = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error_text(error)}{at}"


FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translate a failed write under `path` into a FilesError of one line with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            message = (
                f"the disk is full: could not write {path}. Free some space, or choose another folder, "
                "and type the command again; finished epochs are kept."
            )
        elif isinstance(error, PermissionError) or error.errno == errno.EROFS:
            message = f"no permission to write {path}. Choose another folder (--home, --out, --export)."
        elif isinstance(error, FileExistsError | NotADirectoryError):
            message = f"{path} is a file where a folder is needed. Choose another (--home, --out, --export)."
        elif error.errno is None:
            raise
        else:
            message = f"could not write {path}: {error.strerror}. Choose another place."
        raise FilesError(message) from error


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` at the end, so that readers see a complete file.

    It has the suffix of `path`, because some writers choose the format by it, and a random part, because threads
    and hosts may write the same path at once.
    """
    beside = path.with_name(f".{os.getpid()}.{RANDOM.getrandbits(32):08x}.{path.name}")
    try:
        yield beside
        beside.replace(path)
    finally:
        with suppress(OSError):  # the first error matters
            beside.unlink()


@contextmanager
def create_file(path: Path) -> Iterator[Path]:
    """Yield the temporary path of `atomic_write`, in a folder created if needed; raise FilesError as `writing`."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as beside:
            yield beside
