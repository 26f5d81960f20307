"""Plots and a note of the whole study, where optuna-dashboard finds them."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import optuna
import pytest
import sqlalchemy as sa
from helpers.search_studies import EVIL, add, open_study
from optuna_dashboard import get_note, save_note

from tuner.plots.charts import Chart, Series, thin_chart
from tuner.report.dashboard import escape_markdown, save_figures, watch_figures
from tuner.study import queries
from tuner.study.study import JoinedStudy

PARAMS = {"lr": 1e-3, "k": 8, "loss": "bce"}


@pytest.fixture
def study(tmp_path: Path) -> Iterator[JoinedStudy]:
    joined = open_study(tmp_path)
    add(joined, PARAMS, [0.1, 0.5])
    yield joined
    joined.engine.dispose()


def keep(study: JoinedStudy) -> None:
    save_figures(study.storage, study.engine, queries.find_study(study.engine, None))


def plots(study: JoinedStudy) -> dict[str, str]:
    """As the dashboard puts them together."""
    from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

    return get_plotly_graph_objects(study.storage.get_study_system_attrs(study.id))


def until(true: Callable[[], bool]) -> None:
    end = monotonic() + 60
    while not true():
        assert monotonic() < end
        sleep(0.02)


def test_the_dashboard_finds_plots_and_a_note(study: JoinedStudy) -> None:
    keep(study)
    found = plots(study)
    assert {"tuner-history", "tuner-curves", "tuner-cost"} <= found.keys()
    assert all(json.loads(plain)["data"] for plain in found.values())
    note = get_note(study.study)
    assert "**Ship trial 0.**" in note and "What to try next" in note and "tuner report --study searched" in note


def test_they_take_the_place_of_those_before(study: JoinedStudy) -> None:
    keep(study)
    before = plots(study)
    add(study, PARAMS | {"lr": 1e-2}, [0.2, 0.9])
    keep(study)
    after = plots(study)
    assert before.keys() <= after.keys() and before["tuner-history"] != after["tuner-history"]
    assert "Ship trial 1" in get_note(study.study)


def test_what_has_not_changed_is_not_written_again(study: JoinedStudy) -> None:
    keep(study)
    written: list[str] = []

    def heard(*told: object) -> None:
        written.append(str(told[2]).split()[0])

    sa.event.listen(study.engine, "before_cursor_execute", heard)
    keep(study)
    assert written and set(written) <= {"SELECT", "PRAGMA"}


def test_a_plot_that_grew_too_long_does_not_stay_as_it_was(
    study: JoinedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(study)
    assert "tuner-history" in plots(study)
    monkeypatch.setattr("tuner.report.dashboard.MAX_LENGTH", 10)
    keep(study)
    assert plots(study) == {} and get_note(study.study)


def test_a_plot_of_many_trials_is_thinned_and_says_so(study: JoinedStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in range(7):
        add(study, PARAMS | {"lr": 1e-3 + at * 1e-4}, [0.1 * at])
    monkeypatch.setattr("tuner.report.dashboard.MAX_POINTS", 3)
    keep(study)
    assert "(one point in 3)" in plots(study)["tuner-history"]
    many = Chart("t", series=[Series("", range(10), [float(at) for at in range(10)], texts=list("abcdefghij"))])
    (few,) = thin_chart(many, 4).series
    assert (list(few.x), few.texts) == ([0, 3, 6, 9], list("adgj")) and thin_chart(many, 10) is many


def test_a_persons_note_is_left(study: JoinedStudy) -> None:
    save_note(study.study, "mine")
    keep(study)
    assert get_note(study.study) == "mine" and plots(study)


def test_what_people_wrote_is_no_markup_in_the_note() -> None:
    assert (
        "<" not in escape_markdown(EVIL).replace("\\<", "")
        and escape_markdown("[a](b)\n# c") == "\\[a\\](b) \\# c"
    )


def test_a_study_without_a_finished_trial_has_a_note(tmp_path: Path) -> None:
    joined = open_study(tmp_path)
    keep(joined)
    assert "nothing to ship" in get_note(joined.study) and plots(joined) == {}
    joined.engine.dispose()


@pytest.mark.slow
def test_every_study_is_kept_up_to_date_until_told_to_stop(study: JoinedStudy) -> None:
    stop = threading.Event()
    watcher = threading.Thread(target=watch_figures, args=(study.storage, study.engine, stop, None, 0.05))
    watcher.start()
    try:
        until(lambda: "Ship trial 0" in get_note(study.study))
        add(study, PARAMS | {"lr": 1e-2}, [0.2, 0.9])
        until(lambda: "Ship trial 1" in get_note(study.study))
    finally:
        stop.set()
        watcher.join(60)
    assert not watcher.is_alive()


def test_an_error_is_told_once_and_does_not_end_it(
    study: JoinedStudy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    calls = threading.Semaphore(0)

    def broken(*told: object) -> None:
        calls.release()
        raise OSError("the disk is full")

    monkeypatch.setattr("tuner.report.dashboard.queries.read_studies", broken)
    stop = threading.Event()
    watcher = threading.Thread(target=watch_figures, args=(study.storage, study.engine, stop, None, 0.01))
    with caplog.at_level(logging.WARNING, "tuner"):
        watcher.start()
        for _ in range(3):
            assert calls.acquire(timeout=60)
        stop.set()
        watcher.join(60)
    assert [record.message for record in caplog.records if record.name == "tuner"] == [
        "the study's plots could not be saved: the disk is full"
    ]


optuna.logging.set_verbosity(optuna.logging.WARNING)
