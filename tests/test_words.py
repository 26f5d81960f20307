"""The language of code and documentation: no odd English, and docstrings that begin with a verb."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuner.registry.listing import TABLES, list_parts

ROOT = Path(__file__).parent.parent
# After "there", such a phrase is fine. The brackets keep the pattern from matching itself.
ODD = re.compile(
    r"(?<![Tt]here )\b(?:is|are|was) [n]o "
    r"(?!longer|more|less|such|one|need|way|room|other|better|worse|point)[a-z]+"
    r"|\b[b]y heart\b|\btrials [b]egun\b|\bany number of' trials"
    r"|\bvs \#[0-9{]|\b[G]PU-minutes\b|\b[w]orker-minutes\b"
    r"|\b[w]hoever\b|\b[m]anieth\b|\b[s]uffered\b|\b[h]as often\b"
)
NOT_VERBS = re.compile(
    "an?|the|this|that|these|those|it|its|he|she|they|we|you|one|each|every|all|any|some|no|nothing|nobody|both|"
    "wh(at|o|om|ose|ere|en|y|ich|ether)|how|if|in|on|of|for|from|to|with|without|as|at|by|here|there|not|"
    "told|shown|found|held|taken|kept|given|made|drawn|written|known|said|seen|chosen|named|asked"
)


def written_files() -> list[Path]:
    """Return the Python and Markdown files of the project, without those that version 0.1 wrote."""
    folders = ("tuner", "tests", "docs", "benchmarks", "search_spaces", "studies")
    found = [*ROOT.glob("*.md"), *(path for folder in folders for path in (ROOT / folder).rglob("*"))]
    return sorted(path for path in found if path.suffix in (".py", ".md") and "golden" not in path.parts)


def public_docstrings(path: Path) -> Iterator[tuple[str, str]]:
    """Yield name and first line of the docstring of each public function, without properties: those are nouns."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        is_property = any("property" in ast.unparse(decorator) for decorator in node.decorator_list)
        if not is_property and (text := ast.get_docstring(node)):
            yield node.name, text.splitlines()[0]


@pytest.fixture(scope="module")
def part_descriptions() -> set[str]:
    """Return the first lines of the docstrings of parts, which are shown as their descriptions."""
    return {part.about for kind in TABLES for part in list_parts(kind)}


def begins_with_verb(text: str) -> bool:
    """Return whether the first word can be an imperative; generous, since verbs cannot be listed in full."""
    word = text.split()[0].lower()
    return re.fullmatch(r"[a-z-]+[,.;]?", word) is not None and not NOT_VERBS.fullmatch(word.rstrip(",.;"))


def test_no_odd_english() -> None:
    odd = [
        f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for path in written_files()
        for text in [path.read_text(encoding="utf-8")]
        for match in ODD.finditer(text)
    ]
    assert not odd, "reword: " + "\n".join(odd)


FOLDERS = sorted({path.parent for path in (ROOT / "tuner").rglob("*.py")})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_docstrings_of_functions_begin_with_a_verb(folder: Path, part_descriptions: set[str]) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} {name}: {line}"
        for path in sorted(folder.glob("*.py"))
        for name, line in public_docstrings(path)
        if not begins_with_verb(line) and line not in part_descriptions
    ]
    assert not wrong, "reword: " + "\n".join(wrong)
