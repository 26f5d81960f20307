"""The documentation is tested: every command is there, every file it links exists, its examples run."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from helpers.fork_server import run_code
from optuna.trial import TrialState
from test_architecture import FOLDERS, folder_of, imports_of_ours, modules

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


@pytest.mark.parametrize("name", ["commands", "api"])
def test_generated_pages_are_up_to_date(name: str) -> None:
    path = str(ROOT / "docs" / f"make_{name}.py")
    code = f"import runpy; print(runpy.run_path({path!r})['page'](), end='')"  # tests leave options behind
    done = run_code(code)
    assert done.returncode == 0, done.stderr
    assert (ROOT / "docs" / f"{name}.md").read_text() == done.stdout, f"run: python docs/make_{name}.py"


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_option_has_help(name: str) -> None:
    found = [main.commands[name], *inner(main.commands[name])]
    options = [p for one in found for p in one.params if isinstance(p, click.Option)]
    assert all(option.help for option in options)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
        if "://" not in target:
            found = page.parent / target if target else page
            assert found.exists(), target
            assert not anchor or anchor in headings(found), f"{target}#{anchor}"


def headings(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    return {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", page.read_text(), flags=re.M)
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_in_the_docs_parses(page: Path) -> None:
    for line in re.findall(r"^\s*(?:\$ )?(?:\.venv/bin/)?tuner ((?!.*[|…]).+)$", page.read_text(), flags=re.M):
        words = re.split(r"\s{2,}|\s#|\s&&\s", line.strip())[0].split()
        if words[0] in main.commands:
            command = main.commands[words[0]]
            params = [param for one in (command, *inner(command)) for param in one.params]
            known = {option for param in params for option in (*param.opts, *param.secondary_opts)}
            assert {w for w in words if w.startswith("--")} <= known | {"--help"}, line


def inner(command: click.Command) -> list[click.Command]:
    """The commands of a command: `tuner data get`."""
    return list(getattr(command, "commands", {}).values())


DESIGN = (ROOT / "docs" / "design.md").read_text()
MOST_TERMS = 25


def diagram(kind: str) -> str:
    """Return the Mermaid diagram of a kind in the design page."""
    (found,) = re.findall(rf"```mermaid\n{kind}\b.*\n((?:.*\n)*?)```", DESIGN)
    return found


def folder_imports() -> dict[str, set[str]]:
    """Return which folders each folder imports from; "tuner" stands for the modules directly in it."""
    found: dict[str, set[str]] = {folder or "tuner": set() for folder in FOLDERS}
    for name, path in modules().items():
        folder = folder_of(name) or "tuner"
        found[folder] |= {folder_of(other) or "tuner" for other in imports_of_ours(path)} - {folder}
    return found


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    return set().union(*({other} | reachable(graph, other) for other in graph[start]))


def test_architecture_graph_shows_the_imports_between_folders() -> None:
    """All of them, less those that follow from a chain of arrows."""
    graph = folder_imports()
    wanted = [
        (folder, other)
        for folder in graph
        for other in graph
        if other in graph[folder] and not any(other in reachable(graph, between) for between in graph[folder])
    ]
    drawn = re.findall(r"^ +(\w+) --> (\w+)$", diagram("graph"), flags=re.M)
    assert sorted(drawn) == sorted(wanted), "\n".join(f"    {a} --> {b}" for a, b in wanted)
    assert {name for arrow in drawn for name in arrow} == set(graph)


def test_architecture_table_lists_the_modules_in_the_order_of_folders() -> None:
    rows = re.findall(r"^\| `tuner/(\w*)/?` \| .+ \| (.+) \|$", DESIGN, flags=re.M)
    assert [folder for folder, _ in rows] == list(FOLDERS)
    for folder, listed in rows:
        inside = {name for name in modules() if name not in FOLDERS and folder_of(name) == folder}
        names = sorted({name.split(".")[1 if folder else 0] for name in inside})
        assert listed.split(", ") == names, f"{folder}: {', '.join(names)}"


def test_state_diagram_uses_the_states_of_optuna() -> None:
    arrows = re.findall(r"^ +(\S+) --> (\S+?)(?::.*)?$", diagram("stateDiagram-v2"), flags=re.M)
    assert {state for arrow in arrows for state in arrow} - {"[*]"} == {state.name for state in TrialState}


def test_glossary_has_each_term_once() -> None:
    section = DESIGN.split("## Glossary\n")[1].split("\n## ")[0]
    terms = re.findall(r"^- \*\*(.+?)\*\*:", section, flags=re.M)
    assert len(terms) == section.count("**") / 2 == len(set(terms)) <= MOST_TERMS


def test_the_error_tree_is_drawn_whole() -> None:
    import tuner.errors

    def names(kind: type) -> set[str]:
        return {kind.__name__}.union(*map(names, kind.__subclasses__()))

    drawn = tuner.errors.__doc__ or ""
    assert all(name in drawn for name in names(TunerError))


def test_a_mistyped_command_gets_the_near_name() -> None:
    shown = CliRunner().invoke(main, ["preditc"])
    assert shown.exit_code == 2 and "Did you mean 'predict'?" in shown.output
