"""What `tuner run` prints at its end about a used-up budget."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from helpers.command_line import home_url
from helpers.optuna_revisions import prepare_file

from tuner.cli.run import print_result
from tuner.goal import Goal
from tuner.paths import Home
from tuner.study import budget, queries
from tuner.study.info import StudyInfo
from tuner.study.study import JoinedStudy, join_study
from tuner.study.tables import study_table
from tuner.wording import repeat_options


@pytest.fixture
def study(home: Path) -> Iterator[JoinedStudy]:
    prepare_file(Home(home).make().folder / "tuner.db")
    joined = join_study(home_url(home), StudyInfo("s", "unet_k", Goal("iou", "maximize"), "shapes"))
    yield joined
    joined.engine.dispose()


@pytest.mark.parametrize(
    ("limits", "seconds", "told"),
    [
        ({"hours": 2.0}, {"clock_seconds": 7200.5}, "the budget of 2 h is spent; {more} --hours 4"),
        (
            {"gpu_hours": 0.5},
            {"gpu_seconds": 1799.0},
            "the budget of 30 min of GPU time is spent; {more} --gpu-hours 1",
        ),
        ({"hours": 1.0}, {"clock_seconds": 9000.0}, "the budget of 1 h is spent; {more} --hours 3.5"),
        ({"hours": 2.0, "gpu_hours": 2.0}, {"clock_seconds": 7000.0, "gpu_seconds": 7000.0}, ""),
        (
            {"hours": 2.0, "epochs": 6},
            {"clock_seconds": 7200.5, "epochs_granted": 6},
            "the budget of 2 h is spent and the budget of 6 epochs is spent; {more} --hours 4 --epoch-budget 12",
        ),
        ({"num_trials": 5}, {"clock_seconds": 7000.0, "gpu_seconds": 7000.0}, ""),
    ],
    ids=["hours", "GPU-hours", "hours before the limit", "neither yet", "two at once", "no such limit"],
)
def test_hours_that_are_spent_are_told_with_what_raises_them(
    limits: dict[str, float],
    seconds: dict[str, float],
    told: str,
    study: JoinedStudy,
    home: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    budget.set_budget(study.engine, study.id, **limits)
    with study.engine.begin() as db:
        db.execute(sa.update(study_table).values(**seconds))
    info = queries.find_study(study.engine, "s")
    with repeat_options(home=str(home)):
        print_result(queries.read_summary(study.engine, info), str(home), None)
    lines = [line for line in capsys.readouterr().out.splitlines() if "spent" in line]
    more = "to continue: tuner budget --study s"
    assert lines == ([told.format(more=more) + f" --home {home}"] if told else [])
