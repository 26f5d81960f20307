"""The command that trains a study's trials, stored with it so that every command can name it."""

from __future__ import annotations

import json
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote

import sqlalchemy as sa
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from tuner.study.optuna_tables import study_system_attrs

KEY = "tuner:command"


@dataclass(frozen=True)
class RunCommand:
    """A command as it was typed, and where."""

    command: str
    folder: str
    host: str

    def __str__(self) -> str:
        """Return the command as it is typed in the working folder of this process."""
        return self.command if Path(self.folder) == Path.cwd() else f"cd {quote(self.folder)} && {self.command}"

    @property
    def where(self) -> str:
        """Return ' on HOST' if it was typed on another host, else ''."""
        return "" if self.host == socket.gethostname() else f" on {self.host}"


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
