"""The databases, for every test in this folder."""

from servers import postgres, storage_url

__all__ = ["postgres", "storage_url"]
