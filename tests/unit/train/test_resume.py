"""Whatever interrupts a trial, its curve and its weights are those of an unbroken one."""

from __future__ import annotations

import json
import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.fork_server import run_code
from helpers.local_training import Curve, Killed, Trial, assert_same, killed_after, same, stop_after
from safetensors.torch import load_file, save_file

from tuner.data.batches import Batches
from tuner.data.cache import CachedDataset
from tuner.goal import minimize
from tuner.paths import MARK_KEY, read_mark
from tuner.recipe import Part, Recipe, use
from tuner.train.loop import CheckpointSchedule, EpochReport, Progress


def slow(*values: Any) -> Any:
    """A second case, for `make test-all`."""
    return pytest.param(*values, marks=pytest.mark.slow)


def an_epoch(data: CachedDataset) -> int:
    """How often an epoch asks whether to stop: at every step and every validation batch."""
    batches = Batches(data, 4, 7)
    return batches.num_steps() + sum(1 for _ in batches.val())


@pytest.mark.parametrize("asked", [slow(0), 1, slow(4), 7, slow(9)], ids=lambda n: f"at-{n}")
def test_a_trial_stopped_anywhere_goes_on_as_if_it_had_not(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, unbroken: Trial, asked: int
) -> None:
    trial = Trial(recipe, toy_data, tmp_path / "run")
    assert trial.train(stop_after(asked)).end == "stopped"
    random.random(), torch.rand(3)  # whatever the process does meanwhile
    assert trial.go_on().end == "finished"
    assert_same(trial, unbroken)


