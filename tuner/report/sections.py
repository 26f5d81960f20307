"""The chapters of a report: what a study's page says, in the order in which it is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from tuner.report.advice import Advice, extend_command, recipe_to_space, run_command, study_option
from tuner.report.certainty import DRAWS, SURE, Certainty, describe_certainty, format_share
from tuner.report.figures import StudyFigure, group_failures
from tuner.report.html import Markup, code, image, joined, listing, pairs, section, table, tag
from tuner.report.study_data import StudyData, TrialData, finite, format_param
from tuner.report.table_comparison import TableComparison, comparison_title, text_columns
from tuner.report.trial_files import TrialPicture
from tuner.space.space import describe_parameter
from tuner.study.format import format_seconds

FIRST = 3  # pieces of advice that the headline tells
WIDE = ("history", "parallel", "contour")  # figures that take the whole line
STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "waiting"}


@dataclass(frozen=True)
class ReportData:
    """All that a page is made of."""

    story: StudyData
    sure: Certainty | None
    advice: Sequence[Advice]
    figures: Sequence[StudyFigure]
    about: str  # what the space's file says of itself
    beside: TableComparison | None  # a published table
    beside_why: str  # why it is not there, of a study that is one
    pictures: Sequence[TrialPicture]  # of the best
    others: Sequence[TrialPicture]  # predictions of the next best
    at: str = ""  # what a command needs to find the study


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def headline(page: ReportData) -> Markup:
    """Which trial, how sure, what next: all that a person in a hurry reads."""
    sure, story = page.sure, page.story
    nexts = listing(f"{one.what}: {one.why}." for one in page.advice[:FIRST])
    more = tag("p", tag("a", "The commands for it", href="#next"))
    after = [tag("h3", "What to try next"), nexts, more] if page.advice else []
    if sure is None:
        states = counted(story) or "no trial at all"
        said = tag("p", f"No trial has finished with a value yet ({states}), so there is nothing to ship.")
        return tag(
            "section", tag("h2", "Nothing to ship yet"), said, *after, class_="headline none", id="headline"
        )
    chosen = next(trial for trial in story.finished if trial.number == sure.ship)
    facts = [(f"{story.metric}, seen in validation", number(chosen.value))]
    if sure.expected is not None and (sure.runs or sure.optimism > 0) and chosen.number == sure.best:
        facts.append(("to expect on new images", f"about {sure.expected:.3f}"))
    facts.append(("trials ended", str(len(story.of("COMPLETE", "PRUNED", "FAIL")))))
    facts.append(("of training in all", format_seconds(sum(trial.seconds for trial in story.trials))))
    numbers = tag("dl", *(tag("div", tag("dt", k), tag("dd", v)) for k, v in facts), class_="numbers")
    words = describe_certainty(sure)
    doubts = [tag("p", f"Not known: {'; '.join(sure.missing)}.", class_="soft")] if sure.missing else []
    return tag(
        "section", tag("h2", words[0]), numbers, tag("h3", "How sure"), tag("p", " ".join(words[1:])), *doubts,
        *after, class_="headline", id="headline",
    )  # fmt: skip


def counted(story: StudyData) -> str:
    states = Counter(trial.state for trial in story.trials)
    return ", ".join(f"{states[state]} {word}" for state, word in STATES.items() if states[state])


def searched(page: ReportData) -> Markup:
    """What was searched, and how."""
    story, info = page.story, page.story.info
    ended = [trial.ended for trial in story.trials if trial.ended]
    began = [trial.started for trial in story.trials if trial.started]
    rows: list[tuple[object, object]] = [
        ("space", f"{info.space}{': ' if page.about else ''}{page.about}"),
        ("goal", f"{info.goal} on the validation images"),
        ("data", data_of(story)),
        ("size", info.size or "full"),
        ("trials", f"{counted(story) or 'none'}; budget {story.num_trials or 'not limited'}"),
        ("chosen by", f"given: {info.source}" if info.has_given_trials else "TPE, the first ones at random"),
        (
            "pruning",
            "none: given trials are trained to their end"
            if info.has_given_trials
            else "successive halving at epochs 1, 3, 9, 27, 81",
        ),
        ("dates", f"{day(min(began))} to {day(max(ended))} UTC" if began and ended else "not begun"),
        ("hosts", hosts(story)),
    ]
    best = story.best
    params = [
        [
            name,
            describe_parameter(story.kinds[name]) if name in story.kinds else "as the trials have it",
            format_param(best.params[name]) if best and name in best.params else "–",
        ]
        for name in story.names
    ]
    found = table(["parameter", "searched", "best"], params, "Parameters") if params else None
    return section("searched", "What was searched", pairs(rows), found)


def day(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"


def data_of(story: StudyData) -> str:
    made = next((m for t in story.trials if isinstance(m := t.notes.get("made_with"), dict)), {})
    numbers = [
        f"{made[key]} to {word}"
        for key, word in (("train_images", "train"), ("val_images", "validate"))
        if key in made
    ]
    return story.info.data + (f" ({', '.join(numbers)})" if numbers else "")


def hosts(story: StudyData) -> str:
    on = Counter(
        f"{trial.host} ({trial.result.get('device', 'device not noted')})" for trial in story.trials if trial.host
    )
    return ", ".join(f"{count} trials on {host}" for host, count in sorted(on.items())) or "not noted"


def best_trial(page: ReportData) -> Markup | None:
    """The trial to ship: its numbers, its pictures, its recipe, and how to run it again."""
    if page.sure is None:
        return None
    story = page.story
    trial = next(one for one in story.finished if one.number == page.sure.ship)
    return section(
        "best", f"Trial {trial.number}, the one to ship",
        metrics(trial), *map(shown, page.pictures), recipe(story, trial), again(story, trial, page.at),
    )  # fmt: skip


def metrics(trial: TrialData) -> Markup:
    row = trial.at_best
    test = trial.result.get("test") if isinstance(trial.result.get("test"), dict) else {}
    names = dict.fromkeys(key.partition("_")[2] for key in row if key.startswith(("train_", "val_")))
    if not names:
        return tag("p", "The metrics of its best epoch are not recorded.", class_="gone")
    rows = [
        [name, number(finite(row.get(f"train_{name}"))), number(finite(row.get(f"val_{name}"))),
         *([number(finite((test or {}).get(name)))] if test else [])]
        for name in sorted(names)
    ]  # fmt: skip
    headings = ["metric", "training", "validation", *(["test"] if test else [])]
    return table(headings, rows, f"At epoch {trial.best_epoch} of {len(trial.epochs)}, its best")


def shown(picture: TrialPicture) -> Markup:
    heading = tag("h3", picture.title)
    if not picture.source:
        return joined([heading, tag("p", f"Not shown: {picture.why}.", class_="gone")])
    seen = image(picture.source, picture.alt, width=picture.width, height=picture.height)
    return joined([heading, tag("figure", seen, tag("figcaption", picture.alt + "."))])


def recipe(story: StudyData, trial: TrialData) -> Markup:
    space = recipe_to_space(trial.recipe, story.info.goal)
    given = pairs([(name, format_param(value)) for name, value in trial.params.items()])
    if not space:
        return joined([tag("h3", "Its parameters"), given, tag("p", "Its recipe cannot be read.", class_="gone")])
    words = "All of it, as a space of its own; save it as search_spaces/again.py and run it with --space again."
    return joined([tag("h3", "Its parameters"), given, tag("h3", "Its recipe"), tag("p", words), code(space)])


def again(story: StudyData, trial: TrialData, at: str) -> Markup:
    study = study_option(story, at)
    lines = [] if story.best is not trial else [f"tuner best{study} --export best", "tuner predict best photo.jpg"]
    lines.append(extend_command(story, trial, at))
    return joined([tag("h3", "How to use it, and how to train it for longer"), code("\n".join(lines))])


def certain(page: ReportData) -> Markup | None:
    """How sure: the rivals, the seeds, the choice."""
    sure, story = page.sure, page.story
    if sure is None:
        return None
    by = {trial.number: trial for trial in story.finished}
    rows = [
        [f"trial {one.number}", number(by[one.number].value), format_share(one.ahead),
         "the validation images" if one.by_images else "the noise between runs",
         "cannot be told apart" if one.ahead < SURE else "behind", format_seconds(by[one.number].seconds)]
        for one in sure.rivals
    ]  # fmt: skip
    headings = ["against", story.metric, f"trial {sure.best} ahead in", "judged by", "so it is", "training time"]
    rivals = table(headings, rows, f"Trial {sure.best} against the next best ones") if rows else None
    how = (
        f"If the {sure.images} validation images were drawn anew {DRAWS} times, the best trial would stay ahead "
        f"of another in this share of the draws. Below {SURE:.0%}, the two cannot be told apart by these images."
    )
    repeated = [
        [
            ", ".join(f"{k}={format_param(v)}" for k, v in one.params.items()),
            str(one),
            "yes" if one.overlaps else "no",
        ]
        for one in sure.seeds
    ]
    seeds = (
        table(["parameters", story.metric, "overlaps with the first"], repeated, "Trained more than once")
        if repeated
        else None
    )
    return section(
        "certainty", "How sure one may be", *(tag("p", line) for line in describe_certainty(sure)[1:]),
        tag("p", how, class_="soft") if sure.images else None, rivals, seeds, tag("p", luck(sure)),
        *(tag("p", f"Not known: {line}.", class_="gone") for line in sure.missing), *map(shown, page.others),
    )  # fmt: skip


def luck(sure: Certainty) -> str:
    """The winner's curse, for people who have not met it."""
    if sure.sigma is None:
        return "How much of its lead is luck cannot be said."
    caution = " A run with another seed mostly differs by more than that." if "jitter" in sure.sigma_from else ""
    start = f"By chance alone a value changes by about {sure.sigma:.4f} (from {sure.sigma_from}).{caution} "
    if sure.contenders < 2:
        return start + "No other trial comes so near that luck could have chosen between them."
    return start + (
        f"{sure.contenders} trials are so near to the best that luck may have chosen among them; the luckiest of "
        f"so many looks {sure.optimism:.4f} better than it is."
    )


