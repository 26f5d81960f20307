"""What the sections of a report say, as facts and tables that `templates/report.html` lays out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tuner.goal import describe_limits
from tuner.recipe import Recipe
from tuner.report.advice import Advice, describe_no_advice, extend_command, recipe_to_space, run_command
from tuner.report.certainty import SURE, Certainty, describe_certainty, format_share
from tuner.report.confirmation import Confirmation, advise_shipping, describe_confirmation
from tuner.report.figures import FRONT
from tuner.report.resampling import DRAWS
from tuner.report.study_data import STATE_WORDS, StudyData, TrialData, finite, format_param, join_numbers
from tuner.report.study_figure import StudyFigure
from tuner.report.table_comparison import TableComparison, comparison_title, text_columns
from tuner.report.time_figures import group_failures
from tuner.report.trial_files import TrialPicture
from tuner.space.search_settings import PRUNINGS
from tuner.space.space import describe_parameter
from tuner.study.format import format_paused
from tuner.study.info import StudyInfo
from tuner.study.verdict import Verdict
from tuner.wording import format_seconds, free_folder, pluralize, write_command

TIME_FIGURES = ("cost", "epochs", "failures")
CURVE_FIGURES = ("curves", "by-choice")
MINUTE = "%Y-%m-%d %H:%M"
TO_SHIP = "the one to ship"
Pairs = list[tuple[str, str]]  # a name and its text


@dataclass(frozen=True)
class ReportData:
    """All data of a page."""

    study: StudyData
    certainty: Certainty | None
    chosen: TrialData | None  # the trial to ship
    advice: Sequence[Advice]
    figures: Sequence[StudyFigure]
    about: str  # the description in the file of the space
    comparison: TableComparison | None  # with a published table
    comparison_error: str  # why the published table of the study cannot be shown
    pictures: Sequence[TrialPicture]  # of the chosen trial
    others: Sequence[TrialPicture]  # predictions of the next best trials
    verdict: Verdict = Verdict()  # what the chosen trial does not find
    confirmation: Confirmation | None = None  # of its best trials, with fresh seeds

    @property
    def is_confirmed(self) -> bool:
        return self.confirmation is not None and self.confirmation.is_confirmed


@dataclass(frozen=True)
class Table:
    """A table of the page. The row at index `marked` stands out."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    marked: int = -1


def template_context(page: ReportData) -> dict[str, Any]:
    """Return the variables of the page's template."""
    study, certainty, chosen = page.study, page.certainty, page.chosen
    figures = {figure.name: figure for figure in page.figures}
    fronts = [name for name in figures if name.startswith(FRONT)]
    of_parameters = figures.keys() - {*TIME_FIGURES, *CURVE_FIGURES, *fronts}
    return {
        "info": study.info,
        "states": count_states(study),
        "confirmed": confirmed_section(page.confirmation) if page.confirmation else None,
        "headline": describe_headline(page, chosen) if chosen else "",
        "headline_facts": headline_facts(study, certainty, chosen) if certainty and chosen else [],
        "search_facts": search_facts(study, page.about),
        "parameters": parameter_table(study),
        "best": best_section(page, chosen) if chosen else None,
        "certainty": certainty_section(page, certainty) if certainty else None,
        "front": front_table(study, chosen) if study.info.further and study.front else None,
        "front_figures": [figures[name] for name in fronts],
        "pick_command": write_command("best", study=study.info.name, pick="knee", export=free_folder("knee")),
        "advice": page.advice,
        "no_advice": describe_no_advice(study),
        "published": published_table(page.comparison) if page.comparison else None,
        "published_note": page.comparison.table.note if page.comparison else "",
        "comparison_error": page.comparison_error,
        "parameter_figures": [figure for name, figure in figures.items() if name in of_parameters],
        "curve_figures": [figures[name] for name in CURVE_FIGURES],
        "time_figures": [figures[name] for name in TIME_FIGURES],
        "failures": failure_table(study),
        "trials": trial_table(study, chosen, describe_role(page, chosen) if chosen else ""),
        "number": pluralize(len(study.trials), "trial"),
        "run_command": run_command(study),
    }


