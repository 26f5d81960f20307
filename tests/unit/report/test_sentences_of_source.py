"""Each sentence that the report can say is said where it is true, and not where it is false."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.sentences import Sentence, Subject
from helpers.sentences.advice import ADVICE
from helpers.sentences.card import CARD
from helpers.sentences.certainty import CERTAINTY
from helpers.sentences.comparisons import COMPARISONS
from helpers.sentences.confirmation import CONFIRMATION
from helpers.sentences.figures import FIGURES
from helpers.sentences.importance import IMPORTANCE
from helpers.sentences.pictures import PICTURES
from helpers.sentences.sections import SECTIONS
from helpers.sentences.verdict import VERDICT
from helpers.source_sentences import find_sentences

FILES = {
    "advice.py", "certainty.py", "confirmation.py", "resampling.py",
    "figures.py", "group_curves.py", "importance.py", "study_figure.py", "time_figures.py", "variance.py",
    "compare.py", "dashboard.py", "table_comparison.py",
    "sections.py", "report.html", "macros.html", "layout.html", "charts.html",
    "card.py", "page.py", "trial_files.py", "verdict.py",
}  # fmt: skip
TABLE: tuple[Sentence, ...] = (
    *ADVICE, *CARD, *CERTAINTY, *COMPARISONS, *CONFIRMATION, *FIGURES, *IMPORTANCE, *PICTURES, *SECTIONS,
    *VERDICT,
)  # fmt: skip
EVERY_PAGE = "a heading that stands above its section on every page"
EXCEPTIONS = {  # texts that are neither true nor false of a study, with the reason
    "%Y-%m-%d %H:%M": "the format of a date",
    "Without scripts the plots are not drawn; what they show is said below each.": "about the browser",
    "History and parameters": EVERY_PAGE,
    "What was searched": EVERY_PAGE,
    "What to try next": EVERY_PAGE,
    "Time, cost and failures": EVERY_PAGE,
}
SAID: dict[int, str] = {}  # all that is said of a subject, by its id


def all_said(subject: Subject, folder: Path) -> str:
    if id(subject) not in SAID:
        SAID[id(subject)] = " ".join(subject.say(folder).split())
    return SAID[id(subject)]


@pytest.mark.parametrize("sentence", TABLE, ids=lambda one: one.source)
def test_it_is_said_where_it_is_true_and_only_there(sentence: Sentence, tmp_path: Path) -> None:
    there = all_said(sentence.true, tmp_path)
    assert sentence.is_in(there), f"not said: {there}"
    assert sentence.says in there, f"said otherwise: {there}"
    assert not sentence.is_in(all_said(sentence.false, tmp_path))


def matching(sentence: Sentence, known: dict[str, str]) -> list[str]:
    """Return the sentences of the source that a row is about, which should be one."""
    return [sentence.source] if sentence.source in known else [one for one in known if sentence.source in one]


def test_the_table_has_a_row_for_each_sentence_of_the_source_and_no_other() -> None:
    known = find_sentences()
    rows = {sentence.source: matching(sentence, known) for sentence in TABLE}
    assert {source: found for source, found in rows.items() if len(found) != 1} == {}
    covered = {one for found in rows.values() for one in found}
    here = {one: file for one, file in known.items() if file in FILES}
    assert {one: file for one, file in here.items() if one not in covered} == {
        one: here.get(one) for one in EXCEPTIONS
    }
