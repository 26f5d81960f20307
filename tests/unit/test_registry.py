"""The signature is the schema: what a builder takes by keyword is what a space may set."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuner import registry
from tuner.errors import PartError
from tuner.recipe import use
from tuner.registry import (
    BETWEEN_0_AND_1,
    COUNT,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Range,
    build,
    check_choice,
    check_range,
    find_builder,
    part_problems,
    searchable_args,
)

HERE = "tests.unit.test_registry"
TABLE = {"small": f"{HERE}:small", "sized": f"{HERE}:sized"}


def small(channels: int, *, k: int = 4, dropout: float = 0.0) -> tuple[int, int, float]:
    return channels, k, dropout


def sized(channels: int, *, size: int) -> tuple[int, int]:
    return channels, size


not_callable = 5


def test_a_part_is_built_from_what_is_supplied_and_what_is_chosen() -> None:
    assert build("model", TABLE, use("small", k=8), 3) == (3, 8, 0.0)


def test_only_keyword_arguments_can_be_set() -> None:
    assert list(searchable_args(small)) == ["k", "dropout"]
    (line,) = part_problems("model", TABLE, use("small", channels=3))
    assert line.startswith("model 'small' takes no argument 'channels'.")


def test_an_unknown_part_is_told_the_near_name() -> None:
    with pytest.raises(PartError, match=r"^no model 'smal'\. Did you mean 'small'\? Known: sized, small\.$"):
        find_builder("model", TABLE, "smal")


def test_an_unknown_part_far_from_all_is_told_what_is_known() -> None:
    with pytest.raises(PartError, match=r"^no model 'xyzzy'\. Known: sized, small\.$"):
        find_builder("model", TABLE, "xyzzy")


def test_every_wrong_argument_is_told_with_its_near_name() -> None:
    assert part_problems("model", TABLE, use("small", kk=1, droput=2)) == [
        "model 'small' takes no argument 'kk'. Did you mean 'k'? It takes: k, dropout.",
        "model 'small' takes no argument 'droput'. Did you mean 'dropout'? It takes: k, dropout.",
    ]


def test_a_missing_argument_is_told() -> None:
    assert part_problems("model", TABLE, use("sized")) == ["model 'sized' needs the argument 'size'."]
    with pytest.raises(PartError, match="needs the argument 'size'"):
        build("model", TABLE, use("sized"), 3)


def test_a_user_may_name_a_function_of_their_own() -> None:
    assert build("model", TABLE, use(f"{HERE}:small", k=2), 1) == (1, 2, 0.0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (f"{HERE}:gone", "has no attribute 'gone'"),
        (f"{HERE}:not_callable", "is 5; a function is needed"),
        (f"{HERE}:", "cannot be imported"),
        (":small", "cannot be imported"),
    ],
)
def test_a_function_that_is_not_there_is_told(name: str, said: str) -> None:
    (line,) = part_problems("model", TABLE, use(name))
    assert line.startswith(f"model '{name}'") and said in line


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two own folders, beside a space and the working folder."""
    known = dict(registry.OWN_FOLDERS)
    beside, here = tmp_path / "beside", tmp_path / "here"
    beside.mkdir()
    here.mkdir()
    registry.search_in({beside: "beside the space", here: "the working folder"})
    yield beside, here
    registry.search_in(known)


def test_a_module_that_is_nowhere_is_told_once_for_all_parts_with_where_was_looked(
    folders: tuple[Path, Path],
) -> None:
    beside, here = folders
    lines = {*part_problems("model", TABLE, use("nomod:net")), *part_problems("loss", TABLE, use("nomod:loss"))}
    assert lines == {
        f"there is no module 'nomod'. Looked in {beside} (beside the space), {here} (the working folder) and the "
        "installed packages. Put nomod.py into one of these folders, or install its package."
    }
    (here / "nopkg").mkdir()
    (here / "nopkg" / "__init__.py").touch()
    (line,) = part_problems("model", TABLE, use("nopkg.nets:net"))
    assert line.startswith("there is no module 'nopkg.nets'.") and "Put nopkg/nets.py into" in line


def test_a_part_is_found_in_every_own_folder_and_the_first_one_wins(folders: tuple[Path, Path]) -> None:
    beside, here = folders
    (here / "found_here.py").write_text("def net(channels): return 'here'\n")
    (here / "found_twice.py").write_text("def net(channels): return 'here'\n")
    (beside / "found_twice.py").write_text("def net(channels): return 'beside'\n")
    assert build("model", {}, use("found_here:net"), 3) == "here"
    assert build("model", {}, use("found_twice:net"), 3) == "beside"


def test_a_misspelt_function_is_told_the_near_name(folders: tuple[Path, Path]) -> None:
    (folders[0] / "spelt.py").write_text("def model(): pass\n")
    (line,) = part_problems("model", TABLE, use("spelt:modle"))
    told = f"{folders[0] / 'spelt.py'} has no attribute 'modle'. Did you mean 'model'?"
    assert line == f"model 'spelt:modle' cannot be imported: {told}"


