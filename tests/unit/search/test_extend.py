"""Extended trials: they continue from the checkpoint, with the same results as one longer run."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from click.testing import CliRunner
from helpers.command_line import epochs_of, home_url, opened, rows, states, wait_for, write_space
from helpers.local_training import same
from helpers.optuna_revisions import prepare_file
from optuna.trial import TrialState, create_trial

from tuner.artifacts.attempts import open_attempts
from tuner.cli import main
from tuner.errors import FailureKind, FilesError, StudyError
from tuner.export.best_trial import find_best
from tuner.fleet.config import WorkerConfig
from tuner.goal import maximize
from tuner.paths import Home, Run, attempt_of
from tuner.recipe import Recipe, use
from tuner.search import warm_start
from tuner.search.extend import (
    ExtendRequest,
    find_obstacles,
    original_name,
    prepare_extension,
    schedule_warnings,
    select_trials,
)
from tuner.search.run import RunOptions
from tuner.search.worker import Worker
from tuner.space.space import draw_recipes, load_space
from tuner.study import budget, epoch_queries, queries, trial_queries
from tuner.study.info import StudyInfo
from tuner.study.study import join_study
from tuner.study.trial_queries import TrialInfo

pytestmark = pytest.mark.usefixtures("forked_workers")

FULL = '{}, schedule=use("plateau", patience=0), augment=use("flip")'


@dataclass
class Place:
    """A home with a study of one trial, and workers in this process."""

    folder: Path

    @property
    def home(self) -> Home:
        return Home(self.folder / "home")

    @property
    def url(self) -> str:
        return home_url(self.folder / "home")

    def study(self, epochs: int) -> Place:
        self.folder.mkdir()
        path = write_space(self.folder, epochs=FULL.format(epochs), model='use("unet", k=4, dropout=0.2)')
        prepare_file(self.home.make().folder / "tuner.db")
        found = load_space(str(path))
        parameters = draw_recipes(found).parameters
        info = StudyInfo("tiny", "tiny", found.goal, "shapes", parameters=parameters)
        joined = join_study(self.url, info)
        budget.set_budget(joined.engine, joined.id, num_trials=1)
        joined.engine.dispose()
        self.work("tiny", str(path))
        return self

    def work(self, study: str, space: str = "", stop_at: int = 0) -> None:
        """Run a worker until the study is done, or stop it once that epoch is recorded."""
        worker = Worker(WorkerConfig(self.url, study, space, str(self.home.folder)), threading.Event())
        watching = threading.Thread(target=self.stop, args=(worker, study, stop_at))
        if stop_at:
            watching.start()
        try:
            worker.work()
        finally:
            if stop_at:
                watching.join()
            worker.engine.dispose()

    def stop(self, worker: Worker, study: str, epoch: int) -> None:
        wait_for(lambda: len(self.curve(study)) >= epoch)
        worker.stop.set()

    def asked(
        self, epochs: int, study: str | None = None, numbers: tuple[int, ...] = (), top: int = 1
    ) -> ExtendRequest:
        return ExtendRequest(study, epochs, top, numbers, RunOptions(self.url, self.home))

    def extend(self, epochs: int, study: str | None = None, **more: Any) -> str:
        joined, _ = prepare_extension(self.asked(epochs, study, **more))
        joined.engine.dispose()
        return joined.info.name

    def curve(self, study: str) -> dict[int, dict[str, Any]]:
        """Return the epochs of the first trial without time measurements."""
        with opened(self.url) as engine:
            (first, *_) = trial_queries.read_trials(engine, queries.find_study(engine, study))
            kept = epoch_queries.read_epochs(engine, first.id)
        clocks = ("seconds", "images_per_second", "peak_memory")
        return {row["epoch"]: {k: v for k, v in row.items() if k not in clocks} for row in kept}

    def run(self, study: str) -> Run:
        """Return the run folder of the attempt that finished the first trial."""
        with opened(self.url) as engine:
            info = queries.find_study(engine, study)
            (first, *_) = trial_queries.read_trials(engine, info)
        return self.home.run(study, info.key, 0, attempt_of(first.attrs))


def checkpoint(run: Run) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(run.checkpoint, weights_only=True)
    del state["progress"]["spent"]
    for row in state["progress"]["history"]:
        row["seconds"] = row["images_per_second"] = row["peak_memory"] = 0
    return state


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("longer") / "unbroken").study(5)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Yield a trial of one epoch that was extended to two, and from there to five."""
    place = Place(tmp_path_factory.mktemp("longer") / "chain").study(1)
    place.work(place.extend(2))
    with pytest.MonkeyPatch.context() as patch:  # killed when the files were copied, the epochs not yet
        patch.setattr(warm_start, "copy_epochs", killed)
        with pytest.raises(SystemExit):
            place.work(place.extend(5))
    place.work("tiny-5-epochs", stop_at=3)
    assert states_of(place.url, "tiny-5-epochs") == ["WAITING"]
    place.work("tiny-5-epochs")
    return place


