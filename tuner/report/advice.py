"""What to try next, from the numbers of a study: what was seen, what to do, and the command for it."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner.errors import FailureKind
from tuner.goal import Goal
from tuner.recipe import Part, Recipe, Stage
from tuner.report.certainty import Certainty
from tuner.report.figures import group_failures
from tuner.report.importance import SOLID
from tuner.report.study_data import StudyData, TrialData, finite, format_param
from tuner.study.info import StudyInfo

EDGE = 0.05  # of a range: so near to its end is at its end
TRIALS_A_PARAMETER = 10
HARDLY = 0.03  # a share of the importance that is as good as none
WORSE = 1.05  # times the least validation loss: it has clearly risen
FAILED_OFTEN = 0.1
SEEDS = 3  # of each row, to tell rows apart


@dataclass(frozen=True)
class Advice:
    """One thing to do. `command` may be several lines, or lines of a space file; "" where there is none."""

    what: str
    why: str
    command: str = ""


def give_advice(
    story: StudyData, sure: Certainty | None, shares: Mapping[str, float], at: str = ""
) -> list[Advice]:
    """What is worth doing, the most urgent first. `at` is what a command needs to find the study."""
    found = list(advise_on_failures(story))
    if story.info.rehearsal and story.best:
        found.insert(0, advise_full_size(story, at))
    best = story.best
    if best is None:
        return [*found, advise_unfinished(story, at)]
    found += advise_on_last_epoch(story, best, at)
    found += advise_on_ranges(story, best)
    found += advise_on_overfitting(story, best)
    found += advise_on_num_trials(story, at)
    found += advise_on_seeds(story, sure, at)
    found += advise_on_size(story, at)
    found += advise_on_importance(story, best, shares)
    return found


def advise_full_size(story: StudyData, at: str) -> Advice:
    """A rehearsal has done its work when it has finished."""
    what = table_or_space(story.info)
    why = "this was a rehearsal at toy size on generated data; its numbers say only that everything runs"
    return Advice("Run it at full size", why, f"tuner run {what}{at}")


def advise_unfinished(story: StudyData, at: str) -> Advice:
    if story.of("RUNNING", "WAITING"):
        return Advice(
            "Wait", "trials are under way; none has finished yet", f"tuner status{study_option(story, at)}"
        )
    if not story.trials:
        return Advice("Run it", "no trial has begun", run_command(story, at))
    return Advice("Run it at toy size first", "no trial has finished", rehearse_command(story, at))


def advise_on_failures(story: StudyData) -> Iterator[Advice]:
    ended = story.of("COMPLETE", "PRUNED", "FAIL")
    for kind, trials in group_failures(story).items():
        if len(trials) < max(2, FAILED_OFTEN * len(ended)):
            continue
        first = trials[0]
        why = f"{len(trials)} of {len(ended)} trials failed: {kind} (trial {first.number}: {first.failure.reason})"
        yield Advice(failure_remedy(first.failure.kind), why)


def failure_remedy(kind: FailureKind) -> str:
    return {
        FailureKind.OUT_OF_MEMORY: "Reduce image_size or the width, or use a GPU with more memory",
        FailureKind.LOSS_NOT_FINITE: "Lower the upper end of lr, or train with precision='fp32'",
        FailureKind.VALUE_NOT_A_NUMBER: "Lower the upper end of lr, or train with precision='fp32'",
        FailureKind.WORKERS_DIED: "Look into the workers' logs: what is killed has mostly run out of main memory",
        FailureKind.SUGGEST: "Mend the space: some of its draws end in an error",
        FailureKind.BATCH_NORM: "Narrow the space: larger batches or images, or another model",
        FailureKind.WEIGHTS: "See that the file or the study that the weights come from is still there",
    }.get(kind, "Read the reason and mend it before running on")


def advise_on_last_epoch(story: StudyData, best: TrialData, at: str) -> Iterator[Advice]:
    """A best epoch that is the last one: it was still getting better."""
    number = len(best.epochs)
    if number > 1 and best.best_epoch == number:
        yield Advice(
            "Train longer",
            f"the best epoch of trial {best.number} is its last, {number}: it was still getting better",
            extend_command(story, best, at),
        )


def extend_command(story: StudyData, trial: TrialData, at: str) -> str:
    """Twice as many epochs."""
    epochs = 2 * max(trial.planned, len(trial.epochs), 1)
    return f"tuner extend --trial {trial.number} --epochs {epochs}{study_option(story, at)}"


def advise_on_ranges(story: StudyData, best: TrialData) -> Iterator[Advice]:
    for name, value in best.params.items():
        kind = story.kinds.get(name, {})
        if not story.is_number(name) or finite(kind.get("low")) is None or story.info.has_given_trials:
            continue
        wider = widen_range(kind, float(value))
        if wider:
            low, high = wider
            was = f"{format_param(kind['low'])} to {format_param(kind['high'])}"
            why = f"the best {name}, {format_param(value)}, lies at the end of what was searched ({was})"
            yield Advice(
                f"Widen {name} to {format_param(low)} to {format_param(high)}",
                why,
                suggest_line(name, kind, low, high),
            )


def widen_range(kind: Mapping[str, Any], value: float) -> tuple[Any, Any] | None:
    """The range made longer on the side where the value lies; None where it lies inside."""
    low, high, log = kind["low"], kind["high"], bool(kind.get("log"))
    if high <= low or (log and min(low, value) <= 0):
        return None
    a, b, x = (math.log(v) if log else v for v in (low, high, value))
    place = (x - a) / (b - a)
    whole = kind.get("kind") == "int"
    if place >= 1 - EDGE:
        further = high * 3 if log else high + (high - low) / 2
        return low, round(further) if whole else float(f"{further:.3g}")
    if place <= EDGE:
        nearer = low / 3 if log else low - (high - low) / 2
        nearer = low / 2 if nearer <= 0 < low else nearer  # a width or a rate is never negative
        nearer = max(1, round(nearer)) if whole and low > 0 else nearer
        return (nearer if whole else float(f"{nearer:.3g}"), high) if nearer < low else None
    return None


def suggest_line(name: str, kind: Mapping[str, Any], low: Any, high: Any) -> str:
    """The line of a space file."""
    step = f", step={kind['step']}" if kind.get("step") not in (None, 1) and not kind.get("log") else ""
    log = ", log=True" if kind.get("log") else ""
    bounds = f"{format_param(low)}, {format_param(high)}"
    return f'trial.suggest_{kind.get("kind", "float")}("{name}", {bounds}{step}{log})'


def advise_on_overfitting(story: StudyData, best: TrialData) -> Iterator[Advice]:
    """The validation loss rises while the training loss falls: learnt by heart."""
    _, train = best.curve("train_loss")
    epochs, val = best.curve("val_loss")
    known = [(epoch, value) for epoch, value in zip(epochs, val, strict=True) if value is not None]
    falls = [value for value in train if value is not None]
    if len(known) < 4 or len(falls) < 4:
        return
    at, least = min(known, key=lambda pair: pair[1])
    last, end = known[-1]
    if end > WORSE * least and last - at >= 2 and falls[-1] < falls[len(falls) // 2]:
        yield Advice(
            "Hold it back: more augmentation, dropout or weight decay; or fewer epochs",
            f"the validation loss of trial {best.number} rose from {format_param(least)} (epoch {at}) "
            f"to {format_param(end)} while the training loss fell: it learns the training images by heart",
        )


def advise_on_num_trials(story: StudyData, at: str) -> Iterator[Advice]:
    if story.info.has_given_trials or story.info.rehearsal:
        return
    enough = max(SOLID, TRIALS_A_PARAMETER * len(story.kinds))
    ended = len(story.of("COMPLETE", "PRUNED", "FAIL"))
    if ended < enough:
        yield Advice(
            f"Run more trials: {enough}",
            f"{ended} trials are few for {len(story.kinds)} parameters",
            run_command(story, at, enough),
        )


def table_or_space(info: StudyInfo) -> str:
    return f"--table {quoted(info.table)}" if info.table else f"--space {quoted(info.space)}"


def advise_on_seeds(story: StudyData, sure: Certainty | None, at: str) -> Iterator[Advice]:
    """Trials that cannot be told apart: train them again with other seeds."""
    if sure is None or not sure.tied or story.info.rehearsal:
        return
    if any(len(one.numbers) >= SEEDS for one in sure.seeds):
        return
    if story.info.table:
        yield Advice(
            "Train each row with three seeds",
            "the best rows cannot be told apart",
            f"tuner run --table {quoted(story.info.table)}{size_options(story)} --seeds {SEEDS}{at}",
        )
        return
    chosen = [trial for trial in story.finished if trial.number in (sure.best, *sure.tied[:2])]
    yield Advice(
        "Train the best few again with three seeds each",
        "they cannot be told apart by one run each",
        retrain_command(story, chosen, at),
    )


def advise_on_size(story: StudyData, at: str) -> Iterator[Advice]:
    """What was trained small says which is better, and not how good it is."""
    info = story.info
    if info.rehearsal or not info.size:
        return
    why = f"these numbers are of {info.size}: their order may carry over, they themselves do not"
    yield Advice("Run it at full size", why, f"tuner run {table_or_space(info)} --data {quoted(info.data)}{at}")


def retrain_command(story: StudyData, chosen: list[TrialData], at: str) -> str:
    """A table of these trials' parameters, and how to run it."""
    head = [f'space = "{story.info.space}"', f'metric = "{story.metric}"', 'compare = "order"']
    rows = [
        f"[[rows]]\nparams = {toml_params(trial)}\nplace = {place}" for place, trial in enumerate(chosen, start=1)
    ]
    table = "\n\n".join(["\n".join(head), *rows])
    command = f"tuner run --table ./again.toml --data {quoted(story.info.data)} --seeds 3{at}"
    return f"# write this as again.toml\n{table}\n\n# and run it\n{command}"


