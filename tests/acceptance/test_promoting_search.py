"""A search that pauses and resumes its trials, as it is typed and shown."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.command_line import alter, epochs_of, home_url, rows, run, states, write_space


def test_a_promoting_search_within_a_budget_of_epochs(tmp_path: Path) -> None:
    write_space(tmp_path, epochs=4)
    home = ("--home", tmp_path / "home")
    search = ["run", "--space", tmp_path / "tiny.py", *home, "--pruning", "promote", "--factor", "2"]

    first = run(tmp_path, *search, "--trials", "4", "--epoch-budget", "5")
    assert first.returncode == 0, first.stderr
    assert "the 5 epochs are spent" in first.stdout
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
        (("--first-rung", "2"), "first rung: from 1 to 2"),
        (("--pruning", "stop"), "pruning: from promote to stop"),
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
