"""The study API gives the same answers as optuna-dashboard, and reads nothing twice."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from helpers.made_studies import add_trial, make_study
from helpers.wsgi_client import ask, nothing_behind
from optuna.trial import TrialState
from optuna_dashboard import save_note, wsgi

from tuner.study.storage import open_storage
from tuner.study.study import JoinedStudy, rejoin_study
from tuner.web import server
from tuner.web import study_api as shown
from tuner.web.server import with_compression
from tuner.web.study_api import StudyApi


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a study with trials of every kind, with notes and an artifact's record."""
    folder = tmp_path_factory.mktemp("made")
    joined = make_study(folder)
    for value in (0.3, 0.9, 0.5):
        add_trial(joined, [0.1, value])
    add_trial(joined, [0.2], TrialState.PRUNED)
    add_trial(joined, [], TrialState.FAIL)
    add_trial(joined, [0.4], TrialState.RUNNING)
    add_trial(joined, [float("nan"), float("inf")], TrialState.RUNNING)
    meta = {"artifact_id": "ab-1", "filename": "a.png", "mimetype": "image/png", "encoding": None}
    joined.storage.set_trial_system_attr(6, "artifacts:ab-1", json.dumps(meta))
    joined.storage.set_study_system_attr(1, "dashboard:artifacts:2:cd-2", json.dumps(meta))
    save_note(joined.study, "# all of it\n" * 500)
    for trial, text in zip(joined.study.trials, ("one", "two\n" * 2000, ""), strict=False):
        save_note(optuna.trial.Trial(joined.study, trial._trial_id), text)
    joined.engine.dispose()
    return folder / "tuner.db"


@pytest.fixture
def joined(made: Path, tmp_path: Path) -> Iterator[JoinedStudy]:
    """That study, in a copy for one test."""
    copy = rejoin_study(f"sqlite:///{shutil.copy(made, tmp_path)}", "made")
    yield copy
    copy.engine.dispose()


@pytest.fixture
def app(joined: JoinedStudy, tmp_path: Path) -> Iterator[StudyApi]:
    storage, engine = open_storage(f"sqlite:///{tmp_path / 'tuner.db'}")
    yield StudyApi(wsgi(storage), storage, engine)
    engine.dispose()


def plain(found: dict[str, Any]) -> dict[str, Any]:
    """Sort what optuna-dashboard returns in arbitrary order."""
    for space in (found["union_search_space"], found["intersection_search_space"]):
        for kind in space:
            kind["distribution"].get("choices", []).sort(key=str)
    found["union_user_attrs"].sort(key=str)
    return found


def study_of(app: Any, after: int = 0) -> dict[str, Any]:
    found = ask(app, f"/api/studies/1?after={after}")
    assert found.code == 200 and found.headers["Content-Type"] == "application/json"
    return plain(json.loads(found.body))


@pytest.mark.parametrize("after", [0, 3, 7, 99])
def test_it_says_what_optuna_dashboard_says(app: StudyApi, after: int) -> None:
    said, theirs = study_of(app, after), study_of(app.app, after)
    assert said == theirs
    assert len(said["trials"]) == max(0, 7 - after)
    assert study_of(app, after) == theirs  # and again
    if after == 0:
        assert said["trials"][1]["note"]["body"] == "two\n" * 2000 and said["best_trials"][0]["number"] == 1
        assert said["trials"][5]["artifacts"][0]["filename"] == "a.png"
        assert said["note"]["body"] == "# all of it\n" * 500


def test_the_list_is_the_same(app: StudyApi, tmp_path: Path) -> None:
    make_study(tmp_path, "second").engine.dispose()
    both = ask(app, "/api/studies"), ask(app.app, "/api/studies")
    assert json.loads(both[0].body) == json.loads(both[1].body)
    assert len(json.loads(both[0].body)["study_summaries"]) == 2


def test_what_changes_is_seen_at_once(app: StudyApi, joined: JoinedStudy) -> None:
    before = study_of(app)
    running = joined.study.trials[5]
    joined.storage.set_trial_intermediate_value(running._trial_id, 2, 0.95)
    save_note(optuna.trial.Trial(joined.study, 1), "another")
    save_note(joined.study, "short")
    assert study_of(app)["trials"][5]["intermediate_values"][-1] == {"step": 2, "value": 0.95}
    joined.storage.set_trial_state_values(running._trial_id, TrialState.COMPLETE, [0.95])
    add_trial(joined, [0.99])
    now = study_of(app)
    assert now["trials"][0]["note"]["body"] == "another" and now["note"]["body"] == "short"
    assert now["trials"][5]["state"] == "Complete" and now["best_trials"][0]["number"] == 7
    assert now["trials"][1] == before["trials"][1]
    fresh = StudyApi(app.app, app.storage, app.engine)
    assert now == study_of(fresh)


def test_constraints_are_told_as_optuna_dashboard_shows_them(app: StudyApi, joined: JoinedStudy) -> None:
    trial = joined.study.ask()
    trial.set_constraint("params", 0.5)
    trial.set_constraint("macs", -0.5)
    told = study_of(app)["trials"]
    assert told[-1]["constraints"] == [0.5, -0.5] and told[0]["constraints"] == []


def test_a_recipe_is_told_by_the_note_alone_if_there_is_one(app: StudyApi, joined: JoinedStudy) -> None:
    for has_note in (True, False):
        trial = joined.study.ask()
        trial.set_user_attr("recipe", {"version": 2})
        trial.set_user_attr("mark", 1)
        if has_note:
            save_note(trial, "the recipe")
        joined.study.tell(trial, 0.1)
    found = study_of(app)
    told = [[one["key"] for one in trial["user_attrs"]] for trial in found["trials"][-2:]]
    assert told == [["mark"], ["recipe", "mark"]]
    assert "recipe" not in {one["key"] for one in found["union_user_attrs"]}
    assert joined.study.trials[-2].user_attrs["recipe"] == {"version": 2}