def killed(*_: object) -> None:
    raise SystemExit


def states_of(url: str, study: str) -> list[str]:
    with opened(url) as engine:
        return [t.state for t in trial_queries.read_trials(engine, queries.find_study(engine, study))]


@pytest.mark.slow
def test_a_trial_gone_on_with_twice_and_killed_between_is_the_trial_of_one_long_run(
    chain: Place, unbroken: Place
) -> None:
    assert chain.curve("tiny-5-epochs") == unbroken.curve("tiny") and len(unbroken.curve("tiny")) == 5
    assert chain.curve("tiny-2-epochs").keys() == {1, 2}
    longer, whole = chain.run("tiny-5-epochs"), unbroken.run("tiny")
    assert same(checkpoint(longer), checkpoint(whole))
    assert longer.best.read_bytes() == whole.best.read_bytes()
    with opened(chain.url) as engine, opened(unbroken.url) as other:
        found, true = find_best(engine, "tiny-5-epochs"), find_best(other, "tiny")
    assert (found.trial.value, found.epoch, found.metrics) == (true.trial.value, true.epoch, true.metrics)
    assert found.trial.params == true.trial.params and set(found.trial.params) == {"lr", "loss"}
    assert found.trial.attrs["recipe"] == true.trial.attrs["recipe"]
    assert found.trial.attrs["made_with"] == true.trial.attrs["made_with"]
    trial = optuna.load_study(study_name="tiny-5-epochs", storage=chain.url).trials[0]
    whole_trial = optuna.load_study(study_name="tiny", storage=unbroken.url).trials[0]
    assert trial.intermediate_values == whole_trial.intermediate_values


def test_typed_again_it_is_the_same_study_and_nothing_is_added(chain: Place) -> None:
    for named in (None, "tiny", "tiny-2-epochs"):
        assert chain.extend(5, named) == "tiny-5-epochs"
    found = {name: states_of(chain.url, name) for name in ("tiny", "tiny-2-epochs", "tiny-5-epochs")}
    assert found["tiny"] == found["tiny-2-epochs"] == ["COMPLETE"]
    assert found["tiny-5-epochs"] == ["COMPLETE", "WAITING"]  # straight from the study of one epoch: another run
    chain.work("tiny-5-epochs")
    with opened(chain.url) as engine:
        first, second = trial_queries.read_trials(engine, queries.find_study(engine, "tiny-5-epochs"))
    assert first.value == second.value and first.attrs["goes_on_from"] != second.attrs["goes_on_from"]


