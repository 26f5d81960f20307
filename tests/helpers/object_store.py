"""A server that speaks S3 over HTTP, as a bucket in a cloud does; `proxy` makes its connections fail."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest

KEY, SECRET = "test-key", "test-secret"


@dataclass(frozen=True)
class Buckets:
    """The server. Everybody who has keys may do everything."""

    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def environment(self, port: int = 0) -> dict[str, str]:
        """What boto3 reads to find the server, directly or through a proxy on another port."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}",
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        }

    def make(self) -> str:
        """The URL of a place in a bucket of its own."""
        name = f"b-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name)
        return f"s3://{name}/runs"

    @cached_property
    def client(self) -> Any:
        """A client that does not go through the code under test."""
        import boto3

        return boto3.session.Session(KEY, SECRET, region_name="us-east-1").client("s3", endpoint_url=self.endpoint)

    def objects(self, url: str) -> dict[str, int]:
        """Every object below a URL, by its name there, with its size."""
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
        found = [entry for page in pages for entry in page.get("Contents", [])]
        return {entry["Key"].removeprefix(f"{prefix}/"): entry["Size"] for entry in found}

    def forbid(self, url: str, *actions: str) -> None:
        """Nobody may do these things there any more, such as "s3:PutObject"."""
        bucket = url.removeprefix("s3://").partition("/")[0]
        where = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
        rule = {"Effect": "Deny", "Principal": "*", "Action": list(actions), "Resource": where}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
        self.client.put_bucket_policy(Bucket=bucket, Policy=policy)

    def overwrite(self, url: str, name: str, content: bytes) -> None:
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self.client.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=content)

    def fill(self, url: str, names: Iterable[str]) -> None:
        """Store small objects without a request for each: the server runs in this process."""
        from moto.core import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends

        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        for name in names:
            s3_backends[DEFAULT_ACCOUNT_ID]["aws"].put_object(bucket, f"{prefix}/{name}", b"x")


@contextmanager
def serving() -> Iterator[Buckets]:
    """The server, on a free port of the loopback, in threads of its own."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        yield Buckets(server.get_host_and_port()[1])
    finally:
        server.stop()


@pytest.fixture(scope="session")
def buckets() -> Iterator[Buckets]:
    with serving() as found:
        yield found


@pytest.fixture
def bucket(buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a fresh place in a bucket; boto3 finds it by its usual ways."""
    for name, value in buckets.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return buckets.make()
