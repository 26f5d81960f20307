"""The storm of the benchmarks, in small: kill -9 of workers, a fleet and a host, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.command_line import alter

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_is_lost_in_a_storm_and_what_were_lost_would_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.aftermath import judged
    from benchmarks.storm import Plan, weathered

    # A slow pace: on a loaded machine, too, the last fault comes before the end of the study
    plan = Plan(kills=8, pauses=1, cuts=1, stops=0, fleets=2, workers=1, trials=5, epochs=10, pace=0.3, seed=1)
    with weathered(plan, tmp_path, print) as (left, calm, befell):
        assert [row for row in (*befell, *judged(left, calm)) if row.met is False] == []

        (trial,) = left.home.glob("trials/*/00002")
        (trial / "attempt-0").mkdir()
        with (left.folder / "book").open("a") as book:
            book.write("trained 0 7\n" * 2)
        alter(left.url, "UPDATE tuner_epoch SET value = value * (1 + 2.3e-16) WHERE epoch = 3")
        alter(left.url, "UPDATE trials SET state = 'FAIL' WHERE number = 1")
        seen = {row.what.strip().partition(" (")[0] for row in judged(left, calm) if row.met is False}
    assert seen == {
        *("that are complete", "that ended exactly once", "that changed after their end"),
        *("more than twice", "results equal bit for bit", "epochs' metrics equal bit for bit", "files left over"),
    }
