"""Studies whose numbers were chosen, so that what a report says of them is true or false for certain."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from helpers.page_reader import PageReader
from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.goal import Goal, maximize
from tuner.paths import Home
from tuner.report.compare import (
    ComparedTrial,
    GroupComparison,
    TrialComparison,
    count_wins,
    group_rows,
    text_rows,
)
from tuner.report.confirmation import assess_confirmation
from tuner.report.dashboard import format_note
from tuner.report.group_curves import group_trials, loss_curves
from tuner.report.html import environment
from tuner.report.importance import param_importances
from tuner.report.page import make_report
from tuner.report.sections import ReportData, template_context
from tuner.report.study_data import StudyData, TrialData
from tuner.report.table_comparison import TableComparison, to_markdown
from tuner.report.trial_files import read_details
from tuner.study.confirmations import CANDIDATE, LookAtTest
from tuner.study.info import StudyInfo, StudyKind

Kinds = dict[str, dict[str, Any]]
LR: Kinds = {"lr": {"kind": "float", "log": True, "low": 1e-5, "high": 1e-1}}
LOSS: Kinds = {"loss": {"kind": "categorical", "choices": ["bce", "dice", "focal"]}}
DETAILS = "details.json"


@dataclass(frozen=True, eq=False)
class PlantedStudy:
    """A study with the files of its trials, by number and name, and its published table."""

    study: StudyData
    files: Mapping[int, Mapping[str, bytes]]
    published: tuple[TableComparison | None, str] = (None, "")
    looks: Sequence[LookAtTest] = ()  # of a confirmation, at the test split

    def say(self, folder: Path) -> str:
        """Return all texts on it: the report, the names in its plots, the note, and groups of trials compared."""
        home = Home(folder).make()
        for number, files in self.files.items():
            for name, content in files.items():
                (home.artifacts / f"{number}-{name}").write_bytes(content)
        artifacts, confirmation = TrialArtifacts(home), None
        if self.study.info.kind is StudyKind.CONFIRMATION:
            confirmation = assess_confirmation(self.study, lambda one: read_details(one, artifacts), self.looks)
        page = make_report(self.study, artifacts, self.published, confirmation=confirmation)
        compared = [compare_images(page.study, artifacts), *compare_by_params(page.study)]
        return "\n".join([*read_page(page), *name_series(page), *compared])


@dataclass(frozen=True, eq=False)
class PlantedTable:
    """A published table and our trials of it."""

    comparison: TableComparison

    def say(self, _: Path) -> str:
        return to_markdown(self.comparison)


def run(
    value: float | None = 0.5,
    params: Mapping[str, Any] | None = None,
    *,
    state: str = "COMPLETE",
    curve: Sequence[float] = (),
    losses: Sequence[tuple[float, float]] = (),
    planned: int = 0,
    seconds: float = 10.0,
    notes: Mapping[str, Any] | None = None,
    result: Mapping[str, Any] | None = None,
    goal: Goal | None = None,
    **more: Any,
) -> TrialData:
    """Return a trial with an epoch for each value of its curve, of equal seconds; `losses` are (train, val)."""
    goal = goal or maximize("iou")
    curve = list(curve) or ([] if value is None else [value])
    best = (max if goal.direction == "maximize" else min)(curve, default=0.0)
    rows = [
        {"epoch": epoch, "seconds": seconds / len(curve), f"val_{goal.metric}": seen}
        for epoch, seen in enumerate(curve, start=1)
    ]
    for row, (train, val) in zip(rows, losses, strict=False):
        row |= {"train_loss": train, "val_loss": val}
    result = {"best_epoch": curve.index(best) + 1, "best_value": best, **(result or {})} if curve else result
    plain = {"recipe": {"epochs": planned}} if planned else {}
    return TrialData(
        number=0,
        state=state,
        value=value if state == "COMPLETE" else None,
        params={"lr": 1e-3} if params is None else dict(params),
        notes={**({"result": result} if result else {}), **plain, **(notes or {})},
        epochs=tuple(rows),
        **more,
    )


def failed(reason: str, **notes: Any) -> TrialData:
    return run(None, state="FAIL", notes={"failure": reason, **notes})


def plant(
    *trials: TrialData,
    kinds: Kinds = LR,
    files: Mapping[int, Mapping[str, bytes]] | None = None,
    num_trials: int | None = None,
    mixed: Sequence[str] = (),
    published: tuple[TableComparison | None, str] = (None, ""),
    looks: Sequence[LookAtTest] = (),
    **info: Any,
) -> PlantedStudy:
    """Return a study of these trials, numbered from 0."""
    files = files or {}
    numbered = tuple(
        replace(trial, number=at, files={name: f"{at}-{name}" for name in files.get(at, ())} | trial.files)
        for at, trial in enumerate(trials)
    )
    about: dict[str, Any] = {"name": "s", "space": "s", "goal": maximize("iou"), "data": "shapes"} | info
    study = StudyData(StudyInfo(**about), num_trials, numbered, kinds, tuple(mixed))
    return PlantedStudy(study, files, published, looks)


def confirm(
    runs: Mapping[str, Sequence[float]],
    searched: Mapping[str, float] | None = None,
    scores: Mapping[str, Sequence[Sequence[float]]] | None = None,
    goal: Goal | None = None,
    looks: Sequence[LookAtTest] = (),
) -> PlantedStudy:
    """Return a confirmation with a run for each value of a candidate; `scores` has those of its images by run."""
    goal = goal or maximize("iou")
    trials, files = [], {}
    for name, values in runs.items():
        for repeat, value in enumerate(values, start=1):
            if scores:
                files[len(trials)] = scored(scores[name][repeat - 1], "image_iou")
            notes = {CANDIDATE: {"name": name, "searched": (searched or {}).get(name)}, "repeat": repeat}
            trials.append(run(value, {"lr": len(name)}, notes=notes, goal=goal))
    about = {"name": "s-confirmed", "kind": StudyKind.CONFIRMATION, "subject": "s", "goal": goal}
    return plant(*trials, files=files, looks=looks, **about)


def scored(
    scores: Sequence[float],
    metric: str = "dice",
    likeness: Sequence[int] | None = None,
    is_grouped: bool = True,
    **more: Any,
) -> dict[str, bytes]:
    """Return the file of a trial with the scores of its validation images, and which belong together."""
    images: dict[str, Any] = {"scores": [float(score) for score in scores]}
    if is_grouped:
        images["groups"] = {"likeness": list(likeness or range(len(scores))), "names": [0] * len(scores)}
    plain = {"version": 1, "epoch": 1, "metric": metric, "classes": [], "images": images, **more}
    return {DETAILS: json.dumps(plain).encode()}


def read_page(page: ReportData) -> list[str]:
    bare = dict.fromkeys(("policy", "plotly", "script", "style", "title"), "")
    html = environment().get_template("report.html").render(figures={}, **bare, **template_context(page))
    reader = PageReader()
    reader.feed(html)
    importances = param_importances(page.study)
    note = format_note(page.study, page.certainty, page.verdict, page.advice, importances)
    return [reader.said, note.replace("\\", "")]


def name_series(page: ReportData) -> list[str]:
    """Return the texts within the charts."""
    charts = [figure.chart for figure in page.figures]
    charts.append(loss_curves(page.study.trials, [f"trial {one.number}" for one in page.study.trials]))
    series = [one.name for chart in charts for one in chart.series]
    return [
        *(text for chart in charts for text in (chart.title, chart.x, chart.y, chart.shade, chart.note)),
        *series,
    ]


def compare_images(study: StudyData, artifacts: TrialArtifacts) -> str:
    """Return the note of `tuner compare` on the first two trials."""
    sides = tuple(ComparedTrial(f"trial {one.number}", study, one) for one in study.trials[:2])
    if len(sides) < 2:
        return ""
    return TrialComparison(f"val_{study.metric}", sides, count_wins(sides, artifacts)).note


def compare_by_params(study: StudyData) -> list[str]:
    """Return the tables of `tuner compare --by` with each parameter."""
    texts = []
    for name in study.varied:
        groups = group_trials(study, name)
        rows = group_rows(GroupComparison(study, name, f"val_{study.metric}", groups)) if groups else []
        texts += [f"{heading} {cell}" for row in text_rows(rows, []) for heading, cell in row.items()]
    return texts
