"""Worker processes: placement on GPUs and hosts, start, supervision."""

from tuner.deprecated import renamed_names

__getattr__ = renamed_names(__name__)
