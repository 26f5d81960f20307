"""Comparison of a study after a storm with an undisturbed run: database, files and the model's own log."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.booked import STEPS
from benchmarks.measure import Row

PICTURES = ("strip.png", "predictions.png", "explanation.png", "curves.png", "quality.png")
KEPT = {"checkpoint.pt", "best.safetensors", "code.json", "confusion.csv", "details.json", *PICTURES}

# Every change of a trial's state is written down by the database itself
TRIGGER = """
CREATE SCHEMA storm;
CREATE TABLE storm.moves (trial_id integer, before text, after text);
CREATE FUNCTION storm.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO storm.moves VALUES (NEW.trial_id, OLD.state::text, NEW.state::text); RETURN NEW; END $$;
CREATE TRIGGER storm_note AFTER UPDATE OF state ON trials
    FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION storm.note();
"""
ENDS = "('COMPLETE', 'FAIL', 'PRUNED')"
EPOCHS = (
    "SELECT t.number, e.epoch, e.value, e.lr, e.metrics FROM tuner_epoch e "
    "JOIN trials t ON t.trial_id = e.trial_id"
)
STEPPED = (
    "SELECT t.number, i.step, i.intermediate_value FROM trial_intermediate_values i "
    "JOIN trials t ON t.trial_id = i.trial_id"
)
VALUES = (
    "SELECT t.number, t.state::text, v.value FROM trials t LEFT JOIN trial_values v ON v.trial_id = t.trial_id"
)


def look(url: str, query: str) -> list[tuple[Any, ...]]:
    """Return the result of a query, or zero while the database is down or has no tables yet."""
    try:
        with psycopg.connect(url, autocommit=True) as db:
            found = db.execute(query.encode())
            return found.fetchall() if found.description else []
    except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
        return [(0,)]


def number(url: str, query: str) -> int:
    return int(look(url, query)[0][0] or 0)


@dataclass(frozen=True)
class Left:
    """A finished study: its database, and the folder with its home and log."""

    url: str
    folder: Path
    trials: int
    epochs: int

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def results(self) -> dict[str, Any]:
        """Return what must be equal bit for bit, by trial number; durations are left out."""
        found: dict[str, Any] = {f"value {at}": (state, value) for at, state, value in look(self.url, VALUES)}
        for at, epoch, *rest in look(self.url, EPOCHS):
            found[f"epoch {at}.{epoch}"] = json.dumps(rest, sort_keys=True)
        for at, step, value in look(self.url, STEPPED):
            found[f"report {at}.{step}"] = value
        for path in self.home.glob("trials/*/*/*/best.safetensors"):
            at = int(path.parent.parent.name)
            found[f"weights {at}"] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def book(self) -> tuple[Counter[tuple[int, int]], Counter[tuple[int, int]]]:
        """Count how often each (trial, epoch) was started and finished, according to the model's log."""
        begun: Counter[tuple[int, int]] = Counter()
        trained: Counter[tuple[int, int]] = Counter()
        for line in (self.folder / "book").read_text().splitlines():
            what, trial, steps = line.split()
            if what == "trained":
                trained[int(trial), int(steps) // STEPS] += 1
            else:
                begun[int(trial), int(steps) // STEPS + 1] += 1
        return begun, trained

    def leftovers(self) -> list[Path]:
        """Return leftover files: of abandoned attempts, and temporary files that were never renamed."""
        stray = [path for path in self.home.rglob("*") if path.name.startswith(".") or ".tmp" in path.name]
        for trial in self.home.glob("trials/*/*"):
            attempts = list(trial.iterdir())
            ended = self.attempts().get(int(trial.name))
            stray += [path for path in attempts if path.name != f"attempt-{ended}"]
            stray += [file for path in attempts for file in path.glob("*") if file.name not in KEPT]
        return sorted(set(stray))

    def attempts(self) -> dict[int, int]:
        """Return the attempt that ended each trial."""
        query = (
            "SELECT t.number, a.value_json FROM trial_user_attributes a JOIN trials t ON t.trial_id = a.trial_id "
            "WHERE a.key = 'result'"
        )
        return {at: json.loads(said)["attempt"] for at, said in look(self.url, query)}

    def orphans(self) -> int:
        """Return dashboard pictures without a trial: their worker died right after writing them."""
        found = look(self.url, "SELECT key FROM trial_system_attributes WHERE key LIKE 'artifacts:%'")
        named = {key.removeprefix("artifacts:") for (key,) in found}
        return sum(path.name not in named for path in (self.home / "artifacts").iterdir())


def judged(storm: Left, calm: Left) -> list[Row]:
    """Return rows of measured value, expected value, and whether they agree."""
    return [*of_trials(storm), *of_epochs(storm), *of_results(storm, calm), *of_leavings(storm)]


def row(what: str, found: object, wanted: object) -> Row:
    return Row(what, str(found), "", target=str(wanted), met=found == wanted)


def of_trials(left: Left) -> list[Row]:
    ended = Counter(
        dict(look(left.url, f"SELECT trial_id, count(*) FROM storm.moves WHERE after IN {ENDS} GROUP BY 1"))
    )
    again = number(left.url, f"SELECT count(*) FROM storm.moves WHERE before IN {ENDS}")
    back = number(left.url, "SELECT count(*) FROM storm.moves WHERE after = 'WAITING'")
    slots = [slot for (slot,) in look(left.url, "SELECT slot FROM tuner_claim ORDER BY slot")]
    attempts = [attempt for (attempt,) in look(left.url, "SELECT attempt FROM tuner_claim")]
    states = Counter(state for _, state, _ in look(left.url, VALUES))
    return [
        row("trials", states.total(), left.trials),
        row("  that are complete", states["COMPLETE"], left.trials),
        row("  that ended exactly once", sum(times == 1 for times in ended.values()), left.trials),
        row("  that changed after their end", again, 0),
        Row("times a trial was put back; most attempts at one trial", f"{back}; {max(attempts)}", ""),
        row("slots of the budget taken", len(slots), left.trials),
        row("  other than 1, 2, 3, ...", sum(slot != at for at, slot in enumerate(slots, start=1)), 0),
    ]  # fmt: skip


def of_epochs(left: Left) -> list[Row]:
    begun, trained = left.book()
    whole = {(trial, epoch) for trial in range(left.trials) for epoch in range(1, left.epochs + 1)}
    recorded = Counter((at, epoch) for at, epoch, *_ in look(left.url, EPOCHS))
    times, again = Counter(trained.values()), [n for n in begun.values() if n > 1]
    return [
        row("epochs recorded", len(whole & recorded.keys()), len(whole)),
        row("  twice, or beyond the last", recorded.total() - len(whole & recorded.keys()), 0),
        row("epochs never trained to their end", len(whole - trained.keys()), 0),
        Row("epochs trained to their end once, and twice", f"{times[1]}, {times[2]}", ""),
        row("  more than twice", sum(n for often, n in times.items() if often > 2), 0),
        Row("epochs started more than once; at most", f"{len(again)}; {max(again, default=1)}", ""),
    ]  # fmt: skip


def of_results(storm: Left, calm: Left) -> list[Row]:
    ours, theirs = storm.results(), calm.results()
    other = [name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)]
    rows = []
    for kind in ("value", "epoch", "report", "weights"):
        size = sum(name.startswith(kind) for name in theirs)
        same = size - sum(name.startswith(kind) for name in other)
        what = {"value": "results", "epoch": "epochs' metrics", "report": "reports", "weights": "best weights"}[
            kind
        ]
        rows.append(Row(f"{what} equal bit for bit", f"{same}", "", target=f"{size}", met=same == size > 0))
    return rows


def of_leavings(left: Left) -> list[Row]:
    stray = left.leftovers()
    return [
        row("rows of workers left", number(left.url, "SELECT count(*) FROM tuner_worker"), 0),
        row("claims of trials that have not ended", unended(left.url), 0),
        row("files left over" + some(stray, left.home), len(stray), 0),
        Row("dashboard pictures without a trial", str(left.orphans()), ""),
    ]


def unended(url: str) -> int:
    open_ones = "SELECT count(*) FROM tuner_claim c JOIN trials t ON t.trial_id = c.trial_id"
    return number(url, f"{open_ones} WHERE t.state NOT IN {ENDS}")


def some(stray: Iterable[Path], home: Path) -> str:
    names = [str(path.relative_to(home)) for path in stray][:3]
    return f" ({', '.join(names)})" if names else ""
