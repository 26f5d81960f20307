"""Download a file over HTTP and unpack an archive: resumed, verified, and in place only when complete.

A file grows beside its place as NAME.part, so that an interrupted download continues where it stopped. An archive
is unpacked into a temporary folder; members that would land outside it are refused.

Why not a library: torch.hub and urllib do not resume, and huggingface_hub downloads from its own hosts only, while
these files come from the addresses of datasets, torchvision, timm and mirrors alike.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib import request
from urllib.error import HTTPError, URLError

from filelock import FileLock

from tuner.errors import FilesError, first_line, retry, writing
from tuner.paths import hash_file

Progress = Callable[[int, int], None]  # bytes done, bytes in all (0 if unknown)
CHUNK = 1 << 18  # bytes
TRIES = 5  # interrupted connections before the download fails
TIMEOUT = 30  # seconds without a byte
MEGABYTE = 10**6
RESUME = "The part downloaded so far is kept: run the command again to continue."
HANDLERS: tuple[type[request.BaseHandler], ...] = (
    request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler, request.HTTPRedirectHandler,
    request.HTTPDefaultErrorHandler, request.HTTPErrorProcessor, request.UnknownHandler,
)  # fmt: skip
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, UnicodeError)


def download(url: str, path: Path, *, digest: str = "", progress: Progress | None = None) -> None:
    """Download a file to `path` unless it is there with the right digest.

    `digest` is "sha256:HEX" or "md5:HEX"; a prefix of HEX is enough.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):  # several workers may need the same weights
            if path.exists() and not digest_problem(path, digest):
                return
            part = path.with_name(f"{path.name}.part")
            fetch_resuming(url, part, progress or (lambda done, of: None))
            if wrong := digest_problem(part, digest):
                part.unlink()
                raise FilesError(f"{url}: {wrong}. It was removed; run the command again to download it again.")
            part.replace(path)


def fetch_resuming(url: str, part: Path, progress: Progress) -> None:
    """Download into `part`, reconnecting after each interruption, up to TRIES times."""
    try:
        retry(
            lambda: fetch_rest(url, part, progress),
            lambda error, attempt: isinstance(error, Interrupted) and attempt < TRIES - 1,
        )
    except Interrupted as cut:
        raise FilesError(f"{url}: the connection was interrupted {TRIES} times ({cut}). {RESUME}") from cut


class Interrupted(Exception):
    """A download ended early: the next attempt continues it."""


def fetch_rest(url: str, part: Path, progress: Progress) -> None:
    """Download what `part` does not have yet; raise Interrupted if it ends early."""
    have = part.stat().st_size if part.exists() else 0
    with open_url(url, have) as response:
        if response.status != 416:
            append_response(response, part, have, progress)
        elif total_bytes(response) != have:  # no bytes after ours: complete, or part of an older file
            part.unlink()
            raise Interrupted("the server ignores Range")


