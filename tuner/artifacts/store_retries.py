"""Retries of an artifact store: each operation, with growing random pauses, up to a one-line FilesError."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tuner.errors import FilesError, retry

T = TypeVar("T")
TRIES = 4
FIRST_PAUSE = 0.2  # seconds


class StoreUnavailable(Exception):
    """A temporary failure of a store: a retry may succeed."""


def retry_unavailable(act: Callable[[], T], location: str) -> T:
    """Call `act` up to TRIES times while the store is unavailable; then raise FilesError."""
    try:
        return retry(act, lambda e, attempt: isinstance(e, StoreUnavailable) and attempt < TRIES - 1, FIRST_PAUSE)
    except StoreUnavailable as error:
        raise FilesError(f"the artifact store {location} {error}") from error
