"""`tuner confirm`: the best trial and the default trained again, the answer, and the export of the winner."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.command_line import call, children, home_url, opened, rows, run, running, wait_for, write_space
from helpers.image_folders import make_photos
from helpers.postgres import Postgres, postgres

from tuner.study import queries, trial_queries
from tuner.study.confirmations import CANDIDATE, read_test_looks

__all__ = ["postgres"]

pytestmark = pytest.mark.usefixtures("forked_workers")


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished search on photos with a test split."""
    folder = tmp_path_factory.mktemp("confirm")
    write_space(folder, epochs=1, batch=8)
    make_photos(folder / "photos" / "train", 12)
    make_photos(folder / "photos" / "test", 4)
    done = call(folder, "run", "--space", "tiny.py", "--data", "photos", "--study", "s", "--trials", "2")
    assert done.exit_code == 0, done.stderr
    return folder


def runs_of(folder: Path) -> dict[tuple[str, int], float | None]:
    """The value of each run of the confirmation, by candidate and seed."""
    with opened(home_url(folder / "runs")) as engine:
        found = trial_queries.read_trials(engine, queries.find_study(engine, "s-confirmed"))
    return {(trial.attrs[CANDIDATE]["name"], trial.attrs["repeat"]): trial.value for trial in found}


def num_looks(folder: Path) -> int:
    with opened(home_url(folder / "runs")) as engine, engine.connect() as db:
        return len(read_test_looks(db, queries.find_study(engine, "s-confirmed").id))


def test_the_best_and_the_default_are_confirmed_tested_once_and_exported(searched: Path) -> None:
    done = call(searched, "confirm", "--study", "s", "--top", "1", "--seeds", "2")
    assert done.exit_code == 0, done.stderr
    found = runs_of(searched)
    names = {name for name, _ in found}
    assert len(names) == 2 and "default" in names and all((name, 1) in found for name in names)
    assert "Confirmed: " in done.output and "On the test split, trial " in done.output
    assert "next: tuner best --study s --export best" in done.output and num_looks(searched) == 1
    again = call(searched, "confirm", "--study", "s", "--top", "1", "--seeds", "2", "--json")
    assert again.exit_code == 0 and runs_of(searched) == found and num_looks(searched) == 1
    answer = json.loads(again.stdout)
    assert answer["winner"] in names and len(answer["values"]) == 2 and len(answer["test"]) == 1
    shown = call(searched, "best", "--study", "s", "--export", "best", "--json")
    assert shown.exit_code == 0, shown.stderr
    best = json.loads(shown.stdout)
    assert best["study"] == "s-confirmed" and best["trial"] == answer["trial"] and best["confirmed"] == answer
    card = (searched / "best" / "card.md").read_text()
    assert "Confirmed: " in card and "partly luck" not in card
    assert json.loads(call(searched, "best", "--study", "s", "--trial", "0", "--json").stdout)["study"] == "s"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--trial", "9"], "study 's' has no finished trial 9; it has finished 0"),
        (["--trial", "0", "--top", "2"], "give either --top N for the best trials, or --trial N for single ones."),
        (["--seeds", "1"], "1 is not in the range 2<=x<=100"),
        (["--study", "t"], "no study 't'."),
        (["--space", "absent.py"], "absent.py"),
    ],
)
def test_what_cannot_be_confirmed_is_refused_in_one_line(searched: Path, typed: list[str], said: str) -> None:
    done = call(searched, "confirm", "--study", "s", *typed)
    assert done.exit_code == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_without_any_study_the_command_to_start_one_is_shown(tmp_path: Path) -> None:
    done = call(tmp_path, "confirm")
    assert done.exit_code == 2 and "no study yet" in done.stderr and not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_killed_confirmation_goes_on_to_the_same_values(searched: Path, tmp_path: Path) -> None:
    typed = ("confirm", "--study", "s", "--trial", "0", "--trial", "1", "--seeds", "2", "--no-default")
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    for folder in (broken, whole):
        shutil.copytree(searched, folder)
        shutil.rmtree(folder / "best", ignore_errors=True)
    assert call(whole, *typed).exit_code == 0
    url = home_url(broken / "runs")
    with running(broken, *typed) as process:
        ended = (
            "SELECT 1 FROM trials t JOIN studies s ON s.study_id = t.study_id WHERE s.study_name = 's-confirmed'"
        )
        wait_for(lambda: rows(url, f"{ended} AND t.state = 'COMPLETE'"), process)
        for child in children(process.pid):
            child.kill()
        process.kill()
    assert call(broken, *typed).exit_code == 0
    assert runs_of(broken) == runs_of(whole)


@pytest.mark.slow
def test_two_commands_confirm_one_study_together(postgres: Postgres, tmp_path: Path) -> None:
    write_space(tmp_path, epochs=1, batch=8)
    make_photos(tmp_path / "photos", 12)
    url = postgres.fresh()
    typed = ("--study", "s", "--storage", url)
    done = run(tmp_path, "run", "--space", "tiny.py", "--data", "photos", "--trials", "2", *typed)
    assert done.returncode == 0, done.stderr
    confirming = ("confirm", *typed, "--trial", "0", "--trial", "1", "--seeds", "3", "--json")
    with running(tmp_path, *confirming) as one, running(tmp_path, *confirming) as other:
        answers = [process.communicate(timeout=200) for process in (one, other)]
    assert [one.returncode, other.returncode] == [0, 0], answers
    first, second = (json.loads(out) for out, _ in answers)
    assert first["winner"] == second["winner"] and first["values"] == second["values"]
    with opened(url) as engine:
        found = trial_queries.read_trials(engine, queries.find_study(engine, "s-confirmed"))
    runs = [(trial.attrs[CANDIDATE]["name"], trial.attrs["repeat"]) for trial in found]
    assert len(runs) == len(set(runs)) and {trial.state for trial in found} == {"COMPLETE"}
