"""What `tuner run` shows, from a real study."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from helpers.command_line import home_url
from helpers.optuna_revisions import prepare_file
from optuna.trial import TrialState
from rich.console import Console

from tuner.cli import live
from tuner.errors import StudyError
from tuner.goal import Goal
from tuner.paths import Home
from tuner.space.search_settings import SearchSettings
from tuner.study import budget, database, epoch_queries, queries
from tuner.study.info import StudyInfo
from tuner.study.optuna_tables import studies, trials
from tuner.study.study import JoinedStudy, join_study
from tuner.study.tables import claim_table, epoch_table, worker_table

WORKER = {"host": "node7.lab", "pid": 1, "born": 1.0, "device": "cpu", "state": "training", "worker": "w"}
EPOCH = {"seconds": 1.0, "images_per_second": 9.0, "peak_memory": 1, "lr": 0.1, "metrics": {}}


@pytest.fixture
def study(home: Path) -> Iterator[JoinedStudy]:
    prepare_file(Home(home).make().folder / "tuner.db")
    joined = join_study(home_url(home), StudyInfo("s", "unet_k", Goal("iou", "maximize"), "shapes"))
    budget.set_budget(joined.engine, joined.id, num_trials=3)
    doing = {"number": 0, "step": 2, "steps": 4, "params": {"lr": 0.00123}}
    with joined.engine.begin() as db:
        db.execute(worker_table.insert().values(study_id=joined.id, **WORKER, **doing))
    yield joined
    joined.engine.dispose()


def begin(study: JoinedStudy) -> optuna.Trial:
    trial = study.study.ask()
    trial.suggest_float("lr", 1e-4, 1e-2)
    trial.set_user_attr("recipe", {"epochs": 4})
    slot = {"study_id": study.id, "slot": trial.number + 1, "trial_id": trial._trial_id, "worker": "w"}
    with study.engine.begin() as db:
        db.execute(claim_table.insert().values(slot))
    return trial


def rest(study: JoinedStudy, trial: optuna.Trial, epoch: int | None) -> None:
    same = claim_table.c.trial_id == trial._trial_id
    with study.engine.begin() as db:
        db.execute(sa.update(claim_table).where(same).values(paused_at=epoch))


def epoch(study: JoinedStudy, trial: optuna.Trial, number: int, value: float) -> None:
    with study.engine.begin() as db:
        row = {"trial_id": trial._trial_id, "epoch": number, "value": value, **EPOCH}
        db.execute(epoch_table.insert().values(row))


def plain(study: JoinedStudy, lines: list[str]) -> live.PlainView:
    return live.PlainView(study.engine, queries.find_study(study.engine, "s"), lines.append)


def test_a_log_gets_a_line_for_each_new_best_and_each_end(study: JoinedStudy) -> None:
    lines: list[str] = []
    with plain(study, lines) as show:
        trial = begin(study)
        with study.engine.begin() as db:  # its heartbeat is later than the first epoch
            db.execute(sa.update(worker_table).values(number=None, steps=0))
        for at, value in enumerate((0.5, 0.4, 0.6), start=1):
            epoch(study, trial, at, value)
            show()
        trial.set_user_attr("result", {"best_value": 0.6, "best_epoch": 3, "epochs": 3})
        study.study.tell(trial, 0.6)
    assert lines[:2] == [
        "trial 0 epoch 1/4: iou 0.5000 (best so far)",
        "trial 0 epoch 3/4: iou 0.6000 (best so far)",
    ]
    assert lines[2].startswith("[1 of 3] trial 0 finished: iou 0.6000 at epoch 3; lr=")
    assert len(lines) == 3


def test_a_slow_epoch_is_reported_within(study: JoinedStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    begin(study)
    monkeypatch.setattr(live, "REPORT_SECONDS", 0.0)
    with plain(study, lines) as show:
        for batch in (0, 120, 121):
            with study.engine.begin() as db:
                db.execute(sa.update(worker_table).values(batch=batch, batches=450 if batch else 0))
            show()
    assert lines[0] == "trial 0 epoch 3/4, step 121/450" and set(lines) == {lines[0]}


def test_a_pruned_and_a_failed_trial_say_why(study: JoinedStudy) -> None:
    lines: list[str] = []
    with plain(study, lines):
        pruned, failed = begin(study), begin(study)
        pruned.set_user_attr("result", {"best_value": 0.1, "best_epoch": 1, "epochs": 1})
        study.study.tell(pruned, state=TrialState.PRUNED)
        failed.set_user_attr("failure", "Traceback ...\nValueError: of the user's own\n")
        study.study.tell(failed, state=TrialState.FAIL)
    assert lines[0].startswith("[1 of 3] trial 0 pruned after epoch 1, best iou 0.1000 at epoch 1; lr=")
    assert lines[1].startswith("[2 of 3] trial 1 failed: ValueError: of the user's own; lr=")


def test_a_trial_that_is_resumed_while_another_one_ends_is_told_of(study: JoinedStudy) -> None:
    """The number of trials that have ended stays the same."""
    lines: list[str] = []
    with plain(study, lines) as show:
        show.info = replace(show.info, search=SearchSettings("early", "promote"))
        first, second = begin(study), begin(study)
        epoch(study, first, 1, 0.5)
        study.study.tell(first, state=TrialState.PRUNED)
        rest(study, first, 1)
        show()
        with study.engine.begin() as db:
            db.execute(sa.update(trials).where(trials.c.trial_id == first._trial_id).values(state="RUNNING"))
        rest(study, first, None)
        study.study.tell(second, 0.4)
        show()
        epoch(study, first, 2, 0.6)
        show()
        with study.engine.begin() as db:
            db.execute(sa.update(trials).where(trials.c.trial_id == first._trial_id).values(state="PRUNED"))
        rest(study, first, 3)
    told = [line.partition(";")[0].partition(", best")[0] for line in lines]
    assert told == [
        "[1 of 3] trial 0 paused at 1 of 4",
        "[1 of 3] trial 1 finished: iou - at epoch None",
        "trial 0 epoch 2/4: iou 0.6000 (best so far)",
        "[2 of 3] trial 0 paused at 3 of 4",
    ]


def test_what_ended_before_is_not_told_again(study: JoinedStudy) -> None:
    study.study.tell(begin(study), 0.6)
    lines: list[str] = []
    with plain(study, lines) as show:
        show()
    assert lines == []


def test_epochs_recorded_before_are_not_told_again_and_count_for_the_best(study: JoinedStudy) -> None:
    trial = begin(study)
    epoch(study, trial, 1, 0.5)
    epoch(study, trial, 2, 0.7)
    epoch(study, trial, 3, 0.6)
    lines: list[str] = []
    with plain(study, lines) as show:
        show()
        assert lines == []
        epoch(study, trial, 4, 0.8)
        show()
    assert lines == ["trial 0 epoch 4/4: iou 0.8000 (best so far)"]


def test_a_first_new_epoch_below_the_recorded_best_is_no_best(study: JoinedStudy) -> None:
    trial = begin(study)
    epoch(study, trial, 1, 0.7)
    lines: list[str] = []
    with plain(study, lines):
        epoch(study, trial, 2, 0.6)
    assert lines == ["trial 0 epoch 2/4: iou 0.6000"]


def test_without_a_terminal_the_view_is_plain(study: JoinedStudy) -> None:
    assert isinstance(live.make_view(study.engine, queries.find_study(study.engine, "s")), live.PlainView)


def test_an_epoch_without_validation_is_recorded_and_not_told(study: JoinedStudy) -> None:
    trial = study.study.ask()
    with study.engine.begin() as db:
        claim = {"study_id": study.id, "slot": 9, "trial_id": trial._trial_id, "worker": "w", "deaths": 0}
        db.execute(claim_table.insert().values(claim))
        for epoch, value in ((1, None), (2, 0.5)):
            row = {"trial_id": trial._trial_id, "epoch": epoch, "value": value, **EPOCH}
            db.execute(epoch_table.insert().values(row))
        assert epoch_queries.read_open_epochs(db, study.id) == [(trial._trial_id, trial.number, 2, 0.5)]
    assert [row["value"] for row in epoch_queries.read_epochs(study.engine, trial._trial_id)] == [None, 0.5]


def screen(study: JoinedStudy, **how: Any) -> live.LiveView:
    """A live view on a terminal of which all is recorded."""
    console = Console(file=io.StringIO(), width=100, height=30, record=True, force_terminal=True)
    return live.LiveView(study.engine, queries.find_study(study.engine, "s"), console, **how)


def drawn(show: live.LiveView) -> str:
    """What stands on the screen now."""
    console = Console(file=io.StringIO(), width=100, height=30, record=True)
    console.print(show.screen.renderable)
    return console.export_text()


def test_the_screen_shows_the_running_trial_beside_the_best(study: JoinedStudy) -> None:
    trial, other = begin(study), begin(study)
    for at, value in enumerate((0.2, 0.7, 0.75), start=1):
        epoch(study, trial, at, value)
    study.study.tell(trial, 0.75)
    epoch(study, other, 1, 0.3)
    epoch(study, other, 2, 0.5)
    with study.engine.begin() as db:
        db.execute(sa.update(worker_table).values(number=other.number))
    with screen(study) as show:
        show()
        assert show.seen is not None
        assert show.seen.best == [(1, 0.2), (2, 0.7), (3, 0.75)]
        assert show.seen.curves == {1: [(1, 0.3), (2, 0.5)]}
        shown = drawn(show)
    for words in (
        "1 of 3 trials",
        "iou 0.7500",
        "node7:1",
        "2/4",
        "0.5000",
        "-0.2000",
        "spent: 5 epochs",
        "vs best",
    ):
        assert words in shown


def test_the_curve_of_the_best_is_read_again_only_for_another_best(study: JoinedStudy) -> None:
    said: list[str] = []
    first = begin(study)
    epoch(study, first, 1, 0.5)
    study.study.tell(first, 0.5)
    with study.engine.begin() as db:
        db.execute(sa.update(worker_table).values(number=None, state="idle"))
    sa.event.listen(study.engine, "before_cursor_execute", lambda *told: said.append(told[2]))

    def curves() -> int:
        return sum("ORDER BY tuner_epoch.epoch" in query for query in said)

    with screen(study) as show:
        show()
        assert show.best == [(1, 0.5)] and curves() == 1
        show()
        assert show.best == [(1, 0.5)] and curves() == 1
        second = begin(study)
        epoch(study, second, 1, 0.9)
        study.study.tell(second, 0.9)
        show()
        assert show.best == [(1, 0.9)] and curves() == 2


def test_a_page_leaves_its_last_picture_behind(study: JoinedStudy) -> None:
    with screen(study, page=True) as show:
        show()
    assert show.console
    *_, after = show.console.export_text().rpartition("0 of 3 trials")
    assert "spent: 0 epochs" in after


# Watching


class Enough(Exception):
    """Ends a watch, as Ctrl-C would."""


def watched(study: JoinedStudy, show: live.View, url: str, each: list[Callable[[], object]]) -> None:
    """Watch, doing one thing after each look."""
    steps = iter(each)

    def sleep(_: float) -> None:
        step = next(steps, None)
        if step is None:
            raise Enough
        step()

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Enough):
        patch.setattr("tuner.cli.live.time.sleep", sleep)
        live.watch_until_interrupted(show, study.engine, queries.find_study(study.engine, "s"), url, 1.0)


def hide(home: Path) -> None:
    (home / "tuner.db").rename(home / "elsewhere.db")


def bring_back(home: Path) -> None:
    (home / "elsewhere.db").rename(home / "tuner.db")


def test_a_database_that_is_away_is_waited_for_with_the_last_picture(study: JoinedStudy, home: Path) -> None:
    show = screen(study)
    pictures: list[str] = []

    def look() -> None:
        pictures.append(drawn(show))

    def leave() -> None:
        study.engine.dispose()
        hide(home)

    def back() -> None:
        look()
        bring_back(home)

    watched(study, show, home_url(home), [look, leave, back, look])
    before, away, after = pictures
    assert "database unreachable" not in before + after
    assert "database unreachable since " in away
    assert all("0 of 3 trials" in picture for picture in pictures)


def test_lines_say_that_a_database_is_away_and_back_once(study: JoinedStudy, home: Path) -> None:
    lines: list[str] = []

    def leave() -> None:
        study.engine.dispose()
        hide(home)

    watched(
        study, plain(study, lines), home_url(home), [leave, lambda: None, lambda: bring_back(home), lambda: None]
    )
    assert lines[0].startswith("database unreachable since ")
    assert lines[1:] == ["the database is reachable again"]


def test_a_study_that_is_deleted_ends_the_watch(study: JoinedStudy, home: Path) -> None:
    info, show = queries.find_study(study.engine, "s"), plain(study, [])
    with study.engine.begin() as db:
        db.execute(sa.update(studies).values(study_name="another"))  # as SQLite gives its id to the next
    with pytest.raises(StudyError, match="study 's' was deleted"):
        live.watch_until_interrupted(show, study.engine, info, home_url(home), 1.0)


def test_an_error_that_does_not_pass_ends_the_watch(study: JoinedStudy, home: Path) -> None:
    broken = sa.exc.ProgrammingError("SELECT", {}, Exception("no such column"))

    class Broken(live.PlainView):
        def __call__(self) -> None:
            raise broken

    with pytest.raises(sa.exc.ProgrammingError):
        info = queries.find_study(study.engine, "s")
        live.watch_until_interrupted(
            Broken(study.engine, info, lambda line: None), study.engine, info, home_url(home), 1.0
        )


def test_a_line_of_json_for_each_change(study: JoinedStudy, home: Path) -> None:
    lines: list[str] = []
    show = live.JsonView(study.engine, queries.find_study(study.engine, "s"), lines.append)
    trial = begin(study)

    def beat() -> None:
        with study.engine.begin() as db:
            db.execute(sa.update(worker_table).values(beats=worker_table.c.beats + 1))

    watched(
        study,
        show,
        home_url(home),
        [beat, lambda: epoch(study, trial, 1, 0.5), beat, lambda: study.study.tell(trial, 0.5)],
    )
    told = [json.loads(line) for line in lines]
    assert [(now["cost"]["epochs"], now["ended"]) for now in told] == [(0, 0), (1, 0), (1, 1)]
    assert told[-1]["best"] == {"trial": 0, "value": 0.5, "params": trial.params}
    assert told[-1]["failures"] == {"kinds": {}, "last": []}


def test_an_absent_file_is_not_made(study: JoinedStudy, home: Path) -> None:
    study.engine.dispose()
    hide(home)
    with pytest.raises(live.StorageError) as told:
        live.check_present(study.engine, StudyInfo("s", "", Goal("iou", "maximize"), "", id=1), home_url(home))
    assert database.is_transient(told.value) and not (home / "tuner.db").exists()
    bring_back(home)
