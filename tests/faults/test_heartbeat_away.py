"""The database goes away while somebody watches, and comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.command_line import running
from helpers.fragile_postgres import Fragile
from helpers.trial_rows import put

from tuner.goal import maximize
from tuner.study.info import StudyInfo
from tuner.study.study import join_study


@pytest.mark.slow
def test_a_watch_lives_through_a_database_that_is_stopped(tmp_path: Path, fragile: Fragile) -> None:
    url = fragile.fresh()
    joined = join_study(url, StudyInfo("made", "made", maximize("iou"), "shapes"))
    put(joined, 0, "COMPLETE", [0.5])
    joined.engine.dispose()
    with running(tmp_path, "status", "--watch", "--every", "0.2", "--json", "--storage", url) as process:
        assert process.stdout

        def told() -> dict[str, object]:
            assert process.stdout
            line: dict[str, object] = json.loads(process.stdout.readline())
            return line

        assert told()["ended"] == 1
        fragile.stop()
        assert str(told()["notice"]).startswith("database unreachable since ")
        fragile.start()
        assert told()["notice"] == "the database is reachable again"
        put(joined, 1, "COMPLETE", [0.6])
        while told()["ended"] != 2:  # a line may fall between two of its tables
            pass
        joined.engine.dispose()
