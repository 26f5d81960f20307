"""Search spaces and published tables: loaded, checked, rehearsed."""

from tuner.deprecated import renamed_names

__getattr__ = renamed_names(__name__)
