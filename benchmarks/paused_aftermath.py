"""What a storm on paused trials left: claims, budget, decisions, and the weights of each trial."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from benchmarks.aftermath import EPOCHS, STEPPED, VALUES, Left, look, number, of_leavings, row
from benchmarks.measure import Row
from benchmarks.paused_study import STEPS, digest

# Every change of a claim is written down by the database itself; the schema is that of `aftermath.TRIGGER`
CLAIMS = """
CREATE TABLE storm.claims (trial_id integer, held text, taken text, rested integer, rests integer,
                           attempt integer, next integer);
CREATE FUNCTION storm.note_claim() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO storm.claims VALUES (NEW.trial_id, OLD.worker, NEW.worker, OLD.paused_at, NEW.paused_at,
                                       OLD.attempt, NEW.attempt); RETURN NEW; END $$;
CREATE TRIGGER storm_note_claim AFTER UPDATE ON tuner_claim
    FOR EACH ROW WHEN (OLD.worker IS DISTINCT FROM NEW.worker OR OLD.paused_at IS DISTINCT FROM NEW.paused_at
                       OR OLD.attempt IS DISTINCT FROM NEW.attempt)
    EXECUTE FUNCTION storm.note_claim();
"""
RESTING = (
    "SELECT count(*) FROM tuner_claim c JOIN trials t ON t.trial_id = c.trial_id "
    "WHERE c.paused_at IS NOT NULL AND t.state = 'PRUNED'"
)
REST = (
    "SELECT t.number, c.paused_at, c.attempt FROM tuner_claim c JOIN trials t ON t.trial_id = c.trial_id "
    "WHERE c.paused_at IS NOT NULL AND t.state = 'PRUNED'"
)
DECISIONS = (
    "SELECT t.number, d.action, d.epoch FROM tuner_decision d JOIN trials t ON t.trial_id = d.trial_id "
    "ORDER BY d.decision_id"
)
# who held the claim before had neither put the trial back nor let it rest
SEIZED = "SELECT count(*) FROM storm.claims WHERE taken <> held AND rested IS NULL"
SKIPPED = "SELECT count(*) FROM storm.claims WHERE next NOT IN (attempt, attempt + 1)"
RESUMED = "SELECT count(*) FROM storm.claims WHERE rested IS NOT NULL AND rests IS NULL AND next = attempt + 1"


@dataclass(frozen=True)
class PausedLeft(Left):
    """A study with paused trials, its database, and the folder with its home and log."""

    def lengths(self) -> dict[int, int]:
        """Return the recorded epochs of each trial."""
        return dict(Counter(at for at, *_ in look(self.url, EPOCHS)))

    @cached_property
    def log(self) -> list[tuple[str, int, int, str]]:
        """The model's log: attempt, trial, step and digest of the weights before it."""
        lines = map(str.split, (self.folder / "book").read_text().splitlines())
        return [(token, int(trial), int(steps), found) for token, trial, steps, found in lines]

    def weights(self) -> dict[tuple[int, int], set[str]]:
        """Return the digests of the weights before each step, by trial and number of steps."""
        found = defaultdict(set)
        for _, trial, steps, weights in self.log:
            found[trial, steps].add(weights)
        return found

    def trained(self) -> int:
        """Return how often a process began the last step of an epoch."""
        return sum(steps % STEPS == STEPS - 1 for _, _, steps, _ in self.log)

    def records(self) -> dict[str, Any]:
        """Return what was recorded of each epoch, without durations."""
        found = {f"epoch {at}.{epoch}": repr(rest) for at, epoch, *rest in look(self.url, EPOCHS)}
        return found | {f"report {at}.{step}": value for at, step, value in look(self.url, STEPPED)}

    def kept(self) -> Iterator[tuple[int, int, str]]:
        """Yield trial, number of steps and digest of all weights that are kept: best ones and checkpoints."""
        for at, attempt in self.attempts().items():
            for folder in self.home.glob(f"trials/*/{at:05}/attempt-{attempt}"):
                for read, name in ((read_checkpoint, "checkpoint.pt"), (read_weights, "best.safetensors")):
                    if (folder / name).is_file():
                        yield at, *read(folder / name)

    def budget_rows(self, done: Mapping[str, int]) -> list[Row]:
        """Return rows on the budget of epochs, to be read when it is spent."""
        limit = number(self.url, "SELECT epochs FROM tuner_study")
        granted = number(self.url, "SELECT epochs_granted FROM tuner_study")
        held = number(self.url, "SELECT sum(epochs_granted) FROM tuner_claim")
        kills = done["worker"] + 2 * (done["host"] + done["fleet"])
        lost, most = limit - self.trained(), 2 * kills
        return [
            row("epochs of the budget used when it is spent", granted, limit),
            row("  held by trials that do not run", held, 0),
            Row(
                "  trained, by the model's log", str(self.trained()), "", target=f"at most {limit}", met=lost >= 0
            ),
            Row("  lost by kills", str(lost), "", target=f"at most {most}", met=lost <= most),
        ]


def read_checkpoint(path: Path) -> tuple[int, str]:
    import torch

    return count_steps(torch.load(path, weights_only=True)["model"])


def read_weights(path: Path) -> tuple[int, str]:
    from safetensors.torch import load_file

    return count_steps(load_file(path))


