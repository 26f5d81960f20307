"""A host that sleeps, or vanishes, in the middle of a transaction: the others go on."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from helpers.postgres import Postgres

from tuner.goal import maximize
from tuner.study import claims, database
from tuner.study.info import StudyInfo
from tuner.study.study import join_study

LONGEST = "30s"  # the others' patience here; without an end to the frozen session they would wait for ever


def test_locks_of_a_frozen_session_are_freed(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    url = postgres.fresh()
    joined = join_study(url, StudyInfo("tiny", "tiny", maximize("iou"), "shapes"))
    monkeypatch.setattr(database, "FROZEN_SECONDS", 1)
    frozen, awake = database.connect(url), database.connect(url)
    with frozen.connect() as asleep:
        claims.lock_study(asleep, joined.id)  # and nothing more is heard of it
        with awake.begin() as db:
            db.execute(sa.text(f"SET LOCAL statement_timeout = '{LONGEST}'"))
            claims.lock_study(db, joined.id)
        with pytest.raises(sa.exc.DBAPIError) as lost:
            asleep.execute(sa.text("SELECT 1"))
    assert database.is_transient(lost.value)  # what it was at is done again from the beginning
    for engine in (joined.engine, frozen, awake):
        engine.dispose()


def test_whoever_makes_the_tables_may_take_long(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of thousands of trials is written under this lock."""
    monkeypatch.setattr(database, "FROZEN_SECONDS", 1)
    url = postgres.fresh()
    engine = database.connect(url)
    with database.creation_lock(engine, url), engine.connect() as other:
        other.execute(sa.text("SELECT pg_sleep(2)"))
    engine.dispose()
