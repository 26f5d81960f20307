"""The commands that are printed, from the end of a run to the card of its model, work as they are typed."""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import replace
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from helpers.made_studies import MADE_WITH, make_run
from optuna.trial import create_trial
from PIL import Image

import tuner
from tuner.artifacts.own_code import save_code
from tuner.cli import main
from tuner.cli.run import print_result
from tuner.goal import maximize
from tuner.paths import Home
from tuner.recipe import Recipe, use
from tuner.registry import own_modules
from tuner.study import queries
from tuner.study.info import StudyInfo
from tuner.study.study import join_study
from tuner.wording import repeat_options

MODEL = """from torch import nn


def net(channels, outputs):
    return nn.Sequential(nn.Conv2d(channels, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, outputs, 1))
"""


def record_study(recipe: Recipe, home: Home) -> queries.StudySummary:
    """Record a study with one finished trial of this recipe; return its state."""
    joined = join_study(home.make().database, StudyInfo("my study", "made", maximize("iou"), "shapes"))
    run = make_run(recipe, home.run(joined.info.name, joined.info.key, 0).folder)
    made = {**MADE_WITH, "code": save_code(recipe.own_names, run)}
    notes = {"recipe": recipe.to_json(), "result": {"best_epoch": 1}, "made_with": made}
    joined.study.add_trial(create_trial(value=0.5, user_attrs=notes))
    found = queries.read_summary(joined.engine, queries.find_study(joined.engine, None))
    joined.engine.dispose()
    return found


def type_command(line: str) -> str:
    program, *words = shlex.split(line)
    assert program == "tuner"
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, f"{line}\n{done.output}"
    return done.stdout


