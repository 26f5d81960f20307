"""tuner.run takes what `tuner run` takes."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import tuner
from tuner.api.run import check_options
from tuner.cli.run import run as command
from tuner.errors import StudyError

PYTHON_ONLY = {"goal", "start", "progress"}


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
    assert given == ["stop", "none", "promote"]


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
