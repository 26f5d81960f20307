"""A bucket that cannot be used is reported in one line; a fault that passes is retried."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.object_store import Buckets, bucket, buckets
from helpers.tcp_proxy import Proxy

from tuner.artifacts import s3_store, store_retries
from tuner.artifacts.store import Store, open_store, probe_store
from tuner.errors import FilesError

__all__ = ["bucket", "buckets"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3000))
    return path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short pauses and timeouts."""
    monkeypatch.setattr(store_retries, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(s3_store, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(s3_store, "READ_SECONDS", 0.3)


def test_many_names_come_in_pages(bucket: str, buckets: Buckets) -> None:
    buckets.fill(bucket, [f"many/{number}" for number in range(1001)])
    assert len(open_store(bucket).names("many/")) == 1001


def refused(store: Store) -> str:
    with pytest.raises(FilesError) as caught:
        probe_store(store)
    assert "\n" not in str(caught.value) and "test-secret" not in str(caught.value)
    return str(caught.value)


def test_a_bucket_that_does_not_exist_is_reported(bucket: str) -> None:
    assert "s3://no-such-bucket/x cannot be used: the bucket does not exist" in refused(
        open_store("s3://no-such-bucket/x")
    )


def test_a_bucket_without_permission_is_reported(bucket: str, buckets: Buckets) -> None:
    buckets.forbid(bucket, "s3:PutObject")
    assert f"{bucket} cannot be used: no permission" in refused(open_store(bucket))


def test_missing_credentials_are_reported(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID"), monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in refused(open_store(bucket))


def test_a_profile_that_does_not_exist_is_reported(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "nobody" in refused(open_store(bucket))


def test_a_server_that_is_down_is_reported(
    bucket: str, buckets: Buckets, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    with Proxy(buckets.target) as proxy:
        proxy.refuse()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        assert f"{bucket} cannot be reached" in refused(open_store(bucket))


def through(proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    return open_store(bucket)


def test_half_a_file_is_asked_for_again(
    bucket: str, buckets: Buckets, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    open_store(bucket).put(file, "a")
    with Proxy(buckets.target) as proxy:
        store = through(proxy, bucket, monkeypatch)
        proxy.short(1500)
        store.get("a", tmp_path / "copy")
        assert proxy.connections > 1
    assert (tmp_path / "copy").read_bytes() == file.read_bytes()


def test_a_connection_that_is_cut_while_sending_is_taken_up_again(
    bucket: str, buckets: Buckets, file: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    with Proxy(buckets.target) as proxy:
        store = through(proxy, bucket, monkeypatch)
        proxy.short(10)
        store.put(file, "a")
        assert proxy.connections > 1
    assert buckets.objects(bucket) == {"a": 3000}


@pytest.mark.slow
@pytest.mark.parametrize("size", [3000, 15_000_000], ids=["answering", "reading"])
def test_a_server_that_stops_is_given_up(
    size: int, bucket: str, buckets: Buckets, file: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    """A small file fits into the buffers of the connection, so that only the answer is missing."""
    monkeypatch.setattr(store_retries, "TRIES", 2)
    file.write_bytes(os.urandom(size))
    with Proxy(buckets.target) as proxy:
        store = through(proxy, bucket, monkeypatch)
        proxy.stall()
        with pytest.raises(FilesError, match="cannot be reached"):
            store.put(file, "a")
        proxy.flow()
        monkeypatch.setattr(store_retries, "TRIES", 10)  # a busy machine may be slower than READ_SECONDS
        store.put(file, "a")
    assert buckets.objects(bucket) == {"a": size}
