"""Worker processes: started, supervised, placed on GPUs and hosts."""

from tuner.deprecated import moved_names

__getattr__ = moved_names(
    "tuner.fleet",
    Fleet="supervisor",
)
