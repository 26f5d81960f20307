"""Which files are images, how many pixels one may have, and how much memory decoded images take at once."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from threading import Condition

from tuner.errors import DataError
from tuner.registry import COUNT

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"}  # of image files
MAX_PIXELS = 50_000_000  # a photo of 24 megapixels, twice
MAX_SIDE = 65_535  # pixels
DECODING_BYTES = 2 << 30  # that threads may take together; one image alone may take more
KEPT_BYTES = 64 << 20  # after images that took more, what the threads freed is returned to the system
PIXEL_LIMIT: ContextVar[int] = ContextVar("PIXEL_LIMIT", default=MAX_PIXELS)


@contextmanager
def limit_pixels(most: int) -> Iterator[None]:
    """Refuse images of more pixels in this thread, and in those of `decoding_threads`."""
    if most not in COUNT:
        raise DataError(f"max_pixels is {most!r}; {COUNT} is needed.")
    token = PIXEL_LIMIT.set(most)
    try:
        yield
    finally:
        PIXEL_LIMIT.reset(token)


class DecodeBudget:
    """Bytes that threads share: each waits until what it needs fits, or until it is alone."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self.changed = Condition()

    @contextmanager
    def hold(self, number: int) -> Iterator[None]:
        with self.changed:
            self.changed.wait_for(lambda: not self.used or self.used + number <= self.most)
            self.used += number
        try:
            yield
        finally:
            with self.changed:
                self.used -= number
                self.changed.notify_all()


BUDGET = DecodeBudget(DECODING_BYTES)


def return_pages() -> None:
    """Return freed memory to the system; the allocator keeps it, for each thread."""
    with suppress(AttributeError, OSError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