def to_try(page: ReportData) -> Markup:
    items = [
        joined([tag("strong", one.what), tag("span", one.why + "."), code(one.command) if one.command else None])
        for one in page.advice
    ]
    nothing = tag("p", "Nothing stands out: the search covered its space, and its best lies well inside.")
    return section(
        "next",
        "What to try next",
        tag("ol", *(tag("li", i) for i in items), class_="advice") if items else nothing,
    )


def drawn(figures: Sequence[StudyFigure], name: str, heading: str, *more: object) -> Markup:
    """Plots, each with its text; in the place of one that cannot be drawn, why."""
    return section(name, heading, *more, tag("div", *map(plot, figures), class_="figures"))


def plot(figure: StudyFigure) -> Markup:
    wide = "full" if figure.name in WIDE else None
    heading = tag("h3", figure.chart.title)
    if figure.chart.is_empty:
        return tag(
            "div",
            heading,
            tag("p", f"Not drawn: {figure.chart.note}.".replace("..", "."), class_="empty"),
            class_=wide,
        )
    place = tag(
        "div",
        class_="plot",
        id=f"plot-{figure.name}",
        role="img",
        aria_label=f"{figure.chart.title}. {figure.says}",
    )
    return tag("figure", heading, place, tag("figcaption", figure.says), class_=wide)


