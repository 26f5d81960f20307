"""Progress of a run that was started from Python: a live view in a notebook or terminal, else lines."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from sqlalchemy.engine import Engine

from tuner.cli.live import LiveView, make_view
from tuner.console import StudyView
from tuner.study.info import StudyInfo
from tuner.study.stats import StatsReader

if TYPE_CHECKING:
    from tuner.search.run import ViewFactory

WIDTH, HEIGHT = 100, 22  # characters
PRE = "<pre style=\"font-family: Menlo, 'DejaVu Sans Mono', monospace; line-height: 1.2\">{code}</pre>"


def choose_view(progress: bool) -> ViewFactory:
    """Return what shows the progress; nothing is shown without `progress`."""
    if not progress:
        return SilentView
    return NotebookView if is_notebook() else make_view


def is_notebook() -> bool:
    """Return whether the code runs in a Jupyter kernel."""
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


class SilentView(StudyView):
    """A view that shows nothing."""

    def __init__(self, engine: Engine, info: StudyInfo) -> None: ...

    def __exit__(self, *error: object) -> None: ...


class NotebookView(LiveView):
    """The live view of the terminal as one output of a notebook cell, updated in place."""

    def __enter__(self) -> NotebookView:
        from IPython.display import HTML, display

        self.ledger = StatsReader(self.engine, self.info)
        self.output: Any = display(HTML(""), display_id=True)
        return self

    def __exit__(self, *_: object) -> None: ...

    def draw(self) -> None:
        from IPython.display import HTML

        self.output.update(HTML(as_html(self.picture() if self.seen else self.notice)))


def as_html(shown: Any) -> str:
    """Return what rich draws as an HTML fragment with inline styles."""
    console = Console(file=io.StringIO(), record=True, width=WIDTH, height=HEIGHT, force_jupyter=False)
    console.print(shown)
    return console.export_html(code_format=PRE, inline_styles=True)
