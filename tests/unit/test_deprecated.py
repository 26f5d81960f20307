"""Old import paths go on working, each with one warning that names the new path."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from importlib.util import find_spec
from pkgutil import resolve_name

import pytest
from helpers.fork_server import run_code

from tuner.deprecated import MOVED_MODULES, RENAMED, full_path


@pytest.mark.parametrize("old", sorted(MOVED_MODULES))
def test_every_moved_module_is_found_where_the_table_says(old: str) -> None:
    assert find_spec(MOVED_MODULES[old]) is not None
    assert find_spec(old) is not None


@pytest.mark.parametrize("module", sorted(RENAMED))
def test_every_renamed_name_exists_under_its_new_name(module: str) -> None:
    for new in RENAMED[module].values():
        resolve_name(full_path(module, new))


def run_python(code: str) -> str:
    done = run_code(f"import warnings\nwarnings.simplefilter('always', DeprecationWarning)\n{code}")
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("statement", "new"),
    [
        ("from tuner.store import FolderStore", "tuner.artifacts.store"),
        ("from tuner import store", "tuner.artifacts.store"),
        ("import tuner; tuner.store.FolderStore", "tuner.artifacts.store"),
        ("from tuner.space import load_space", "tuner.space.space"),
        ("from tuner.space import draw", "tuner.space.space"),
        ("from tuner.study import join", "tuner.study.study"),
        ("from tuner.bundle import load", "tuner.export.bundle"),
        ("import tuner; tuner.bundle.load", "tuner.export.bundle"),
        ("from tuner.predict import predict_image", "tuner.export.predict"),
        ("from tuner.parts import build, locate", "tuner.registry"),
        ("from tuner.data.source import hold_out", "tuner.data.split.hold_out"),
    ],
)
def test_an_old_path_warns_once_and_names_the_new_one(statement: str, new: str) -> None:
    said = run_python(f"{statement}\n{statement}\n")
    assert said.count("DeprecationWarning") == said.count(new) == 1


def test_a_renamed_name_of_a_module_in_its_old_place_warns_and_names_the_new_one() -> None:
    from tuner.data import images

    vars(images).pop("shrink", None)  # an earlier use has warned already
    with pytest.warns(DeprecationWarning, match=r"tuner\.data\.images\.resize_image"):
        assert images.shrink is images.resize_image
    with pytest.raises(AttributeError, match="nowhere"):
        images.nowhere  # noqa: B018


@pytest.mark.parametrize("module", sorted(RENAMED.keys() - MOVED_MODULES.values()))
def test_every_renamed_name_of_a_module_in_its_old_place_works(module: str) -> None:
    for old, new in RENAMED[module].items():
        vars(import_module(module)).pop(old, None)  # an earlier use has warned already
        with pytest.warns(DeprecationWarning, match=full_path(module, new)):
            assert getattr(import_module(module), old) is resolve_name(full_path(module, new))


def test_the_old_name_is_the_same_module() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert import_module("tuner.store") is import_module("tuner.artifacts.store")


def test_an_old_module_has_the_names_that_are_in_another_one_now() -> None:
    sys.modules.pop("tuner.optims", None)  # an earlier use has warned already
    with pytest.warns(DeprecationWarning) as warned:
        optims = import_module("tuner.optims")
    assert optims.adam.__module__ == "tuner.train.optimizers"
    assert optims.advance.__module__ == optims.cosine.__module__ == "tuner.train.schedules"
    assert len(warned) == 1


def test_a_name_that_never_was_is_an_import_error() -> None:
    with pytest.raises(ImportError):
        import_module("tuner.nowhere")
    with pytest.raises(ImportError):
        exec("from tuner.space import nowhere")