def confirmed_section(found: Confirmation) -> dict[str, Any]:
    """Return what `tuner confirm` found, its candidates as a table, and the command that exports the winner."""
    rows = [
        (
            one.name,
            ", ".join(f"{name} {format_param(value)}" for name, value in one.params.items()) or "–",
            format_number(one.searched),
            *(f"{value:.4f}" for value in one.values),
            *[""] * (found.seeds - len(one.values)),
            format_number(one.mean),
        )
        for one in found.candidates
    ]
    seeds = [f"seed {number}" for number in range(1, found.seeds + 1)]
    caption = (
        f"Candidates and their {found.metric} with fresh seeds; one that could no longer win got no further seed."
    )
    return {
        "headline": advise_shipping(found),
        "says": " ".join(describe_confirmation(found)),
        "table": Table(caption, ("candidate", "parameters", "in the search", *seeds, "mean"), rows, 0),
        "command": write_command("best", study=found.study.subject, export=free_folder("best")),
    }


def describe_headline(page: ReportData, chosen: TrialData) -> str:
    """Return whether to use the chosen trial; once others are confirmed, that it is the best of the search."""
    if page.is_confirmed:
        return f"By the values of {page.study.info.name} alone, trial {chosen.number} is the best."
    return page.verdict.headline(chosen.number)


def format_number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def headline_facts(study: StudyData, certainty: Certainty, chosen: TrialData) -> Pairs:
    """Return the few numbers at the top of the page."""
    facts = [(f"{study.metric}, seen in validation", format_number(chosen.value))]
    is_known = certainty.expected is not None and (certainty.runs or certainty.optimism > 0)
    if is_known and chosen.number == certainty.best:
        facts.append((f"{study.metric} to expect from another run", f"about {certainty.expected:.3f}"))
    facts.append(("trials ended", str(len(study.of("COMPLETE", "PRUNED", "FAIL")))))
    facts.append(("of training in all", format_seconds(sum(trial.seconds for trial in study.trials))))
    return facts


def count_states(study: StudyData) -> str:
    """Return the number of trials in each state, such as "9 finished, 3 pruned"."""
    states = Counter(trial.shown_state for trial in study.trials)
    return ", ".join(f"{states[state]} {word}" for state, word in STATE_WORDS.items() if states[state])


def search_facts(study: StudyData, about: str) -> Pairs:
    """Return what was searched, and how."""
    info = study.info
    if info.has_given_trials:
        chosen_by, pruning = f"given: {info.source}", "none: given trials are trained to their end"
    else:
        chosen_by, pruning = ", ".join(filter(None, [describe_sampler(info), info.search.experience])), "none"
        if info.is_pruned:
            pruning = f"successive halving {info.search.rungs_text}"
            pruning += f"; {PRUNINGS[info.search.pruning]}"
        if info.each:
            chosen_by += f"; each {info.each} in turn"
    return [
        ("space", f"{info.space}{': ' if about else ''}{about}"),
        ("goals" if info.further else "goal", f"{info.goal_text} on the validation images"),
        ("data", describe_data(study)),
        ("size", info.size or "full"),
        ("trials", f"{count_states(study) or 'none'}; budget {study.num_trials or 'not limited'}"),
        *([("limits", describe_limits(info.limits))] if info.limits else []),
        *([("mixed", "; ".join(study.mixed))] if study.mixed else []),
        ("chosen by", chosen_by),
        ("pruning", pruning),
        ("dates", describe_dates(study)),
        ("hosts", describe_hosts(study)),
    ]


def describe_sampler(info: StudyInfo) -> str:
    """Return what chooses the trials, such as "TPE, the first ones at random"."""
    if info.search.grid:
        return f"a grid of {pluralize(info.search.num_points, 'point')}"
    known = {"tpe": "TPE, the first ones at random", "early": "values after the first rung, the first by TPE"}
    return known.get(info.search.sampler, f"the sampler {info.search.sampler}")


def parameter_table(study: StudyData) -> Table | None:
    best = study.best.params if study.best else {}
    rows = []
    for name in study.names:
        searched = describe_parameter(study.kinds[name]) if name in study.kinds else "as the trials have it"
        rows.append([name, searched, format_param(best[name]) if name in best else "–"])
    return Table("Parameters", ["parameter", "searched", "best"], rows) if rows else None


def describe_dates(study: StudyData) -> str:
    began = [trial.started for trial in study.trials if trial.started]
    ended = [trial.ended for trial in study.trials if trial.ended]
    if not began:
        return "not started"
    if not ended or study.of("RUNNING"):
        return f"since {min(began):{MINUTE}} UTC"
    return f"{min(began):{MINUTE}} to {max(ended):{MINUTE}} UTC"


