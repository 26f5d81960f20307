"""Compare a published table with our own trials: statistics of each row as text, Markdown or JSON."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Engine

from tuner.errors import StudyError, did_you_mean
from tuner.space.published import PublishedRow, PublishedTable, rank_values
from tuner.study import epoch_queries, queries, trial_queries
from tuner.study.info import StudyInfo, StudyKind
from tuner.study.trial_queries import TrialInfo
from tuner.wording import format_seconds, write_command

STATES = {"RUNNING": "running", "WAITING": "waiting", "FAIL": "failed", "PRUNED": "stopped"}  # in order of display


@dataclass(frozen=True)
class RowResult:
    """A row and our trials of it. `values` has the numbers of each metric, one for each seed."""

    row: PublishedRow
    values: dict[str, list[float]]
    epochs: list[int]
    seconds: list[float]
    states: dict[str, int]

    @property
    def state(self) -> str:
        """Return "done" with a finished trial; else "running", "waiting", "failed", "stopped" or "not run yet"."""
        if self.states.get("COMPLETE"):
            return "done"
        return next((word for state, word in STATES.items() if self.states.get(state)), "not run yet")

    def mean(self, metric: str) -> float | None:
        return statistics.fmean(known) if (known := self.values.get(metric)) else None

    def deviation(self, metric: str) -> float | None:
        """Return the standard deviation over the seeds, None for fewer than two."""
        known = self.values.get(metric, [])
        return statistics.stdev(known) if len(known) > 1 else None

    def difference(self, metric: str) -> float | None:
        ours, theirs = self.mean(metric), self.row.published.get(metric)
        return None if ours is None or theirs is None else ours - theirs


@dataclass(frozen=True)
class TableComparison:
    """A table, its study (None before the first run), and our results for each row."""

    table: PublishedTable
    study: StudyInfo | None
    lines: tuple[RowResult, ...]

    @property
    def places(self) -> list[int]:
        """Return our place of each row by the metric, among the rows with a published place; else 0."""
        metric, theirs = self.table.metric, self.table.places or [1] * len(self.lines)
        ours = [line.mean(metric) if place else None for line, place in zip(self.lines, theirs, strict=True)]
        return rank_values(ours, metric)


def compare_table(engine: Engine | None, table: PublishedTable, study: str | None) -> TableComparison:
    """Compare the table with the named study, or with the first of `studies_of_table`."""
    info = find_table_study(engine, table, study) if engine else None
    epochs: Epochs = {}
    by_row: dict[str, list[TrialInfo]] = {}
    if engine and info:
        with engine.connect() as db:
            epochs = epoch_queries.read_study_epochs(db, info.id)
        for trial in trial_queries.read_trials(engine, info):
            by_row.setdefault(str(trial.attrs.get("row")), []).append(trial)
    results = [row_result(row, by_row.get(row.key, []), epochs, table.metrics) for row in table.rows]
    return TableComparison(table, info, tuple(results))


def studies_of_table(infos: Iterable[StudyInfo], table: str) -> list[StudyInfo]:
    """Return the studies of a table: at full size on its own data first, rehearsals last, else by age."""
    studies = [info for info in infos if info.table == table]
    return sorted(studies, key=lambda info: (info.rehearsal, bool(info.size), "@" in info.name))


def find_table_study(engine: Engine, table: PublishedTable, name: str | None) -> StudyInfo | None:
    """Return the named study, which must be of this table; without a name, the first of the table or None.

    Extensions of a study of the table can be given by name, too.
    """
    infos = queries.read_studies(engine)
    by_name = {info.name: info for info in studies_of_table(infos, table.name)}
    if name is None:
        return next(iter(by_name.values()), None)
    by_name |= {one.name: one for one in infos if one.kind is StudyKind.EXTENSION and one.subject in by_name}
    if name in by_name:
        return by_name[name]
    if not by_name:
        start = write_command("run", table=table.name)
        raise StudyError(f"the table '{table.name}' has no study yet, so none '{name}'. Start one with: {start}")
    close, known = did_you_mean(name, by_name), ", ".join(by_name)
    raise StudyError(f"no study '{name}' of the table '{table.name}'.{close} Known: {known}.")


Epochs = dict[int, list[dict[str, Any]]]  # flat rows by trial id


def row_result(row: PublishedRow, ours: list[TrialInfo], epochs: Epochs, metrics: Sequence[str]) -> RowResult:
    """Return the results of a row. A repeat that failed and finished later counts as finished."""
    finished = [trial for trial in ours if trial.state == "COMPLETE"]
    done = {trial.attrs.get("repeat") for trial in finished}
    unfinished = [trial for trial in ours if trial.state != "COMPLETE" and trial.attrs.get("repeat") not in done]
    states = Counter(trial.state for trial in (*finished, *unfinished))
    best = [best_metrics(trial, epochs.get(trial.id, [])) for trial in finished]
    values = {name: [one[name] for one in best if name in one] for name in metrics}
    spent = [sum(epoch["seconds"] for epoch in epochs.get(trial.id, [])) for trial in finished]
    return RowResult(row, values, [int(trial.attrs["result"]["epochs"]) for trial in finished], spent, states)


def best_metrics(trial: TrialInfo, epochs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the row of a finished trial's best epoch, with the metrics of the test split."""
    result = trial.attrs["result"]
    at_best = next((row for row in epochs if row["epoch"] == int(result["best_epoch"])), {})
    return at_best | {f"test_{name}": value for name, value in (result.get("test") or {}).items()}


