"""The databases, for every test in this folder."""

from fragile import fragile
from servers import postgres, storage_url

__all__ = ["fragile", "postgres", "storage_url"]
