"""The databases, for every test in this folder."""

from helpers.fragile_postgres import fragile
from helpers.postgres import postgres, storage_url

__all__ = ["fragile", "postgres", "storage_url"]
