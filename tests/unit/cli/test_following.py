"""Which of several studies `tuner status --watch` shows."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from helpers.made_studies import make_study
from helpers.trial_rows import put, work

from tuner.cli import following
from tuner.cli.following import StudyFollower
from tuner.cli.live import PlainView, watch_until_interrupted
from tuner.study import queries
from tuner.study.study import JoinedStudy
from tuner.study.tables import worker_table


def beat(joined: JoinedStudy) -> None:
    with joined.engine.begin() as db:
        same = worker_table.c.study_id == joined.id
        db.execute(sa.update(worker_table).where(same).values(beats=worker_table.c.beats + 1))


def leave(joined: JoinedStudy) -> None:
    with joined.engine.begin() as db:
        db.execute(sa.delete(worker_table).where(worker_table.c.study_id == joined.id))


def make_two(tmp_path: Path) -> tuple[JoinedStudy, JoinedStudy]:
    first, second = make_study(tmp_path, "first"), make_study(tmp_path, "second")
    put(first, 0, "COMPLETE", [0.5], at=100)
    put(second, 0, "COMPLETE", [0.5], at=10)
    return first, second


def test_without_workers_it_is_the_one_with_the_newest_activity_not_the_newest_trial(tmp_path: Path) -> None:
    first, _ = make_two(tmp_path)
    assert StudyFollower(first.engine).find_first().name == "first"


def test_it_is_the_one_with_workers_and_is_kept_while_they_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_two(tmp_path)
    work(second, 1)
    follower = StudyFollower(first.engine)
    info = follower.find_first()
    assert info.name == "second"
    work(first, 2)
    assert follower.find_next(info) == (info, ["first"])
    monkeypatch.setattr(following, "SILENT_SECONDS", 0.0)  # no heartbeat since the last look
    beat(first)
    assert follower.find_next(info) == (info, [])
    monkeypatch.undo()
    leave(second)
    beat(first)
    following_info, others = follower.find_next(info)
    assert (following_info.name, others) == ("first", [])


def test_a_log_names_a_second_study_once_and_then_follows_it(tmp_path: Path) -> None:
    first, second = make_two(tmp_path)
    work(first, 1)
    work(second, 2)
    lines: list[str] = []
    info = queries.find_study(first.engine, "first")
    view, follower = PlainView(first.engine, info, lines.append), StudyFollower(first.engine)
    view.mention(follower.find_next(info)[1])
    view.mention(follower.find_next(info)[1])
    assert lines == ["workers run on 'second' too; to watch that: --study second"]
    leave(first)
    url = f"sqlite:///{tmp_path / 'tuner.db'}"
    assert watch_until_interrupted(view, first.engine, info, url, 0.01, follower).name == "second"
