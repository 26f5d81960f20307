"""Optuna's tables as described in tuner/study/optuna_tables.py are those that the installed Optuna makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.artifacts import get_all_artifact_meta
from optuna.storages import RDBStorage
from optuna.storages._rdb.models import BaseModel

from tuner.study import optuna_compat, optuna_tables

HERE = f"Optuna {optuna.__version__}: "


def kind_of(column: sa.Column[Any]) -> Any:
    """A type as far as a statement depends on it: its Python type, or the names of an enumeration."""
    return tuple(column.type.enums) if isinstance(column.type, sa.Enum) else column.type.python_type


@pytest.mark.parametrize("table", optuna_tables.optunas.sorted_tables, ids=str)
def test_a_table_has_the_columns_that_are_read(table: sa.Table) -> None:
    theirs = BaseModel.metadata.tables.get(table.name)
    assert theirs is not None, HERE + f"there is no table '{table.name}' any more"
    for column in table.columns:
        assert column.name in theirs.columns, HERE + f"the table '{table.name}' has no column '{column.name}'"
        expected, found = kind_of(column), kind_of(theirs.columns[column.name])
        assert set(found) == set(expected) if isinstance(expected, tuple) else found is expected, (
            HERE + f"'{table.name}.{column.name}' is of another type: {found}, not {expected}"
        )


def test_no_other_table_belongs_to_optuna() -> None:
    theirs = {*BaseModel.metadata.tables, "alembic_version"}
    assert theirs == optuna_tables.ALL_TABLES, (
        HERE + "its list of tables has changed: " + ", ".join(sorted(theirs ^ optuna_tables.ALL_TABLES))
    )


def test_the_versions_are_read(tmp_path: Path) -> None:
    storage = RDBStorage(f"sqlite:///{tmp_path / 'o.db'}")
    with storage.engine.connect() as db:
        found = optuna_tables.read_versions(db)
    expected = storage.get_current_version(), optuna.__version__
    storage.engine.dispose()
    assert found == expected, HERE + "the versions of its tables are kept elsewhere"


def test_an_artifact_is_described_where_it_is_looked_for(tmp_path: Path) -> None:
    study = optuna.create_study()
    trial = study.ask()
    trial.storage.set_trial_system_attr(
        optuna_compat.trial_id(trial),
        optuna_tables.ARTIFACT_PREFIX + "a",
        '{"artifact_id": "a", "filename": "f", "mimetype": "image/png", "encoding": null}',
    )
    assert [meta.artifact_id for meta in get_all_artifact_meta(trial)] == ["a"], (
        HERE + "artifacts are described under another key"
    )