def test_parameters_that_come_late_are_among_those_of_all(app: StudyApi, joined: JoinedStudy) -> None:
    study_of(app)
    trial = joined.study.ask()
    trial.suggest_float("late", 0, 1)
    assert "late" in {kind["name"] for kind in study_of(app)["union_search_space"]}
    trial.set_user_attr("mark", 1)
    joined.study.tell(trial, 0.1)
    assert {"key": "mark", "sortable": True} in study_of(app)["union_user_attrs"]


def test_a_note_that_was_looked_at_half_written_is_told_whole_soon(
    app: StudyApi, joined: JoinedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("tuner.web.study_api.time.monotonic", lambda: now[0])
    study_of(app)
    storage = joined.storage
    storage.set_study_system_attr(1, "dashboard:1:note_ver", 2)  # optuna-dashboard writes the number first
    assert study_of(app)["trials"][0]["note"] == {"version": 2, "body": "one"}
    storage.set_study_system_attr(1, "dashboard:1:note_str:0", "two")
    assert study_of(app)["trials"][0]["note"] == {"version": 2, "body": "two"}
    now[0] = 60.0
    assert study_of(app)["trials"][0]["note"]["body"] == "two"
    assert not app.caches[1].unsettled


def test_trials_and_notes_that_were_told_are_not_read_again(app: StudyApi) -> None:
    study_of(app)
    kept = dict(app.caches[1].finished)
    rows: list[str] = []
    sa.event.listen(app.engine, "before_cursor_execute", lambda *call: rows.append(str((call[2], call[3]))))
    study_of(app)
    notes = [row for row in rows if "note" in row and "study_system" in row]
    assert len(kept) == 5 and len(notes) == 1 and "NOT LIKE" in notes[0]
    assert all(app.caches[1].finished[trial][2] is said for trial, (_, _, said) in kept.items())


def test_many_new_notes_are_read_at_once(app: StudyApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "MAX_SINGLE_NOTES", 1)
    assert study_of(app) == study_of(app.app)


def test_large_answers_are_compressed_once(app: StudyApi, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, plain, made = with_compression(app), ask(app, "/api/studies/1"), []
    compress = gzip.compress
    monkeypatch.setattr(gzip, "compress", lambda *given, **how: made.append(compress(*given, **how)) or made[-1])
    assert "Content-Encoding" not in ask(whole, "/api/studies/1", accept_encoding="gzip").headers
    monkeypatch.setattr(server, "LARGE", 1000)
    packed = ask(whole, "/api/studies/1", accept_encoding="gzip, br")
    assert packed.headers["Content-Encoding"] == "gzip" and gzip.decompress(packed.body) == plain.body
    assert ask(whole, "/api/studies/1", accept_encoding="gzip").body == packed.body and made == [packed.body]
    assert "Content-Encoding" not in ask(whole, "/api/studies/1").headers


def test_a_study_that_is_not_there_any_more(app: StudyApi, joined: JoinedStudy) -> None:
    assert ask(app, "/api/studies/99").code == 404
    study_of(app)
    optuna.delete_study(study_name="made", storage=joined.storage)
    assert ask(app, "/api/studies/1").code == 404 and 1 not in app.caches
    assert json.loads(ask(app, "/api/studies").body) == {"study_summaries": []}


def test_the_best_trials_of_several_goals_are_those_of_the_front(app: StudyApi, joined: JoinedStudy) -> None:
    two = optuna.create_study(storage=app.storage, study_name="two goals", directions=["minimize", "maximize"])
    for values in ([1.0, 2.0], [0.5, 1.0], [1.5, 1.5]):
        two.add_trial(optuna.trial.create_trial(values=values))
    two.add_trial(optuna.trial.create_trial(state=TrialState.PRUNED))
    address = f"/api/studies/{two._study_id}"
    ours, theirs = (json.loads(ask(each, address).body) for each in (app, app.app))
    assert sorted(trial["number"] for trial in ours["best_trials"]) == [0, 1]
    by_number = [sorted(each.pop("best_trials"), key=lambda trial: trial["number"]) for each in (ours, theirs)]
    assert by_number[0] == by_number[1] and plain(ours) == plain(theirs)


def test_studies_of_others_are_left_to_optuna_dashboard(app: StudyApi, joined: JoinedStudy) -> None:
    optuna.create_study(storage=app.storage, study_name="another")
    marked = StudyApi(nothing_behind, app.storage, app.engine)
    joined.storage.set_study_system_attr(1, shown.PREFERENTIAL, True)
    assert ask(marked, "/api/studies/1").body.startswith(b"behind")
    listed = json.loads(ask(marked, "/api/studies").body)["study_summaries"]
    assert [study["is_preferential"] for study in listed] == [True, False]


@pytest.mark.parametrize(
    "target", ["/api/meta", "/api/studies/1/plot/edf", "/api/studies/x", "/api/studies/1?after=-1"]
)
def test_all_else_is_left_to_the_app_behind(app: StudyApi, target: str) -> None:
    marked = StudyApi(nothing_behind, app.storage, app.engine)
    assert ask(marked, target).body.startswith(b"behind")
    assert ask(marked, "/api/studies/1", "DELETE").body.startswith(b"behind")
