"""Where a recipe's `weights` are: a file, a bundle, or a trial of a study in the same storage."""

from __future__ import annotations

import os
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tuner import overview
from tuner.errors import PartError, StudyError, some
from tuner.keeper import Keeper
from tuner.overview import StudyInfo, Trial
from tuner.runs import attempt_of
from tuner.tables import trials

KNOWN = ("none", "imagenet", "random")  # need no file of ours
SUFFIXES = (".safetensors", ".pth", ".pt")
BUNDLED = "weights.safetensors"


def find_start(name: str, engine: Engine | None, keeper: Keeper, here: StudyInfo | None) -> Path | None:
    """The file of the weights of that name, or None where none is needed.

    A name is a file or a bundle's folder; "STUDY" for the best trial of a study, "STUDY#12" for its trial
    12, "#12" for trial 12 of the study itself, `here`.
    """
    if name in KNOWN:
        return None
    if is_file(name):
        return find_file(Path(name).expanduser())
    if engine is None:
        raise PartError(missing(name, []))
    study, _, number = name.partition("#")
    if number and not number.isdecimal():
        raise PartError(f"weights '{name}': after # the number of a trial is needed.")
    info = find_info(study, name, engine, here)
    trial = find_trial(engine, info, int(number) if number else None)
    if trial is None or trial.state != "COMPLETE":
        raise PartError(f"weights '{name}': study '{info.name}' has no finished trial {number or 'yet'}.")
    file = keeper.fetch(info.name, info.key, trial.number, attempt_of(trial.notes)).best
    if not file.is_file():
        raise PartError(
            f"weights '{name}': trial {trial.number} of '{info.name}' has no weights in this --home ({file})."
        )
    return file


def find_trial(engine: Engine, info: StudyInfo, number: int | None) -> Trial | None:
    """The trial of that number, or the best one."""
    with engine.connect() as db:
        if number is None:
            return overview.best_trial(db, info)
        mine = (trials.c.study_id == info.id) & (trials.c.number == number)
        ids = list(db.scalars(sa.select(trials.c.trial_id).where(mine)))
        return next(iter(overview.read_trials(db, ids)), None)


def is_file(name: str) -> bool:
    """A folder of a study's name that is no bundle, such as that of its images, does not hide the study."""
    plain = os.sep in name or name.startswith((".", "~")) or name.endswith(SUFFIXES)
    return plain or (Path(name) / BUNDLED).is_file()


def wherever(name: str) -> str:
    """The name as it is understood in any folder: a file by its full path."""
    return str(Path(name).expanduser().absolute()) if is_file(name) else name


def find_file(path: Path) -> Path:
    """A file of weights, or the one in a bundle."""
    inside = path / BUNDLED if path.is_dir() else path
    if not inside.is_file():
        what = f"holds no {BUNDLED}: it is no bundle" if path.is_dir() else "is not there"
        raise PartError(
            f"weights {path}: it {what}. Give a file ({', '.join(SUFFIXES)}), a bundle's folder, or a study."
        )
    return inside.absolute()


def find_info(study: str, name: str, engine: Engine, here: StudyInfo | None) -> StudyInfo:
    if not study:
        if here is None:
            raise PartError(f"weights '{name}' name a trial of the study itself, which is not there yet.")
        return here
    try:
        return overview.find_study(engine, study)
    except StudyError as error:
        raise PartError(missing(name, [info.name for info in overview.all_studies(engine)])) from error


def missing(name: str, studies: list[str]) -> str:
    return (
        f"weights '{name}' are no file, and no study of that name is in this storage (studies: "
        f'{some(studies) or "none"}). Train it first, or give "imagenet", "none", a file or a bundle.'
    )
