"""Modules of the user's own: where they are looked for, and what is said of one that cannot be used."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuner.recipe import use
from tuner.registry import build, own_modules, part_problems


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Two own folders, beside a space and the working folder."""
    known = dict(own_modules.OWN_FOLDERS)
    beside, here = tmp_path / "beside", tmp_path / "here"
    beside.mkdir()
    here.mkdir()
    own_modules.search_in({beside: "beside the space", here: "the working folder"})
    yield beside, here
    own_modules.search_in(known)


def test_a_module_that_is_nowhere_is_told_once_for_all_parts_with_where_was_looked(
    folders: tuple[Path, Path],
) -> None:
    beside, here = folders
    lines = {*part_problems("model", {}, use("nomod:net")), *part_problems("loss", {}, use("nomod:loss"))}
    assert lines == {
        f"there is no module 'nomod'. Looked in {beside} (beside the space), {here} (the working folder) and the "
        "installed packages. Put nomod.py into one of these folders, or install its package."
    }
    (here / "nopkg").mkdir()
    (here / "nopkg" / "__init__.py").touch()
    (line,) = part_problems("model", {}, use("nopkg.nets:net"))
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
    (line,) = part_problems("model", {}, use("spelt:modle"))
    told = f"{folders[0] / 'spelt.py'} has no attribute 'modle'. Did you mean 'model'?"
    assert line == f"model 'spelt:modle' cannot be imported: {told}"


def test_an_error_in_an_own_module_is_told_with_its_line(folders: tuple[Path, Path]) -> None:
    (folders[0] / "raising.py").write_text("x = 1\n\ny = z\n")
    (line,) = part_problems("model", {}, use("raising:net"))
    assert line == "model 'raising:net' cannot be imported: NameError: name 'z' is not defined (line 3)."


@pytest.mark.parametrize(("name", "other"), [("json", "Python's own module json"), ("click", "the installed ")])
def test_an_own_module_that_an_installed_one_hides_is_refused(
    folders: tuple[Path, Path], name: str, other: str
) -> None:
    (folders[1] / f"{name}.py").write_text("def net(): pass\n")
    (line,) = part_problems("model", {}, use(f"{name}:net"))
    assert line.startswith(f"model '{name}:net': the module {folders[1] / name}.py is hidden by {other}")
    assert line.endswith("; rename yours.")


def test_an_edited_module_and_that_of_another_project_are_imported_anew(folders: tuple[Path, Path]) -> None:
    known = dict(own_modules.OWN_FOLDERS)
    for value in range(3):
        (folders[0] / "edited.py").write_text("from edited_too import net\n")
        (folders[0] / "edited_too.py").write_text(f"def net(): return {value}\n")
        own_modules.search_in(known)
        assert build("model", {}, use("edited:net")) == value
    (folders[1] / "edited.py").write_text("def net(): return 'other'\n")
    own_modules.search_in({folders[1]: "the working folder"})
    assert build("model", {}, use("edited:net")) == "other"
    assert str(folders[0]) not in sys.path and not (folders[0] / "__pycache__").exists()


def test_own_folders_come_last_and_hide_nothing(folders: tuple[Path, Path]) -> None:
    assert sys.path[-2:] == [str(folder) for folder in folders]
    own_modules.search_in({})
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
    assert own_modules.own_sources(["unet", "pack.nets:net", "nowhere:f"]) == {
        path: beside / path
        for path in ("lone.py", "pack/__init__.py", "pack/blocks.py", "pack/inner/deep.py", "pack/nets.py")
    }
