"""Paths: the home folder with a run folder for each attempt at a trial, and files of users, read within bounds."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from tuner.errors import FilesError, TunerError, atomic_write, describe_value, printable, writing

LONGEST_NAME = 60  # characters, of up to four bytes each; file systems allow 255 bytes
ATTEMPT = "attempt-"  # prefix of an attempt's folder, followed by its number
MARK_KEY = "tuner_best"  # metadata key of a weights file: the epoch and value they belong to
LONGEST_FILE_NAME, LONGEST_PATH = 255, 4096  # bytes that file systems allow
LONGEST_TEXT = 1 << 20  # bytes of a file that a person has written
LONGEST_JSON = 1 << 24  # bytes of one that a program has written
DEEPEST_JSON = 100  # lists and objects in each other
LONGEST_NUMBER = 20  # characters of a whole number in JSON; one of 64 bits has no more
FILE_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


class PathInFolder:
    """An attribute that is a path in the `folder` of its object."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, owner: Run | Home, _: object) -> Path:
        return owner.folder / self.name


@dataclass(frozen=True)
class Run:
    """The folder of an attempt: its checkpoints, best weights and pictures.

    The best weights may be newer than the checkpoint if a worker was killed between writing the two. Therefore
    each checkpoint has a link to the weights that were the best at that time, and resumes with those.
    """

    folder: Path
    checkpoint = PathInFolder("checkpoint.pt")
    previous = PathInFolder("checkpoint.previous.pt")  # in case the last was cut short by a power failure
    best = PathInFolder("best.safetensors")
    # the best weights as they were when the checkpoint and the previous one were written
    checkpoint_best = PathInFolder("checkpoint.best.safetensors")
    previous_best = PathInFolder("checkpoint.previous.best.safetensors")
    code = PathInFolder("code.json")  # the source of the parts of the user's own
    curves = PathInFolder("curves.png")
    strip = PathInFolder("strip.png")  # one validation image with the prediction after every epoch
    predictions = PathInFolder("predictions.png")  # the worst, median, best and random validation images
    explanation = PathInFolder("explanation.png")  # heatmaps, of a trial that was the best when it ended
    quality = PathInFolder("quality.png")  # confusion, ROC, precision-recall, calibration
    details = PathInFolder("details.json")  # the data that the pictures are drawn from
    confusion = PathInFolder("confusion.csv")  # the confusion matrix of the best epoch

    @property
    def weights(self) -> tuple[Path, ...]:
        """All files needed to resume, in the order in which they are to be copied.

        A copy that is interrupted is either unusable or the newest state: a checkpoint comes after the weights it
        needs, and the previous checkpoint comes last.
        """
        return (self.code, self.best, self.checkpoint_best, self.previous_best, self.checkpoint, self.previous)

    @property
    def pictures(self) -> tuple[Path, ...]:
        """All pictures and data files, in the order of the dashboard; a trial may have only some of them."""
        return (self.strip, self.predictions, self.explanation, *self.lazy_pictures, self.details, self.confusion)

    @property
    def lazy_pictures(self) -> tuple[Path, ...]:
        """Pictures drawn on demand; only trials of older versions have them in the folder."""
        return (self.curves, self.quality)

    def make(self) -> Run:
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def delete_weights(self) -> None:
        """Delete checkpoints and weights, and keep the pictures: a pruned or failed trial is not resumed."""
        for file in self.weights:
            file.unlink(missing_ok=True)

    def delete_previous(self) -> None:
        """Delete all but the last checkpoint and the best weights, which `tuner extend` needs."""
        for file in (self.previous, self.previous_best, self.checkpoint_best):
            file.unlink(missing_ok=True)

    def rotate(self) -> None:
        """Rename the checkpoint to the previous one, and link the current best weights for the next one.

        Call this right before writing a new checkpoint. If the process is killed in between, `restore_best` still
        finds the weights that belong to the existing checkpoint.
        """
        if self.checkpoint.exists():
            self.checkpoint.replace(self.previous)
            if self.checkpoint_best.exists():
                self.checkpoint_best.replace(self.previous_best)
        if self.best.exists():
            link_file(self.best, self.checkpoint_best)

    def restore_best(self, mark: str) -> bool:
        """Restore the best weights with a checkpoint's mark; return False if they do not exist.

        Weights without a mark (older versions) are accepted.
        """
        with writing(self.folder):
            for file in (self.best, self.checkpoint_best, self.previous_best):
                if read_mark(file) == mark:
                    if file != self.best:
                        link_file(file, self.best)
                    return True
        return read_mark(self.best) == ""

    @property
    def has_files(self) -> bool:
        """Whether the checkpoint and the best weights exist here, as after the end of a trial."""
        return self.checkpoint.is_file() and self.best.is_file()

    @property
    def is_usable(self) -> bool:
        """Whether a trial can be resumed from this run."""
        return is_intact(self.checkpoint) or is_intact(self.previous)


