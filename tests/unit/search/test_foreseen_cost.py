"""A trial that cannot reach its first rung in the time that is left is not started."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import sqlalchemy as sa
from helpers.worker_place import Place

from tuner.search.foreseen_cost import foresee_memory
from tuner.space.search_settings import SearchSettings
from tuner.study import budget, queries
from tuner.study.study import rejoin_study


def set_budget(place: Place, **limits: float) -> None:
    joined = rejoin_study(place.url, "tiny")
    budget.set_budget(joined.engine, joined.id, **limits)  # type: ignore[arg-type]
    joined.engine.dispose()


@pytest.mark.parametrize("first_rung", [2, pytest.param("150s", marks=pytest.mark.slow)])
def test_it_is_put_back_and_trained_when_the_hours_are_raised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, first_rung: int | str
) -> None:
    monkeypatch.setattr(logging.getLogger("tuner"), "propagate", True)
    caplog.set_level(logging.INFO, "tuner")
    place = Place(tmp_path, search=SearchSettings(first_rung=first_rung)).study(3, epochs=3)
    place.work()
    place.execute("UPDATE tuner_epoch SET seconds = 100, peak_memory = 5000")
    place.execute("UPDATE tuner_study SET clock_seconds = 0")
    set_budget(place, num_trials=5, hours=130 / 3600)
    place.work()
    before = place.trials()[3:]
    assert [trial.state.name for trial in before] == ["WAITING"] and not before[0].intermediate_values
    assert "trial 3: not started, its first 2 epochs would take about 3.3 min" in caplog.text
    assert "min are left, put back" in caplog.text
    set_budget(place, hours=1.0)
    place.work()
    after = place.trials()[3:]
    assert len(after) == 2 and all(trial.state.is_finished() for trial in after)
    assert after[0].params == before[0].params


def test_the_memory_of_the_largest_recipe_is_foreseen(tmp_path: Path) -> None:
    place = Place(tmp_path).study(3, epochs=1)
    place.work()
    place.execute("UPDATE tuner_epoch SET peak_memory = 5000")
    joined = rejoin_study(place.url, "tiny")
    info = queries.find_study(joined.engine, "tiny")
    assert foresee_memory(joined.engine, info) == pytest.approx(5000, abs=1)
    with joined.engine.begin() as db:
        db.execute(sa.text("DELETE FROM tuner_epoch"))
    assert foresee_memory(joined.engine, info) == 0
    joined.engine.dispose()
