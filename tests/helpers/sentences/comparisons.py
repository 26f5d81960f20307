"""Sentences of comparisons, of published tables, and of the note on the dashboard."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from helpers.planted_studies import PlantedTable, failed, plant, run, scored
from helpers.sentences import Sentence
from tuner.goal import maximize
from tuner.report.table_comparison import TableComparison, row_result
from tuner.space.published import PublishedRow, PublishedTable
from tuner.study.info import StudyInfo, StudyKind
from tuner.study.trial_queries import TrialInfo

ROW = PublishedRow({"lr": 0.1}, {"val_iou": 0.5})
INFO = StudyInfo("t", "s", maximize("iou"), "shapes", kind=StudyKind.TABLE, subject="t")
RESULT = {"result": {"best_epoch": 1, "epochs": 1}}


def compare_row(*states: str, data: str = "", info: StudyInfo | None = INFO) -> PlantedTable:
    """Return a table of one row with a trial of each state."""
    table = PublishedTable("t", Path("t.toml"), "s", "val_iou", (ROW,), data=data)
    trials = [TrialInfo(at, at, state, None, {}, RESULT | {"repeat": at}) for at, state in enumerate(states)]
    epochs = {one.id: [{"epoch": 1, "seconds": 1.0, "val_iou": 0.5}] for one in trials}
    return PlantedTable(TableComparison(table, info, (row_result(ROW, trials, epochs, table.metrics),)))


RUN, NOT_RUN, STOPPED = compare_row("COMPLETE"), compare_row(), compare_row("PRUNED")
WITHOUT_STUDY, OF_DATA = compare_row(info=None), compare_row(data="horses", info=None)

EASE = np.random.default_rng(11).normal(0.5, 0.1, 40)
A, B = {"lr": 1e-3}, {"lr": 1e-2}
SCORED = plant(run(0.5, A), run(0.54, A), files={0: scored(EASE), 1: scored(EASE + 0.04)})
FEW = plant(run(0.5, A), run(0.4, B), files={0: scored(EASE[:4]), 1: scored(EASE[:4])})
IN_FOUR = [at // 10 for at in range(40)]
FEW_GROUPS = plant(
    run(0.5, A), run(0.4, B), files={at: scored(EASE - at / 10, likeness=IN_FOUR) for at in range(2)}
)
ONE, OF_ANOTHER_NAME = plant(run(0.5, A)), plant(run(0.5, A), name="other")
WITHOUT_ADVICE = plant(run(0.5, A), run(0.4, B), kind=StudyKind.TABLE, subject="t")
NOTHING, ALL_FAILED = plant(), plant(failed("CUDA out of memory"))
NOTHING_YET = "No trial has finished with a value yet, so there is nothing to ship."
PREFERRED = "too few to say which trial others would prefer"

COMPARISONS = (
    Sentence(f"{{}}, {PREFERRED}", FEW, SCORED, f"only 4 validation images, {PREFERRED}"),
    Sentence(
        f"{{}}, {PREFERRED}",
        FEW_GROUPS,
        SCORED,
        f"the validation images form 4 groups by their likeness, {PREFERRED}",
    ),
    Sentence("not run yet", NOT_RUN, STOPPED),
    Sentence("not run yet", NOT_RUN, RUN),
    Sentence("the space's own data", WITHOUT_STUDY, OF_DATA, "t: s on the space's own data, "),
    Sentence("the space's own data", WITHOUT_STUDY, NOT_RUN),
    Sentence("no study yet", WITHOUT_STUDY, NOT_RUN),
    Sentence(NOTHING_YET, NOTHING, ONE),
    Sentence(NOTHING_YET, ALL_FAILED, ONE),
    Sentence("- Not known: {}.", ONE, SCORED, "- Not known: no parameters were trained twice, so"),
    Sentence("### What to try next", ONE, WITHOUT_ADVICE),
    Sentence("All of it: {}", ONE, OF_ANOTHER_NAME, shown="All of it: `tuner report --study s`"),
)
