"""Initial weights: a file, a bundle, the best trial of a study, or another of its trials."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.made_studies import add_trial, make_bundle, make_study
from optuna.trial import TrialState, create_trial

from tuner.artifacts.attempts import AttemptFiles
from tuner.artifacts.store import FolderStore
from tuner.errors import PartError, SpaceError
from tuner.paths import Home
from tuner.recipe import Recipe, use
from tuner.search.warm_start import find_weights, reduce_size
from tuner.space.check import check_weights
from tuner.study import queries
from tuner.study.info import StudyInfo
from tuner.study.study import JoinedStudy
from tuner.tasks import find_task
from tuner.train.checkpoint import save_weights
from tuner.train.trainer import build_model


@pytest.fixture
def attempts(tmp_path: Path) -> AttemptFiles:
    return AttemptFiles(Home(tmp_path / "home"))


@pytest.fixture
def study(tmp_path: Path) -> Iterator[JoinedStudy]:
    """Three finished trials, of which number 1 is best, and one that failed."""
    joined = make_study(tmp_path)
    for value in (0.3, 0.9, 0.5):
        add_trial(joined, [value])
    add_trial(joined, [], TrialState.FAIL)
    yield joined
    joined.engine.dispose()


def info_of(study: JoinedStudy) -> StudyInfo:
    return queries.find_study(study.engine, "made")


def left(attempts: AttemptFiles, study: JoinedStudy, number: int) -> Path:
    """Return the weights that a trial saved."""
    info = info_of(study)
    file = attempts.home.run(info.name, info.key, number).make().best
    file.write_bytes(b"weights")
    return file


@pytest.mark.parametrize("name", ["none", "imagenet", "random"])
def test_some_weights_need_no_file(attempts: AttemptFiles, name: str) -> None:
    assert find_weights(name, None, attempts, None) is None


@pytest.mark.parametrize("name", ["old.safetensors", "old.pth", "old.pt", "./old.pth", "sub/old.bin"])
def test_a_file_is_found_by_its_full_path(
    attempts: AttemptFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    Path(name).write_bytes(b"weights")
    found = find_weights(name, None, attempts, None)
    assert found is not None and found.is_absolute() and found == tmp_path / name.removeprefix("./")


def test_a_file_at_home_is_found(attempts: AttemptFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "old.pth").touch()
    assert find_weights("~/old.pth", None, attempts, None) == tmp_path / "old.pth"


def test_a_bundle_is_found_by_its_folder(
    attempts: AttemptFiles, tmp_path: Path, toy_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(toy_recipe, tmp_path / "best")
    monkeypatch.chdir(tmp_path)
    expected = bundle / "weights.safetensors"
    assert (
        find_weights(str(bundle), None, attempts, None) == find_weights("best", None, attempts, None) == expected
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone.pth", "weights gone.pth: not found. Give a file (.safetensors, .pth, .pt), a bundle's"),
        ("./gone", "weights gone: not found"),
        ("/nowhere/gone.safetensors", "weights /nowhere/gone.safetensors: not found"),
        ("./empty", "weights empty: not a bundle: it has no weights.safetensors"),
    ],
)
def test_a_file_that_is_not_there_is_told(
    attempts: AttemptFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PartError) as told:
        find_weights(name, None, attempts, None)
    assert str(told.value).startswith(said)


def test_a_study_gives_its_best_trial_and_a_number_another(
    attempts: AttemptFiles, study: JoinedStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made").mkdir()  # a folder of that name, such as its images
    monkeypatch.chdir(tmp_path)
    files = [left(attempts, study, number) for number in range(3)]
    assert find_weights("made", study.engine, attempts, None) == files[1]
    assert find_weights("made#2", study.engine, attempts, None) == files[2]
    assert find_weights("made#0", study.engine, attempts, None) == files[0]
    assert find_weights("#2", study.engine, attempts, info_of(study)) == files[2]


def test_the_files_of_a_trial_are_those_of_the_attempt_that_finished_it(
    attempts: AttemptFiles, study: JoinedStudy
) -> None:
    notes = {"result": {"best_value": 0.95, "best_epoch": 1, "attempt": 3}}
    study.study.add_trial(create_trial(value=0.95, user_attrs=notes))
    info, file = info_of(study), attempts.home.run("made", info_of(study).key, 4, 3).make().best
    left(attempts, study, 4), attempts.home.run(info.name, info.key, 4, 2).make().best.touch()
    file.write_bytes(b"weights")
    assert (
        find_weights("made", study.engine, attempts, None)
        == find_weights("made#4", study.engine, attempts, None)
        == file
    )


def test_weights_that_another_host_left_in_the_store_are_fetched(
    attempts: AttemptFiles, study: JoinedStudy, tmp_path: Path
) -> None:
    store, key = FolderStore(tmp_path / "store"), info_of(study).key
    study.study.add_trial(create_trial(value=0.95, user_attrs={"result": {"best_epoch": 1, "attempt": 1}}))
    other = AttemptFiles(Home(tmp_path / "other"), store)
    run = other.home.run("made", key, 4, 1).make()
    run.best.write_bytes(b"weights"), run.checkpoint.write_bytes(b"checkpoint")
    other.keep(run)
    assert other.close(60)
    here = AttemptFiles(attempts.home, store)
    found = find_weights("made", study.engine, here, None)
    assert found == here.home.run("made", key, 4, 1).best and found.read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mad", "neither a file nor a study of this storage (studies: made). Train it first"),
        ("mad#1", "neither a file nor a study of this storage"),
        ("made#best", "weights 'made#best': give the number of a trial after #"),
        ("made#7", "weights 'made#7': study 'made' has no finished trial 7"),
        ("made#3", "weights 'made#3': study 'made' has no finished trial 3"),
        ("made", "weights 'made': trial 1 of 'made' has no weights in this --home"),  # trained on another host
        ("#1", "weights '#1': this trial of the study itself does not exist yet"),
    ],
)
def test_a_study_or_trial_that_is_not_there_is_told(
    attempts: AttemptFiles, study: JoinedStudy, name: str, said: str
) -> None:
    with pytest.raises(PartError) as told:
        find_weights(name, study.engine, attempts, None)
    assert said in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("segformer_cityscapes-shrink8-shorten5", "--space segformer_cityscapes --shrink 8 --shorten 5"),
        ("segformer_cityscapes-shorten5#3", "--space segformer_cityscapes --shorten 5"),
        ("isic_start", "--table isic_start"),
    ],
)
def test_the_command_that_trains_the_missing_study_is_told(
    attempts: AttemptFiles, study: JoinedStudy, name: str, command: str
) -> None:
    with pytest.raises(PartError, match=rf"Train it first \(tuner run {command}\), or give"):
        find_weights(name, study.engine, attempts, None)


@pytest.mark.parametrize(
    ("name", "reduced"),
    [
        ("other", "other-shrink8-shorten5"),
        ("other#12", "other-shrink8-shorten5#12"),
        ("other-shrink8-shorten5", "other-shrink8-shorten5"),
        *((name, name) for name in ("#3", "none", "imagenet", "file.pth", "./bundle")),
    ],
)
def test_weights_of_a_study_are_those_of_its_own_size(toy_recipe: Recipe, name: str, reduced: str) -> None:
    recipe = replace(toy_recipe, weights=use(name, part="encoder"))
    assert reduce_size(recipe, 8, 5).weights == use(reduced, part="encoder")
    assert reduce_size(recipe, 1, 1) == recipe


def test_a_study_without_a_finished_trial_is_told(attempts: AttemptFiles, tmp_path: Path) -> None:
    joined = make_study(tmp_path)
    with pytest.raises(PartError, match="study 'made' has no finished trial yet"):
        find_weights("made", joined.engine, attempts, None)
    joined.engine.dispose()


def test_without_any_storage_a_study_is_told_not_to_be_there(attempts: AttemptFiles) -> None:
    with pytest.raises(PartError, match=r"weights 'made': neither a file .* \(studies: none\)"):
        find_weights("made", None, attempts, None)


# --- before anything runs ---


@pytest.fixture
def recipe(class_recipe: Recipe) -> Recipe:
    return replace(class_recipe, classes=("a", "b", "c"))


def checked(attempts: AttemptFiles, *recipes: Recipe) -> None:
    check_weights(recipes, lambda name: find_weights(name, None, attempts, None), "mine.py")


def trained(recipe: Recipe, file: Path, classes: int) -> str:
    """Write the weights of a model with so many classes into a file."""
    other = replace(recipe, classes=tuple(map(str, range(classes))))
    save_weights(build_model(other, find_task(other.task)), file)
    return str(file)


def test_weights_that_fit_pass_the_check(attempts: AttemptFiles, recipe: Recipe, tmp_path: Path) -> None:
    file = trained(recipe, tmp_path / "old.safetensors", 19)
    checked(
        attempts, recipe, replace(recipe, weights=use(file, part="encoder")), replace(recipe, weights=use("#12"))
    )


def test_all_that_is_wrong_with_weights_is_told_at_once_before_anything_runs(
    attempts: AttemptFiles, recipe: Recipe, tmp_path: Path
) -> None:
    file = trained(recipe, tmp_path / "old.safetensors", 19)
    weights = [use(file), use("gone.pth"), use("gone.pth"), use("study_of_mine"), use(file, part="encoder")]
    with pytest.raises(SpaceError) as told:
        checked(attempts, *(replace(recipe, weights=each) for each in weights))
    lines = str(told.value).splitlines()
    assert lines[0] == "mine.py: its weights cannot be used:" and len(lines) == 4
    for line, said in zip(
        lines[1:], ('use part="encoder"', "gone.pth: not found", "neither a file nor a study"), strict=True
    ):
        assert said in line