def toml_params(trial: TrialData) -> str:
    return f"{{ {', '.join(f'{toml_key(k)} = {toml_value(v)}' for k, v in trial.params.items())} }}"


def toml_key(name: str) -> str:
    return name if name.isascii() and name.isidentifier() else json.dumps(name)


def toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, int | float) else json.dumps(str(value))


def advise_on_importance(story: StudyData, best: TrialData, shares: Mapping[str, float]) -> Iterator[Advice]:
    if (
        len(story.finished) < SOLID or story.info.has_given_trials
    ):  # given rows were not drawn to tell parameters apart
        return
    for name, share in shares.items():
        if share < HARDLY:
            value = best.params.get(name)
            why = f"it explains {share:.0%} of the difference between the trials"
            yield Advice(f"Fix {name} at {format_param(value)} and search less", why, f"{name} = {value!r}")


def quoted(text: str) -> str:
    return shlex.quote(text)


def study_option(story: StudyData, at: str) -> str:
    return f" --study {quoted(story.info.name)}{at}"


def run_command(story: StudyData, at: str, number: int | None = None) -> str:
    """The command that goes on with the study."""
    info = story.info
    if info.table:
        return f"tuner run --table {quoted(info.table)}{size_options(story)}{at}"
    trials = f" --trials {number}" if number else ""
    size = size_options(story)
    data = "" if info.rehearsal else f" --data {quoted(info.data)}"
    return f"tuner run --space {quoted(info.space)}{data}{size}{trials}{study_option(story, at)}"