@pytest.mark.parametrize("own", [True, False], ids=["own code", "no own code"])
def test_every_command_from_the_run_to_the_card_works(
    own: bool, own_folder: Path, toy_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (own_folder / "printed_model.py").write_text(MODEL)
    recipe = replace(toy_recipe, model=use("printed_model:net")) if own else toy_recipe
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save("photo.jpg")
    with repeat_options(home="my home"):
        print_result(record_study(recipe, Home(Path("my home"))), "my home", None)
    own_modules.search_in({})  # as where the bundle is used
    (own_folder / "printed_model.py").unlink()

    (following,) = re.findall("^next: (.+)$", capsys.readouterr().out, flags=re.M)
    exported = type_command(following.replace("--export best", "--export 'my best'"))
    (use_it,) = re.findall("use it with: (.+)$", exported, flags=re.M)
    card = Path("my best/card.md").read_text(encoding="utf-8")
    (shown,) = re.findall("^    (tuner .+)$", card, flags=re.M)
    for command in (use_it.replace("IMAGE...", "photo.jpg"), shown):
        assert ("--trust" in command) == own
        assert "photo_mask.png" in type_command(command)
    names: dict[str, object] = {}
    exec(card.split("```python\n")[1].split("```")[0], names)
    assert ("trust=True" in card) == own and names["mask"].shape == (8, 8)  # type: ignore[attr-defined]


PLACEHOLDER = "X"  # stands for a value that is known when the program runs
CANDIDATES = ("3", "0.5", "params=3", "sqlite:///x.db")  # of them, the first that an option accepts is its value


def written_text(node: ast.AST) -> str:
    """Return the text of a string; each value in it becomes X."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(each.value) if isinstance(each, ast.Constant) else PLACEHOLDER for each in node.values)
    return str(node.value) if isinstance(node, ast.Constant) else ""


def find_commands(node: ast.AST) -> list[list[str]]:
    """Return the words of each command in a string or a call of write_command."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "write_command":
        words = [written_text(each) or PLACEHOLDER for each in node.args if not isinstance(each, ast.Starred)]
        for each in node.keywords:
            is_flag = isinstance(each.value, ast.Constant) and each.value.value is True
            value = [] if is_flag else [written_text(each.value) or PLACEHOLDER]
            words += [f"--{each.arg.replace('_', '-')}", *value] if each.arg else []
        return [[*words[0].split(), *words[1:]]]
    pattern = r"(?:^ *|: |`|\()tuner ([a-z][a-z-]*(?: [^;`\n)]*)?)"
    found = re.findall(pattern, written_text(node), flags=re.M)
    return [shlex.split(re.split(r" {2,}|&&|[|>]|[.,]$|\. ", text)[0]) for text in found]


def plausible(param: click.Parameter, command: click.Context) -> str:
    """Return a value that a parameter accepts."""
    if isinstance(param.type, click.Choice):
        return str(param.type.choices[0])
    for value in CANDIDATES:
        try:
            param.type_cast_value(command, (value,) if param.multiple or param.nargs != 1 else value)
            if param.callback is None or param.name != "limits" or "=" in value:
                return value if param.name != "storage" else CANDIDATES[-1]
        except click.BadParameter:
            continue
    raise AssertionError(f"no value for {param.name}")


def is_open(word: str) -> bool:
    """Return whether a value stands for others: X, N, IMAGE... or PHOTOS."""
    return word.rstrip(".").isupper() or PLACEHOLDER in word


def fill_in(words: list[str]) -> list[str]:
    """Return the words of a command with plausible values in place of those that stand for others."""
    command: click.Command = main
    for at, word in enumerate(words):
        if not isinstance(command, click.Group) or (found := command.commands.get(word)) is None:
            break
        command, rest = found, words[at + 1 :]
    assert command is not main, f"no command {words}"
    if isinstance(command, click.Group):  # tuner data [PATH]
        command = command.commands["show"]
    context = click.Context(command)
    params = command.get_params(context)
    arguments = [each for each in params if isinstance(each, click.Argument)]
    options = {name: each for each in params for name in (*each.opts, *each.secondary_opts)}
    filled, awaits = [], None
    for word in rest:
        if awaits is not None:
            filled.append(plausible(awaits, context) if is_open(word) else word)
            awaits = None
        elif word.startswith("--"):
            option = options.get(word.partition("=")[0])
            is_valued = isinstance(option, click.Option) and not option.is_flag and "=" not in word
            filled, awaits = [*filled, word], option if is_valued else None
        else:
            argument = arguments[0] if len(arguments) == 1 else arguments.pop(0) if arguments else None
            filled.append(plausible(argument, context) if argument and is_open(word) else word)
    command.make_context(str(command.name), [*filled], parent=click.Context(main))  # raises for what is wrong
    return filled


def find_docstrings(tree: ast.AST) -> set[int]:
    """Return the ids of the docstrings of a module that are not help texts."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    owners = (node for node in ast.walk(tree) if isinstance(node, kinds))
    owners = (node for node in owners if isinstance(node, ast.Module | ast.ClassDef) or not node.decorator_list)
    return {id(node.body[0].value) for node in owners if node.body and isinstance(node.body[0], ast.Expr)}


def test_every_command_that_the_program_writes_is_accepted_with_its_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    wrong, number = [], 0
    for path in sorted(Path(tuner.__file__).parent.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        skipped = find_docstrings(tree) | parts
        for node in ast.walk(tree):
            for words in find_commands(node) if id(node) not in skipped else []:
                number += 1
                try:
                    fill_in(words)
                except (click.ClickException, AssertionError) as error:
                    message = error.format_message() if isinstance(error, click.ClickException) else error
                    wrong.append(f"{path.name}:{getattr(node, 'lineno', 0)}: tuner {shlex.join(words)}: {message}")
    assert number > 80
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "line",
    ["show", "extend --study s", "extend --epochs 0", "best --expor x", "report --format gif", "stop a", "rum"],
)
def test_a_command_that_fails_when_it_is_typed_is_found(line: str) -> None:
    with pytest.raises((click.ClickException, AssertionError)):
        fill_in(line.split())
