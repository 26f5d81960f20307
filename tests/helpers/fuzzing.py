"""Bad inputs, made from a seed, tried in this process, each answer judged.

A case is answered well if it is done or refused with one line, within limits of time, memory and words, and leaves
nothing behind. Why no Hypothesis: a case is replayed by its number alone, and thousands run in seconds.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any
from unicodedata import category

from click.testing import CliRunner
from PIL import Image

import tuner.data.images  # noqa: F401  # sets what a command may not change later
from helpers.command_line import write_space
from helpers.image_folders import make_photos
from tuner.cli import main
from tuner.errors import LONGEST_LINE, MOST_LINES, TunerError
from tuner.recipe import Recipe, use

SECONDS = 20.0  # after which a case counts as one that never ends
MEGABYTES = 600  # that a case may add
USAGE_LINES = 4  # that click prints around a message
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Answer:
    """How an input was answered."""

    code: int = 0
    out: bytes = b""
    err: bytes = b""
    error: BaseException | None = None  # that no user should see


@dataclass(frozen=True)
class Case:
    """An input: what it is in one line, how to try it, and what an accepted one may leave in `ground.cwd`."""

    what: str
    run: Callable[[], Answer]
    makes: tuple[str, ...] = ()  # patterns of paths
    codes: tuple[int, ...] = (0, 2)


class NeverEnds(BaseException):
    """A case has run for too long. No part of the program catches it."""


class Ground:
    """A folder for cases: `cwd` is empty before each; what is made once and only read is beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cwd = folder, folder / "cwd"
        self.folder.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        if self.cwd.exists():
            for path, folders, _ in os.walk(self.cwd):
                for name in folders:
                    if not (inner := Path(path) / name).is_symlink():
                        inner.chmod(0o700)
            shutil.rmtree(self.cwd)
        self.cwd.mkdir()

    @cached_property
    def photos(self) -> Path:
        """Six photographs with masks."""
        return make_photos(self.folder / "photos", 6)

    @cached_property
    def space(self) -> Path:
        """A valid space."""
        return write_space(self.folder, epochs=1)

    @cached_property
    def bundle(self) -> Path:
        """A valid bundle of a small U-Net."""
        from helpers.made_studies import make_bundle

        recipe = Recipe(
            task="binary", data=use("shapes", image_size=32), augment=use("none"), model=use("unet", k=4),
            loss=use("bce"), optimizer=use("adam", lr=3e-3), epochs=2, batch_size=8, precision="fp32", seed=7,
        )  # fmt: skip
        return make_bundle(recipe, self.folder / "best")

    @cached_property
    def home(self) -> Path:
        """A home with a study of two finished trials."""
        from helpers.made_studies import add_trial, make_study

        home = self.folder / "home"
        home.mkdir()
        joined = make_study(home)
        add_trial(joined, [0.4, 0.6])
        add_trial(joined, [0.3, 0.5])
        joined.engine.dispose()
        return home

    def command(self, *args: str | Path, **env: str) -> Answer:
        """The answer of `tuner ARGS`, in this process."""
        given = {"HOME": str(self.folder), "TUNER_DATA": "", "TUNER_STORAGE": None, "TUNER_ARTIFACTS": None, **env}
        done = CliRunner().invoke(main, [os.fspath(arg) for arg in args], env=given, prog_name="tuner")
        unexpected = None if isinstance(done.exception, SystemExit) else done.exception
        return Answer(done.exit_code, done.stdout_bytes, done.stderr_bytes, unexpected)


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Answer:
    """The answer of a function of the library: done, or refused with a TunerError."""
    try:
        function(*args, **kwargs)
    except TunerError as error:
        return Answer(2, err=f"tuner: {error}\n".encode("utf-8", "backslashreplace"))
    except Exception as error:
        return Answer(1, error=error)
    return Answer()


# --- making ---


def make_case(family: str, seed: int, number: int, ground: Ground) -> Case:
    """Case `number` of a family, whose files are in `ground.cwd`."""
    ground.clear()
    case: Case = load_family(family).make_case(random.Random(f"{family} {seed} {number}"), ground)
    return case


def load_family(name: str) -> ModuleType:
    return import_module(f"fuzz.{name}")


