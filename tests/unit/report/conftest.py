from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.search_studies import open_study

from tuner.study.study import JoinedStudy


@pytest.fixture
def study(tmp_path: Path) -> Iterator[JoinedStudy]:
    """A study without trials."""
    joined = open_study(tmp_path)
    yield joined
    joined.engine.dispose()
