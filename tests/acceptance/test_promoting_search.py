"""A search that pauses and resumes its trials, as it is typed and shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.command_line import alter, epochs_of, home_url, rows, run, states, write_space


@pytest.mark.slow
def test_a_promoting_search_within_a_budget_of_epochs(tmp_path: Path) -> None:
    write_space(tmp_path, epochs=4)
    home = ("--home", tmp_path / "home")
    search = ["run", "--space", tmp_path / "tiny.py", *home, "--pruning", "promote", "--factor", "2"]

    first = run(tmp_path, *search, "--trials", "4", "--epoch-budget", "5")
    assert first.returncode == 0, first.stderr
    assert "the budget of 5 epochs is spent; to continue: " in first.stdout
    url = home_url(tmp_path / "home")
    assert len(rows(url, "SELECT * FROM tuner_epoch")) == 5
    shown = run(tmp_path, "budget", *home).stdout
    assert "5 of 5 epochs" in shown

    raised = run(tmp_path, "budget", *home, "--epoch-budget", "40")
    assert "5 of 40 epochs" in raised.stdout
    done = run(tmp_path, *search)
    assert done.returncode == 0, done.stderr
    paused = len(rows(url, "SELECT * FROM tuner_claim WHERE paused_at IS NOT NULL"))
    assert paused and f"{paused} paused; they may go on when the budget is raised" in done.stdout
    assert sorted(set(states(url).values())) == ["COMPLETE", "PRUNED"] and len(states(url)) == 4
    complete = [number for number, state in states(url).items() if state == "COMPLETE"]
    assert epochs_of(url, complete[0]) == [1, 2, 3, 4]

    (told,) = json.loads(run(tmp_path, "status", *home, "--json").stdout)
    assert told["states"]["PAUSED"] == paused and told["spent"]["epochs"] == told["cost"]["epochs"]
    assert f"{paused} paused" in run(tmp_path, "status", *home).stdout
    run(tmp_path, "report", *home, "--out", "report.html")
    assert "paused at 1 of 4" in (tmp_path / "report.html").read_text()

    written = rows(url, "SELECT * FROM tuner_decision")
    listed = run(tmp_path, "decisions", *home).stdout.splitlines()
    assert len(listed) == len(written) and "start    trial 0: no paused trial is due" in listed[0]
    assert any("pause    trial" in line and "may go on" in line for line in listed)
    replayed = run(tmp_path, "decisions", *home, "--replay")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert f"{len(written)} of {len(written)} decisions, made by 2 workers, are the same again" in replayed.stdout
    told = json.loads(run(tmp_path, "decisions", "0", *home, "--json").stdout)
    assert [each["action"] for each in told][:2] == ["start", "pause"] and {each["number"] for each in told} == {0}
    alter(url, "UPDATE tuner_decision SET epoch = 2 WHERE decision_id = 1")
    other = run(tmp_path, "decisions", *home, "--replay")
    assert other.returncode == 1 and "trial 0 after epoch 2" in other.stdout and "again: start" in other.stdout
    told = json.loads(run(tmp_path, "decisions", *home, "--replay", "--json").stdout)
    assert [each["same"] for each in told] == [False] + [True] * (len(written) - 1)

    for words, changed in (
        (("--factor", "3"), "factor: from 2 to 3"),
        (("--pruning", "none"), "pruning: from promote to none"),
    ):
        refused = run(tmp_path, *search, *words)
        assert refused.returncode == 2 and changed in refused.stderr and "Traceback" not in refused.stderr
    space = (tmp_path / "tiny.py").read_text()
    (tmp_path / "tiny.py").write_text(space.replace('"lr"', '"rate"'))
    refused = run(tmp_path, *search)
    assert refused.returncode == 2 and "parameter 'rate': from absent" in refused.stderr
    (tmp_path / "tiny.py").write_text(space)
    assert len(rows(url, "SELECT * FROM tuner_claim WHERE paused_at IS NOT NULL")) == paused

    nothing = run(tmp_path, *search)
    assert nothing.returncode == 0 and states(url).keys() == {0, 1, 2, 3}
    more = run(tmp_path, *search, "--trials", "8")
    assert more.returncode == 0, more.stderr
    resumed = rows(url, "SELECT * FROM tuner_decision WHERE action = 'resume'")
    assert resumed and len(states(url)) == 8


@pytest.mark.parametrize(
    ("first_rung", "rested", "where", "epochs"),
    [
        pytest.param("1/3", "paused at 0.33 of 2", ["within epoch 1", "after epoch 1"], 2, marks=pytest.mark.slow),
        ("0.001s", "paused at 1 of 2", ["after 0.001 s (epoch 1)"], 4),
    ],
)
def test_a_search_whose_first_rung_is_no_whole_epoch(
    tmp_path: Path, first_rung: str, rested: str, where: list[str], epochs: int
) -> None:
    """Three trials pause at the first rung; as no more can start, the best one goes on from each of its rungs."""
    write_space(tmp_path, epochs=2)
    options = ["--first-rung", first_rung, "--factor", "1000000", "--pruning", "promote"]
    search = ["run", "--space", "tiny.py", "--trials", "3", "--workers", "1", *options]
    done = run(tmp_path, *search)
    assert done.returncode == 0 and rested in done.stderr, done.stderr
    (told,) = json.loads(run(tmp_path, "status", "--json").stdout)
    assert (told["states"], told["cost"]["epochs"]) == ({"COMPLETE": 1, "PAUSED": 2}, epochs)

    lines = [line.split("  ", 1)[1] for line in run(tmp_path, "decisions").stdout.splitlines()]
    (best,) = (line.split()[2] for line in lines if line.startswith("resume") and f" {where[0]}: " in line)
    paused = [f"pause    trial {number} {where[0]}: rank " for number in range(3)]
    again = [f"pause    trial {best} {later}: rank " for later in where[1:]]
    resumed = [f"resume   trial {best} {each}: rank 1 of " for each in where]
    expected = sorted([*paused, *again, *resumed])
    assert [line[: len(start)] for line, start in zip(sorted(lines), expected, strict=False)] == expected
    assert [line for line in lines if not line.startswith(("pause", "resume"))] == [
        f"start    trial {number}: no paused trial is due" for number in range(3)
    ]
    replayed = run(tmp_path, "decisions", "--replay")
    number = len(lines)
    assert f"{number} of {number} decisions, made by 1 worker, are the same again" in replayed.stdout
    refused = run(tmp_path, *search, "--first-rung", "1")
    assert refused.returncode == 2 and "first rung: from " in refused.stderr