def test_the_command_says_what_came_of_it_and_what_is_next(chain: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(chain.folder)
    typed = ["extend", "--study", "tiny", "--epochs", "2", "--home", str(chain.home.folder)]
    done = CliRunner().invoke(main, typed, env={"TUNER_STORAGE": None})
    assert done.exit_code == 0 and "study 'tiny-2-epochs': 1 of 1 trial ended" in done.stdout, done.stderr
    assert f"next: tuner best --study tiny-2-epochs --export best --home {chain.home.folder}" in done.stdout
    assert "--trials" not in done.stdout and "notice" not in done.stderr


def add(place: Place, state: TrialState, value: float | None = None) -> None:
    study = optuna.load_study(study_name="tiny", storage=place.url)
    notes = {key: value for key, value in study.trials[0].user_attrs.items() if key in ("recipe", "result")}
    study.add_trial(create_trial(state=state, value=value, user_attrs=notes))


def test_the_best_of_each_value_of_a_parameter_are_chosen(tmp_path: Path) -> None:
    def ended(number: int, value: float, **params: Any) -> TrialInfo:
        return TrialInfo(number, number, "COMPLETE", value, params, {})

    info = StudyInfo("s", "s", maximize("iou"), "shapes")
    models = ("a", "b", "a", "b")
    trials = [ended(number, (0.1, 0.3, 0.2, 0.4)[number], model=model) for number, model in enumerate(models)]

    def chosen(top: int, by: str) -> list[int]:
        request = ExtendRequest("s", 9, top, (), RunOptions("", Home(tmp_path)), by)
        return [trial.number for trial in select_trials(trials, info, request)]

    assert chosen(1, "model") == [3, 2] and chosen(2, "model") == [3, 1, 2, 0] and chosen(2, "") == [3, 1]
    with pytest.raises(StudyError, match=r"--by modle: .* Did you mean 'model'\? It has: model\."):
        chosen(1, "modle")


@pytest.mark.parametrize(
    ("attrs", "said"),
    [({}, "has no recipe: it was not trained by tuner"), ({"recipe": {"version": 9}}, "a recipe of version 9")],
)
def test_a_trial_of_another_program_is_told(tmp_path: Path, attrs: dict[str, Any], said: str) -> None:
    trial, info = TrialInfo(0, 0, "COMPLETE", 0.5, {}, attrs), StudyInfo("s", "s", maximize("iou"), "shapes")
    request = ExtendRequest("s", 9, 1, (), RunOptions("", Home(tmp_path)))
    (line,) = find_obstacles(trial, info, request, set(), open_attempts(Home(tmp_path), None))
    assert line.startswith("trial 0 has ") and said in line


def test_a_paused_trial_is_told(tmp_path: Path) -> None:
    trial = TrialInfo(0, 0, "PRUNED", 0.5, {}, {}, paused_at=3)
    info, request = (
        StudyInfo("s", "s", maximize("iou"), "shapes"),
        ExtendRequest("s", 9, 1, (), RunOptions("", Home(tmp_path))),
    )
    (line,) = find_obstacles(trial, info, request, set(), open_attempts(Home(tmp_path), None))
    assert line == "trial 0 is paused after epoch 3: it goes on in its own study"


def test_every_trial_that_cannot_go_on_is_told(tmp_path: Path) -> None:
    place = Place(tmp_path / "place").study(1)
    for state in (TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING):
        add(place, state)
    add(place, TrialState.COMPLETE, 0.99)
    with pytest.raises(StudyError) as error:
        prepare_extension(place.asked(2, numbers=(0, 1, 2, 3, 4)))
    for line in (
        "study 'tiny' cannot be extended to 2 epochs:",
        "trial 1 was pruned: its checkpoint was not kept",
        "trial 2 failed: it has no checkpoint",
        "trial 3 is not finished yet",
        "trial 4 has no checkpoint.pt on this host",
    ):
        assert line in str(error.value)
    assert "trial 0" not in str(error.value)
    for asked, said in (
        (place.asked(1, numbers=(0,)), "trial 0 was trained for 1 epoch already"),
        (place.asked(2, numbers=(7, 9)), "no trial 7, 9 in study 'tiny'; it holds trials 0 to 4"),
        (place.asked(2), "trial 4 has no checkpoint"),  # the best one
        (place.asked(2, study="tyny"), "Did you mean 'tiny'"),
    ):
        with pytest.raises(StudyError, match=said):
            prepare_extension(asked)
    absent = replace(place.asked(2).options, url=home_url(tmp_path / "gone"))
    with pytest.raises(StudyError, match="no study yet"):
        prepare_extension(replace(place.asked(2), options=absent))
    assert rows(place.url, "SELECT study_name FROM studies") == [("tiny",)]
    assert epochs_of(place.url, 0) == [1] and states(place.url)[0] == "COMPLETE"

    name = place.extend(2, numbers=(0,))
    place.run("tiny").clear()  # as it is on a host that did not train it: the trial waits for the one that did
    with pytest.raises(FilesError, match=r"has no best\.safetensors here"):
        place.work(name)
    with opened(place.url) as engine:
        (trial,) = trial_queries.read_trials(engine, queries.find_study(engine, name))
    assert trial.state == "WAITING"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["damaged", "other data"])
def test_a_checkpoint_that_cannot_be_gone_on_from_fails_the_trial(tmp_path: Path, how: str) -> None:
    """Training from scratch would not be an extension."""
    place = Place(tmp_path / "place").study(1)
    file = place.run("tiny").checkpoint
    if how == "damaged":
        file.write_bytes(b"no checkpoint")
    else:
        torch.save({**torch.load(file, weights_only=True), "origin": "another"}, file)
    name = place.extend(2, numbers=(0,))
    place.work(name)
    with opened(place.url) as engine:
        (trial,) = trial_queries.read_trials(engine, queries.find_study(engine, name))
    assert trial.state == "FAIL" and "cannot continue from the checkpoint" in trial.attrs["failure"]
    assert trial.attrs["failure_kind"] == FailureKind.CHECKPOINT


def test_a_schedule_that_depends_on_the_end_is_told(toy_recipe: Recipe) -> None:
    def told(schedule: str) -> list[str]:
        recipe = replace(toy_recipe, schedule=use(schedule))
        return schedule_warnings(
            [trial_queries.TrialInfo(1, 0, "COMPLETE", 0.5, {}, {"recipe": recipe.to_json()})] * 2, 9
        )

    assert told("plateau") == told("none") == told("exponential") == []
    (notice,) = told("cosine")
    assert "cosine()" in notice and "differ from that of one run of 9" in notice
    odd = replace(toy_recipe, epochs=3, validate_every=2)
    (notice,) = schedule_warnings(
        [trial_queries.TrialInfo(1, 0, "COMPLETE", 0.5, {}, {"recipe": odd.to_json()})], 9
    )
    assert "after 3 where it ended" in notice


def test_longer_runs_share_the_name_they_began_with() -> None:
    assert (
        original_name("tiny") == original_name("tiny-5-epochs") == "tiny"
        and original_name("my-5-tiny") == "my-5-tiny"
    )
