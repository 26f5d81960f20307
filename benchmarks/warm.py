"""Epochs until a near-best trial, of a search that is told something before: what is right, useless, and wrong.

As in `benchmarks.search`, with `early` and `promote`. An earlier study is a search of the next table for 300
epochs, in an order of its own; wrong is its reverse, in which the worst trials are the best. All tables of TaskSet
have the same configurations.
"""

from __future__ import annotations

import os
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from multiprocessing import get_context
from typing import Any

import numpy as np
import optuna

from benchmarks.measure import Row, Section, Setting
from benchmarks.search import CAP, SimulatedSearch, Table, make_table, read_tables
from tuner.search.earlier_studies import MOST_TRIALS, best_points, collect_trials
from tuner.search.ranks import normal_scores
from tuner.space.search_settings import SearchSettings
from tuner.study.earlier import EarlierStudy

EARLIER_EPOCHS, TRUST = 300, 0.9
MOST_IF_WRONG = 1.3  # times the epochs of a search that is told nothing
EARLY = SearchSettings(sampler="early", pruning="promote")


@dataclass(frozen=True, eq=False)
class Pair:
    """A table to search, and another one with the same parameters that was searched before."""

    table: Table
    before: Table


Told = tuple[tuple[EarlierStudy, ...], SearchSettings]


SEARCHED: dict[tuple[str, int], EarlierStudy] = {}  # by table and order, in this process


def search_before(table: Table, order: int) -> EarlierStudy:
    """Return what is taken of a search of a table."""
    if (table.name, order) not in SEARCHED:
        search = SimulatedSearch(table, 1000 + order, EARLY)
        for _ in islice(search.run(), EARLIER_EPOCHS):
            pass
        SEARCHED[table.name, order] = collect_trials("before", search.trials, True, set(table.space))
    return SEARCHED[table.name, order]


def earlier(trials: Sequence[Mapping[str, Any]], scores: Sequence[float]) -> Told:
    """Return trials as those of an earlier study."""
    copied = [dict(params) for params in trials]
    return (EarlierStudy("before", tuple(copied), tuple(scores), best_points(copied)),), EARLY


def nothing(pair: Pair, order: int) -> Told:
    return (), EARLY


def another_task(pair: Pair, order: int) -> Told:
    found = search_before(pair.before, order)
    return earlier(found.trials, found.scores)


def reversed_task(pair: Pair, order: int) -> Told:
    """The best of another task are said to be the worst."""
    found = search_before(pair.before, order)
    return earlier(found.trials[::-1], [-score for score in found.scores[::-1]])


def random_ranks(pair: Pair, order: int) -> Told:
    """Configurations and their ranks are random."""
    rows = random.Random(f"useless {order}").sample(range(len(pair.table.params)), MOST_TRIALS)
    return earlier([pair.table.params[row] for row in rows], sorted(normal_scores(range(MOST_TRIALS)))[::-1])


def prior_of(row: Callable[[Pair], int]) -> Callable[[Pair, int], Told]:
    """Return the values of a row as a prior of all parameters."""

    def told(pair: Pair, order: int) -> Told:
        values = pair.table.params[row(pair)]
        return (), replace(EARLY, prior={name: (value, TRUST) for name, value in values.items()})

    return told


def best_elsewhere(pair: Pair) -> int:
    return int(np.argmax(pair.before.values.max(1)))


def worst_here(pair: Pair) -> int:
    return int(np.argmin(pair.table.values.max(1)))


NOTHING = "nothing"
KINDS: dict[str, Callable[[Pair, int], Told]] = {
    NOTHING: nothing,
    "an earlier study of another task": another_task,
    "random trials as an earlier study": random_ranks,
    "an earlier study, reversed": reversed_task,
    f"a prior of trust {TRUST}: the best of another task": prior_of(best_elsewhere),
    f"a prior of trust {TRUST}: the worst of this one": prior_of(worst_here),
}


def count_epochs(task: tuple[str, Pair, int]) -> int:
    """Return the epochs that are trained until a value is near the best, at most the cap."""
    kind, pair, order = task
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    studies, settings = KINDS[kind](pair, order)
    values = SimulatedSearch(pair.table, order, settings, studies).run()
    epochs = enumerate(islice(values, CAP), start=1)
    return next((epoch for epoch, value in epochs if value >= pair.table.near), CAP)


def measure(setting: Setting) -> Section:
    tables = [make_table(seed) for seed in range(2)]
    if setting.curves:
        tables = [table for table in read_tables(setting.curves) if "horses" not in table.name]
    pairs = [Pair(*both) for both in zip(tables, [*tables[1:], tables[0]], strict=True)]
    orders = setting.pick(15, 1)
    tasks = [(kind, pair, order) for pair in pairs for order in range(orders) for kind in KINDS]
    with get_context("forkserver").Pool(os.cpu_count()) as pool:
        counts = pool.map(count_epochs, tasks, chunksize=len(KINDS))
    found: dict[tuple[str, str], list[int]] = {}
    for (kind, pair, _), count in zip(tasks, counts, strict=True):
        found.setdefault((kind, pair.table.name), []).append(count)
    means = {key: statistics.fmean(values) for key, values in found.items()}
    return Section(
        "warm",
        "Learning from before",
        ("what the search is told", "epochs, mean by table", "of nothing"),
        [make_row(kind, [table.name for table in tables], means) for kind in KINDS],
        [f"{orders} orders; at most {CAP:,} epochs. Tables: {', '.join(table.name for table in tables)}."],
    )


def make_row(kind: str, tables: Sequence[str], means: Mapping[tuple[str, str], float]) -> Row:
    ratios = [means[kind, table] / means[NOTHING, table] for table in tables]
    mean, worst = statistics.geometric_mean(ratios), max(ratios)
    is_right = "another task" in kind
    target = "mean below 1" if is_right else f"at most {MOST_IF_WRONG} on each"
    met = mean < 1 if is_right else worst <= MOST_IF_WRONG
    return Row(
        kind,
        " ".join(f"{means[kind, table]:.0f}" for table in tables),
        f"{mean:.2f}, worst {worst:.2f}",
        "",
        "" if kind == NOTHING else target,
        None if kind == NOTHING else met,
    )
