"""The names a recipe may use, as they are listed."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from tuner.cli import main
from tuner.errors import PartError
from tuner.registry.listing import KINDS, TABLES, describe_builder, list_parts
from tuner.tasks import TASKS


def own(channels: int, classes: int, *, depth: int, widths: tuple[int, ...] = (8, 16), norm: bool = True) -> None:
    """A model of the user's own.

    And more about it.
    """


def test_an_entry_is_what_the_signature_and_the_first_line_say() -> None:
    made = describe_builder("models", "own", own)
    assert made.about == "A model of the user's own."
    assert made.args == {"widths": [8, 16], "norm": True} and made.needs == ("depth",)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_lists_each_of_its_names_with_a_line(kind: str) -> None:
    found = list_parts(kind)
    assert found and all(one.about for one in found)
    if kind in TABLES:
        assert len({one.name for one in found}) == len(found)
    else:
        assert {(one.task, one.name) for one in found} == {(t.name, m) for t in TASKS.values() for m in t.metrics}


def test_a_mistyped_kind_gets_the_near_name() -> None:
    with pytest.raises(PartError, match=r"'modles'.*Did you mean 'models'\?"):
        list_parts("modles")


def test_the_command_lists_them_as_text_and_as_json() -> None:
    shown = CliRunner().invoke(main, ["parts"]).output
    told = json.loads(CliRunner().invoke(main, ["parts", "--json"]).output)
    assert {one["kind"] for one in told} == set(KINDS)
    assert all(one["name"] in shown and one["about"] in shown for one in told)
    assert "package.module:function" in shown and "dropout=0.0" in shown
