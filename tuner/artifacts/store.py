"""Where a host puts what another one may need: a folder that all of them see, or a bucket that speaks S3.

A store is four plain functions. Each is tried again with growing, uneven pauses; what still fails is a FilesError
of one line. Who it is that asks is left to boto3: its environment variables, files and roles. Nothing of it is
read, printed or kept here.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import SystemRandom
from tempfile import TemporaryDirectory
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from tuner.errors import FilesError, writing

T = TypeVar("T")
TRIES = 4
FIRST_PAUSE = 0.2  # seconds; twice as long each time, and up to half as long again at random
CONNECT_SECONDS = 5
READ_SECONDS = 30
WAYS = "a folder that all hosts see, or s3://BUCKET/PREFIX"
GONE = {"404", "NoSuchKey", "NotFound"}
WRONG = {  # errors that no second try heals, by their code in S3
    "NoSuchBucket": "there is no such bucket. Create it, or correct the name",
    "AccessDenied": "no permission. It must be allowed to list, read, write and delete there",
    "403": "no permission. It must be allowed to list, read, write and delete there",
    "AllAccessDisabled": "no permission",
    "InvalidAccessKeyId": "the access key is not known there. Check AWS_ACCESS_KEY_ID or the profile",
    "SignatureDoesNotMatch": "the secret key does not fit the access key. Check AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired. Renew them",
    "InvalidToken": "the session token is not valid. Renew the credentials",
    "InvalidBucketName": "this is no name of a bucket",
    "PermanentRedirect": "the bucket is in another region. Set AWS_DEFAULT_REGION",
    "AuthorizationHeaderMalformed": "the bucket is in another region. Set AWS_DEFAULT_REGION",
}
CHANCE = SystemRandom()  # training draws from Python's own generator: no other thread may


class Store(Protocol):
    """A place for files by name; a name has the form "a/b/c". Whoever reads sees a whole file or none."""

    @property
    def shown(self) -> str:
        """The place as it may be printed."""

    def put(self, path: Path, name: str) -> None:
        """Store a file, replacing what had the name."""

    def get(self, name: str, path: Path) -> None:
        """Write what is stored to `path`; FileNotFoundError where nothing has that name."""

    def names(self, prefix: str) -> list[str]:
        """Every name that begins so. A prefix ends with a slash, or is empty for all."""

    def delete(self, name: str) -> None:
        """Remove it; nothing happens where it is not there."""


class StoreUnavailable(Exception):
    """A store did not answer as it should; another try may succeed."""


def again(act: Callable[[], T], shown: str) -> T:
    """Try, and try again after growing, uneven pauses, so that many hosts do not come back at the same moment."""
    for number in range(TRIES):
        try:
            return act()
        except StoreUnavailable as error:
            if number == TRIES - 1:
                raise FilesError(f"the artifact store {shown} {error}") from error
            time.sleep(FIRST_PAUSE * 2**number * CHANCE.uniform(1, 1.5))
    raise AssertionError("unreachable")


@dataclass(frozen=True)
class FolderStore:
    """A folder, such as one on a network's disk."""

    folder: Path

    @property
    def shown(self) -> str:
        return str(self.folder)

    def put(self, path: Path, name: str) -> None:
        again(lambda: self.copy(path, self.folder / name), self.shown)

    def get(self, name: str, path: Path) -> None:
        again(lambda: self.copy(self.folder / name, path), self.shown)

    def copy(self, source: Path, target: Path) -> None:
        """Copy aside and rename."""
        aside = target.with_name(f".{target.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")
        try:
            with writing(target):
                if target.is_relative_to(self.folder):
                    target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, aside)
                aside.replace(target)
        except FilesError as error:
            cause = error.__cause__
            if isinstance(cause, FileNotFoundError) and not source.exists():
                raise cause from None
            if isinstance(cause, OSError) and cause.errno in (
                errno.EIO,
                errno.ESTALE,
                errno.ETIMEDOUT,
                errno.EAGAIN,
            ):
                raise StoreUnavailable(f"cannot be used ({cause.strerror}).") from error
            raise
        finally:
            with suppress(OSError):
                aside.unlink(missing_ok=True)

    def names(self, prefix: str) -> list[str]:
        found = (self.folder / prefix).rglob("*")
        return [str(p.relative_to(self.folder)) for p in found if not p.name.startswith(".") and p.is_file()]

    def delete(self, name: str) -> None:
        """The folders that held nothing else go too."""
        with writing(self.folder / name):
            (self.folder / name).unlink(missing_ok=True)
        for folder in (self.folder / name).parents:
            if folder == self.folder:
                break
            try:
                folder.rmdir()
            except OSError:
                break