def describe_data(study: StudyData) -> str:
    """Return the data set with its numbers of images."""
    notes = next((n for t in study.trials if isinstance(n := t.notes.get("made_with"), dict)), {})
    splits = {"train_images": "train", "val_images": "validate"}
    numbers = [f"{notes[key]} to {word}" for key, word in splits.items() if key in notes]
    return study.info.data + (f" ({', '.join(numbers)})" if numbers else "")


def describe_hosts(study: StudyData) -> str:
    results = [trial.result for trial in study.trials if trial.host]
    hosts = Counter(f"{one['host']} ({one.get('device', 'device not noted')})" for one in results)
    return (
        ", ".join(f"{pluralize(number, 'trial')} on {host}" for host, number in sorted(hosts.items()))
        or "not noted"
    )


def best_section(page: ReportData, trial: TrialData) -> dict[str, Any]:
    """Return the variables of the section on the trial to ship."""
    use, role = [], describe_role(page, trial)
    if role == TO_SHIP:
        folder = free_folder("best")
        number = None if trial is page.study.best else trial.number
        export = write_command("best", study=page.study.info.name, trial=number, export=folder)
        use = [export, write_command("predict", folder, "photo.jpg", trust=needs_trust(trial))]
    return {
        "number": trial.number,
        "role": role,
        "is_used": bool(use),
        "metrics": metric_table(trial),
        "pictures": page.pictures,
        "params": [(name, format_param(value)) for name, value in trial.params.items()],
        "recipe": recipe_to_space(trial.recipe, page.study.info.goal),
        "commands": "\n".join([*use, extend_command(page.study, trial)]),
    }


def describe_role(page: ReportData, chosen: TrialData) -> str:
    """Return what the chosen trial is: to be shipped, unless it finds too little or others are confirmed."""
    if page.verdict.is_usable and not page.is_confirmed:
        return TO_SHIP
    if chosen is not page.study.best:
        return "as good as the best, and cheaper"
    return "the best of the study" if page.is_confirmed else "the best so far"


def needs_trust(trial: TrialData) -> bool:
    """Return whether the bundle of a trial needs --trust: it has parts of the user's own."""
    try:
        return bool(Recipe.from_json(trial.recipe).own_names)
    except (TypeError, ValueError):  # a recipe that another program has written
        return False


def metric_table(trial: TrialData) -> Table | None:
    """Return the metrics of a trial at its best epoch, None if they are not recorded."""
    row, splits = trial.at_best, {"train": "training", "val": "validation"}
    names = sorted({key.partition("_")[2] for key in row if key.startswith(("train_", "val_"))})
    if trial.test:
        row = row | {f"test_{name}": value for name, value in trial.test.items()}
        splits["test"] = "test"
    rows = [[name, *(format_number(finite(row.get(f"{split}_{name}"))) for split in splits)] for name in names]
    headings = ["metric", *splits.values()]
    return Table(f"At epoch {trial.best_epoch} of {len(trial.epochs)}, its best", headings, rows) if rows else None


def certainty_section(page: ReportData, certainty: Certainty) -> dict[str, Any]:
    """Return the variables of the section on how certain the choice is."""
    groups = certainty.groups
    drawn = f"{certainty.images} validation images"
    if groups and groups.found_by:
        drawn = f"{groups.count} groups of validation images"
    score = f"the mean {certainty.measured.removeprefix('mean ')} of the images"
    method = (
        f"If the {drawn} were drawn anew {DRAWS} times, the best trial would stay ahead of another in this share "
        f"of the draws, by {score}. Below {SURE:.0%}, the two cannot be told apart by these images."
    )
    return {
        "lines": describe_certainty(certainty),
        "missing": certainty.missing,
        "method": method if any(one.by_images for one in certainty.rivals) else "",
        "rivals": rival_table(page.study, certainty),
        "seeds": seed_table(page.study, certainty),
        "luck": describe_luck(certainty),
        "pictures": page.others,
    }


