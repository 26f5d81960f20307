"""The documentation is tested: every command is there, every file it links exists, its examples run."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tuner.cli import main
from tuner.errors import TunerError

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_has_help(name: str) -> None:
    shown = CliRunner().invoke(main, [name, "--help"])
    assert shown.exit_code == 0 and len((main.commands[name].help or "").split()) > 5


def test_the_page_of_commands_is_what_help_says() -> None:
    page = runpy.run_path(str(ROOT / "docs" / "make_commands.py"))["page"]
    assert (ROOT / "docs" / "commands.md").read_text() == page(), "run: python docs/make_commands.py"


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_option_has_help(name: str) -> None:
    found = [main.commands[name], *inner(main.commands[name])]
    options = [p for one in found for p in one.params if isinstance(p, click.Option)]
    assert all(option.help for option in options)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_in_the_docs_parses(page: Path) -> None:
    for line in re.findall(r"^\s*(?:\$ )?(?:\.venv/bin/)?tuner ((?!.*[|…]).+)$", page.read_text(), flags=re.M):
        words = re.split(r"\s{2,}|\s#|\s&&\s", line.strip())[0].split()
        if words[0] in main.commands:
            command = main.commands[words[0]]
            known = {opt for one in (command, *inner(command)) for p in one.params for opt in p.opts}
            assert {w for w in words if w.startswith("--")} <= known | {"--help"}, line


def inner(command: click.Command) -> list[click.Command]:
    """The commands of a command: `tuner data get`."""
    return list(getattr(command, "commands", {}).values())


def test_the_error_tree_is_drawn_whole() -> None:
    import tuner.errors

    def names(kind: type) -> set[str]:
        return {kind.__name__}.union(*map(names, kind.__subclasses__()))

    drawn = tuner.errors.__doc__ or ""
    assert all(name in drawn for name in names(TunerError))


def test_a_mistyped_command_gets_the_near_name() -> None:
    shown = CliRunner().invoke(main, ["preditc"])
    assert shown.exit_code == 2 and "Did you mean 'predict'?" in shown.output