def size_options(story: StudyData) -> str:
    """The options that make a run as small as the study's."""
    info = story.info
    if info.rehearsal:
        return " --rehearse"
    by = (("shrink", info.shrink), ("shorten", info.shorten))
    return "".join(f" --{name} {number}" for name, number in by if number > 1)


def rehearse_command(story: StudyData, at: str) -> str:
    return f"tuner run --space {quoted(Path(story.info.space).name)} --rehearse{at}"


LEFT_OUT = ("seed", "classes")  # set by the program


def recipe_to_space(plain: Mapping[str, Any], goal: Goal) -> str:
    """A space file that draws this recipe and no other; "" for a recipe that cannot be read."""
    try:
        recipe = Recipe.from_json(plain)
    except (ValueError, TypeError, KeyError, AttributeError):
        return ""
    usual = Recipe(recipe.task, recipe.data, recipe.model, recipe.loss, recipe.optimizer)
    given = {
        name: value
        for name, value in vars(recipe).items()
        if name not in LEFT_OUT
        and (value != getattr(usual, name) or name in ("task", "data", "model", "loss", "optimizer"))
    }
    given.pop("epochs" if recipe.stages else "", None)  # the stages' sum
    lines = "".join(f"        {name}={python_source(value)},\n" for name, value in given.items())
    names = ["Recipe", *(["Stage"] if recipe.stages else []), goal.direction, "use"]
    return (
        f"from tuner import {', '.join(names)}\n\nGOAL = {goal.direction}({goal.metric!r})\n\n\n"
        f"def suggest(trial):\n    return Recipe(\n{lines}    )\n"
    ).replace("'", '"')


def python_source(value: Any) -> str:
    """A value as Python has it."""
    if isinstance(value, Part):
        return f"use({', '.join([repr(value.name), *(f'{key}={arg!r}' for key, arg in value.args.items())])})"
    if isinstance(value, Stage):
        given = {key: arg for key, arg in vars(value).items() if arg not in (None, ())}
        return f"Stage({', '.join(f'{key}={python_source(arg)}' for key, arg in given.items())})"
    if isinstance(value, tuple) and value and isinstance(value[0], Stage):
        return f"[{', '.join(map(python_source, value))}]"
    return repr(value)
