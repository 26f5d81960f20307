"""A trial that gets no further: it is put back, its worker replaced, and what hangs each time is set aside."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.command_line import claims, epochs_of, rows, run, states
from helpers.postgres import Postgres
from helpers.recording_model import noted, trained, write_booked


@pytest.mark.slow
def test_what_hangs_three_times_is_named_and_set_aside_and_the_study_goes_on(
    tmp_path: Path, postgres: Postgres
) -> None:
    """The second time, it hangs without giving the interpreter back: its worker cannot even beat."""
    write_booked(tmp_path, 3, "hang=2 * (trial.number == 0)")
    home, url = tmp_path / "home", postgres.fresh()
    limits = ["--trials", "2", "--hang", "8", "--lease", "6"]
    done = run(
        tmp_path, "run", "--space", tmp_path / "tiny.py", "--home", home, *limits, TUNER_STORAGE=url
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert states(url)[0] == "FAIL"
    assert states(url)[1] in ("COMPLETE", "PRUNED")
    assert len(noted(tmp_path, "hangs")) == 3
    assert trained(tmp_path, 0) == {1: 1}  # its epoch before was not trained again
    assert epochs_of(url, 0) == [1]
    assert "trial 0 failed: set aside: " in done.stderr
    (failure,) = rows(url, "SELECT value_json FROM trial_user_attributes WHERE key = 'failure'")
    assert " workers died while they trained it, or hung" in failure.value_json
    assert claims(url)[0][2] >= 3
    assert rows(url, "SELECT * FROM tuner_worker") == []
    log = (home / "logs" / "tiny" / "worker-0.log").read_text()
    assert log.count("Where it hangs") >= 2  # the one that keeps the interpreter is killed by its fleet
    assert f'{tmp_path / "booked.py"}", line' in log
    assert "in before_a_step" in log