TEXTS = (
    *(
        "",
        " ",
        "\n",
        "a\nb",
        "\t",
        "\0",
        "a\0b",
        "\x1b[31mred",
        "\r",
        "\u202e",
        "\udce9",
        "caf\udce9",
        "ünïcödé",
        "😀",
    ),
    *(
        "-",
        "--",
        "-1",
        "--help",
        "*",
        "%s",
        "{0}",
        "{x}",
        "[bold]x",
        "'",
        '"',
        "\\",
        "$HOME",
        "`id`",
        "; ls",
        "../..",
    ),
    *("~", "~nobody", "~nobody/x", "/dev/zero", "/dev/full", "/", ".", "..", "x" * 300, "y" * 5000, "ab\n" * 300),
)
NUMBERS = (
    *(0, 1, -1, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**20, 10**25, 10**400, 10**999, 10**4300 - 1),
    *(0.0, -0.0, 1e-320, 1e308, float("inf"), float("-inf"), float("nan"), True, False),
)


def nest(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


ATOMS: tuple[Any, ...] = (*TEXTS, *NUMBERS, None, [], {}, [[]], {"": {}}, [None], nest(50), nest(150))


def mutate_bytes(rng: random.Random, data: bytes, times: int = 4) -> bytes:
    """Flip, cut, insert, repeat and splice; half of it within the first 64 bytes."""
    found = bytearray(data)
    for _ in range(rng.randint(1, times)):
        at = rng.randrange(min(64, len(found) + 1) if rng.random() < 0.5 else len(found) + 1)
        length = rng.choice((1, 1, 2, 4, 16, 256))
        match rng.randrange(5):
            case 0 if at < len(found):
                found[at] ^= 1 << rng.randrange(8)
            case 1:
                del found[at : at + length if rng.random() < 0.8 else None]
            case 2:
                found[at:at] = rng.choice((rng.randbytes(length), b"\xff" * length, b"\0" * length))
            case 3:
                found[at:at] = found[at : at + length] * rng.choice((2, 50))
            case _:
                other = rng.randrange(len(found) + 1)
                found[at : at + length] = found[other : other + length]
    return bytes(found)


def mutate_data(rng: random.Random, data: Any) -> Any:
    """The data (of a JSON or TOML file) with one place of it replaced, dropped, added to or nested."""
    if isinstance(data, dict) and data and rng.random() < 0.8:
        key = rng.choice(list(data))
        if (what := rng.random()) < 0.1:
            return {name: value for name, value in data.items() if name != key}
        if what < 0.2:
            return {**data, rng.choice(TEXTS): rng.choice(ATOMS)}
        return {**data, key: mutate_data(rng, data[key])}
    if isinstance(data, list) and data and rng.random() < 0.8:
        at = rng.randrange(len(data))
        return [*data[:at], mutate_data(rng, data[at]), *data[at + rng.randrange(2) :]]
    return [data] if rng.random() < 0.1 else rng.choice(ATOMS)


def mutate_args(rng: random.Random, args: list[str], values: Iterable[str] = TEXTS) -> list[str]:
    """A command line with one of its words, all but the command, replaced or dropped."""
    at = rng.randrange(1, len(args)) if len(args) > 1 else 1
    return [*args[:at], *([] if rng.random() < 0.05 else [rng.choice(list(values))]), *args[at + 1 :]]


def words(args: Iterable[object]) -> str:
    """A command line for a failure's message."""
    return " ".join(repr(str(arg))[:60] for arg in args)


# --- judging ---


@dataclass
class Trial:
    """What came of a case."""

    number: int
    what: str
    problems: list[str]
    seconds: float = 0.0  # of the processor
    megabytes: float = 0.0


def try_case(family: str, seed: int, number: int, ground: Ground) -> Trial:
    """Make and run a case, and list all that is wrong with its answer."""
    case = make_case(family, seed, number, ground)
    before, state = list_files(ground.folder), read_state()
    used, began = read_memory(start=True), os.times()
    folder = Path.cwd()
    os.chdir(ground.cwd)
    try:
        with time_limit(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # as tuner.data.images does
            answer = case.run()
    except NeverEnds:
        answer = Answer(-1, error=NeverEnds(f"not done after {SECONDS:g} s"))
    finally:
        inside = Path.cwd()
        os.chdir(folder)
    ended, peak = os.times(), read_memory()
    wrong = answer_problems(answer, case.codes)
    if inside != ground.cwd or read_state() != state:
        wrong.append("it changed the state of the process")
    wrong += file_problems(case, answer, ground, before)
    if (grown := peak - used) > MEGABYTES:
        wrong.append(f"it took {grown:,.0f} MB")
    return Trial(number, case.what, wrong, ended.user + ended.system - began.user - began.system, grown)


def answer_problems(answer: Answer, codes: Iterable[int] = (0, 2)) -> list[str]:
    """What is wrong with an answer itself."""
    wrong = []
    if answer.error is not None:
        frames = [f for f in traceback.extract_tb(answer.error.__traceback__) if "/tuner/" in f.filename]
        at = f" at {frames[-1].filename.rpartition('/tuner/')[2]}:{frames[-1].lineno}" if frames else ""
        wrong.append(f"{type(answer.error).__name__}: {str(answer.error)[:200]!r}{at}")
    elif answer.code not in codes:
        wrong.append(f"its code is {answer.code}")
    shown = {}
    for name, data in (("stdout", answer.out), ("stderr", answer.err)):
        try:
            shown[name] = ESCAPES.sub("", data.decode())
        except UnicodeDecodeError:
            wrong.append(f"{name} is not UTF-8")
            continue
        if odd := {c for c in shown[name] if category(c) in ("Cc", "Cs") and c not in "\n\t"}:
            wrong.append(f"{name} has {odd}")
    told = shown.get("stderr", "")
    lines = told.splitlines()
    if "Traceback" in told:
        wrong.append(f"a traceback: {lines[-1][:200]}")
    if any(len(line) > LONGEST_LINE + len("tuner: ") for line in lines):
        wrong.append(f"a line of {max(map(len, lines))} characters")
    if len(lines) > MOST_LINES + 2 + USAGE_LINES:
        wrong.append(f"{len(lines)} lines")
    if sum(line.startswith("tuner: ") for line in lines) > 1:
        wrong.append(f"several messages: {lines[:3]}")
    if answer.code == 2 and not told:
        wrong.append("it is refused without a word")
    return wrong


def file_problems(case: Case, answer: Answer, ground: Ground, before: set[str]) -> list[str]:
    """Files that the case has left or taken, other than those it may make."""
    now = list_files(ground.folder)
    allowed = case.makes if answer.code == 0 else ()
    inside = ground.cwd.relative_to(ground.folder)
    patterns = [os.path.normpath(inside / one) for one in allowed]  # "../x" is beside the folder
    made = {each for each in now - before if not any(Path(each).match(one) for one in patterns)}
    hidden = {each for each in made if Path(each).name.startswith(".")}  # "..html" may be what was asked for
    hidden |= {each for each in now - before if each.endswith(".tmp")}
    return [
        *(f"it left {each[:200]!r}" for each in sorted(made | hidden)[:3]),
        *(f"it removed {each[:200]!r}" for each in sorted(before - now)[:3]),
    ]


def list_files(folder: Path) -> set[str]:
    """Every path in a folder, but for the bookkeeping of SQLite."""
    found = set()
    for place, folders, files in os.walk(folder):
        found |= {os.path.relpath(os.path.join(place, name), folder) for name in (*folders, *files)}  # noqa: PTH118
    return {path for path in found if not path.endswith(("-wal", "-shm", "-journal"))}


def read_state() -> tuple[object, ...]:
    """What a command may not change in its process."""
    os.umask(mask := os.umask(0))
    return (sys.path[0], mask, Image.MAX_IMAGE_PIXELS, signal.getsignal(signal.SIGINT), sys.getrecursionlimit())


def read_memory(start: bool = False) -> float:
    """The peak of this process's memory in MB; `start`: from now on, as it is now."""
    if start:
        Path("/proc/self/clear_refs").write_text("5")
    peak = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(peak[1]) / 1024 if peak else 0.0


def read_wait() -> float:
    """Seconds in which this process could run but had no processor; 0 if the system does not say."""
    path = Path("/proc/self/schedstat")
    return int(path.read_text().split()[1]) / 1e9 if path.is_file() else 0.0


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise NeverEnds after so long; a limit that was set before (pytest's) goes on afterwards.

    Time in which other processes had the processors does not count: on a busy machine it can be all of it.
    """
    ends = time.monotonic() + seconds - read_wait()

    def stop(number: int, frame: FrameType | None) -> None:
        if (more := ends + read_wait() - time.monotonic()) < 0.01:
            raise NeverEnds
        signal.setitimer(signal.ITIMER_REAL, more)

    before = signal.signal(signal.SIGALRM, stop)
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, left)
