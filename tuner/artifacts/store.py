"""Artifact stores: what a store is, a folder that all hosts share, and the store of a URL."""

from __future__ import annotations

import errno
import shutil
import uuid
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol
from urllib.parse import unquote, urlsplit

from tuner.artifacts.deletion import delete_below
from tuner.artifacts.s3_store import S3Store
from tuner.artifacts.store_retries import StoreUnavailable, retry_unavailable
from tuner.errors import FilesError, create_file, writing
from tuner.paths import expand_path

WAYS = "a folder that all hosts see, or s3://BUCKET/PREFIX"
TEMPORARY = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN}  # errors of a network drive


class Store(Protocol):
    """Named files, with names of the form "a/b/c". A reader sees a complete file or none."""

    @property
    def location(self) -> str:
        """The location, safe to print."""

    def put(self, path: Path, name: str) -> None:
        """Store a file, replacing an earlier one with this name."""

    def get(self, name: str, path: Path) -> None:
        """Download a file to `path`; raise FileNotFoundError if the name does not exist."""

    def names(self, prefix: str) -> list[str]:
        """Return all names with this prefix, which ends with a slash or is empty for all."""

    def delete(self, name: str) -> None:
        """Delete a file; do nothing if it does not exist."""

    def delete_all(self, prefix: str) -> int:
        """Delete all files with this prefix, which ends with a slash; return their bytes."""


@dataclass(frozen=True)
class FolderStore:
    """A store in a folder, such as a network drive.

    The local file system of fsspec copies without a temporary name: readers would see half a file.
    """

    folder: Path

    @property
    def location(self) -> str:
        return str(self.folder)

    def put(self, path: Path, name: str) -> None:
        retry_unavailable(lambda: self.copy(path, self.folder / name), self.location)

    def get(self, name: str, path: Path) -> None:
        retry_unavailable(lambda: self.copy(self.folder / name, path), self.location)

    def copy(self, source: Path, target: Path) -> None:
        try:
            with create_file(target) as beside:
                shutil.copyfile(source, beside)
        except FilesError as error:
            cause = error.__cause__
            if isinstance(cause, FileNotFoundError) and not source.exists():
                raise cause from None
            if isinstance(cause, OSError) and cause.errno in TEMPORARY:
                raise StoreUnavailable(f"cannot be used ({cause.strerror}).") from error
            raise

    def names(self, prefix: str) -> list[str]:
        found = (self.folder / prefix).rglob("*")
        return [str(p.relative_to(self.folder)) for p in found if not p.name.startswith(".") and p.is_file()]

    def delete(self, name: str) -> None:
        """Delete a file, and its parent folders that are empty then."""
        with writing(self.folder / name):
            (self.folder / name).unlink(missing_ok=True)
        with suppress(OSError):  # the first folder that is not empty
            for folder in takewhile(lambda folder: folder != self.folder, (self.folder / name).parents):
                folder.rmdir()

    def delete_all(self, prefix: str) -> int:
        return delete_below(self.folder, self.folder / prefix)


def open_store(url: str) -> Store:
    """Return the store of a URL; raise FilesError if the URL is invalid. Does not connect."""
    parts = urlsplit(url)
    if not parts.scheme or parts.scheme == "file":
        folder = unquote(parts.path) if parts.scheme else url
        if not folder.strip() or (parts.scheme and parts.netloc not in ("", "localhost")):
            raise FilesError(f"the artifact store must be {WAYS}.")
        return FolderStore(expand_path(folder).absolute())
    if parts.scheme != "s3":
        raise FilesError(f"no artifact store of the kind '{parts.scheme}://'. It may be {WAYS}.")
    if "@" in parts.netloc or ":" in parts.netloc or parts.query:  # may hold a password: not repeated here
        raise FilesError(
            "the artifact store must be s3://BUCKET/PREFIX and nothing more. Keys stand in AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, another server than Amazon's in AWS_ENDPOINT_URL."
        )
    if not parts.netloc:
        raise FilesError("the artifact store has no bucket. Write s3://BUCKET/PREFIX.")
    if find_spec("boto3") is None:  # not imported before it is used: that takes 0.2 s
        raise FilesError("s3:// needs boto3, which is not installed. Install it: pip install 'tuner[s3]'")
    prefix = parts.path.strip("/")
    return S3Store(parts.netloc, f"{prefix}/" if prefix else "")


def probe_store(store: Store) -> None:
    """Write, list, read and delete a small file, so that a broken store is reported before training starts."""
    name = f"probe/{uuid.uuid4().hex}"
    with TemporaryDirectory() as folder:
        sent, came = Path(folder) / "sent", Path(folder) / "came"
        sent.write_bytes(b"x")
        store.put(sent, name)
        try:
            store.get(name, came)
            if name not in store.names("probe/") or came.read_bytes() != b"x":
                raise FilesError(f"the artifact store {store.location} does not give back what was put there.")
        finally:
            store.delete(name)
