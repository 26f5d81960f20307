"""The private names in tuner/web/dashboard_compat.py work as expected in the installed version."""

from __future__ import annotations

import re

import optuna
import optuna_dashboard
import plotly.graph_objects as go
import pytest
from helpers.wsgi_client import ask
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, create_trial

from tuner.web import dashboard_compat
from tuner.web.api_routes import ROUTES
from tuner.web.dashboard_compat import SearchSpaces, frozen_study

HERE = f"optuna-dashboard {optuna_dashboard.__version__}: "
X, Y = FloatDistribution(0, 1), FloatDistribution(2, 3)


@pytest.fixture
def trials() -> list[FrozenTrial]:
    study = optuna.create_study()
    for params in ({"x": 0.5}, {"x": 0.25, "y": 2.5}):
        kinds = {name: {"x": X, "y": Y}[name] for name in params}
        study.add_trial(create_trial(value=1.0, params=params, distributions=kinds, user_attrs={"note": 1}))
    return study.trials


def test_a_study_is_serialized() -> None:
    storage = optuna.storages.InMemoryStorage()
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE], "made")
    storage.set_study_user_attr(study_id, "tuner", {})
    found = dashboard_compat.serialize_study(frozen_study(storage, study_id, {}))
    assert (found["study_id"], found["study_name"]) == (study_id, "made"), (
        HERE + "a study is serialized differently"
    )


def test_a_trial_is_serialized_with_its_note(trials: list[FrozenTrial]) -> None:
    attrs = {"dashboard:0:note_ver": 1, "dashboard:0:note_str:0": "hello"}
    found = dashboard_compat.serialize_trial(1, trials[0], attrs)
    assert found["number"] == 0 and found["note"]["body"] == "hello", HERE + "trials and notes have changed"


def test_the_detail_of_a_study_has_its_spaces_and_plots_and_no_trials(trials: list[FrozenTrial]) -> None:
    space = SearchSpaces()
    space.add(trials)
    storage = optuna.storages.InMemoryStorage()
    study = optuna.create_study(storage=storage, study_name="made")
    optuna_dashboard.save_plotly_graph_object(study, go.Figure(layout={"title": "ours"}), graph_object_id="p")
    attrs = storage.get_study_system_attrs(storage.get_study_id_from_name("made"))
    frozen = frozen_study(storage, storage.get_study_id_from_name("made"), attrs)
    found = dashboard_compat.serialize_study_without_trials(frozen, attrs, space)
    assert "trials" not in found and found["name"] == "made", HERE + "the detail of a study has other keys"
    names = [one["name"] for one in found["union_search_space"]]
    assert names == ["x", "y"], HERE + "search spaces are collected in another way"
    assert [one["name"] for one in found["intersection_search_space"]] == ["x"], HERE + "so is their intersection"
    assert [one["id"] for one in found["plotly_graph_objects"]] == ["p"], HERE + "saved plots are kept elsewhere"


def test_the_files_of_the_page_are_found() -> None:
    files = dashboard_compat.dashboard_files()
    assert (files / "index.html").is_file(), HERE + "the page has moved"
    bundle = (files / "public" / "bundle.js").read_bytes()
    assert bundle.count(dashboard_compat.ROUTER) == 1, HERE + "the script gives the page's path in another way"


def test_every_request_that_optuna_dashboard_answers_is_checked() -> None:
    app = dashboard_compat.dashboard_app(optuna.storages.InMemoryStorage(), None)
    names = {
        "<study_id:int>": "STUDY", "<trial_id:int>": "TRIAL", "<history_id>": "HISTORY", "<plot_type>": "PLOT",
        "<artifact_id:re:[0-9a-fA-F-]+>": "ARTIFACT", "<filename:path>": "FILE",
    }  # fmt: skip
    ours = (
        "/dashboard",
        "/artifacts",
        "/incompatible-rdb-schema",
    )  # answered by us, or only with Optuna's storage
    found = {
        (route.method, re.sub("<[^>]+>", lambda part: names[part[0]], route.rule))
        for route in app.routes
        if route.rule != "/" and not route.rule.startswith(ours)
    }
    checked = {(route.method, route.path) for route in ROUTES}
    assert found == checked, HERE + f"other requests are answered: {sorted(found ^ checked)}"


def test_exceptions_of_optuna_dashboard_reach_us() -> None:
    app = dashboard_compat.dashboard_app(optuna.storages.InMemoryStorage(), None)
    with pytest.raises(KeyError):
        ask(app, "/api/studies/9/plot/edf")
    with pytest.raises(KeyError):
        ask(app, "/static/bundle.js")  # it expects a header, which we add
    assert ask(app, "/api/meta").headers["Content-Type"] == "application/json", HERE + "answers have another type"
