"""A home with a study of a tiny space, and workers for it in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import optuna
import sqlalchemy as sa

from helpers.command_line import epochs_of, home_url, wait_for, write_space
from helpers.optuna_revisions import prepare_file
from tuner.fleet.config import WorkerConfig
from tuner.goal import Goal
from tuner.paths import Home
from tuner.search.worker import Worker
from tuner.space.search_settings import SearchSettings
from tuner.space.space import draw_recipes, load_space
from tuner.study import budget
from tuner.study.info import StudyInfo
from tuner.study.study import join_study


@dataclass
class Place:
    """A home with a study of a tiny space, and workers for it."""

    folder: Path
    seed: int = 0
    search: SearchSettings = SearchSettings()
    limits: Mapping[str, float] = field(default_factory=dict)
    further: tuple[Goal, ...] = ()

    @property
    def url(self) -> str:
        return home_url(self.folder / "home")

    def run(self, attempt: int = 1) -> Path:
        """Return the folder of an attempt at trial 0."""
        return next((self.folder / "home" / "trials").glob("tiny-*")) / "00000" / f"attempt-{attempt}"

    def study(self, trials: int, **space: object) -> Place:
        path = write_space(self.folder, **space)  # type: ignore[arg-type]
        Home(self.folder / "home").make()
        prepare_file(self.folder / "home" / "tuner.db")
        found = load_space(str(path))
        joined = join_study(
            self.url,
            StudyInfo(
                "tiny",
                "tiny",
                found.goal,
                "shapes",
                seed=self.seed,
                parameters=draw_recipes(found).parameters,
                search=self.search,
                limits=self.limits,
                further=self.further,
            ),
        )
        budget.set_budget(joined.engine, joined.id, num_trials=trials)
        joined.engine.dispose()
        return self

    @contextmanager
    def worker(self) -> Iterator[Worker]:
        config = WorkerConfig(self.url, "tiny", str(self.folder / "tiny.py"), str(self.folder / "home"))
        made = Worker(config, threading.Event())
        try:
            yield made
        finally:
            made.engine.dispose()

    def work(self) -> None:
        with self.worker() as worker:
            worker.work()

    def work_until(self, epoch: int, act: Callable[[Worker], object]) -> None:
        """Work, and call `act` from another thread when trial 0 has reached that epoch."""

        def watch(worker: Worker) -> None:
            wait_for(lambda: len(epochs_of(self.url, 0)) >= epoch)
            act(worker)

        with self.worker() as worker:
            watching = threading.Thread(target=watch, args=(worker,))
            watching.start()
            try:
                worker.work()
            finally:
                watching.join()

    def execute(self, statement: str) -> None:
        engine = sa.create_engine(self.url)
        with engine.begin() as db:
            db.execute(sa.text(statement))
        engine.dispose()

    def trials(self) -> list[optuna.trial.FrozenTrial]:
        return optuna.load_study(study_name="tiny", storage=self.url).trials
