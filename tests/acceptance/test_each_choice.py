"""As many trials for each choice of a parameter, none pruned, and the best of each trained for longer."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.command_line import call, home_url, opened, write_space

from tuner.study import queries, trial_queries

pytestmark = pytest.mark.usefixtures("forked_workers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("each")
    write_space(folder, epochs=2)
    return folder


def losses(folder: Path, study: str) -> list[tuple[str, str]]:
    with opened(home_url(folder / "runs")) as engine:
        found = trial_queries.read_trials(engine, queries.find_study(engine, study))
    return [(trial.params["loss"], trial.state) for trial in found]


def test_each_choice_has_its_trials_and_its_best_one_is_extended(folder: Path) -> None:
    typed = ["run", "--space", "tiny.py", "--trials", "1", "--each", "loss", "--no-pruning"]
    done = call(folder, *typed)
    assert done.exit_code == 0 and "trials for each of bce, dice: 1, so 2 in all" in done.stderr, done.stderr
    found = losses(folder, "tiny")
    assert len(found) == len(set(found)) >= 2 and {state for _, state in found} == {"COMPLETE"}
    assert call(folder, *typed).exit_code == 0 and losses(folder, "tiny") == found
    done = call(folder, "extend", "--top", "1", "--by", "loss", "--epochs", "3")
    assert done.exit_code == 0, done.stderr
    assert sorted(losses(folder, "tiny-3-epochs")) == sorted(found)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("los", "the space has no such parameter. Did you mean 'loss'? With choices: loss."),
        ("lr", "it is a float; a parameter with choices is needed. With choices: loss."),
    ],
)
def test_a_parameter_without_choices_is_refused(folder: Path, name: str, said: str) -> None:
    done = call(folder, "run", "--space", "tiny.py", "--study", "other", "--each", name)
    assert done.exit_code == 2 and f"--each {name}: {said}" in done.stderr


def test_a_study_keeps_to_how_it_began(folder: Path) -> None:
    done = call(folder, "run", "--space", "tiny.py", "--trials", "9")
    assert done.exit_code == 2
    assert "each: from loss to none" in done.stderr and "pruning: from none to stop" in done.stderr


def test_a_table_takes_neither(folder: Path) -> None:
    for option, said in (["--each", "loss"], "--each belongs to --space"), (["--no-pruning"], "are never pruned"):
        done = call(folder, "run", "--table", "weizmann_unet", *option)
        assert done.exit_code == 2 and said in done.stderr


def test_two_ways_of_pruning_contradict_each_other(folder: Path) -> None:
    done = call(folder, "run", "--space", "tiny.py", "--no-pruning", "--pruning", "stop")
    assert done.exit_code == 2 and "--pruning stop was given too" in done.stderr
