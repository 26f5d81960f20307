"""The command that trains a study's trials, stored with it so that every command can name it and its space."""

from __future__ import annotations

import json
import os
import shlex
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from tuner.paths import expand_path
from tuner.space.files import name_to_type
from tuner.space.published import known_tables
from tuner.space.space import known_spaces
from tuner.study.info import StudyInfo
from tuner.study.optuna_tables import study_system_attrs
from tuner.wording import STORAGE_VARIABLE

KEY = "tuner:command"
FILES = {"space": ("search_spaces", ".py"), "table": ("studies", ".toml")}  # folder and ending


@dataclass(frozen=True)
class RunCommand:
    """A command as it was typed, and where."""

    command: str
    folder: str
    host: str

    def __str__(self) -> str:
        """Return the command as it is typed in the working folder of this process."""
        return (
            self.command if Path(self.folder) == Path.cwd() else f"cd {shlex.quote(self.folder)} && {self.command}"
        )

    @property
    def where(self) -> str:
        """Return ' on HOST' if it was typed on another host, else ''."""
        return "" if self.host == socket.gethostname() else f" on {self.host}"

    def with_option(self, name: str, value: str) -> RunCommand:
        """Return the command with this value of an option."""
        variable = STORAGE_VARIABLE.strip('"')
        words = replace_option(shlex.split(self.command), f"--{name}", value)
        quoted = (
            word.replace(variable, STORAGE_VARIABLE) if word.endswith(variable) else shlex.quote(word)
            for word in words
        )
        return replace(self, command=" ".join(quoted))

    def option(self, name: str) -> str:
        """Return the value of an option, "" if it was not typed."""
        words = shlex.split(self.command)
        values = [word.partition("=")[2] for word in words if word.startswith(f"--{name}=")]
        values += [value for word, value in pairwise(words) if word == f"--{name}"]
        return values[-1] if values else ""


def replace_option(words: Sequence[str], option: str, value: str) -> list[str]:
    """Return the words of a command with this value of an option."""
    kept, skip = [], False
    for word in words:
        if not skip and word != option and not word.startswith(f"{option}="):
            kept.append(word)
        skip = word == option
    return [*kept, option, value]


def store_command(engine: Engine, study_id: int, command: str) -> None:
    """Store the command that runs now as the last one of the study."""
    table, stored = study_system_attrs, asdict(RunCommand(command, str(Path.cwd()), socket.gethostname()))
    mine = (table.c.study_id == study_id) & (table.c.key == KEY)
    try:
        with engine.begin() as db:
            db.execute(sa.delete(table).where(mine))
            db.execute(sa.insert(table).values(study_id=study_id, key=KEY, value_json=json.dumps(stored)))
    except IntegrityError:  # another host stores its own at this moment
        return


def read_command(engine: Engine, study_id: int) -> RunCommand | None:
    """Return the command that was typed last for a study; None if only Python or an earlier version ran it."""
    table = study_system_attrs
    query = sa.select(table.c.value_json).where((table.c.study_id == study_id) & (table.c.key == KEY))
    with engine.connect() as db:
        text = db.scalar(query)
    return RunCommand(**json.loads(text)) if text else None


def find_source(info: StudyInfo, command: RunCommand | None) -> dict[str, str]:
    """Return --space or --table with its value, as `tuner run` accepts it in the working folder of this process.

    It is as the stored command of the study has it; without one, a known name. {} if there is none.
    """
    option, name = ("table", info.table) if info.table else ("space", info.space)
    known = known_tables() if info.table else known_spaces()
    if command and (typed := command.option(option)):
        return {option: typed if Path(command.folder) == Path.cwd() else find_typed(option, typed, command, known)}
    same = [key for key, path in known.items() if path.stem == name]
    return {option: same[0]} if same else {}


def find_typed(option: str, typed: str, command: RunCommand, known: dict[str, Path]) -> str:
    """Return what names the file here that a command in another folder names so."""
    folder, suffix = FILES[option]
    is_path = typed.endswith(suffix) or typed.startswith((".", "~", os.sep))
    inside = expand_path(typed) if is_path else Path(folder, f"{typed}{suffix}")
    path = Path(command.folder, inside)
    return name_to_type(path, known) if is_path or path.is_file() else typed