def to_json(comparison: TableComparison) -> dict[str, Any]:
    """Return plain JSON; `published` and `ours` are numbers, or objects by metric if there are several."""
    table, info = comparison.table, comparison.study
    theirs, ours = table.places or [0] * len(table.rows), comparison.places
    return {
        "table": table.name,
        "about": table.about,
        "space": table.space_name,
        "data": info.data if info else table.data,
        "where": table.where,
        "note": table.note,
        "compare": table.compare,
        "metric": table.metric,
        "metrics": list(table.metrics),
        "study": info.name if info else None,
        "reduced": info.size if info else "",
        "rows": [
            row_json(one, table.metrics) | ({"place": p, "our_place": q or None} if table.places else {})
            for one, p, q in zip(comparison.lines, theirs, ours, strict=True)
        ],
    }


def row_json(one: RowResult, metrics: tuple[str, ...]) -> dict[str, Any]:
    def each(number: Any) -> Any:
        return number(metrics[0]) if len(metrics) == 1 else {name: number(name) for name in metrics}

    return {
        "params": one.row.params,
        "published": each(one.row.published.get),
        "ours": each(one.mean),
        "deviation": each(one.deviation),
        "difference": each(one.difference),
        "seeds": one.states.get("COMPLETE", 0),
        "epochs": mean_or_none(one.epochs),
        "seconds": mean_or_none(one.seconds),
        "state": one.state,
        "where": one.row.where,
        "note": one.row.note,
    }


def mean_or_none(numbers: list[Any]) -> Any:
    if not numbers:
        return None
    return numbers[0] if len(set(numbers)) == 1 else statistics.fmean(numbers)


Columns = list[tuple[str, list[str]]]  # a heading, and a cell for each row


def text_columns(comparison: TableComparison) -> Columns:
    """Return the comparison as columns of text, for a terminal or for Markdown."""
    table, lines = comparison.table, comparison.lines
    names = varied_params(table)
    columns: Columns = []
    for name in names:
        columns.append((name, [format_table_param(one.row.params.get(name, "")) for one in lines]))
    for metric in table.metrics:
        columns += metric_columns(comparison, metric)
    if table.places:
        columns.append(("place published", [str(place or "-") for place in table.places]))
        columns.append(("place ours", [str(place or "-") for place in comparison.places]))
    columns.append(("epochs run" if "epochs" in names else "epochs", [format_mean(one.epochs) for one in lines]))
    columns.append(("time", [format_seconds(statistics.fmean(s)) if (s := one.seconds) else "" for one in lines]))
    notes = [("where", [str(one.row.where) for one in lines]), ("note", [str(one.row.note) for one in lines])]
    return columns + [column for column in notes if any(column[1])]


def varied_params(table: PublishedTable) -> list[str]:
    """Return the parameters that differ between the rows; all, for one row."""
    names, same = dict.fromkeys(name for row in table.rows for name in row.params), fixed_params(table)
    return [name for name in names if name not in same]


def fixed_params(table: PublishedTable) -> dict[str, Any]:
    """Return the parameters that are the same in all rows; {} for one row."""
    if len(table.rows) == 1:
        return {}
    first = table.rows[0].params
    return {k: v for k, v in first.items() if all(k in row.params and row.params[k] == v for row in table.rows)}


def metric_columns(comparison: TableComparison, metric: str) -> Columns:
    """Return the columns published, ours and difference; without the last if only the order is comparable."""
    lines, name = comparison.lines, metric.replace("_", " ", 1)
    ours = (f"{name} ours", [format_ours(one, metric) for one in lines])
    if not any(metric in one.row.published for one in lines):
        return [ours]
    theirs = (f"{name} published", [format_number(one.row.published.get(metric)) for one in lines])
    apart = ("difference", [format_number(one.difference(metric), "+.4f") for one in lines])
    return [theirs, ours] if comparison.table.places else [theirs, ours, apart]


def to_markdown(comparison: TableComparison) -> str:
    """Return the comparison as a Markdown table below its title."""
    columns = text_columns(comparison)
    headings, cells_of = zip(*columns, strict=True)
    texts = [headings, ["---"] * len(columns), *zip(*cells_of, strict=True)]
    return "\n".join([comparison_title(comparison), "", *("| " + " | ".join(cells) + " |" for cells in texts)])


def comparison_title(comparison: TableComparison) -> str:
    """Return what is compared, on which data, in which study, and at which reduced size."""
    table, info = comparison.table, comparison.study
    on = (info.data if info else table.data) or "the space's own data"
    same = ", ".join(f"{name}={format_table_param(value)}" for name, value in fixed_params(table).items())
    what, study = f"{table.name}: {table.space_name} on {on}", f"study {info.name}" if info else "no study yet"
    return ", ".join(filter(None, (what, same, table.where, study, info.size if info else "")))


def format_mean(numbers: list[int]) -> str:
    return f"{statistics.fmean(numbers):g}" if numbers else ""


def format_number(number: float | None, form: str = ".4f") -> str:
    return "-" if number is None else format(number, form)


def format_table_param(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def format_ours(one: RowResult, metric: str) -> str:
    """Return our value, such as "0.7812 ± 0.0041 (3 seeds, 1 failed)", or the state of a row without one."""
    mean, deviation = one.mean(metric), one.deviation(metric)
    if mean is None:
        return "-" if one.state == "done" else one.state
    seeds = [f"{len(one.values[metric])} seeds"] if deviation is not None else []
    counted = ", ".join([*seeds, *(f"{one.states[s]} {word}" for s, word in STATES.items() if one.states.get(s))])
    spread = f" ± {deviation:.4f}" if deviation is not None else ""
    return format_number(mean) + spread + (f" ({counted})" if counted else "")