def test_an_error_in_an_own_module_is_told_with_its_line(folders: tuple[Path, Path]) -> None:
    (folders[0] / "raising.py").write_text("x = 1\n\ny = z\n")
    (line,) = part_problems("model", TABLE, use("raising:net"))
    assert line == "model 'raising:net' cannot be imported: NameError: name 'z' is not defined (line 3)."


@pytest.mark.parametrize(("name", "other"), [("json", "Python's own module json"), ("click", "the installed ")])
def test_an_own_module_that_an_installed_one_hides_is_refused(
    folders: tuple[Path, Path], name: str, other: str
) -> None:
    (folders[1] / f"{name}.py").write_text("def net(): pass\n")
    (line,) = part_problems("model", TABLE, use(f"{name}:net"))
    assert line.startswith(f"model '{name}:net': the module {folders[1] / name}.py is hidden by {other}")
    assert line.endswith("; rename yours.")


def test_an_edited_module_and_that_of_another_project_are_imported_anew(folders: tuple[Path, Path]) -> None:
    known = dict(registry.OWN_FOLDERS)
    for value in range(3):
        (folders[0] / "edited.py").write_text("from edited_too import net\n")
        (folders[0] / "edited_too.py").write_text(f"def net(): return {value}\n")
        registry.search_in(known)
        assert build("model", {}, use("edited:net")) == value
    (folders[1] / "edited.py").write_text("def net(): return 'other'\n")
    registry.search_in({folders[1]: "the working folder"})
    assert build("model", {}, use("edited:net")) == "other"
    assert str(folders[0]) not in sys.path and not (folders[0] / "__pycache__").exists()


def test_own_folders_come_last_and_hide_nothing(folders: tuple[Path, Path]) -> None:
    assert sys.path[-2:] == [str(folder) for folder in folders]
    registry.search_in({})
    assert not {str(folder) for folder in folders} & {*sys.path}


def test_the_sources_of_a_part_are_all_own_modules_that_it_imports(folders: tuple[Path, Path]) -> None:
    beside, here = folders
    (beside / "pack" / "inner").mkdir(parents=True)
    for path, text in {
        "pack/__init__.py": "",
        "pack/nets.py": "import json\nfrom . import blocks\nfrom .inner.deep import f\nimport click\n",
        "pack/blocks.py": "def late():\n    import lone, tuner\n",
        "pack/inner/deep.py": "from pack.nets import g\n",
        "pack/unused.py": "",
        "lone.py": "def (",
        "click.py": "",
    }.items():
        (beside / path).write_text(text)
    (here / "lone.py").touch()
    assert registry.own_sources(["unet", "pack.nets:net", "nowhere:f"]) == {
        path: beside / path
        for path in ("lone.py", "pack/__init__.py", "pack/blocks.py", "pack/inner/deep.py", "pack/nets.py")
    }


@pytest.mark.parametrize("text", ["def model(:", "1 / 0", "import no_such_package"])
def test_a_users_module_that_breaks_on_import_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "broken_module_of_mine.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    (line,) = part_problems("model", TABLE, use("broken_module_of_mine:model"))
    assert "model 'broken_module_of_mine:model' cannot be imported" in line and "Error" in line


def test_a_broken_entry_of_our_own_table_is_a_bug_and_no_users_mistake() -> None:
    with pytest.raises(ModuleNotFoundError):
        find_builder("model", {"ours": "no_such_package:f"}, "ours")


def test_a_users_module_that_exits_when_it_is_imported_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quitter.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PartError, match="'quitter:net' cannot be imported: SystemExit: 3"):
        find_builder("model", {}, "quitter:net")


@pytest.mark.parametrize(
    ("allowed", "inside", "outside", "text"),
    [
        (NOT_NEGATIVE, [0, 0.5, 1e9], [-1e-9], "a number of at least 0"),
        (POSITIVE, [1e-9], [0, -1], "a number above 0"),
        (SHARE, [0, 1], [1.01], "a number of at least 0 and at most 1"),
        (FRACTION, [0, 0.99], [1], "a number of at least 0 and below 1"),
        (BETWEEN_0_AND_1, [0.5], [0, 1], "a number above 0 and below 1"),
        (COUNT, [1, 7], [0, 2.5, 1.0], "a whole number of at least 1"),
    ],
    ids=str,
)
def test_a_range_contains_finite_numbers_only(
    allowed: Range, inside: list[float], outside: list[object], text: str
) -> None:
    assert all(value in allowed for value in inside) and str(allowed) == text
    for value in [*outside, True, "1", None, float("nan"), float("inf")]:
        assert value not in allowed
        with pytest.raises(PartError, match=rf"^x of model 'm' is {re.escape(repr(value))}; {text} is needed\.$"):
            check_range("model 'm'", allowed, x=value)
    check_range("model 'm'", allowed, x=inside[0])


def test_an_unknown_choice_is_named_with_a_similar_one() -> None:
    check_choice("norm", "batch", ("batch", "group"))
    with pytest.raises(PartError, match=r"norm is 'bach'\. Did you mean 'batch'\? Known: batch, group\.$"):
        check_choice("norm", "bach", ("batch", "group"))
