"""Find the initial weights of a recipe: in a file, a bundle, or a trial of a study in the same storage."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from sqlalchemy.engine import Engine

from tuner.artifacts.attempts import AttemptFiles
from tuner.errors import FilesError, PartError, StudyError, format_names, writing
from tuner.paths import Run, attempt_of, expand_path, link_file
from tuner.recipe import BUILT_IN_WEIGHTS, Recipe, parse_whole
from tuner.space.published import known_tables
from tuner.space.rehearsal import reduce_recipe, size_suffix
from tuner.space.space import known_spaces
from tuner.study import optuna_compat, queries, trial_queries
from tuner.study.claims import check_owner
from tuner.study.database import retried
from tuner.study.info import StudyInfo
from tuner.study.optuna_tables import studies, trials
from tuner.study.tables import epoch_table
from tuner.study.trial_queries import EXTENDS, TOOK_OVER, TrialInfo
from tuner.wording import write_command

SUFFIXES = (".safetensors", ".pth", ".pt")
BUNDLED = "weights.safetensors"


def find_weights(name: str, engine: Engine | None, attempts: AttemptFiles, here: StudyInfo | None) -> Path | None:
    """Return the file of the weights with a name, or None if none is needed; raise PartError if it is missing.

    A name is a file or a bundle's folder; "STUDY" for the best trial of a study, "STUDY#12" for its trial
    12, "#12" for trial 12 of the study itself, `here`.
    """
    if name in BUILT_IN_WEIGHTS:
        return None
    if is_file_name(name):
        return find_weights_file(expand_path(name))
    if engine is None:
        raise PartError(unknown_weights(name, []))
    study, _, number = name.partition("#")
    if number and parse_whole(number) is None:
        raise PartError(f"weights '{name}': give the number of a trial after #.")
    info = find_named_study(study, name, engine, here)
    trial = find_trial(engine, info, parse_whole(number))
    if trial is None or trial.state != "COMPLETE":
        raise PartError(f"weights '{name}': study '{info.name}' has no finished trial {number or 'yet'}.")
    file = attempts.fetch(info.name, info.key, trial.number, attempt_of(trial.attrs)).best
    if not file.is_file():
        raise PartError(
            f"weights '{name}': trial {trial.number} of '{info.name}' has no weights in this --home ({file})."
        )
    return file


def find_trial(engine: Engine, info: StudyInfo, number: int | None) -> TrialInfo | None:
    """Return the trial with a number, or the best one."""
    with engine.connect() as db:
        if number is None:
            return trial_queries.read_best_trial(db, info)
        return trial_queries.read_trial(db, info.id, number)


def is_file_name(name: str) -> bool:
    """Return whether a name means a file or bundle; a folder that is not a bundle does not hide a study."""
    plain = os.sep in name or name.startswith((".", "~")) or name.endswith(SUFFIXES)
    return plain or (Path(name) / BUNDLED).is_file()


def find_weights_file(path: Path) -> Path:
    """Return a file of weights, or the one in a bundle's folder; raise PartError if it does not exist."""
    inside = path / BUNDLED if path.is_dir() else path
    if not inside.is_file():
        problem = f"not a bundle: it has no {BUNDLED}" if path.is_dir() else "not found"
        raise PartError(
            f"weights {path}: {problem}. Give a file ({', '.join(SUFFIXES)}), a bundle's folder, or a study."
        )
    return inside.absolute()


def find_named_study(study: str, name: str, engine: Engine, here: StudyInfo | None) -> StudyInfo:
    if not study:
        if here is None:
            raise PartError(f"weights '{name}': this trial of the study itself does not exist yet.")
        return here
    try:
        return queries.find_study(engine, study)
    except StudyError as error:
        raise PartError(unknown_weights(name, [info.name for info in queries.read_studies(engine)])) from error


def unknown_weights(name: str, studies: list[str]) -> str:
    return (
        f"weights '{name}': neither a file nor a study of this storage (studies: "
        f"{format_names(studies) or 'none'}). {training_hint(name)}, "
        'or give "imagenet", "none", a file or a bundle.'
    )