def beside(page: ReportData) -> Markup | None:
    """The published table beside ours, of a study that is of one."""
    if page.beside is None:
        return (
            section("published", "Published and ours", tag("p", page.beside_why, class_="gone"))
            if page.beside_why
            else None
        )
    made = text_columns(page.beside)
    rows = list(zip(*(cells for _, cells in made), strict=True))
    note = tag("p", page.beside.table.note, class_="soft") if page.beside.table.note else None
    return section(
        "published", "Published and ours", table([h for h, _ in made], rows, comparison_title(page.beside)), note
    )


def failed(page: ReportData) -> Markup | None:
    kinds = group_failures(page.story)
    if not kinds:
        return None
    rows = [[f"trial {t.number}", kind, t.failure.reason] for kind, trials in kinds.items() for t in trials]
    return section("failed", "What failed, and why", table(["trial", "kind", "reason"], rows, "Failed trials"))


def everything(page: ReportData) -> Markup:
    """Every trial, as a table that opens."""
    story = page.story
    if not story.trials:
        again = code(run_command(story, page.at))
        return section("trials", "All trials", tag("p", "No trial has begun. Begin with:"), again)
    names = story.names
    rows = [
        [
            str(trial.number), STATES.get(trial.state, trial.state), number(trial.reached(story.metric)),
            f"{trial.best_epoch or '–'}", f"{len(trial.epochs)}{f' of {trial.planned}' if trial.planned else ''}",
            format_seconds(trial.seconds),
            *(format_param(trial.params[name]) if name in trial.params else "" for name in names),
        ]
        for trial in story.trials
    ]  # fmt: skip
    headings = ["trial", "state", story.metric, "best epoch", "epochs run", "time", *names]
    marked = next((at for at, one in enumerate(story.trials) if page.sure and one.number == page.sure.ship), -1)
    whole = table(headings, rows, "Every trial; the one to ship is marked", marked)
    return section(
        "trials",
        "All trials",
        tag("details", tag("summary", f"Show {len(rows)} trials"), whole, open=len(rows) <= 12),
    )
