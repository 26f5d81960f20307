"""Worker processes: placement on GPUs and hosts, start, supervision."""

from tuner.deprecated import moved_names

__getattr__ = moved_names(
    "tuner.fleet",
    Fleet="supervisor",
)
