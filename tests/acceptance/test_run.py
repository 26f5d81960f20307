"""`tuner run` as a user types it: create, join, go on; the budget exact; what is printed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import optuna
import pytest
from helpers.command_line import claims, epochs_of, finish, home_url, rows, run, start, states, write_space
from helpers.postgres import postgres, storage_url
from helpers.recording_model import write_booked

from tuner.space.space import draw_recipes, load_space
from tuner.study.info import StudyInfo
from tuner.study.study import join_study

__all__ = ["postgres", "storage_url"]


def search(folder: Path, *args: str | Path, home: str = "home") -> list[str | Path]:
    return ["run", "--space", folder / "tiny.py", "--home", folder / home, *args]


def ok(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_a_study_is_created_joined_and_raised(tmp_path: Path) -> None:
    write_booked(tmp_path, epochs=2, options="pace=0.4")  # slow enough that an epoch is seen before its trial ends
    url = home_url(tmp_path / "home")
    first = ok(run(tmp_path, *search(tmp_path, "--trials", "2", "--seed", "5")))
    assert re.search(
        r"^\[1 of 2\] trial 0 finished: iou 0\.\d{4} at epoch \d; lr=0\.\d+ loss=\w+", first.stderr, re.M
    )
    assert re.search(r"^trial 0 epoch 1.*iou 0\.\d{4} \(best so far\)$", first.stderr, re.M)
    assert "A new study" not in first.stderr  # Optuna's own log
    lines = first.stdout.splitlines()
    assert lines[0] == "study 'tiny': 2 of 2 trials ended"
    assert lines[1].startswith("best: iou 0.")
    assert lines[2] == f"next: tuner best --study tiny --export best --home {tmp_path / 'home'}"
    shown = f"tuner run --space {tmp_path / 'tiny.py'} --home {tmp_path / 'home'} --seed 5 --trials 4"
    assert lines[3] == f"2 trials trained; to continue: {shown}"
    assert set(states(url)) == {0, 1}

    (tmp_path / "quick").touch()
    again = ok(run(tmp_path, *search(tmp_path)))  # nothing left to do
    assert again.stdout.splitlines()[:3] == lines[:3]
    assert set(states(url)) == {0, 1}

    ok(run(tmp_path, *search(tmp_path, "--trials", "3")))
    assert set(states(url)) == {0, 1, 2}
    assert [slot for slot, _, _ in claims(url)] == [1, 2, 3]
    assert optuna.load_study(study_name="tiny", storage=url).user_attrs["tuner"]["seed"] == 5


@pytest.mark.slow
def test_two_fleets_started_at_once_share_one_budget(tmp_path: Path, storage_url: str) -> None:
    write_space(tmp_path, epochs=1)
    both = [
        start(tmp_path, *search(tmp_path, "--trials", "5", home=home), TUNER_STORAGE=storage_url)
        for home in ("one", "two")
    ]
    for fleet in [finish(process) for process in both]:
        ok(fleet)
        assert "of 5 trials ended" in fleet.stdout
        assert "--storage" not in fleet.stdout  # TUNER_STORAGE says it already
    assert sorted(states(storage_url)) == [0, 1, 2, 3, 4]
    assert set(states(storage_url).values()) <= {"COMPLETE", "PRUNED"}
    assert [slot for slot, _, _ in claims(storage_url)] == [1, 2, 3, 4, 5]
    assert all(epochs_of(storage_url, number) == [1] for number in range(5))
    assert not (tmp_path / "one" / "tuner.db").exists()
    assert len({row.worker for row in rows(storage_url, "SELECT worker FROM tuner_claim")}) <= 2


@pytest.mark.slow
def test_two_workers_draw_different_points_into_a_study_of_ones_own_name(tmp_path: Path) -> None:
    write_space(tmp_path, epochs=1)
    done = ok(run(tmp_path, *search(tmp_path, "--trials", "4", "--workers", "2", "--study", "mine")))
    assert "study 'mine': 4 of 4 trials ended" in done.stdout
    url = home_url(tmp_path / "home")
    trials = optuna.load_study(study_name="mine", storage=url).trials
    assert len({trial.params["lr"] for trial in trials}) == 4
    assert {path.name for path in (tmp_path / "home/logs/mine").iterdir()} == {"worker-0.log", "worker-1.log"}


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--trials", "0"], "trials"),
        (["--trials", "-1"], "trials"),
        (["--hours", "0"], "hours"),
        (["--workers", "0"], "workers"),
    ],
)
def test_nonsense_is_refused_before_anything_is_made(args: list[str], word: str, tmp_path: Path) -> None:
    write_space(tmp_path)
    done = run(tmp_path, *search(tmp_path, *args))
    assert done.returncode == 2
    assert f"--{word}" in done.stderr
    assert not (tmp_path / "home").exists()


def test_a_changed_space_is_refused_with_all_that_changed(tmp_path: Path) -> None:
    url, space = home_url(tmp_path / "home"), write_space(tmp_path, epochs=1)
    (tmp_path / "home").mkdir()
    found = load_space(str(space))
    join_study(
        url, StudyInfo("tiny", "tiny", found.goal, "shapes", seed=0, parameters=draw_recipes(found).parameters)
    ).engine.dispose()
    write_space(tmp_path, epochs='trial.suggest_int("epochs", 1, 2)')
    space.write_text(space.read_text().replace('"bce", "dice"', '"bce", "focal"').replace('"iou"', '"f1"'))
    refused = run(tmp_path, *search(tmp_path, "--trials", "2"))
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    for line in (
        "goal: from",
        "parameter 'epochs': from absent",
        "parameter 'loss': from one of bce, dice to one of",
    ):
        assert line in refused.stderr
    assert states(url) == {}
