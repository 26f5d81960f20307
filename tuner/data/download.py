"""Fetch a file over HTTP and unpack an archive: resumed, checked, and in its place only when whole.

A file grows beside its place as NAME.part, so that a cut download goes on where it stopped, and a file
that is there is complete. An archive is unpacked aside; what would land outside its folder is refused.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import HTTPError, URLError

from filelock import FileLock

from tuner.errors import FilesError, writing

Progress = Callable[[int, int], None]  # bytes done, of how many; 0 where the server does not say
CHUNK = 1 << 18  # bytes
TRIES = 5  # connections that may be cut before we give up
TIMEOUT = 30  # seconds without a byte
MEGABYTE = 10**6
RESUME = "What has come is kept: type the command again to go on."
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, UnicodeError)


def download(url: str, path: Path, *, digest: str = "", progress: Progress | None = None) -> None:
    """Bring a file to `path`; one that is there is taken as it is, unless its digest is wrong.

    `digest` is "sha256:HEX" or "md5:HEX"; the first few letters of HEX are enough.
    """
    check_url(url)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):  # several workers may want the same weights at once
            if path.exists() and not digest_problem(path, digest):
                return
            part = path.with_name(f"{path.name}.part")
            fetch_resuming(url, part, progress or (lambda done, of: None))
            if wrong := digest_problem(part, digest):
                part.unlink()
                raise FilesError(f"{url}: {wrong}. It was removed; type the command again to fetch it anew.")
            part.replace(path)


def check_url(url: str) -> None:
    if not url.lower().startswith(("http://", "https://")):
        raise FilesError(f"'{url}' is no address to download from; one that begins with https:// is needed.")


def fetch_resuming(url: str, part: Path, progress: Progress) -> None:
    """Connect again after each cut, as long as the tries last; `part` is whole afterwards."""
    cut = ""
    for _ in range(TRIES):
        have = part.stat().st_size if part.exists() else 0
        with open_url(url, have) as response:
            if response.status == 416:  # nothing after what we have: whole, or of an older file
                if total_bytes(response) == have:
                    return
                part.unlink()
                continue
            if cut := append_response(response, part, have, progress):
                continue
        return
    raise FilesError(f"{url}: the connection was cut {TRIES} times ({cut or 'no use of Range'}). {RESUME}")


def open_url(url: str, have: int = 0, method: str = "GET") -> Any:
    """The open answer to a request for what follows the first `have` bytes; errors as one line."""
    headers = {"User-Agent": "tuner", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        return make_opener().open(urllib.request.Request(url, headers=headers, method=method), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416 and have:
            return error
        error.close()
        raise FilesError(f"{url}: the server answered {error.code} ({error.reason}).") from error
    except (URLError, OSError, HTTPException, ValueError) as error:
        raise FilesError(f"{url}: no answer ({error_reason(error)}). Is there a way to the internet?") from error


def make_opener() -> urllib.request.OpenerDirector:
    """For HTTP and HTTPS only: a redirection to ftp: or file: is refused."""
    made = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        made.add_handler(handler)
    return made


def error_reason(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return str(getattr(reason, "strerror", None) or reason) or type(reason).__name__


def total_bytes(response: Any) -> int:
    """The length of the whole file, 0 where the server does not say: "bytes 5-9/10" or the length itself."""
    of = (response.headers.get("Content-Range") or "").rpartition("/")[2]
    length = of or response.headers.get("Content-Length") or ""
    return int(length) if length.isdecimal() else 0


def append_response(response: Any, part: Path, have: int, progress: Progress) -> str:
    """Append what comes; why it ended too early, or nothing. A server without Range begins anew."""
    goes_on = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    done, total = have if goes_on else 0, total_bytes(response)
    check_disk_space(part.parent, total - done)
    progress(done, total)
    with part.open("ab" if goes_on else "wb") as file:
        try:
            for chunk in read_chunks(response):
                file.write(chunk)
                done += len(chunk)
                progress(done, total)
        except ConnectionError as error:
            return str(error)
    return f"{done} of {total} bytes came" if done < total else ""


def read_chunks(response: Any) -> Iterator[bytes]:
    """Its bytes; whatever the network does wrong is a ConnectionError, and no error of a disk is."""
    while True:
        try:
            chunk = response.read(CHUNK)
        except (OSError, HTTPException) as error:
            raise ConnectionError(error_reason(error)) from error
        if not chunk:
            return
        yield chunk


def check_disk_space(folder: Path, needed: int) -> None:
    """FilesError when so many bytes do not fit on the disk of `folder`, or of the parent that exists."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise FilesError(
            f"{needed // MEGABYTE} MB are needed in {folder}, {free // MEGABYTE} MB are free. "
            "Free some space, or choose another folder."
        )


