"""The persistent record of a study in SQL, and everything that reads or changes it."""

from tuner.deprecated import renamed_names

__getattr__ = renamed_names(__name__)
