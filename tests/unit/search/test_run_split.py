"""A study that began earlier keeps its division of the images, and how it is searched."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.command_line import home_url, write_space

from tuner.errors import SpaceChanged
from tuner.paths import Home
from tuner.search.run import RunOptions, RunRequest, StudySetup, check_request, open_space_process, settle_study
from tuner.space.search_settings import SearchSettings
from tuner.study.study import join_study


def ask(folder: Path, rehearse: bool = False, pruning: str | None = None) -> StudySetup:
    options = RunOptions(home_url(folder), Home(folder))
    request = RunRequest(str(folder / "tiny.py"), None, None, options, None, 0, rehearse, pruning=pruning)
    with open_space_process(request) as process:
        return settle_study(check_request(request, process), options.url)


@pytest.mark.parametrize("rehearse", [False, True])
def test_a_new_study_divides_exactly_and_an_old_one_as_it_did(tmp_path: Path, rehearse: bool) -> None:
    write_space(tmp_path)
    setup = ask(tmp_path, rehearse)
    assert setup.info.split == "exact"
    assert {recipe.data.args["split"] for recipe in setup.recipes} == {"exact"}
    join_study(home_url(tmp_path), replace(setup.info, split="stable")).engine.dispose()
    setup = ask(tmp_path, rehearse)
    assert setup.info.split == "stable"
    assert not any("split" in recipe.data.args for recipe in setup.recipes)


def test_a_study_of_an_earlier_version_keeps_its_search(tmp_path: Path) -> None:
    write_space(tmp_path)
    space = tmp_path / "tiny.py"
    space.write_text(re.sub("SEARCH = .*", "", space.read_text()))
    setup, before = ask(tmp_path), SearchSettings("tpe", "stop")
    assert setup.info.search == SearchSettings("early", "promote")
    join_study(home_url(tmp_path), replace(setup.info, search=before)).engine.dispose()
    assert ask(tmp_path).info.search == before
    with pytest.raises(SpaceChanged, match="pruning: from stop to promote"):
        ask(tmp_path, pruning="promote")