def rival_table(study: StudyData, certainty: Certainty) -> Table | None:
    trials = {trial.number: trial for trial in study.finished}
    rows = []
    for one in certainty.rivals:
        rival = trials[one.number]
        judge = "the validation images" if one.by_images else "the noise between runs"
        verdict = "cannot be told apart" if one.ahead < SURE else "behind"
        name, value, time = f"trial {one.number}", format_number(rival.value), format_seconds(rival.seconds)
        rows.append([name, value, format_share(one.ahead), judge, verdict, time])
    best = f"trial {certainty.best}"
    headings = ["against", study.metric, f"{best} ahead in", "judged by", "so it is", "training time"]
    return Table(f"{best.capitalize()} against the next best ones", headings, rows) if rows else None


def seed_table(study: StudyData, certainty: Certainty) -> Table | None:
    rows = []
    for one in certainty.seeds:
        params = ", ".join(f"{name}={format_param(value)}" for name, value in one.params.items())
        rows.append([params, str(one), "yes" if one.overlaps else "no"])
    headings = ["parameters", study.metric, "overlaps with the first"]
    return Table("Trained more than once", headings, rows) if rows else None


def describe_luck(certainty: Certainty) -> str:
    """Explain the winner's curse: how much of the lead may be chance. Without measured noise, nothing is said."""
    if certainty.is_only:
        return "It is the only trial that has finished, so it leads no other."
    if certainty.sigma is None:
        return "How much of its lead is luck cannot be said: the noise between runs was not measured."
    if certainty.sigma == 0:
        same = f"gave the same {certainty.metric} each time"
        if varied := [number for one in certainty.seeds if one.deviation for number in one.numbers]:
            return f"Runs of the better repeated parameters {same}; trials {join_numbers(varied)} did not."
        return f"Runs of the same parameters {same}."
    noise = f"{certainty.metric} has a standard deviation of {certainty.sigma:.4f}"
    runs = f"Between runs of the same parameters, {noise}"
    start = f"{runs}; two of them differ by up to {certainty.reach:.4f} in 95 of 100 cases. "
    number = certainty.contenders - 1
    if not number:
        return start + "No other trial comes so near that luck could have chosen between them."
    near = f"{pluralize(number, 'other trial')} came so near that luck may have chosen"
    return f"{start}{near}; the luckiest of so many looks {certainty.optimism:.4f} better than it is."


def published_table(comparison: TableComparison) -> Table:
    columns = text_columns(comparison)
    rows = list(zip(*(cells for _, cells in columns), strict=True))
    return Table(comparison_title(comparison), [heading for heading, _ in columns], rows)


def failure_table(study: StudyData) -> Table | None:
    kinds = group_failures(study)
    rows = [[f"trial {t.number}", kind, t.failure.reason] for kind, trials in kinds.items() for t in trials]
    return Table("Failed trials", ["trial", "kind", "reason"], rows) if rows else None


def format_state(trial: TrialData) -> str:
    """Return text such as "finished" or "paused at 3 of 60"."""
    if trial.paused_at is not None:
        return format_paused(trial.paused_at, trial.notes)
    return trial.state_word


def front_table(study: StudyData, chosen: TrialData | None) -> Table:
    """Return the trials than which no other is better in all goals."""
    goals = [goal.metric for goal in study.info.goals]
    rows = [
        [
            str(trial.number),
            *(format_param(trial.values[name]) for name in goals),
            *(format_param(trial.params[name]) if name in trial.params else "" for name in study.names),
        ]
        for trial in study.front
    ]
    marked = next((at for at, trial in enumerate(study.front) if trial is chosen), -1)
    return Table("The front, the best by the first goal first", ["trial", *goals, *study.names], rows, marked)


def trial_table(study: StudyData, chosen: TrialData | None, role: str) -> Table:
    names = study.names
    rows = [
        [
            str(trial.number),
            format_state(trial),
            format_number(trial.reached(study.metric)),
            f"{trial.best_epoch or '–'}",
            f"{len(trial.epochs)}{f' of {trial.planned}' if trial.planned else ''}",
            format_seconds(trial.seconds),
            *(format_param(trial.params[name]) if name in trial.params else "" for name in names),
        ]
        for trial in study.trials
    ]
    headings = ["trial", "state", study.metric, "best epoch", "epochs run", "time", *names]
    marked = next((at for at, trial in enumerate(study.trials) if trial is chosen), -1)
    caption = f"Every trial; trial {chosen.number}, {role}, is marked" if chosen else "Every trial"
    return Table(caption, headings, rows, marked)