def test_each_batch_of_an_epoch_is_counted_also_where_it_is_resumed(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    training, every = Batches(toy_data, 4, 7).num_steps(), an_epoch(toy_data)
    trial = Trial(recipe, toy_data, tmp_path / "run")
    trial.train(stop_after(every))
    assert trial.steps == [(done, every) for done in (*range(1, training + 1), *range(training, every))]
    trial.steps.clear()
    trial.train(stop_after(2))
    assert trial.steps[:2] == [(1, every), (2, every)]


def test_a_stop_during_validation_does_not_train_the_epoch_again(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, unbroken: Trial
) -> None:
    steps = Batches(toy_data, 4, 7).num_steps()
    assert len(toy_data.val) > 4  # so that there is a second validation batch to stop at
    trial = Trial(recipe, toy_data, tmp_path / "run")
    assert trial.train(stop_after(steps + 1)).end == "stopped"
    progress = trial.left()["progress"]
    assert (progress["epoch"], progress["step"], trial.reports) == (1, steps, {})
    assert trial.train().end == "finished"
    assert_same(trial, unbroken)


@pytest.mark.slow
def test_a_trial_stopped_every_third_step_is_the_same_trial(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, unbroken: Trial
) -> None:
    trial = Trial(recipe, toy_data, tmp_path / "run")
    ends = ["stopped"]
    while ends[-1] == "stopped":
        ends.append(trial.train(stop_after(3)).end)
    assert len(ends) > 6
    assert_same(trial, unbroken)


def test_a_model_that_draws_from_pythons_and_numpys_generators_goes_on_too(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, own_models: Path
) -> None:
    noisy = replace(recipe, model=use("mine.nets:net", noisy=True))
    unbroken, trial = (Trial(noisy, toy_data, tmp_path / name) for name in ("unbroken", "trial"))
    unbroken.train()
    while trial.train(stop_after(5)).end == "stopped":
        random.seed(0)
    assert_same(trial, unbroken)


def test_pieces_found_before_a_stop_are_kept_after_it(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, own_models: Path
) -> None:
    tight = replace(recipe, model=use("mine.nets:net", most=2))
    trial = Trial(tight, toy_data, tmp_path / "run")
    assert trial.train(stop_after(2)).micro == 2
    (trial.run.folder / "micro_batches.json").unlink()
    assert trial.train().micro == 2


def test_seconds_before_a_stop_count_for_the_epoch(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    trial = Trial(recipe, toy_data, tmp_path / "run")
    spent = trial.train(stop_after(4)).progress.spent
    assert spent > 0
    trial.train()
    assert trial.reports[1].seconds > spent


def test_a_finished_trial_is_not_trained_again(unbroken: Trial) -> None:
    before = unbroken.left()
    unbroken.reports.clear()
    outcome = unbroken.train()
    assert outcome.end == "finished" and outcome.progress.best_epoch > 0
    assert unbroken.reports == {} and same(unbroken.left(), before)


def test_a_truncated_checkpoint_costs_one_epoch_and_changes_nothing(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, unbroken: Trial
) -> None:
    trial = Trial(recipe, toy_data, tmp_path / "run")
    trial.train(stop_after(2 * an_epoch(toy_data) + 1))
    whole = trial.run.checkpoint.read_bytes()
    trial.run.checkpoint.write_bytes(whole[: len(whole) // 2])
    trial.reports.clear()
    trial.train()
    assert list(trial.reports) == [3]
    assert same(trial.left(), unbroken.left())


DYING = """
import json, os, signal, sys
from pathlib import Path
import torch
from tuner.data.cache import open_entry
from tuner.data.synthetic.shapes import shapes
from tuner.goal import maximize
from tuner.recipe import Recipe
from tuner.paths import Run
from tuner.train.loop import train
from tuner.train.memory import MicroBatches

told = json.loads(sys.argv[1])
torch.set_num_threads(told["threads"])
asked = written = 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def says():
    global asked
    asked += 1
    if asked == told["die_at_step"]:
        die()
    return ""

def half(state, path, save=torch.save):
    global written
    written += 1
    save(state, path)
    if written == told["die_at_save"]:
        os.truncate(path, path.stat().st_size // 2)
        die()

def on_epoch(report):
    print(json.dumps([report.epoch, report.metrics | {"lr": report.lr}]), flush=True)

torch.save = half
run = Run(Path(told["run"])).make()
train(Recipe.from_json(told["recipe"]), maximize("iou"), open_entry(Path(told["data"]), shapes(), "toy"), run,
      device=torch.device("cpu"), micro_batches=MicroBatches(run.folder / "micro_batches.json"),
      on_epoch=on_epoch, check_stop=says)
"""


def in_a_process(trial: Trial, die_at_step: int = 0, die_at_save: int = 0) -> tuple[int, Curve]:
    """Train in a process of its own, which the system kills at that moment; its exit code and its curve."""
    images: Any = trial.data.images
    told = {
        "recipe": trial.recipe.to_json(),
        "data": str(Path(images.filename).parent),
        "run": str(trial.run.folder),
        "threads": torch.get_num_threads(),
        "die_at_step": die_at_step,
        "die_at_save": die_at_save,
    }
    done = run_code(DYING, json.dumps(told))
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode, dict(json.loads(line) for line in done.stdout.splitlines())


def test_a_killed_trial_has_the_curve_and_the_weights_of_an_unbroken_one(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    """Killed at a random step, then in the middle of writing a checkpoint; then it runs to its end."""
    long = replace(recipe, epochs=6)
    unbroken, trial = (Trial(long, toy_data, tmp_path / name) for name in ("unbroken", "trial"))
    unbroken.train()
    at = random.Random().randrange(2 * an_epoch(toy_data) + 1, 4 * an_epoch(toy_data))
    first, curve = in_a_process(trial, die_at_step=at)
    assert first == -signal.SIGKILL and 2 <= len(curve) < 4, f"killed at {at}"
    second, more = in_a_process(trial, die_at_save=2)
    assert second == -signal.SIGKILL and more
    third, rest = in_a_process(trial)
    assert third == 0 and 6 in rest
    assert curve | more | rest == unbroken.curve, f"killed at {at}"
    assert same(trial.left(), unbroken.left()), f"killed at {at}"
    assert trial.run.best.read_bytes() == unbroken.run.best.read_bytes(), f"killed at {at}"


def test_a_checkpoint_of_another_recipe_is_not_taken_up(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, unbroken: Trial
) -> None:
    assert Trial(replace(recipe, seed=99), toy_data, tmp_path / "run").train(stop_after(7)).end == "stopped"
    trial = Trial(recipe, toy_data, tmp_path / "run")
    assert trial.train().end == "finished"
    assert_same(trial, unbroken)


def test_a_checkpoint_on_other_data_is_not_taken_up(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, unbroken: Trial
) -> None:
    other = replace(toy_data, fingerprint="another")
    assert Trial(recipe, other, tmp_path / "run").train(stop_after(7)).end == "stopped"
    trial = Trial(recipe, toy_data, tmp_path / "run")
    assert trial.train().end == "finished"
    assert sorted(trial.reports) == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize(
    "schedule", [slow(use("none")), use("plateau", patience=0), slow(use("exponential", gamma=0.7))], ids=str
)
def test_a_finished_trial_trained_longer_is_the_long_trial(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, schedule: Part
) -> None:
    """As far as its schedule does not know where the end is."""
    short = replace(recipe, epochs=2, schedule=schedule, batch_size=8)
    trial, long = (Trial(short, toy_data, tmp_path / name) for name in ("trial", "long"))
    assert trial.train().end == "finished"
    trial.recipe = long.recipe = short.with_epochs(5)
    assert (trial.go_on().end, long.train().end) == ("finished", "finished")
    assert sorted(trial.reports) == [1, 2, 3, 4, 5]
    assert_same(trial, long)


def test_a_schedule_that_knows_the_end_goes_on_along_the_longer_curve(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    short = replace(recipe, epochs=2, schedule=use("cosine"), batch_size=8)
    trial, long = (Trial(short, toy_data, tmp_path / name) for name in ("trial", "long"))
    trial.train()
    trial.recipe = long.recipe = short.with_epochs(4)
    trial.train(), long.train()
    rates, expected = ([each.reports[epoch].lr for epoch in (1, 2, 3, 4)] for each in (trial, long))
    assert rates[2:] == expected[2:] and rates[1] < expected[1]


def test_a_trial_trained_longer_keeps_the_best_epoch_it_had(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    trial = Trial(replace(recipe, epochs=1), toy_data, tmp_path / "run")
    trial.train()
    kept = torch.load(trial.run.checkpoint, weights_only=True)
    kept["progress"]["best_value"] = 0.9999  # whatever comes now is worse
    torch.save(kept, trial.run.checkpoint)
    save_file(load_file(trial.run.best), trial.run.best, {MARK_KEY: "1 0.9999"})
    best = trial.run.best.read_bytes()
    trial.recipe = trial.recipe.with_epochs(2)
    progress = trial.train().progress
    assert progress.best_value == 0.9999 and progress.last_value == trial.reports[2].value
    assert (progress.best_epoch, trial.run.best.read_bytes()) == (1, best)


# --- when checkpoints are written, and what belongs to them ---


def test_the_epochs_that_a_checkpoint_holds_are_told_when_it_goes_on(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    """Whoever wrote it may have died before they were recorded."""
    trial = Trial(recipe, toy_data, tmp_path / "run")
    trial.train(stop_after(2 * an_epoch(toy_data) + 1))
    before = [trial.reports[epoch] for epoch in (1, 2)]
    assert trial.found == []
    trial.go_on()
    assert trial.found == before


@pytest.mark.slow
@pytest.mark.parametrize(("minutes", "least"), [(0.0, 15), (1e6, 1), slow(None, 3)])
def test_checkpoints_are_written_as_often_as_asked_and_change_nothing(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, unbroken: Trial, minutes: float | None, least: int
) -> None:
    """After every step, at the end alone, or after every epoch; each is told of."""
    kept: list[bool] = []
    trial = Trial(recipe, toy_data, tmp_path / "run")
    trial.train(saving=CheckpointSchedule(minutes, lambda: kept.append(trial.run.checkpoint.exists())))
    steps = Batches(toy_data, 4, 7).num_steps()
    assert len(kept) == {15: 3 * steps + 3, 1: 1, 3: 3}[least] >= least and all(kept)
    assert_same(trial, unbroken)


@pytest.mark.slow
def test_killed_long_after_the_last_checkpoint_it_goes_on_from_there(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, unbroken: Trial
) -> None:
    seldom = CheckpointSchedule(1e6)
    trial = Trial(recipe, toy_data, tmp_path / "run")
    assert trial.train(stop_after(2), seldom).end == "stopped"
    with pytest.raises(Killed):
        trial.train(killed_after(2 * an_epoch(toy_data)), seldom)
    assert sorted(trial.reports) == [1, 2] and trial.left()["progress"]["step"] == 2
    trial.reports.clear()
    assert trial.train(saving=seldom).end == "finished" and trial.found == []
    assert_same(trial, unbroken)


def test_the_best_weights_are_those_of_the_checkpoint_also_when_newer_ones_were_written(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path
) -> None:
    """Killed between the weights of a best epoch and the checkpoint that knows of it."""

    class Dying(Trial):
        def on_epoch(self, report: EpochReport) -> None:
            super().on_epoch(report)
            if report.epoch == 2:
                raise Killed

    dying = Dying(recipe, toy_data, tmp_path / "run", minimize("loss"))
    with pytest.raises(Killed):
        dying.train()
    progress = dict(dying.left()["progress"])
    mark = Progress(best_epoch=progress["best_epoch"], best_value=progress["best_value"]).best_mark
    assert mark.startswith("1 ") and read_mark(dying.run.best).startswith("2 ")
    again = Trial(recipe, toy_data, tmp_path / "run", minimize("loss"))
    assert again.train(stop_after(0)).end == "stopped"
    assert read_mark(again.run.best) == mark


def test_what_says_raises_ends_the_training_as_it_stands(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, unbroken: Trial
) -> None:
    """The trial was lost to another worker: this one writes no further checkpoint into anybody's way."""
    trial = Trial(recipe, toy_data, tmp_path / "run")
    with pytest.raises(Killed):
        trial.train(killed_after(an_epoch(toy_data) + 2))
    progress = trial.left()["progress"]
    assert (progress["epoch"], progress["step"]) == (2, 0)


@pytest.mark.parametrize("asked", [2, 6, slow(7)])
def test_a_trial_pruned_in_an_epoch_saves_nothing_more(
    recipe: Recipe, toy_data: CachedDataset, tmp_path: Path, asked: int
) -> None:
    """Its result stands already; between two steps and between two batches of validation alike."""
    trial = Trial(recipe, toy_data, tmp_path / "run")
    count = iter(range(99))
    outcome = trial.train(lambda: "pruned" if next(count) >= asked else "")
    assert outcome.end == "pruned" and trial.reports == {} and not trial.run.checkpoint.exists()
