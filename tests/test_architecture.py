"""The house keeps its shape: imports point one way, and what must stay light stays light."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

from tuner.study.tables import epoch_table

PACKAGE = Path(__file__).parent.parent / "tuner"

# A folder may import only from folders that stand above it here. docs/design.md has the same list.
FOLDERS = (
    "",  # the modules that lie flat in tuner/
    "registry",
    "artifacts",
    "data",
    "models",
    "train",
    "space",
    "plots",
    "study",
    "fleet",
    "report",
    "export",
    "search",
    "web",
    "cli",
    "api",
)
MOST_FLAT = 8
LIGHT = (
    ["--help"],
    ["spaces"],
    ["table"],
    ["table", "weizmann_unet"],
    ["status"],
    ["decisions"],
    ["workers"],
    ["budget"],
    ["stop"],
    ["pause"],
    ["resume"],
    ["best"],
    ["best", "--export", "out"],
    ["best", "--trial", "0"],
    ["trials"],
    ["show", "0"],
)


@cache
def modules() -> dict[str, Path]:
    """Every module by its name below `tuner`."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(p for p in parts if p != "__init__")] = path
    return found


@cache
def imported(path: Path) -> set[str]:
    """Everything a file imports, inside functions too; what is for type checkers only is left out."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imports_of_ours(path: Path) -> set[str]:
    return {name.removeprefix("tuner.") for name in imported(path) if name.startswith("tuner.")} & set(modules())


def folder_of(module: str) -> str:
    return module.partition(".")[0] if (PACKAGE / module.partition(".")[0]).is_dir() else ""


def test_folders_are_those_of_the_design() -> None:
    assert {folder_of(name) for name in modules()} == set(FOLDERS)
    flat = [name for name in modules() if name and folder_of(name) == ""]
    assert len(flat) <= MOST_FLAT, flat


def test_a_folder_imports_only_from_folders_above_it() -> None:
    wrong = [
        f"{name} imports {found}"
        for name, path in sorted(modules().items())
        for found in sorted(imports_of_ours(path))
        if FOLDERS.index(folder_of(found)) > FOLDERS.index(folder_of(name))
    ]
    assert not wrong


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        name: imports_of_ours(path) - {name} for name, path in modules().items() if path.name != "__init__.py"
    }
    TopologicalSorter({name: found & set(graph) for name, found in graph.items()}).prepare()


NOT_MODULES = {"tuner.db", "tuner.example", "tuner.example.org", "tuner.example:443"}


def references(text: str) -> set[str]:
    """Module paths in quotes, such as "tuner.train.losses:bce", and file paths such as tuner/study/claims.py."""
    quoted = re.findall(r"""["'`](tuner(?:\.[a-z_]+)+(?::\w+)?)["'`]""", text)
    files = re.findall(r"\btuner/[a-z_/]+\.py\b", text)
    return ({*quoted} - NOT_MODULES) | {file for file in files if "/shipped/" not in file}


def points_at_something(reference: str) -> bool:
    if reference.endswith(".py"):
        return (PACKAGE.parent / reference).is_file()
    module, _, name = reference.partition(":")
    while module != "tuner" and module.removeprefix("tuner.") not in modules():
        module, _, name = module.rpartition(".")
    return not name or hasattr(import_module(module), name)


@pytest.mark.parametrize("folder", ["tuner", "tests", "benchmarks", "docs", "search_spaces", "studies"])
def test_strings_that_name_a_module_point_at_one(folder: str) -> None:
    wrong = [
        f"{path.relative_to(PACKAGE.parent)}: {reference}"
        for path in sorted((PACKAGE.parent / folder).rglob("*"))
        if path.suffix in (".py", ".md", ".toml") and path.name not in ("deprecated.py", "test_deprecated.py")
        for reference in sorted(references(path.read_text()))
        if not points_at_something(reference)
    ]
    assert not wrong


def test_no_file_imports_both_optuna_and_torch() -> None:
    tops = {name: {found.split(".")[0] for found in imported(path)} for name, path in modules().items()}
    assert not [name for name, found in tops.items() if {"optuna", "torch"} <= found]


def test_no_file_is_longer_than_400_lines() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert not {name: length for name, length in lengths.items() if length > 400}


TYPE_ALL = """
import sys

from tuner.cli import main

for command in COMMANDS:
    main(command, prog_name="tuner", standalone_mode=False)
    if heavy := {"torch", "optuna", "albumentations", "cv2", "numpy", "matplotlib"} & set(sys.modules):
        sys.exit(f"{command} loads {sorted(heavy)}")
"""


def test_light_commands_never_load_torch(tmp_path: Path) -> None:
    make_study(tmp_path)
    code = TYPE_ALL.replace("COMMANDS", repr(LIGHT))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def make_study(folder: Path) -> None:
    """A study with one finished trial and its weights, without training it."""
    from optuna.trial import create_trial

    from tuner.goal import maximize
    from tuner.paths import Home
    from tuner.recipe import Recipe, use
    from tuner.study.info import StudyInfo
    from tuner.study.study import join_study

    home = Home(folder / "runs").make()
    joined = join_study(home.database, StudyInfo("unet_k", "unet_k", maximize("iou"), "shapes"))
    recipe = Recipe("binary", use("shapes"), use("unet"), use("bce"), use("adam"), epochs=1)
    row = {"epoch": 1, "value": 0.5, "seconds": 1, "images_per_second": 1, "peak_memory": 1, "lr": 1}
    notes = {"recipe": recipe.to_json(), "result": {"best_epoch": 1}, "made_with": {}}
    joined.study.add_trial(create_trial(value=0.5, user_attrs=notes))
    trial_id = joined.study.trials[0]._trial_id
    with joined.engine.begin() as db:
        db.execute(epoch_table.insert().values(trial_id=trial_id, metrics={"val_iou": 0.5, "val_loss": 1}, **row))
    joined.engine.dispose()
    run = home.run("unet_k", joined.info.key, 0).make()
    for file in (run.best, *run.lazy_pictures):  # a picture that is not there is drawn, which takes what draws
        file.write_bytes(file.name.encode())


def test_public_names_are_there() -> None:
    import tuner

    assert all(getattr(tuner, name) for name in tuner.__all__)


def test_every_test_file_has_a_name_of_its_own() -> None:
    """Files with the same name cannot be collected together, because the tests are not packages."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


PRIVATE_OWNERS = {"optuna": {"study.optuna_compat"}, "optuna_dashboard": {"web.dashboard_compat"}}
# Private attributes of Optuna's objects; names that begin with one underscore and are none of our own.
PRIVATE_ATTRIBUTES = re.compile(
    r"\._(trial_id|study_id|storage|params|fixed_params|get_trials|cached_storage|backend|contains|"
    r"parzen_estimator_parameters|random_sampler|rng|studies)\b"
)


def private_uses(path: Path) -> Iterator[str]:
    """Yield the private modules and names of Optuna and its dashboard that a file uses."""
    text = path.read_text()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PRIVATE_OWNERS:
            parts = [*node.module.split("."), *(alias.name for alias in node.names)]
            yield from (f"{node.module}: {part}" for part in parts if part.startswith("_"))
    yield from (found[0] for found in PRIVATE_ATTRIBUTES.finditer(text))


def test_private_names_of_optuna_are_in_the_files_made_for_them() -> None:
    others = modules().keys() - set().union(*PRIVATE_OWNERS.values())
    assert not [(name, found) for name in sorted(others) for found in private_uses(modules()[name])]


# Modules that read files without the guards of tuner.paths: of the system, of the package, or written by tuner.
OWN_FILES = {
    *("study.heartbeat", "train.memory", "train.precision"),  # /proc, and notes of the memory that training takes
    *("report.html", "web.base_path"),  # templates, and the files of optuna-dashboard
    "registry.packages",  # the metadata of installed packages
    *("artifacts.optuna_store", "artifacts.snapshots", "artifacts.store", "search.trial_pictures"),
    *("data.cache", "data.survey", "train.details"),
}
UNGUARDED = re.compile(
    r"\.expanduser\(|\.read_(text|bytes)\(|\b(json|tomllib)\.load\(|(?<![\w.])open\(|\.open\((\)|\"r|encoding=)"
)


def test_files_of_users_are_read_through_the_guards() -> None:
    """A FIFO, a device, a file of gigabytes or `~nobody` is one line wherever a user may name a file."""
    texts = {name: modules()[name].read_text() for name in sorted(modules().keys() - OWN_FILES - {"paths"})}
    assert not [(name, found[0]) for name, text in texts.items() for found in UNGUARDED.finditer(text)]
