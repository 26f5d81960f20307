"""Plots, a note and a report of a study, whatever database it is in."""

from __future__ import annotations

import json

import pytest
from helpers.search_studies import PARAMETERS, add
from optuna_dashboard import get_note
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

from tuner.goal import maximize
from tuner.report.dashboard import save_figures
from tuner.report.study_data import read_study
from tuner.study import queries
from tuner.study.info import StudyInfo
from tuner.study.study import join_study

INFO = StudyInfo("searched", "unet_k", maximize("iou"), "shapes", False, 0, PARAMETERS, key="abc123")


def test_plots_and_a_note_are_kept_and_replaced_in_every_database(
    storage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined = join_study(storage_url, INFO)
    storage, info = joined.storage, queries.find_study(joined.engine, "searched")
    for number, value in enumerate((0.3, 0.6)):
        add(joined, {"lr": 1e-3, "k": 8 + 2 * number, "loss": "bce"}, [0.1, value])
        save_figures(storage, joined.engine, info)
        found = get_plotly_graph_objects(storage.get_study_system_attrs(joined.id))
        assert json.loads(found["tuner-history"])["data"] and f"Ship trial {number}" in get_note(joined.study)
    assert [trial.value for trial in read_study(joined.engine, info).finished] == [0.6, 0.3]
    monkeypatch.setattr("tuner.report.dashboard.MAX_LENGTH", 10)
    save_figures(storage, joined.engine, info)
    assert get_plotly_graph_objects(storage.get_study_system_attrs(joined.id)) == {}
    joined.engine.dispose()