def open_url(url: str, have: int = 0, method: str = "GET") -> Any:
    """Return the open response to a request for the bytes from `have` on; errors become one line."""
    if not url.lower().startswith(("http://", "https://")):
        raise FilesError(f"'{url}' is not an address to download from; one that starts with https:// is needed.")
    headers = {"User-Agent": "tuner", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        return make_opener().open(request.Request(url, headers=headers, method=method), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416 and have:
            return error
        error.close()
        raise FilesError(f"{url}: the server answered {error.code} ({error.reason}).") from error
    except (URLError, OSError, HTTPException, ValueError) as error:
        raise FilesError(
            f"{url}: no answer ({error_reason(error)}). Is this machine connected to the internet?"
        ) from error


def make_opener() -> request.OpenerDirector:
    """Return an opener for HTTP and HTTPS only: redirects to ftp: or file: are refused."""
    opener = request.OpenerDirector()
    for handler in HANDLERS:
        opener.add_handler(handler())
    return opener


def error_reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return str(getattr(reason, "strerror", None) or reason) or type(reason).__name__


def total_bytes(response: Any) -> int:
    """Return the length of the whole file from "bytes 5-9/10" or Content-Length, 0 if unknown."""
    of = (response.headers.get("Content-Range") or "").rpartition("/")[2]
    length = of or response.headers.get("Content-Length") or ""
    return int(length) if length.isdecimal() else 0


def append_response(response: Any, part: Path, have: int, progress: Progress) -> None:
    """Append the response to `part`; raise Interrupted if it ends early. Without Range support, start over."""
    goes_on = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    done, total = have if goes_on else 0, total_bytes(response)
    check_disk_space(part.parent, total - done)
    progress(done, total)
    with part.open("ab" if goes_on else "wb") as file:
        for chunk in read_chunks(response):
            file.write(chunk)
            done += len(chunk)
            progress(done, total)
    if done < total:
        raise Interrupted(f"{done} of {total} bytes were received")


def read_chunks(response: Any) -> Iterator[bytes]:
    """Yield the bytes; network errors become Interrupted, so that they differ from disk errors."""
    while True:
        try:
            chunk = response.read(CHUNK)
        except (OSError, HTTPException) as error:
            raise Interrupted(error_reason(error)) from error
        if not chunk:
            return
        yield chunk


def check_disk_space(folder: Path, needed: int) -> None:
    """Raise FilesError if so many bytes do not fit on the disk of `folder` or its nearest parent."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FilesError(
            f"{needed // MEGABYTE} MB are needed in {folder}, {free // MEGABYTE} MB are free. "
            "Free some space, or choose another folder."
        )


def remote_size(url: str) -> int:
    """Return the size of a file to download in bytes, 0 if unknown."""
    with open_url(url, method="HEAD") as response:
        return total_bytes(response)


def digest_problem(path: Path, digest: str) -> str:
    """Return how a file differs from its digest, or ""."""
    if not digest:
        return ""
    kind, _, expected = digest.partition(":")
    if kind not in ("sha256", "md5") or not expected:
        raise ValueError(f"digest {digest!r}; 'sha256:HEX' or 'md5:HEX' is needed")
    actual = hash_file(path, kind)
    if actual.startswith(expected.lower()):
        return ""
    short = actual[: max(12, len(expected))]
    return f"the file is damaged or not the expected one: its {kind} is {short}, not {expected}"


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .zip or .tar.gz into `folder`; its top-level entries appear there when complete.

    Names and links that point outside are refused before anything is written. A damaged archive is removed, so
    that it is downloaded again.
    """
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    with writing(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            extract(archive, aside)
            move_into_place(aside, folder)
        except (*DAMAGED, OSError) as error:
            if getattr(error, "errno", None) is not None:  # a disk error; errors of gzip have no number
                raise
            archive.unlink()
            raise FilesError(
                f"{archive} is not a complete archive ({first_line(error)}). "
                "It was removed; run the command again."
            ) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def extract(archive: Path, aside: Path) -> None:
    """Check every name, then write."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                check_inside(archive, info.filename)
            check_disk_space(aside.parent, sum(info.file_size for info in packed.infolist()))
            packed.extractall(aside)  # links in a zip become small text files
        return
    with tarfile.open(archive) as packed_tar:
        members = packed_tar.getmembers()
        for member in members:
            check_inside(archive, member.name)
            check_link(archive, member)
        check_disk_space(aside.parent, sum(member.size for member in members))
        if hasattr(tarfile, "data_filter"):
            packed_tar.extractall(aside, filter="data")
            return
        for member in members:  # before Python 3.11.4: what is left to the filter
            member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        packed_tar.extractall(aside)


def check_inside(archive: Path, name: str) -> None:
    plain = name.replace("\\", "/")
    if plain.startswith("/") or plain[1:2] == ":" or ".." in PurePosixPath(plain).parts:
        raise FilesError(f"{archive} is refused: it would write outside its folder, to '{name}'.")


def check_link(archive: Path, member: tarfile.TarInfo) -> None:
    """Allow links that point downwards only, so that no chain of links leads outside."""
    if member.isfile() or member.isdir():
        return
    if not (member.issym() or member.islnk()):
        raise FilesError(f"{archive} is refused: '{member.name}' is neither a file nor a folder.")
    target = PurePosixPath(member.linkname)
    if target.is_absolute() or ".." in target.parts:
        raise FilesError(f"{archive} is refused: '{member.name}' is a link that points to '{target}'.")


def move_into_place(aside: Path, folder: Path) -> None:
    """Move each top-level entry into the folder, replacing an older one of the same name."""
    for new in sorted(aside.iterdir()):
        place = folder / new.name
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        new.replace(place)
