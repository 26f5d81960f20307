"""Advice on what to try next: an observation in the numbers of a study, an action, and its command."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from tuner.errors import FailureKind
from tuner.goal import Goal
from tuner.recipe import Part, Recipe, Stage
from tuner.report.certainty import Certainty
from tuner.report.importance import Importances, join_words
from tuner.report.study_data import StudyData, TrialData, finite, format_param
from tuner.report.time_figures import group_failures
from tuner.study.info import StudyInfo
from tuner.study.verdict import Verdict
from tuner.wording import pluralize, write_command

EDGE = 0.05  # of a range: a value this near to an end counts as at the end
TRIALS_PER_PARAMETER = 10
SOLID = 20  # trials at least
NEGLIGIBLE = 0.1  # share of the differences: a parameter that surely explains less is not worth a search
RISEN = 1.05  # times the least validation loss
FREQUENT = 0.1  # share of the ended trials that failed in one way
NOTHING_MISSED = Verdict()
SEEDS = 3  # runs of the same parameters that say enough of the noise

REMEDIES = {
    FailureKind.OUT_OF_MEMORY: "Reduce image_size or the width, or use a GPU with more memory",
    FailureKind.LOSS_NOT_FINITE: "Lower the upper end of lr, or train with precision='fp32'",
    FailureKind.VALUE_NOT_A_NUMBER: "Lower the upper end of lr, or train with precision='fp32'",
    FailureKind.WORKERS_DIED: "Read the logs of the workers: a killed process has usually used up the memory",
    FailureKind.SUGGEST: "Correct the space: some of its draws raise an error",
    FailureKind.BATCH_NORM: "Narrow the space: larger batches or images, or another model",
    FailureKind.WEIGHTS: "Check that the file or the study of the weights still exists",
}
OTHER_REMEDY = "Read the reason and correct it before you continue"


@dataclass(frozen=True)
class Advice:
    """An action and its reason. `command` may be several lines, lines of a space file, or ""."""

    what: str
    why: str
    command: str = ""


def give_advice(
    study: StudyData,
    certainty: Certainty | None,
    importances: Importances,
    verdict: Verdict = NOTHING_MISSED,
    is_confirmed: bool = False,
) -> list[Advice]:
    """Return the advice, the most urgent first; `is_confirmed` is whether fresh runs of the best trials exist."""
    advice = list(advise_on_failures(study))
    best = study.best
    if best is None:
        return [*advice, advise_unfinished(study)]
    advice += advise_on_missed(study, verdict)
    if study.info.rehearsal:
        why = "this was a rehearsal at toy size on generated data; its numbers only show that everything runs"
        command = run_anew(study)
        advice.insert(0, Advice("Run it at full size", why, command))
    advice += advise_on_last_epoch(study, best)
    advice += advise_on_ranges(study, best)
    advice += advise_on_overfitting(study, best)
    advice += advise_on_num_trials(study)
    if not is_confirmed:
        advice += advise_on_seeds(study, certainty)
    advice += advise_on_size(study)
    advice += advise_on_importance(study, best, importances)
    return advice


def describe_no_advice(study: StudyData) -> str:
    """Return what is said where no advice is given; of ranges only if the best trial was drawn from some."""
    drawn = {} if study.info.has_given_trials or study.best is None else study.best.params
    ranges = {
        name: study.kinds[name] for name in drawn if finite(study.kinds.get(name, {}).get("low")) is not None
    }
    places = [place_in_range(kind, float(drawn[name])) for name, kind in ranges.items()]
    known = [place for place in places if place is not None]
    if known and all(EDGE < place < 1 - EDGE for place in known):
        return "Nothing stands out: the search covered its space, and its best lies well inside."
    return "Nothing stands out."


def advise_on_missed(study: StudyData, verdict: Verdict) -> Iterator[Advice]:
    """Advise what to do if nothing is found, or some classes never."""
    if verdict.sentence and not study.info.rehearsal:
        command = write_command("data", study.info.data) if verdict.finds_nothing else ""
        yield Advice(verdict.remedy[:1].upper() + verdict.remedy[1:], verdict.sentence, command)


def advise_unfinished(study: StudyData) -> Advice:
    if study.of("RUNNING"):
        command = write_command("status", study=study.info.name)
        return Advice("Wait", "no trial has finished yet, and training goes on", command)
    if waiting := study.of("WAITING"):
        why = f"no trial is running; {pluralize(len(waiting), 'trial')} in the queue"
        return Advice("Run it", why, run_command(study))
    if not study.trials:
        return Advice("Run it", "no trial has started", run_command(study))
    if study.info.rehearsal:
        return Advice("Rehearse it again", "no trial of the rehearsal has finished", run_command(study))
    return Advice("Run it at toy size first", "no trial has finished", run_anew(study, rehearse=True))


def advise_on_failures(study: StudyData) -> Iterator[Advice]:
    ended = study.of("COMPLETE", "PRUNED", "FAIL")
    for kind, trials in group_failures(study).items():
        if len(trials) < max(2, FREQUENT * len(ended)):
            continue
        first = trials[0]
        why = f"{len(trials)} of {len(ended)} trials failed: {kind} (trial {first.number}: {first.failure.reason})"
        yield Advice(REMEDIES.get(first.failure.kind, OTHER_REMEDY), why)


def advise_on_last_epoch(study: StudyData, best: TrialData) -> Iterator[Advice]:
    """Advise to train longer if the best epoch is the last one."""
    number = len(best.epochs)
    if number > 1 and best.best_epoch == number:
        why = f"the best epoch of trial {best.number} is its last, {number}: it was still improving"
        yield Advice("Train longer", why, extend_command(study, best))


def extend_command(study: StudyData, trial: TrialData) -> str:
    """Return the command that trains a trial for twice as many epochs."""
    epochs = 2 * max(trial.planned, len(trial.epochs), 1)
    return write_command("extend", trial=trial.number, epochs=epochs, study=study.info.name)


def advise_on_ranges(study: StudyData, best: TrialData) -> Iterator[Advice]:
    for name, value in best.params.items():
        kind = study.kinds.get(name, {})
        if not study.is_number(name) or finite(kind.get("low")) is None or study.info.has_given_trials:
            continue
        if wider := widen_range(kind, float(value)):
            low, high = map(format_param, wider)
            was = f"{format_param(kind['low'])} to {format_param(kind['high'])}"
            why = f"the best {name}, {format_param(value)}, lies at the end of its range ({was})"
            yield Advice(f"Widen {name} to {low} to {high}", why, suggest_line(name, kind, low, high))


def place_in_range(kind: Mapping[str, Any], value: float) -> float | None:
    """Return where a value lies in a range, 0 at its low end and 1 at its high end; None if the ends are equal."""
    low, high, log = kind["low"], kind["high"], bool(kind.get("log"))
    if high <= low or (log and min(low, value) <= 0):
        return None
    a, b, x = (math.log(v) if log else v for v in (low, high, value))
    return (x - a) / (b - a)


def widen_range(kind: Mapping[str, Any], value: float) -> tuple[Any, Any] | None:
    """Return the range extended at the end where the value lies, None if it lies inside or nothing lies beyond."""
    low, high, log, place = kind["low"], kind["high"], bool(kind.get("log")), place_in_range(kind, value)
    if place is None:
        return None
    whole = kind.get("kind") == "int"
    if place >= 1 - EDGE:
        upper = high * 3 if log else high + (high - low) / 2
        return low, round(upper) if whole else float(f"{upper:.3g}")
    if place <= EDGE:
        lower = low / 3 if log else low - (high - low) / 2
        lower = low / 2 if lower <= 0 < low else lower  # a width or a rate is never negative
        lower = max(1, round(lower)) if whole and low > 0 else lower
        return (lower if whole else float(f"{lower:.3g}"), high) if lower < low else None
    return None


def suggest_line(name: str, kind: Mapping[str, Any], low: str, high: str) -> str:
    """Return the line of a space file that suggests the parameter in a range."""
    more = ""
    if kind.get("log"):
        more = ", log=True"
    elif kind.get("step") not in (None, 1):
        more = f", step={kind['step']}"
    return f'trial.suggest_{kind.get("kind", "float")}("{name}", {low}, {high}{more})'


def advise_on_overfitting(study: StudyData, best: TrialData) -> Iterator[Advice]:
    """Advise to regularize if the validation loss rises while the training loss falls."""
    train = dict(zip(*best.curve("train_loss"), strict=True))
    epochs, val = best.curve("val_loss")
    known = [(epoch, value) for epoch, value in zip(epochs, val, strict=True) if value is not None]
    if len(known) < 4:
        return
    at, least = min(known, key=lambda pair: pair[1])
    last, end = known[-1]
    before, after = train.get(at), train.get(last)
    falls = before is not None and after is not None and after < before
    if end > RISEN * least and last - at >= 2 and falls:
        what = "Regularize: more augmentation, dropout or weight decay; or fewer epochs"
        rose = f"rose from {format_param(least)} (epoch {at}) to {format_param(end)} while the training loss fell"
        yield Advice(what, f"the validation loss of trial {best.number} {rose}: it overfits the training images")


def advise_on_num_trials(study: StudyData) -> Iterator[Advice]:
    if study.info.has_given_trials or study.info.rehearsal or not study.names:  # no parameters: all are repeats
        return
    number = len(study.names)
    enough = max(SOLID, TRIALS_PER_PARAMETER * number)
    ended = len(study.of("COMPLETE", "PRUNED", "FAIL"))
    if ended < enough:
        why = f"only {pluralize(ended, 'trial')} for {pluralize(number, 'parameter')}"
        yield Advice(f"Run more trials: {enough}", why, run_command(study, enough))


def advise_on_seeds(study: StudyData, certainty: Certainty | None) -> Iterator[Advice]:
    """Advise to train with other seeds what cannot be told apart, or where no noise between runs is known."""
    if certainty is None or certainty.is_only or study.info.rehearsal:
        return
    if any(len(one.numbers) >= SEEDS for one in certainty.seeds):
        return
    tied = set(certainty.tied).difference(certainty.runs.numbers if certainty.runs else ())
    if study.info.table and tied:
        command = run_anew(study, **size_options(study.info), seeds=SEEDS)
        yield Advice("Train each row with three seeds", "the best rows cannot be distinguished", command)
    if study.info.has_given_trials or (certainty.seeds and not tied):
        return
    why = "the best trials cannot be told apart" if tied else "no parameters were trained twice to their end"
    command = write_command("confirm", study=study.info.name)
    yield Advice("Train the best trials and the default again with fresh seeds", why, command)


def advise_on_size(study: StudyData) -> Iterator[Advice]:
    """Advise to run at full size: results at a reduced size order the trials, but are not their final values."""
    info = study.info
    if info.rehearsal or not info.size:
        return
    why = f"these numbers are of {info.size}: their order may carry over to full size, the values do not"
    yield Advice("Run it at full size", why, run_anew(study, data=info.data, layout=info.layout))


def advise_on_importance(study: StudyData, best: TrialData, importances: Importances) -> Iterator[Advice]:
    if study.info.has_given_trials:  # given rows were not drawn for comparison
        return
    for one in importances.shares:
        if not one.is_told and one.high < NEGLIGIBLE and one.name in best.params:
            value = best.params[one.name]
            why = f"it explains at most {one.high:.0%} of the differences between the trials (95 %)"
            if told := [other.name for other in importances.told]:
                why = f"beyond {join_words(told)}, {why}"
            yield Advice(
                f"Fix {one.name} at {format_param(value)} and search less", why, f"{one.name} = {value!r}"
            )


def run_command(study: StudyData, number: int | None = None) -> str:
    """Return the command that continues the study, up to a number of trials if given; "" if none is known."""
    info, command = study.info, study.command
    if command is not None:
        each = number and math.ceil(number / max(1, len(info.choices)))
        return str(command.with_option("trials", str(each)) if each else command)
    if info.has_given_trials and not info.table:
        return ""
    if info.table:
        return run_anew(study, **size_options(info))
    data = {} if info.rehearsal else {"data": info.data, "layout": info.layout}
    return run_anew(study, **data, **size_options(info), each=info.each, trials=number, study=info.name)


def run_anew(of: StudyData, **options: object) -> str:
    """Return the command that runs the space or table of a study, "" if that is not found here."""
    return write_command("run", **of.source, **options) if of.source else ""


def size_options(info: StudyInfo) -> dict[str, object]:
    """Return the options that reduce a run as the study was reduced."""
    if info.rehearsal:
        return {"rehearse": True}
    return {name: number for name, number in (("shrink", info.shrink), ("shorten", info.shorten)) if number > 1}


SET_BY_PROGRAM = ("seed", "classes")


def recipe_to_space(plain: Mapping[str, Any], goal: Goal) -> str:
    """Return a space file that always draws this recipe, "" if the recipe cannot be read."""
    try:
        recipe = Recipe.from_json(plain)
    except (ValueError, TypeError, KeyError, AttributeError):
        return ""
    usual = Recipe(recipe.task, recipe.data, recipe.model, recipe.loss, recipe.optimizer)
    given = {
        name: value
        for name, value in vars(recipe).items()
        if name not in SET_BY_PROGRAM
        and (value != getattr(usual, name) or name in ("task", "data", "model", "loss", "optimizer"))
    }
    given.pop("epochs" if recipe.stages else "", None)  # the sum of the stages
    lines = "".join(f"        {name}={python_source(value)},\n" for name, value in given.items())
    names = ["Recipe", *(["Stage"] if recipe.stages else []), goal.direction, "use"]
    return (
        f"from tuner import {', '.join(names)}\n\nGOAL = {goal.direction}({goal.metric!r})\n\n\n"
        f"def suggest(trial):\n    return Recipe(\n{lines}    )\n"
    ).replace("'", '"')


def python_source(value: Any) -> str:
    if isinstance(value, Part):
        return f"use({', '.join([repr(value.name), *(f'{key}={arg!r}' for key, arg in value.args.items())])})"
    if isinstance(value, Stage):
        usual = {field.name: field.default for field in fields(Stage)}
        given = {key: arg for key, arg in vars(value).items() if arg != usual[key]}
        return f"Stage({', '.join(f'{key}={python_source(arg)}' for key, arg in given.items())})"
    if isinstance(value, tuple) and value and isinstance(value[0], Stage):
        return f"[{', '.join(map(python_source, value))}]"
    return repr(value)