def is_intact(checkpoint: Path) -> bool:
    """Return whether a checkpoint is undamaged. The file is a zip archive with checksums."""
    try:
        with ZipFile(checkpoint) as archive:
            return archive.testzip() is None
    except Exception:  # a damaged header may have any field: encrypted, compressed in some way, of any length
        return False


def read_mark(weights: Path) -> str | None:
    """Return the mark in a weights file's metadata: "" if it has none, None if the file is incomplete."""
    from safetensors import SafetensorError, safe_open

    try:
        with utf8_path(weights) as readable, safe_open(readable, framework="numpy") as file:
            return str((file.metadata() or {}).get(MARK_KEY, ""))
    except (OSError, SafetensorError):
        return None


def link_file(source: Path, target: Path) -> None:
    """Hard-link `source` to `target`, replacing it; copy where the file system has no hard links.

    A reader of `target` sees a complete file. Both names stay valid because files are never modified in place.
    """
    with atomic_write(target) as beside:
        try:
            beside.hardlink_to(source)
        except FileNotFoundError:
            raise
        except OSError:
            shutil.copyfile(source, beside)


def is_path(name: str) -> bool:
    """Return whether a name looks like a path, or one exists; Path.exists would raise for one that is too long."""
    return os.sep in name or name.startswith((".", "~")) or os.path.exists(name)  # noqa: PTH110


def expand_path(path: str | os.PathLike[str], error: type[TunerError] = FilesError) -> Path:
    """Return a path as the user typed it, with `~` expanded; raise `error` for one that cannot exist."""
    with suppress(TypeError):
        path = os.fspath(path)
    if not isinstance(path, str):
        raise error(f"the path is {describe_value(path)}; text or a pathlib.Path is needed.")
    check_path(path, error)
    try:
        return Path(path).expanduser()
    except RuntimeError as failed:
        raise error(f"{path.split('/')[0]}: no user has this name. Write the whole path.") from failed


def name_kind(kind: int) -> str:
    """Return what a file is that is not a regular one, by the format bits of its mode."""
    return FILE_KINDS.get(kind, "a special file")


def check_path(text: str, error: type[TunerError] = FilesError) -> None:
    """Raise `error` for a path that no file can have."""
    shown = printable(text, 80)
    if "\0" in text:
        raise error(f"the path {shown} holds a NUL character, which no file name may.")
    longest = max(len(os.fsencode(part)) for part in text.split("/"))
    if longest > LONGEST_FILE_NAME or len(os.fsencode(text)) > LONGEST_PATH:
        raise error(f"the path {shown} is too long: file systems allow {LONGEST_FILE_NAME} bytes for each name.")


def is_utf8(name: str) -> bool:
    """Return whether the bytes of a name, as the file system has it, are UTF-8."""
    return not any("\udc80" <= letter <= "\udcff" for letter in name)


@contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """Yield a path of the same file for libraries that take UTF-8 only. Other names occur on Linux only."""
    if is_utf8(str(path)):
        yield path
        return
    number = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{number}", path.name)
    finally:
        os.close(number)


