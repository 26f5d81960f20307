"""The persistent record of a study in SQL, and everything that reads or changes it."""

from tuner.deprecated import moved_names

__getattr__ = moved_names(
    "tuner.study",
    Joined="study:JoinedStudy",
    join="study:join_study",
    rejoin="study:rejoin_study",
)
