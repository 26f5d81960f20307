"""Artifact stores: a folder that all hosts share, or an S3-compatible bucket.

Each operation is retried with growing random pauses; a failure that persists is raised as a one-line
FilesError. Authentication is left to boto3 (environment variables, files, roles): credentials are never read,
printed or stored here.

Why not fsspec (2026.9, with s3fs and aiobotocore 3.10): an upload to a server that accepts the connection and then
stops reading or answering does not end (measured for 300 s), because aiohttp, on which s3fs is built, has no
timeout for sending; boto3 gives up after READ_SECONDS. Nor is it faster: both upload 20 MB in 0.26 s; s3fs
downloads them in 0.05 s instead of 0.09 s, but is imported in 0.4 s instead of 0.2 s and takes 37 MB more memory.
The local file system of fsspec copies without a temporary name: readers would see half a file.
"""

from __future__ import annotations

import errno
import shutil
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from tuner.errors import FULL_DISK, FilesError, create_file, retry, writing
from tuner.paths import expand_path

T = TypeVar("T")
TRIES = 4
FIRST_PAUSE = 0.2  # seconds
CONNECT_SECONDS = 5
READ_SECONDS = 30
WAYS = "a folder that all hosts see, or s3://BUCKET/PREFIX"
TEMPORARY = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN}  # errors of a network drive
GONE = {"404", "NoSuchKey", "NotFound"}
WRONG = {  # S3 error codes that a retry cannot fix
    "NoSuchBucket": "the bucket does not exist. Create it, or correct the name",
    "AccessDenied": "no permission. It must be allowed to list, read, write and delete there",
    "403": "no permission. It must be allowed to list, read, write and delete there",
    "AllAccessDisabled": "no permission",
    "InvalidAccessKeyId": "the access key is not known there. Check AWS_ACCESS_KEY_ID or the profile",
    "SignatureDoesNotMatch": "the secret key does not fit the access key. Check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired. Renew them",
    "InvalidToken": "the session token is not valid. Renew the credentials",
    "InvalidBucketName": "the bucket name is not valid",
    "PermanentRedirect": "the bucket is in another region. Set AWS_DEFAULT_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region. Set AWS_DEFAULT_REGION",
}


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


class StoreUnavailable(Exception):
    """A temporary failure of a store: a retry may succeed."""


def retry_unavailable(act: Callable[[], T], location: str) -> T:
    """Call `act` up to TRIES times while the store is unavailable; then raise FilesError."""
    try:
        return retry(act, lambda e, attempt: isinstance(e, StoreUnavailable) and attempt < TRIES - 1, FIRST_PAUSE)
    except StoreUnavailable as error:
        raise FilesError(f"the artifact store {location} {error}") from error


@dataclass(frozen=True)
class FolderStore:
    """A store in a folder, such as a network drive."""

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


@dataclass(frozen=True)
class S3Store:
    """A store in a bucket of Amazon S3 or of a compatible server, whose address is in AWS_ENDPOINT_URL."""

    bucket: str
    prefix: str  # "" or ending with a slash

    @property
    def location(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @cached_property
    def client(self) -> Any:
        """The boto3 client, without its own retries, and without newer checksums that some servers reject."""
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": 1},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        return boto3.session.Session().client("s3", config=config)

    def put(self, path: Path, name: str) -> None:
        self.attempt(
            lambda: self.client.upload_file(str(path), self.bucket, self.prefix + name, Config=in_one_thread())
        )

    def get(self, name: str, path: Path) -> None:
        """Download a file; boto3 writes to a temporary name, then renames."""
        self.attempt(
            lambda: self.client.download_file(self.bucket, self.prefix + name, str(path), Config=in_one_thread())
        )

    def names(self, prefix: str) -> list[str]:
        return self.attempt(lambda: self.list(self.prefix + prefix))

    def list(self, prefix: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [entry["Key"].removeprefix(self.prefix) for page in pages for entry in page.get("Contents", [])]

    def delete(self, name: str) -> None:
        self.attempt(lambda: self.client.delete_object(Bucket=self.bucket, Key=self.prefix + name))

    def attempt(self, act: Callable[[], T]) -> T:
        def translated() -> T:
            try:
                return act()
            except Exception as error:
                raise translate_error(error, self.location) from error

        return retry_unavailable(translated, self.location)


def in_one_thread() -> Any:
    """Return a transfer configuration without extra threads: uploads run beside the training."""
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(use_threads=False)


def translate_error(error: Exception, location: str) -> Exception:
    """Translate a boto3 error: FileNotFoundError, FilesError (user must act) or StoreUnavailable (retry)."""
    from boto3.exceptions import Boto3Error
    from botocore import exceptions

    if isinstance(error, Boto3Error) and isinstance(error.__context__, exceptions.ClientError):
        error = error.__context__  # S3UploadFailedError has the code in its text only
    if isinstance(error, exceptions.ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in GONE:
            return FileNotFoundError(errno.ENOENT, "no such object", location)
        if code in WRONG:
            return FilesError(f"the artifact store {location} cannot be used: {WRONG[code]}.")
        return StoreUnavailable(f"answered {code or 'with an error'}.")
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return FilesError(
            f"no credentials for the artifact store {location}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE."
        )
    if isinstance(error, exceptions.ParamValidationError | exceptions.ProfileNotFound | exceptions.NoRegionError):
        return FilesError(f"the artifact store {location} cannot be used: {' '.join(str(error).split())[:200]}")
    if isinstance(error, OSError) and error.errno in {*FULL_DISK, errno.EACCES}:
        return error  # this host's own disk
    if isinstance(error, exceptions.BotoCoreError | Boto3Error | OSError):
        return StoreUnavailable(
            f"cannot be reached ({type(error).__name__}); is it up, and AWS_ENDPOINT_URL right?"
        )
    return error


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
