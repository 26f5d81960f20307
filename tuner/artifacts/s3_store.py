"""The artifact store in an S3-compatible bucket.

Authentication is left to boto3 (environment variables, files, roles): credentials are never read, printed or
stored here.

Why not fsspec (2026.9, with s3fs and aiobotocore 3.10): an upload to a server that accepts the connection and then
stops reading or answering does not end (measured for 300 s), because aiohttp, on which s3fs is built, has no
timeout for sending; boto3 gives up after READ_SECONDS. Nor is it faster: both upload 20 MB in 0.26 s; s3fs
downloads them in 0.05 s instead of 0.09 s, but is imported in 0.4 s instead of 0.2 s and takes 37 MB more memory.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from tuner.artifacts.store_retries import StoreUnavailable, retry_unavailable
from tuner.errors import FULL_DISK, FilesError

T = TypeVar("T")
CONNECT_SECONDS = 5
READ_SECONDS = 30
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
        return [*self.attempt(lambda: self.list_sizes(self.prefix + prefix))]

    def list_sizes(self, prefix: str) -> dict[str, int]:
        """Return the bytes of each file by its name."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        entries = [entry for page in pages for entry in page.get("Contents", [])]
        return {entry["Key"].removeprefix(self.prefix): int(entry["Size"]) for entry in entries}

    def delete(self, name: str) -> None:
        self.attempt(lambda: self.client.delete_object(Bucket=self.bucket, Key=self.prefix + name))

    def delete_all(self, prefix: str) -> int:
        sizes = self.attempt(lambda: self.list_sizes(self.prefix + prefix))
        for name in sizes:
            self.delete(name)
        return sum(sizes.values())

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
