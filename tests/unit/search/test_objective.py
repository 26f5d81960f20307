"""From a trial to its recipe, its training and its attributes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import optuna
import pytest
import torch
from helpers.command_line import wait_for, write_space
from helpers.local_training import CPU, IOU
from helpers.made_studies import make_study
from helpers.schedulers import Asked
from helpers.sessions import who
from optuna_dashboard import get_note

from tuner.data.cache import CachedDataset
from tuner.data.datasets import data_name
from tuner.errors import FailureKind, TrialFailed
from tuner.goal import Goal
from tuner.paths import Run
from tuner.recipe import Recipe, Stage
from tuner.search import objective, trial_attrs
from tuner.search.session import Session, TrialSignal
from tuner.space.space import Space, load_space
from tuner.study import epoch_queries
from tuner.study.info import StudyInfo
from tuner.study.pending import ActiveTrial
from tuner.train.loop import EpochReport, Progress, train
from tuner.train.memory import MicroBatches

INFO = StudyInfo("s", "tiny", Goal("iou", "maximize"), "shapes")


@pytest.fixture
def space(tmp_path: Path) -> Space:
    return load_space(str(write_space(tmp_path)))


def chosen(space: Space, plan: StudyInfo = INFO, study: str = "s", number: int = 0) -> Recipe:
    made = optuna.create_study(study_name=study, sampler=optuna.samplers.RandomSampler(seed=1))
    trials = [made.ask() for _ in range(number + 1)]
    return objective.choose_recipe(space, plan, trials[number])


def test_the_seed_of_a_recipe_comes_from_study_and_trial(space: Space) -> None:
    assert chosen(space).seed == chosen(space).seed
    others = [chosen(space, replace(INFO, seed=1)), chosen(space, study="t"), chosen(space, number=1)]
    assert len({chosen(space).seed, *(recipe.seed for recipe in others)}) == 4


def test_the_data_of_the_study_takes_the_place_of_the_spaces_own(space: Space) -> None:
    recipe = chosen(space, replace(INFO, data="/photos"))
    assert (recipe.data.name, recipe.data.args) == ("/photos", {"image_size": 32})


def test_the_folder_is_read_as_the_study_says(space: Space) -> None:
    recipe = chosen(space, replace(INFO, data="/photos", layout="masks=a,b"))
    assert recipe.data.args["layout"] == "masks=a,b"


@pytest.mark.parametrize("rehearsal", [False, True])
def test_the_data_is_divided_as_the_study_says(space: Space, rehearsal: bool) -> None:
    info = replace(INFO, rehearsal=rehearsal)
    assert "split" not in chosen(space, info).data.args  # what an old study trains
    assert chosen(space, replace(info, split="exact")).data.args["split"] == "exact"


def test_a_rehearsal_trains_the_toy_version(space: Space) -> None:
    recipe = chosen(space, replace(INFO, rehearsal=True))
    assert recipe.data.name == "shapes"
    assert recipe.epochs == 2


def test_a_folder_is_named_by_its_full_path(space: Space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    recipe = chosen(space)
    assert data_name(recipe, None) == "shapes"
    assert data_name(recipe, "photos") == data_name(recipe, "./photos") == str(tmp_path / "photos")


def test_a_trials_note_holds_its_recipe_and_the_metrics_of_its_best_epoch(space: Space) -> None:
    recipe = chosen(space)
    reports = [{"epoch": at, "metrics": {"train_iou": at / 10, "val_iou": at / 20}} for at in (1, 2, 3)]
    trial = asked()
    trial_attrs.save_result_note(trial, recipe, INFO.goal, Progress(best_epoch=2, history=reports))
    note = get_note(trial)
    assert "best iou at epoch 2" in note
    assert "| iou | 0.2000 | 0.1000 |" in note
    written = note.partition("```json\n")[2].partition("\n```")[0]
    assert Recipe.from_json(json.loads(written)) == recipe


def asked(**notes: object) -> optuna.Trial:
    trial = optuna.create_study(study_name="s").ask()
    for name, value in notes.items():
        trial.set_user_attr(name, value)
    return trial


def test_a_trial_that_goes_on_keeps_the_recipe_it_began_with(space: Space) -> None:
    began = replace(chosen(space), batch_size=3)
    assert objective.choose_recipe(space, INFO, asked(recipe=began.to_json())) == began


def test_a_branch_of_the_space_that_fails_fails_its_trial_alone(tmp_path: Path) -> None:
    space = load_space(str(write_space(tmp_path, extra="    raise ValueError('only now')\n")))
    with pytest.raises(TrialFailed, match=r"suggest\(\) raised ValueError: only now \(line \d+\)") as failed:
        objective.choose_recipe(space, INFO, asked())
    assert failed.value.kind is FailureKind.SUGGEST


def test_a_failed_trial_has_a_note_with_the_reason_and_its_recipe(space: Space) -> None:
    trial = asked(recipe=chosen(space).to_json())
    trial_attrs.save_failure_note(trial, "loss is nan at epoch 3")
    shown = "".join(map(str, trial.study._storage.get_study_system_attrs(trial.study._study_id).values()))
    assert "loss is nan at epoch 3" in shown
    assert '"task": "binary"' in shown


class Patient(Session):
    """A session that waits for the scheduler, which is asked in the background."""

    def check_signal(self, held: ActiveTrial) -> TrialSignal:
        wait_for(lambda: not held.unjudged)
        return super().check_signal(held)


def test_no_trial_is_pruned_in_a_stage_that_is_not_judged(
    tmp_path: Path, toy_recipe: Recipe, toy_data: CachedDataset
) -> None:
    joined = make_study(tmp_path)
    asked = Asked(answer_at=2)
    recipe = replace(toy_recipe, stages=(Stage(2, judged=False), Stage(2)), epochs=4)
    with Patient(joined, who("me")) as session:
        session.sync.scheduler = asked
        held = session.take_trial()
        assert held is not None
        joint = objective.TrialContext(
            session, torch.device("cpu"), MicroBatches(tmp_path / "micro.json"), None, lambda run: None
        )
        outcome = objective.train_recipe(joint, held, recipe, toy_data, Run(tmp_path / "run").make(), None)
        session.put_back_trial(held)
    assert outcome.end == "finished" and asked.epochs == [3]
    rows = epoch_queries.read_epochs(joined.engine, held.id)
    assert len(rows) == 4 and all(row["value"] is not None for row in rows)


@pytest.mark.parametrize(("stop_at", "ran"), [(0, 5), (3, 4)])
def test_a_rung_is_judged_where_there_is_a_value_and_every_epoch_is_recorded(
    tmp_path: Path, toy_recipe: Recipe, toy_data: CachedDataset, stop_at: int, ran: int
) -> None:
    joined = make_study(tmp_path)
    asked = Asked(stop_at, judged_at=(1, 3))
    run, kept = Run(tmp_path / "run").make(), list[Run]()
    recipe = replace(toy_recipe, validate_every=2, epochs=5)
    with Patient(joined, who("me")) as session:
        session.sync.scheduler = asked
        held = session.take_trial()
        assert held is not None
        joint = objective.TrialContext(
            session, torch.device("cpu"), MicroBatches(tmp_path / "micro.json"), None, kept.append
        )
        outcome = objective.train_recipe(joint, held, recipe, toy_data, run, None)
        status = session.sync.status
        session.put_back_trial(held)
    assert outcome.end == ("pruned" if stop_at else "finished") and asked.epochs == [2, 4]
    assert (status["step"], status["steps"]) == (ran, 5) and status["peak_memory"] > 2**20
    assert kept == [run] * ran
    rows = epoch_queries.read_epochs(joined.engine, held.id)
    validated = [epoch for epoch in (2, 4, 5) if epoch <= ran]
    assert [row["epoch"] for row in rows] == list(range(1, ran + 1))
    assert [row["epoch"] for row in rows if row["value"] is not None] == validated
    reported = joined.study.trials[0].intermediate_values
    assert reported == {row["epoch"]: row["value"] for row in rows if row["epoch"] in validated}
    joined.engine.dispose()


def test_epochs_that_the_checkpoint_holds_and_the_database_does_not_are_recorded_when_it_goes_on(
    tmp_path: Path, toy_recipe: Recipe, toy_data: CachedDataset
) -> None:
    """The previous worker died after its checkpoint, before the record; existing records stay unchanged."""
    joined = make_study(tmp_path)
    run, micro = Run(tmp_path / "run").make(), MicroBatches(tmp_path / "micro.json")
    recipe = replace(toy_recipe, epochs=3)
    reports: list[EpochReport] = []
    after_two = iter(range(10**6))
    per_epoch = 5  # steps and batches of validation
    stop = lambda: "stopped" if next(after_two) >= 2 * per_epoch else ""  # noqa: E731
    train(recipe, IOU, toy_data, run, device=CPU, micro_batches=micro, on_epoch=reports.append, check_stop=stop)
    assert [report.epoch for report in reports] == [1, 2]
    with Session(joined, who("me")) as session:
        held = session.take_trial()
        assert held is not None
        session.record_epoch(held, asdict(replace(reports[0], value=0.125)))
        held.recorded = {1}
        joint = objective.TrialContext(session, CPU, micro, None, lambda run: None)
        assert objective.train_recipe(joint, held, recipe, toy_data, run, None).end == "finished"
        session.put_back_trial(held)
    rows = epoch_queries.read_epochs(joined.engine, held.id)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[0]["value"] == 0.125 and rows[1]["value"] == reports[1].value
    joined.engine.dispose()


def test_of_a_table_every_row_has_the_seed_of_its_repeat(space: Space) -> None:
    """So that rows differ by their settings, and not by chance."""

    def seeded(repeat: int) -> Recipe:
        made = optuna.create_study(study_name="s", sampler=optuna.samplers.RandomSampler(seed=1))
        trials = [made.ask() for _ in range(2)]
        for trial in trials:
            trial.set_user_attr("repeat", repeat)
        first, second = (objective.choose_recipe(space, INFO, trial) for trial in trials)
        assert first.seed == second.seed
        return first

    assert seeded(0).seed != seeded(1).seed


def test_a_reduced_study_trains_a_part_of_the_size_and_of_the_epochs(tmp_path: Path) -> None:
    space = load_space(str(write_space(tmp_path, epochs=40, model='use("unet", k=32)')))
    whole, small = chosen(space), chosen(space, replace(INFO, shrink=4, shorten=5))
    assert (small.epochs, small.model.args["k"], small.image_size) == (8, 8, 32)
    assert small.data.name == "shapes" and small.optimizer == whole.optimizer


def test_a_trial_without_a_recipe_needs_a_space() -> None:
    with pytest.raises(TrialFailed, match="without a recipe, to a study that has no space") as failed:
        objective.choose_recipe(None, INFO, asked())
    assert failed.value.kind is FailureKind.NO_RECIPE
