"""Studies made for measuring, through the program's own functions."""

from __future__ import annotations

from pathlib import Path

from tuner import records
from tuner.runs import Home
from tuner.space import draw, load_space
from tuner.study import Joined, Plan, join


def begin(place: Path, space_file: Path, num_trials: int) -> tuple[Home, str]:
    """A new study of a space in a home below `place`, named as the file; the home and the storage's URL."""
    home = Home(place / "home").make()
    joined = open_study(home.database, space_file, space_file.stem)
    records.set_budget(joined.engine, joined.id, num_trials)
    joined.engine.dispose()
    return home, home.database


def open_study(url: str, space_file: Path, name: str) -> Joined:
    space = load_space(str(space_file))
    draws = draw(space)
    plan = Plan.of(space.name, space.goal, draws.recipes[0].data.name, False, 0, draws)
    return join(url, name, plan)


def fill(joined: Joined, num_trials: int, num_epochs: int) -> None:
    """Finished trials with parameters, reports, notes and epoch records, as a worker leaves them."""
    import optuna
    import sqlalchemy as sa

    for number in range(num_trials):
        trial = joined.study.ask({"lr": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)})
        claim = records.claim_slot(joined.engine, joined.id, "bench")
        assert claim is not None
        records.bind(joined.engine, claim, trial._trial_id)
        values = [0.5 + number / 1000 + epoch / 100 for epoch in range(1, num_epochs + 1)]
        for epoch, value in enumerate(values, start=1):
            trial.report(value, epoch)
        trial.set_user_attr("made_with", {"commit": "none", "python": "3"})
        trial.set_user_attr("result", {"best_value": values[-1], "best_epoch": num_epochs})
        rows = [
            {"trial_id": trial._trial_id, "epoch": epoch, "value": value, "seconds": 1.0, "images_per_second": 1.0,
             "peak_memory": 1, "lr": 1e-3, "metrics": {"train_loss": 0.1, "val_loss": 0.1, "val_iou": value}}
            for epoch, value in enumerate(values, start=1)
        ]  # fmt: skip
        with joined.engine.begin() as db:
            db.execute(sa.insert(records.epoch_table), rows)
        joined.study.tell(trial, values[-1])
