"""Epochs until a search finds a near-best trial, replayed on tables of real learning curves.

Each policy proposes rows of the same table, in the same orders, one epoch after the other. Points that a sampler
proposes become the nearest row that is not trained yet; the first ten are those of the order. The samplers and
schedulers are the product's own and Optuna's, as they come.
"""

from __future__ import annotations

import json
import math
import os
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmarks.measure import Row, Section, Setting
from tuner.goal import Goal
from tuner.search.samplers import make_sampler
from tuner.search.scheduler import Curve
from tuner.search.scheduling import make_scheduler
from tuner.search.unit_cube import encode, encode_columns
from tuner.space.search_settings import SearchSettings
from tuner.study import optuna_compat
from tuner.study.earlier import EarlierStudy
from tuner.study.info import StudyInfo
from tuner.study.paused import MARK

CAP = 3000  # epochs after which a search is given up
NUM_FIRST = 10  # rows that every policy trains first
NEAR_SHARE, NEAR_IOU = 0.95, 0.01  # near best: of the normalised loss, of IoU
TARGET, WORST, HORSES_TARGET = 0.5, 1.25, 40
PEER = "Optuna: TPE, SuccessiveHalvingPruner"


@dataclass(frozen=True)
class Table:
    """Recipes with their curves, of which a search may train any."""

    name: str
    space: Mapping[str, BaseDistribution]
    params: Sequence[Mapping[str, Any]]
    values: np.ndarray  # of each row by epoch; larger is better
    near: float  # a value that counts as near best

    @cached_property
    def points(self) -> np.ndarray:
        return encode(self.space, self.params)

    @property
    def epochs(self) -> int:
        return self.values.shape[1]

    def order(self, seed: int) -> list[int]:
        return random.Random(f"{self.name} {seed}").sample(range(len(self.params)), len(self.params))


class TableSampler(BaseSampler):
    """Proposes the row that is nearest to what another sampler proposes, each row once."""

    def __init__(
        self,
        inner: BaseSampler,
        table: Table,
        order: Sequence[int],
        first: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.inner, self.table, self.order, self.first = inner, table, order, list(first)
        self.left = np.ones(len(order), dtype=bool)
        self.row = 0  # the last one

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self.table.space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self.first:
            self.row = self.nearest(self.first.pop(0))
        elif self.left.sum() > len(self.left) - NUM_FIRST or isinstance(self.inner, RandomSampler):
            self.row = next(row for row in self.order if self.left[row])
        else:
            shared = self.inner.infer_relative_search_space(study, trial)
            point = self.inner.sample_relative(study, trial, shared)
            for name, kind in search_space.items():
                if name not in point:
                    point[name] = self.inner.sample_independent(study, trial, name, kind)
            self.row = self.nearest(point)
        self.left[self.row] = False
        return dict(self.table.params[self.row])

    def nearest(self, point: Mapping[str, Any]) -> int:
        """Return the row that is nearest to a point, of those that are left."""
        distances = ((self.table.points - encode(self.table.space, [point])) ** 2).sum(1)
        return int(np.argmin(np.where(self.left, distances, np.inf)))

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, *args: Any) -> Any:
        raise AssertionError("all parameters are sampled together")


# --- policies: each yields the values that it sees, one for each epoch that it trains ---


def run_optuna(
    sampler: Callable[[int], BaseSampler], pruner: Callable[[int], optuna.pruners.BasePruner]
) -> Callable[[Table, int], Iterator[float]]:
    """Return a search of Optuna alone."""

    def search(table: Table, seed: int) -> Iterator[float]:
        chooser = TableSampler(sampler(seed), table, table.order(seed))
        study = optuna.create_study(sampler=chooser, pruner=pruner(table.epochs), direction="maximize")
        for _ in table.params:
            trial = study.ask(dict(table.space))
            for epoch, value in enumerate(table.values[chooser.row].tolist(), start=1):
                yield value
                trial.report(value, epoch)
                if epoch < table.epochs and trial.should_prune():
                    study.tell(trial, state=TrialState.PRUNED)
                    break
            else:
                study.tell(trial, value)

    return search


def run_tuner(**settings: Any) -> Callable[[Table, int], Iterator[float]]:
    """Return a search with a sampler and a scheduler of tuner, as one worker carries it out."""

    def search(table: Table, seed: int) -> Iterator[float]:
        return SimulatedSearch(table, seed, SearchSettings(**settings)).run()

    return search


