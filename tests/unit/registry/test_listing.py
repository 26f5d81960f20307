"""The names a recipe may use, as they are listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

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


OWN = '''def net(channels, outputs, *, depth, width={width}, sizes=(1, 2)):
    """A stack of convolutions.

    And more about it.
    """


def bare(channels, outputs):
    pass
'''


def parts(*args: str) -> Result:
    return CliRunner().invoke(main, ["parts", *args])


@pytest.mark.parametrize("place", ["the working folder", "beside the space"])
def test_a_part_of_ones_own_is_listed_as_one_of_tuners(
    own_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(own_folder if place == "the working folder" else tmp_path)
    space = [] if place == "the working folder" else ["--space", str(own_folder / "a_space.py")]
    (own_folder / "a_space.py").touch()
    for width in (4, 8):  # an edited module is imported anew
        (own_folder / "listed_model.py").write_text(OWN.format(width=width))
        shown = parts("listed_model:net", *space)
        assert shown.exit_code == 0, shown.output
        lines = [line.split() for line in shown.output.splitlines()]
        assert lines == [
            ["own"],
            ["listed_model:net", *["A", "stack", "of", "convolutions."]],
            ["depth,", f"width={width},", "sizes=[1,", "2]"],
        ]
    (told,) = json.loads(parts("listed_model:net", "--json", *space).output)
    assert told["args"] == {"width": 8, "sizes": [1, 2]} and told["needs"] == ["depth"]
    assert "no keyword-only arguments, so a space can search none" in parts("listed_model:bare", *space).output


def test_a_part_of_an_installed_package_is_listed(own_folder: Path) -> None:
    shown = parts("click.testing:CliRunner")
    assert shown.exit_code == 0 and "functionality to invoke a Click" in shown.output


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "nowhere:net",
            "there is no module 'nowhere'. Looked in {} (the working folder) and the installed",
        ),
        ("json:lod", "has no attribute 'lod'. Did you mean 'load'?"),
        ("math:pi", "part 'math:pi' is 3.14"),
        ("builtins:dict", "<class 'dict'> has no signature that Python can read; wrap it in a function."),
        (":net", "write it as 'package.module:function'"),
    ],
)
def test_a_part_of_ones_own_that_cannot_be_listed_is_one_line(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.chdir(own_folder)
    done = parts(name)
    assert done.exit_code == 2 and said.format(own_folder) in done.stderr and done.stderr.count("\n") == 1


def test_a_space_is_taken_with_a_part_of_ones_own_only() -> None:
    done = parts("models", "--space", "unet_k")
    assert done.exit_code == 2 and "--space needs MODULE:FUNCTION" in done.stderr