@dataclass(frozen=True)
class S3Store:
    """A bucket of Amazon S3 or of anything that speaks as it does; AWS_ENDPOINT_URL says where that is."""

    bucket: str
    prefix: str  # "" or ending with a slash

    @property
    def shown(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @cached_property
    def client(self) -> Any:
        """Our own pauses and checks of what arrives are enough; newer checksums are not understood everywhere."""
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
        self.tried(
            lambda: self.client.upload_file(str(path), self.bucket, self.prefix + name, Config=in_one_thread())
        )

    def get(self, name: str, path: Path) -> None:
        """boto3 writes aside and renames."""
        self.tried(
            lambda: self.client.download_file(self.bucket, self.prefix + name, str(path), Config=in_one_thread())
        )

    def names(self, prefix: str) -> list[str]:
        return self.tried(lambda: self.list(self.prefix + prefix))

    def list(self, prefix: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [entry["Key"].removeprefix(self.prefix) for page in pages for entry in page.get("Contents", [])]

    def delete(self, name: str) -> None:
        self.tried(lambda: self.client.delete_object(Bucket=self.bucket, Key=self.prefix + name))

    def tried(self, act: Callable[[], T]) -> T:
        def told() -> T:
            try:
                return act()
            except Exception as error:
                raise translate_error(error, self.shown) from error

        return again(told, self.shown)


def in_one_thread() -> Any:
    """Sending is done beside the training: it takes no more than one thread."""
    from boto3.s3.transfer import TransferConfig

    return TransferConfig(use_threads=False)


def translate_error(error: Exception, shown: str) -> Exception:
    """What went wrong at a bucket: no such name, something that must be put right, or a thing of the moment."""
    from boto3.exceptions import Boto3Error
    from botocore import exceptions

    if isinstance(error, Boto3Error) and isinstance(error.__context__, exceptions.ClientError):
        error = error.__context__  # S3UploadFailedError tells it as text only
    if isinstance(error, exceptions.ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in GONE:
            return FileNotFoundError(errno.ENOENT, "no such object", shown)
        if code in WRONG:
            return FilesError(f"the artifact store {shown} cannot be used: {WRONG[code]}.")
        return StoreUnavailable(f"answered {code or 'with an error'}.")
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return FilesError(
            f"no credentials for the artifact store {shown}. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or AWS_PROFILE."
        )
    if isinstance(error, exceptions.ParamValidationError | exceptions.ProfileNotFound | exceptions.NoRegionError):
        return FilesError(f"the artifact store {shown} cannot be used: {first_line(error)}")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES):
        return error  # this host's own disk
    if isinstance(error, exceptions.BotoCoreError | Boto3Error | OSError):
        return StoreUnavailable(
            f"cannot be reached ({type(error).__name__}); is it up, and AWS_ENDPOINT_URL right?"
        )
    return error


def first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def open_store(url: str) -> Store:
    """The store of that URL; FilesError where there is none such. Nothing is asked of it yet."""
    parts = urlsplit(url)
    if not parts.scheme or parts.scheme == "file":
        folder = unquote(parts.path) if parts.scheme else url
        if not folder.strip() or (parts.scheme and parts.netloc not in ("", "localhost")):
            raise FilesError(f"the artifact store must be {WAYS}.")
        return FolderStore(Path(folder).expanduser().absolute())
    if parts.scheme != "s3":
        raise FilesError(f"no artifact store of the kind '{parts.scheme}://'. It may be {WAYS}.")
    if "@" in parts.netloc or ":" in parts.netloc or parts.query:  # may hold a password: not repeated here
        raise FilesError(
            "the artifact store must be s3://BUCKET/PREFIX and nothing more. Keys stand in AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, another server than Amazon's in AWS_ENDPOINT_URL."
        )
    if not parts.netloc:
        raise FilesError("the artifact store has no bucket. Write s3://BUCKET/PREFIX.")
    try:
        import boto3
    except ImportError as error:
        raise FilesError(
            "s3:// needs boto3, which is not installed. Install it: pip install 'tuner[s3]'"
        ) from error
    del boto3
    prefix = parts.path.strip("/")
    return S3Store(parts.netloc, f"{prefix}/" if prefix else "")


def check_store(url: str) -> str:
    """The URL of a store that works, as every host and folder understands it; FilesError where it does not."""
    store = open_store(url)
    probe_store(store)
    return store.shown


def probe_store(store: Store) -> None:
    """Write, list, read and delete a small file: better a clear line now than a lost epoch later."""
    name = f"probe/{uuid.uuid4().hex}"
    with TemporaryDirectory() as folder:
        sent, came = Path(folder) / "sent", Path(folder) / "came"
        sent.write_bytes(b"x")
        store.put(sent, name)
        try:
            store.get(name, came)
            if name not in store.names("probe/") or came.read_bytes() != b"x":
                raise FilesError(f"the artifact store {store.shown} does not give back what was put there.")
        finally:
            store.delete(name)
