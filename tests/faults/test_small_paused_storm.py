"""The storm on paused trials, in small: kill -9 of workers, a fleet and a host while trials rest."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.command_line import alter

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_paused_trials_survive_a_storm_and_what_went_wrong_would_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.paused_aftermath import PausedLeft, judged
    from benchmarks.paused_storm import QUICK, weathered

    with weathered(QUICK, tmp_path, print) as (left, calm, befell):
        assert [row for row in (*befell, *judged(left, calm)) if row.met is False] == []

        with (left.folder / "book").open("a") as book:
            book.write("".join(f"{token} 0 1 0123\n" for token in ("one", "other", "one")))
        alter(left.url, "UPDATE tuner_epoch SET value = value * (1 + 2.3e-16) WHERE epoch = 1")
        alter(left.url, "UPDATE tuner_claim SET paused_at = 2 WHERE paused_at = 1")
        alter(left.url, "UPDATE tuner_claim SET worker = 'thief' WHERE paused_at IS NULL")
        alter(left.url, "UPDATE tuner_decision SET action = 'resume' WHERE action = 'pause'")
        again = PausedLeft(left.url, left.folder, left.trials, left.epochs)
        seen = {row.what.strip() for row in judged(again, calm) if row.met is False}
    assert seen >= {
        "resting trials with other epochs than those until they rest",
        *("times a paused trial went on, by claims", "by states of trials", "that do not follow from each other"),
        *("claims taken from a worker that held them", "trials whose steps two attempts took by turns"),
        *("epochs' metrics equal bit for bit", "weights before a step equal bit for bit"),
    }
