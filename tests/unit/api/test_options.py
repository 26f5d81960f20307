"""tuner.run takes what `tuner run` takes."""

from __future__ import annotations

import inspect
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import tuner
from tuner.api.run import check_options
from tuner.cli import main
from tuner.cli.run import run as command
from tuner.errors import PartError, SpaceError, StudyError
from tuner.registry import own_modules

PYTHON_ONLY = {"prior", "goal", "start", "progress"}


def test_every_option_of_the_command_is_an_option_of_the_function() -> None:
    params = inspect.signature(tuner.run).parameters
    explicit = {name for name, p in params.items() if p.kind is not p.VAR_KEYWORD} - PYTHON_ONLY
    known = {str(param.name): param for param in command.params}
    assert explicit <= set(known)
    assert set(check_options({name: None for name in known if name not in explicit})) >= set(known) - explicit


def test_defaults_are_those_of_the_command() -> None:
    params = inspect.signature(tuner.run).parameters
    for param in command.params:
        if param.name in params and isinstance(param.default, int | float | str):
            assert params[param.name].default == param.default, param.name
    assert check_options({})["cache_gb"] == 20.0


def test_pruning_is_also_true_or_false() -> None:
    given = [check_options({"pruning": value})["pruning"] for value in (True, False, "promote")]
    assert given == ["promote", "none", "promote"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "trials=0"),
        ({"trials": "many"}, "trials='many'"),
        ({"hours": float("nan")}, "hours=nan"),
        ({"trails": 5}, "Did you mean 'trials'"),
        ({"trials": 0, "workers": -1}, "workers=-1"),
    ],
)
def test_wrong_options_are_all_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        check_options(options)


def test_parts_are_those_of_the_command() -> None:
    assert {part.name for part in tuner.parts("models")} >= {"unet", "smp"}
    assert {part.kind for part in tuner.parts()} >= {"models", "losses", "metrics"}
    with pytest.raises(tuner.TunerError, match="losses"):
        tuner.parts("loses")


WIDE = 'def net(channels, outputs, *, width={}):\n    """A net."""\n'


def test_a_part_beside_a_space_is_found_as_by_the_command(
    own_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_modules.search_in({})
    beside, here = own_folder / "a_space.py", tmp_path / "here"
    here.mkdir()
    beside.touch()
    (own_folder / "net_beside.py").write_text(WIDE.format(4))
    monkeypatch.chdir(here)
    (told,) = json.loads(
        CliRunner().invoke(main, ["parts", "net_beside:net", "--json", "--space", str(beside)]).output
    )
    for space in (beside, str(beside)):
        (found,) = tuner.parts("net_beside:net", space=space)
        assert asdict(found) == {**told, "needs": ()} and found.args == {"width": 4}
    own_modules.search_in({})
    tuner.parts("net_beside:net", space=beside)
    looked = rf"Looked in {here} \(the working folder\) and the installed"  # only there, without the space again
    with pytest.raises(PartError, match=looked):
        tuner.parts("net_beside:net")
    (here / "net_beside.py").write_text(WIDE.format(8))
    assert tuner.parts("net_beside:net")[0].args == {"width": 8}
    assert tuner.parts("net_beside:net", space=beside)[0].args == {"width": 4}


def test_a_space_of_parts_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PartError, match=r"^space= needs kind='package\.module:function'"):
        tuner.parts("models", space="unet_k")
    with pytest.raises(SpaceError, match="Did you mean 'unet_k'"):
        tuner.parts("mine:net", space="unet_q")
    with pytest.raises(PartError, match=r"^kind=5: text is needed"):
        tuner.parts(5)  # type: ignore[arg-type]