def count_steps(state: dict[str, Any]) -> tuple[int, str]:
    """Return the number of steps of a model and the digest of its weights."""
    body = {name.removeprefix("body."): found for name, found in state.items() if name != "steps"}
    return int(state["steps"]), digest(body)


def judged(left: PausedLeft, calm: PausedLeft) -> list[Row]:
    """Return rows of measured value, expected value, and whether they agree."""
    return [*of_trials(left), *of_claims(left), *of_decisions(left), *of_weights(left, calm), *of_leavings(left)]


def of_trials(left: PausedLeft) -> list[Row]:
    states = Counter(state for _, state, _ in look(left.url, VALUES))
    resting = number(left.url, RESTING)
    slots = [slot for (slot,) in look(left.url, "SELECT slot FROM tuner_claim ORDER BY slot")]
    lengths = left.lengths()
    gaps = sum(sorted(epochs) != [*range(1, len(epochs) + 1)] for epochs in recorded(left).values())
    beyond = sum(lengths[at] != epoch for at, epoch, _ in look(left.url, REST))
    return [
        row("trials", states.total(), left.trials),
        row("  complete or resting", states["COMPLETE"] + resting, left.trials),
        Row("  resting at the end", str(resting), ""),
        row("slots of the budget other than 1, 2, 3, ...", slots != [*range(1, left.trials + 1)], False),
        Row("epochs recorded", str(sum(lengths.values())), ""),
        row("  trials with a gap or an epoch twice", gaps, 0),
        row("  resting trials with other epochs than those until they rest", beyond, 0),
    ]


def recorded(left: PausedLeft) -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for at, epoch, *_ in look(left.url, EPOCHS):
        found[at].append(epoch)
    return found


def of_claims(left: PausedLeft) -> list[Row]:
    attempts = dict(
        look(left.url, "SELECT t.number, c.attempt FROM tuner_claim c JOIN trials t ON t.trial_id = c.trial_id")
    )
    by_trial: dict[int, list[str]] = defaultdict(list)
    for token, trial, *_ in left.log:
        by_trial[trial].append(token)
    mixed = sum(len([*groupby(tokens)]) != len({*tokens}) for tokens in by_trial.values())
    more = sum(len({*tokens}) > attempts[at] for at, tokens in by_trial.items())
    moves = number(left.url, "SELECT count(*) FROM storm.moves WHERE before = 'PRUNED' AND after = 'RUNNING'")
    decided = sum(action == "resume" for _, action, _ in look(left.url, DECISIONS))
    back = number(left.url, "SELECT count(*) FROM storm.moves WHERE after = 'WAITING'")
    return [
        Row("times a trial was put back; most attempts at one trial", f"{back}; {max(attempts.values())}", ""),
        row("times a paused trial went on, by claims", number(left.url, RESUMED), decided),
        row("  by states of trials", moves, decided),
        row("claims taken from a worker that held them", number(left.url, SEIZED), 0),
        row("  whose attempts are not counted one by one", number(left.url, SKIPPED), 0),
        row("trials whose steps two attempts took by turns", mixed, 0),
        row("  with more attempts in the model's log than claimed", more, 0),
    ]


def of_decisions(left: PausedLeft) -> list[Row]:
    by_trial: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for at, action, epoch in look(left.url, DECISIONS):
        by_trial[at].append((action, epoch))
    rests = {at for at, *_ in look(left.url, REST)}
    wrong = sum(not are_consistent(found, at in rests) for at, found in by_trial.items())
    return [
        row("trials with decisions", len(by_trial), left.trials),
        row("  that do not follow from each other", wrong, 0),
        Row("decisions", ", ".join(f"{n} x {action}" for action, n in Counter(
            action for found in by_trial.values() for action, _ in found).items()), ""),
    ]  # fmt: skip


def are_consistent(found: list[tuple[str, int]], rests: bool) -> bool:
    """Return whether a trial started once, was judged once at each rung, and resumed only where it rested."""
    follows = {"start": {"continue", "pause"}, "continue": {"continue", "pause"}, "pause": {"resume"}}
    follows["resume"] = follows["start"]
    ordered = all(b in follows[a] for (a, _), (b, _) in pairwise(found))
    rungs = [epoch for action, epoch in found if action in ("continue", "pause")]
    return found[0][0] == "start" and ordered and sorted({*rungs}) == rungs and (found[-1][0] == "pause") == rests


def of_weights(left: PausedLeft, calm: PausedLeft) -> list[Row]:
    """Compare each trial with one that was trained in a single stretch, as far as both were trained."""
    ours, theirs = left.records(), calm.records()
    rows = []
    for kind, what in (("epoch", "epochs' metrics"), ("report", "reports")):
        names = [name for name in ours if name.startswith(kind)]
        rows.append(row(f"{what} equal bit for bit", sum(ours[n] == theirs.get(n) for n in names), len(names)))
    steps, single = left.weights(), calm.weights()
    same = sum(found == single.get(key) for key, found in steps.items())
    for at, after, found in calm.kept():  # of the last step, nothing was logged after it
        single[at, after] = {found}
    # a trial that was pruned in a single stretch right where the other rests left no weights to compare
    kept = [(at, after, found) for at, after, found in left.kept() if (at, after) in single]
    held = sum(single.get((at, after)) == {found} for at, after, found in kept)
    return [
        *rows,
        row("weights before a step equal bit for bit", same, len(steps)),
        row("kept checkpoints and best weights equal bit for bit", held, len(kept)),
    ]