def remote_size(url: str) -> int:
    """How many bytes a download would be; 0 where the server does not say."""
    check_url(url)
    with open_url(url, method="HEAD") as response:
        return total_bytes(response)


def digest_problem(path: Path, digest: str) -> str:
    """How a file differs from its digest, or nothing."""
    if not digest:
        return ""
    kind, _, expected = digest.partition(":")
    if kind not in ("sha256", "md5") or not expected:
        raise ValueError(f"digest {digest!r}; 'sha256:HEX' or 'md5:HEX' is needed")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    if found.startswith(expected.lower()):
        return ""
    return f"the file is damaged or another one: its {kind} is {found[: max(12, len(expected))]}, not {expected}"


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .zip or .tar.gz into `folder`: what it holds at its top appears there when it is whole.

    A name or a link that points outside is refused before anything is written. A damaged archive is
    removed, so that it is fetched anew.
    """
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    with writing(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            extract(archive, aside)
            move_into_place(aside, folder)
        except DAMAGED as error:
            archive.unlink()
            raise damaged_error(archive, error) from error
        except OSError as error:
            if error.errno is not None:  # the disk's; gzip's own errors have no number
                raise
            archive.unlink()
            raise damaged_error(archive, error) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def damaged_error(archive: Path, error: BaseException) -> FilesError:
    why = (str(error) or type(error).__name__).splitlines()[0]
    return FilesError(f"{archive} is no whole archive ({why}). It was removed; type the command again.")


def extract(archive: Path, aside: Path) -> None:
    """Look at every name first, then write."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                check_inside(archive, info.filename)
            check_disk_space(aside.parent, sum(info.file_size for info in packed.infolist()))
            packed.extractall(aside)  # a link in a zip becomes a small file of text
        return
    with tarfile.open(archive) as packed_tar:
        members = packed_tar.getmembers()
        for member in members:
            check_inside(archive, member.name)
            check_link(archive, member)
        check_disk_space(aside.parent, sum(member.size for member in members))
        packed_tar.extractall(aside, filter="data")


def check_inside(archive: Path, name: str) -> None:
    plain = name.replace("\\", "/")
    if plain.startswith("/") or plain[1:2] == ":" or ".." in PurePosixPath(plain).parts:
        raise FilesError(f"{archive} is refused: it would write outside its folder, to '{name}'.")


def check_link(archive: Path, member: tarfile.TarInfo) -> None:
    """A link may point down from where it is; with no way up, no chain of links leads outside."""
    if member.isfile() or member.isdir():
        return
    if not (member.issym() or member.islnk()):
        raise FilesError(f"{archive} is refused: '{member.name}' is neither a file nor a folder.")
    target = PurePosixPath(member.linkname)
    if target.is_absolute() or ".." in target.parts:
        raise FilesError(f"{archive} is refused: '{member.name}' is a link that points to '{target}'.")


def move_into_place(aside: Path, folder: Path) -> None:
    """Each thing at the top is renamed into the folder; an older one of the same name goes."""
    for new in sorted(aside.iterdir()):
        place = folder / new.name
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        new.replace(place)
