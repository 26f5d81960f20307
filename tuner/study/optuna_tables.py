"""Optuna's table schema, as far as our own SQL reads and writes it, for the versions that pyproject.toml allows.

Our SQL uses these tables because

- a worker writes an epoch (values, attributes, our own row, the claim) in one transaction. Optuna's storage makes
  one transaction of each value, and none that also covers our tables.
- commands such as `tuner status` must answer without importing Optuna, which takes a second.

tests/unit/study/test_optuna_tables.py compares each name with the installed Optuna. This module does not import
Optuna: light commands use it.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

# The tables, as far as they are read or written here. PostgreSQL keeps states in types of their own.

optunas = sa.MetaData()
STATES = sa.Enum("RUNNING", "WAITING", "COMPLETE", "PRUNED", "FAIL", name="trialstate")
VALUE_TYPES = sa.Enum("FINITE", "INF_POS", "INF_NEG", name="trialvaluetype")
STEP_TYPES = sa.Enum("FINITE", "INF_POS", "INF_NEG", "NAN", name="trialintermediatevaluetype")
NUMBER, NAME, JSON_TEXT, DOUBLE = sa.Integer, sa.String, sa.Text, sa.Float(precision=53)
ALL_TABLES = {  # other tables of a database belong to another program
    *("studies", "study_directions", "study_user_attributes", "study_system_attributes"),
    *("trials", "trial_user_attributes", "trial_system_attributes", "trial_params", "trial_values"),
    *("trial_intermediate_values", "trial_heartbeats", "version_info", "alembic_version"),
}


def define(name: str, id_column: str, **columns: Any) -> sa.Table:
    """Return one of Optuna's tables with the columns that are used here."""
    others = [sa.Column(column, kind) for column, kind in columns.items()]
    return sa.Table(name, optunas, sa.Column(id_column, sa.Integer, primary_key=True), *others)


def define_attributes(owner: str) -> sa.Table:
    """Return the table of a kind of attributes, such as 'trial_user' or 'study_system'."""
    owner_id = owner.partition("_")[0] + "_id"
    columns = {owner_id: NUMBER, "key": NAME, "value_json": JSON_TEXT}
    return define(f"{owner}_attributes", f"{owner}_attribute_id", **columns)


studies = define("studies", "study_id", study_name=NAME)
trials = define(
    "trials",
    "trial_id",
    study_id=NUMBER,
    number=NUMBER,
    state=STATES,
    datetime_start=sa.DateTime,  # UTC
    datetime_complete=sa.DateTime,
)
trial_params = define(
    "trial_params", "param_id", trial_id=NUMBER, param_name=NAME, param_value=DOUBLE, distribution_json=JSON_TEXT
)
trial_values = define(
    "trial_values", "trial_value_id", trial_id=NUMBER, objective=NUMBER, value=DOUBLE, value_type=VALUE_TYPES
)
trial_steps = define(
    "trial_intermediate_values",
    "trial_intermediate_value_id",
    trial_id=NUMBER,
    step=NUMBER,
    intermediate_value=DOUBLE,
    intermediate_value_type=STEP_TYPES,
)
trial_attrs = define_attributes("trial_user")
trial_system_attrs = define_attributes("trial_system")
study_attrs = define_attributes("study_user")
study_system_attrs = define_attributes("study_system")


def read_versions(db: Connection) -> tuple[str | None, str | None]:
    """Return the revision of Optuna's tables and the Optuna that made them.

    RDBStorage.get_current_version() returns the first, but importing Optuna and Alembic for it takes a second. The
    other has no public name.
    """
    revision = db.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return revision, db.scalar(sa.text("SELECT library_version FROM version_info"))


ARTIFACT_PREFIX = "artifacts:"  # of a system attribute that describes an artifact; public is only a function that
# reads those of one trial (optuna.artifacts.get_all_artifact_meta), not a query over a study
LONGEST_ATTR = 60_000  # characters of a value that a column of MariaDB holds


def numbered_key(prefix: str, place: int) -> str:
    """Return the key of a study's attribute at a place among those that begin alike."""
    return f"{prefix}{place:03d}"


def read_numbered_attrs(db: Connection, study_id: int, prefix: str) -> list[Any]:
    """Return the values of a study's system attributes with numbered keys, in order."""
    table = study_system_attrs
    mine = (table.c.study_id == study_id) & table.c.key.startswith(prefix)
    query = sa.select(table.c.value_json).where(mine).order_by(table.c.key)
    return [json.loads(text) for text in db.scalars(query)]