@dataclass
class SimulatedSearch:
    """One worker: it asks the scheduler whom to train, and trains to the next rung."""

    table: Table
    seed: int
    settings: SearchSettings
    earlier: tuple[EarlierStudy, ...] = ()
    trials: list[FrozenTrial] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)

    def run(self) -> Iterator[float]:
        info = StudyInfo(
            "", "", Goal("value", "maximize"), "", seed=self.seed, search=self.settings, earlier=self.earlier
        )
        scheduler = make_scheduler(info)
        study = optuna.create_study(direction="maximize", sampler=RandomSampler(seed=self.seed))
        first = [point for study in self.earlier for point in study.first]
        prior = {name: value for name, (value, _) in self.settings.prior.items()}
        first += [prior] if prior else []
        sampler = TableSampler(make_sampler(info, 0), self.table, self.table.order(self.seed), first)
        while decision := scheduler.choose(self.curves, can_start=len(self.rows) < len(self.table.params)):
            if decision.number is None:
                self.start(study, sampler)
            number = len(self.rows) - 1 if decision.number is None else decision.number
            self.set_state(number, TrialState.RUNNING)
            action = "continue"
            while action == "continue":
                rungs = [*scheduler.rungs(self.table.epochs), self.table.epochs]
                end = next(rung for rung in rungs if rung > self.curves[number].epoch)
                for epoch in range(self.curves[number].epoch + 1, end + 1):
                    yield self.train(number, epoch)
                is_last = end == self.table.epochs
                action = "end" if is_last else scheduler.judge(self.curves, number, end).action
            self.set_state(number, {"end": TrialState.COMPLETE}.get(action, TrialState.PRUNED), action == "pause")

    def start(self, study: optuna.Study, sampler: TableSampler) -> None:
        """Add the trial that the sampler proposes."""
        attrs = {"recipe": {"epochs": self.table.epochs}}
        study.ask()
        trial = study.get_trials(deepcopy=False)[-1]
        view = optuna_compat.with_trials(study, [*self.trials])
        sampler.before_trial(view, trial)
        params = sampler.sample_relative(view, trial, dict(self.table.space))
        made = create_trial(
            state=TrialState.RUNNING, user_attrs=attrs, params=params, distributions=dict(self.table.space)
        )
        made.number = trial.number
        self.trials.append(made)
        self.rows.append(sampler.row)
        self.curves.append(
            Curve(made.number, {}, self.table.epochs, "running", point=encode_columns(params, self.table.space))
        )

    def train(self, number: int, epoch: int) -> float:
        value = float(self.table.values[self.rows[number], epoch - 1])
        self.trials[number].intermediate_values[epoch] = value
        curve = self.curves[number]
        self.curves[number] = replace(curve, values={**curve.values, epoch: value})
        return value

    def set_state(self, number: int, state: TrialState, is_paused: bool = False) -> None:
        """Let a trial run, rest or end; samplers tell by the object whether a trial has changed."""
        old = self.trials[number]
        values = [old.intermediate_values[self.table.epochs]] if state is TrialState.COMPLETE else None
        trial = create_trial(
            state=state, values=values, params=old.params, distributions=old.distributions,
            user_attrs=old.user_attrs, system_attrs={MARK: {}} if is_paused else {},
            intermediate_values=dict(old.intermediate_values),
        )  # fmt: skip
        trial.number = number
        self.trials[number] = trial
        shown = "running" if state is TrialState.RUNNING else "paused" if is_paused else "ended"
        self.curves[number] = replace(self.curves[number], state=shown)  # type: ignore[arg-type]


def best_three(table: Table, seed: int) -> Iterator[float]:
    """Train every row for one epoch, then the best three to their ends."""
    order = table.order(seed)
    yield from table.values[order, 0].tolist()
    for row in sorted(order, key=lambda row: -table.values[row, 0])[:3]:
        yield from table.values[row, 1:].tolist()


def oracle(table: Table, seed: int) -> Iterator[float]:
    """Look at rows for one epoch each, and know of each whether it comes near the best."""
    for row in table.order(seed):
        is_near = table.values[row].max() >= table.near
        yield from table.values[row, : None if is_near else 1].tolist()


def halving(factor: int) -> Callable[[int], optuna.pruners.BasePruner]:
    return lambda epochs: optuna.pruners.SuccessiveHalvingPruner(
        min_resource=1, reduction_factor=factor, min_early_stopping_rate=0
    )


def tpe(seed: int) -> BaseSampler:
    return TPESampler(seed=seed)


def random_rows(seed: int) -> BaseSampler:
    return RandomSampler(seed=seed)


POLICIES: dict[str, Callable[[Table, int], Iterator[float]]] = {
    PEER: run_optuna(tpe, lambda epochs: optuna.pruners.SuccessiveHalvingPruner()),
    "Optuna: TPE, HyperbandPruner": run_optuna(tpe, lambda epochs: optuna.pruners.HyperbandPruner(1, epochs)),
    "random, halving of factor 3": run_optuna(random_rows, halving(3)),
    "random, halving of factor 4": run_optuna(random_rows, halving(4)),
    "the best 3 after one epoch": best_three,
    "an oracle on random rows": oracle,
    "tuner: tpe, stop": run_tuner(sampler="tpe", pruning="stop"),
    "tuner: tpe, promote": run_tuner(sampler="tpe", pruning="promote"),
    "tuner: gp, promote": run_tuner(sampler="gp", pruning="promote"),
    "tuner: early, stop": run_tuner(sampler="early", pruning="stop"),
    "tuner: early, thaw": run_tuner(sampler="early", pruning="thaw"),
    "tuner: early, promote": run_tuner(sampler="early", pruning="promote"),
}
SLOW = ("tuner: gp, promote",)  # only by name: hours