def training_hint(name: str) -> str:
    """Return how to train the study that weights name: with its command, if it is that of a space or table."""
    study = name.partition("#")[0]
    base = re.sub(r"(-shrink\d+)?(-shorten\d+)?$", "", study)
    size = dict(re.findall(r"-(shrink|shorten)(\d+)", study.removeprefix(base)))
    for option, known in (("table", known_tables()), ("space", known_spaces())):
        if base in known:
            return f"Train it first ({write_command('run', **{option: base}, **size)})"
    return "Train it first"


def reduce_size(recipe: Recipe, shrink: int, shorten: int) -> Recipe:
    """Return the recipe in a fraction of its size; weights of a study are those of that study in the same size."""
    return reduce_recipe(rename_weights(recipe, shrink, shorten), shrink, shorten)


def rename_weights(recipe: Recipe, shrink: int, shorten: int) -> Recipe:
    """Return the recipe with the weights of a study in this fraction of its size, if it names a study."""
    study, mark, number = recipe.weights.name.partition("#")
    suffix = size_suffix(shrink, shorten)
    if (
        study
        and study not in BUILT_IN_WEIGHTS
        and not is_file_name(recipe.weights.name)
        and not study.endswith(suffix)
    ):
        weights = replace(recipe.weights, name=f"{study}{suffix}{mark}{number}")
        recipe = replace(recipe, weights=weights)
    return recipe


def has_own_files(trial: optuna.Trial) -> bool:
    """Return whether the files in the trial's run folder are its own."""
    return ("recipe" if EXTENDS not in trial.user_attrs else TOOK_OVER) in trial.user_attrs


def restore_origin(trial: optuna.Trial, engine: Engine, worker: str, attempts: AttemptFiles, run: Run) -> None:
    """Copy checkpoint, weights and epochs of the trial that this one extends, unless that was done before.

    The attribute that marks it as done is set last, so that an interrupted copy is repeated. It is repeated
    as well on a host where no files of this trial have arrived.
    """
    origin = trial.user_attrs.get(EXTENDS)
    if origin is None or (TOOK_OVER in trial.user_attrs and run.is_usable):
        return
    earlier = attempts.fetch(origin["study"], origin["key"], origin["number"], origin.get("attempt", 0))
    code = [(earlier.code, run.code)] if earlier.code.is_file() else []
    for source, target in (*code, (earlier.best, run.best), (earlier.checkpoint, run.checkpoint)):
        link_origin_file(source, target, origin, attempts)
    trial_id = optuna_compat.trial_id(trial)
    recorded = trial.storage.get_trial(trial_id).intermediate_values
    for epoch, value in copy_epochs(engine, trial_id, worker, origin):
        if epoch not in recorded:
            trial.report(value, step=epoch)
    trial.set_user_attr(TOOK_OVER, True)


def link_origin_file(source: Path, target: Path, origin: dict[str, Any], attempts: AttemptFiles) -> None:
    """Link or copy a file; `target` is never incomplete."""
    with writing(target):
        try:
            link_file(source, target)
        except FileNotFoundError as error:
            raise FilesError(
                f"trial {origin['number']} of '{origin['study']}', which this one extends, has no "
                f"{source.name} here ({attempts.where}). Run this on the host that has it, or share its --home or "
                "--artifacts."
            ) from error


@retried
def copy_epochs(engine: Engine, trial_id: int, worker: str, origin: dict[str, Any]) -> list[tuple[int, float]]:
    """Copy the epochs of the extended trial; return (epoch, value) of those that have a value."""
    source = (
        sa.select(trials.c.trial_id)
        .join(studies, studies.c.study_id == trials.c.study_id)
        .where(studies.c.study_name == origin["study"], trials.c.number == origin["number"])
    )
    names = [column.name for column in epoch_table.columns if column.name != "trial_id"]
    with engine.begin() as db:
        check_owner(db, trial_id, worker)
        db.execute(sa.delete(epoch_table).where(epoch_table.c.trial_id == trial_id))
        rows = sa.select(sa.literal(trial_id), *(epoch_table.c[name] for name in names))
        rows = rows.where(epoch_table.c.trial_id == source.scalar_subquery())
        db.execute(sa.insert(epoch_table).from_select(["trial_id", *names], rows))
        copied = sa.select(epoch_table.c.epoch, epoch_table.c.value).order_by(epoch_table.c.epoch)
        copied = copied.where(epoch_table.c.trial_id == trial_id, epoch_table.c.value.is_not(None))
        return [(int(epoch), float(value)) for epoch, value in db.execute(copied)]