@contextmanager
def open_file(path: Path, error: type[TunerError] = FilesError, name: str = "") -> Iterator[BufferedReader]:
    """Open a regular file to read; raise `error` for anything else, such as a FIFO, without waiting for it.

    The error has the `name` if one is given, else the path.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as failed:
        raise error(f"{name or path} cannot be read ({getattr(failed, 'strerror', None) or failed}).") from failed
    kind = stat.S_IFMT(os.fstat(number).st_mode)
    if kind != stat.S_IFREG:
        os.close(number)
        raise error(f"{name or path} is {name_kind(kind)}; a regular file is needed.")
    with os.fdopen(number, "rb") as file:
        yield file


def read_bytes(path: Path, error: type[TunerError] = FilesError, most: int = LONGEST_JSON) -> bytes:
    """Return the content of a regular file; raise `error` if it cannot be read or has more than `most` bytes."""
    with open_file(path, error) as file:
        try:
            data = file.read(most + 1)
        except OSError as failed:
            raise error(f"{path} cannot be read ({failed.strerror}).") from failed
        if len(data) > most:
            size = os.fstat(file.fileno()).st_size
            raise error(f"{path} has {size:,} bytes; at most {most:,} are read. Is it the right file?")
    return data


def read_text(path: Path, error: type[TunerError] = FilesError, most: int = LONGEST_TEXT) -> str:
    """Return the text of a UTF-8 file, without a byte order mark; raise `error` as `read_bytes`."""
    try:
        return read_bytes(path, error, most).decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as failed:
        raise error(f"{path} is not UTF-8 text (byte {failed.start}).") from failed


def read_json(path: Path, error: type[TunerError] = FilesError, most: int = LONGEST_JSON) -> Any:
    """Return the data of a JSON file; raise `error` as `read_text`, if it is no JSON, or beyond bounds."""
    return parse_json(read_bytes(path, error, most), str(path), error)


def parse_json(text: str | bytes, name: str, error: type[TunerError] = FilesError) -> Any:
    """Return the data in a JSON text; `name` says in the error where it is from."""
    try:
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        found = json.loads(text, parse_int=partial(parse_integer, name, error))
        if is_deeper(found, DEEPEST_JSON):
            raise RecursionError
    except RecursionError:
        raise error(f"{name} is not valid JSON (nested deeper than {DEEPEST_JSON} levels).") from None
    except ValueError as failed:
        raise error(f"{name} is not valid JSON ({failed}).") from failed
    return found


def parse_integer(name: str, error: type[TunerError], digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        shown = printable(digits, 80)
        raise error(f"{name} holds the number {shown}; numbers of at most {LONGEST_NUMBER} digits are read.")
    return int(digits)


def format_json(data: Any, indent: int | None = None) -> str:
    """Return data as JSON text, with null for NaN and infinity, which JSON has not."""
    return json.dumps(replace_non_finite(data), indent=indent, allow_nan=False)


def replace_non_finite(value: Any) -> Any:
    """Return plain data with None for NaN and infinity."""
    if isinstance(value, Mapping):
        return {name: replace_non_finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [replace_non_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def is_deeper(value: Any, levels: int) -> bool:
    """Return whether lists and objects are nested in each other on more than so many levels."""
    if not isinstance(value, list | dict):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(is_deeper(each, levels - 1) for each in inner if isinstance(each, list | dict))


def hash_file(path: Path, kind: str = "sha256", error: type[TunerError] = FilesError) -> str:
    """Return the checksum of a regular file's content; raise `error` as `open_file`."""
    with open_file(path, error) as file:
        return hashlib.file_digest(file, kind).hexdigest()


def attempt_of(attrs: Mapping[str, Any]) -> int:
    """Return the attempt that finished a trial, from its attributes; 0 for a trial of an older version."""
    return int((attrs.get("result") or {}).get("attempt", 0))


@dataclass(frozen=True)
class Home:
    """The folder of all files on this host: database, cache, runs, artifacts, logs."""

    folder: Path
    cache = PathInFolder("cache")
    artifacts = PathInFolder("artifacts")
    micro_batches = PathInFolder("micro_batches.json")

    @property
    def database(self) -> str:
        """The URL of the default storage."""
        path = str((self.folder / "tuner.db").absolute())
        return "sqlite:///" + path.replace("%", "%25").replace("?", "%3F")  # which mean something in a URL

    def log(self, study: str, worker: str) -> Path:
        return self.folder / "logs" / safe_name(study) / f"{worker}.log"

    def run(self, study: str, key: str, number: int, attempt: int = 0) -> Run:
        """Return the run of an attempt; `key` separates studies with the same name in different databases.

        Only the worker of that attempt writes there. Attempt 0 is the trial's own folder, where older versions
        wrote all files.
        """
        trial = self.folder / "trials" / f"{safe_name(study)}-{key}" / f"{number:05d}"
        return Run(trial / f"{ATTEMPT}{attempt}" if attempt else trial)

    def attempts(self, study: str, key: str, number: int) -> list[int]:
        """Return the attempts at a trial that have a folder here, newest first; 0 is always last."""
        folder = self.run(study, key, number).folder
        names = [path.name.removeprefix(ATTEMPT) for path in folder.glob(f"{ATTEMPT}*")]
        return [*sorted((int(name) for name in names if name.isdecimal()), reverse=True), 0]

    def make(self) -> Home:
        """Create the folder and write to it, so that a missing permission is reported before training starts."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.artifacts.mkdir(exist_ok=True)
            probe = self.folder / f".probe.{os.getpid()}"
            probe.write_bytes(b"x")
            probe.unlink()
        return self


def encode_name(name: str) -> bytes:
    """Return a name as bytes to be hashed; one that is not UTF-8 as the file system has it."""
    return name.encode("utf-8", "surrogateescape")


def safe_name(name: str) -> str:
    """Return a study's name as a folder name; different studies never share a folder."""
    plain = "".join(c if c.isalnum() or c in "-_.@" else "_" for c in name)[:LONGEST_NAME]
    if name and plain == name and not name.startswith("."):
        return name
    return f"{plain.lstrip('.')}~{hashlib.sha256(encode_name(name)).hexdigest()[:8]}"


def git_commit(path: Path) -> str:
    """Return the git commit of a file's repository, with '+' if it has changes; '' outside a repository."""
    import subprocess

    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(path.parent), *args], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return ""
