"""Every sentence that the report can say, with a study in which it is true and one in which it is false."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Subject(Protocol):
    def say(self, folder: Path) -> str:
        """Return all that is said of it; `folder` is for its files."""


@dataclass(frozen=True, eq=False)
class Sentence:
    """A sentence of the source, where it is true and where it is false.

    `source` is a piece of it that no other sentence has, with "{}" for what is filled in. Where others end up
    alike, `shown` is what is looked for instead. `says` is the sentence as it is in `true`, with its numbers.
    """

    source: str
    true: Subject
    false: Subject
    says: str = ""
    shown: str = ""

    def is_in(self, text: str) -> bool:
        return re.search(re.escape(self.shown or self.source).replace(r"\{\}", ".{1,160}?"), text) is not None