def count_epochs(task: tuple[str, Table, int]) -> int:
    """Return the epochs that a policy trains until one of its values is near the best, at most the cap."""
    policy, table, seed = task
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    used = 0
    for used, value in enumerate(POLICIES[policy](table, seed), start=1):
        if value >= table.near or used >= CAP:
            return used
    return CAP if used else 0


# --- tables ---


def read_tables(folder: Path) -> list[Table]:
    """Return the tables of a folder: TaskSet's *.npz, and *.json lists of {"params", "iou"}."""
    tables = [read_taskset(path) for path in sorted(folder.glob("*.npz"))]
    return tables + [read_curves(path) for path in sorted(folder.glob("*.json"))]


def read_taskset(path: Path) -> Table:
    with np.load(path) as stored:
        names, params, losses = stored["names"].tolist(), stored["params"], stored["valid_loss"]
    worst = float(np.median(losses[:, 0]))
    losses = np.where(np.isfinite(losses), np.minimum(losses, worst), worst)
    values = (worst - losses[:, 1:]) / (worst - losses.min())
    columns = {
        (f"1 - {name}" if name.startswith("beta") else name): 1 - column if name.startswith("beta") else column
        for name, column in zip(names, params.T.astype(float), strict=True)
    }
    rows = [dict(zip(columns, row, strict=True)) for row in np.stack([*columns.values()], axis=1).tolist()]
    return Table(path.stem, infer_space(rows), rows, values, NEAR_SHARE)


def read_curves(path: Path) -> Table:
    stored = json.loads(path.read_text(encoding="utf-8"))
    rows = [each["params"] for each in stored]
    values = np.array([each["iou"] for each in stored])
    return Table(path.stem, infer_space(rows), rows, values, float(values.max()) - NEAR_IOU)


def infer_space(rows: Sequence[Mapping[str, Any]]) -> dict[str, BaseDistribution]:
    """Return distributions that hold all rows; numbers over more than a factor of ten are logarithmic."""
    return {name: infer_distribution([row[name] for row in rows]) for name in rows[0]}


def infer_distribution(values: Sequence[Any]) -> BaseDistribution:
    if any(isinstance(value, str | bool) for value in values):
        return CategoricalDistribution(sorted(set(values)))
    low, high = min(values), max(values)
    is_log = low > 0 and high / low > 10
    if all(isinstance(value, int) for value in values):
        return IntDistribution(low, high, log=is_log)
    return FloatDistribution(low, high, log=is_log)


# --- the result ---


def measure(setting: Setting) -> Section:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    tables = read_tables(setting.curves) if setting.curves else [make_table(seed) for seed in range(2)]
    orders = setting.pick(30, 2)
    names = [name for name in POLICIES if name not in SLOW]
    tasks = [(name, table, seed) for table in tables for name in names for seed in range(orders)]
    with get_context("forkserver").Pool(os.cpu_count()) as pool:
        counts = pool.map(count_epochs, tasks, chunksize=1)
    medians = {
        (name, table.name): statistics.median(
            [count for (n, t, _), count in zip(tasks, counts, strict=True) if n == name and t is table]
        )
        for name in names
        for table in tables
    }
    return Section(
        "search",
        "Search",
        ("policy", "epochs, median by table", "of Optuna's"),
        [make_row(name, tables, medians) for name in names],
        [f"{orders} orders; at most {CAP:,} epochs. Tables: {', '.join(table.name for table in tables)}."],
    )


def make_row(name: str, tables: Sequence[Table], medians: Mapping[tuple[str, str], float]) -> Row:
    ratios = {table.name: medians[name, table.name] / medians[PEER, table.name] for table in tables}
    tasks = [ratio for table, ratio in ratios.items() if "horses" not in table] or [*ratios.values()]
    mean = math.exp(statistics.fmean(map(math.log, tasks)))
    is_ours = name == "tuner: early, promote"
    horses = [medians[name, table.name] for table in tables if "horses" in table.name]
    met = mean <= TARGET and max(ratios.values()) <= WORST and all(count <= HORSES_TARGET for count in horses)
    return Row(
        name,
        " ".join(f"{medians[name, table.name]:.0f}" for table in tables),
        f"{mean:.2f}, worst {max(ratios.values()):.2f}",
        "",
        f"mean {TARGET}, worst {WORST}, horses {HORSES_TARGET}" if is_ours else "",
        met if is_ours else None,
    )


def make_table(seed: int) -> Table:
    """Return a table of made-up curves, to show that this works without real ones."""
    rng = np.random.default_rng(seed)
    shares = rng.random((200, 3))
    ends = 1 - ((shares - 0.4) ** 2).sum(1)
    epochs = np.arange(1, 28)
    values = ends[:, None] * (1 - np.exp(-epochs * (0.2 + shares[:, :1]))) + rng.normal(0, 0.01, (200, 27))
    rows = [dict(zip("abc", row, strict=True)) for row in shares.tolist()]
    return Table(f"made up {seed}", infer_space(rows), rows, values, float(values.max()) - 0.02)
