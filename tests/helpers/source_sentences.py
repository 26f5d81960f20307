"""The texts that the report, the note of the dashboard and a model card can say, taken from the source.

A text is a string, an f-string with "{}" for what is filled in, or a text of a page's template. Each line and each
sentence of it counts by itself if it has three words, one of which may be filled in. No texts of a report are
docstrings, the log, messages of errors that commands print, and commands, which begin with "tuner".
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "tuner"
ERRORS = {"StudyError", "BundleError", "FilesError", "ArtifactNotFound"}  # what commands print, and end
FILLED = "{}"


def find_sentences() -> dict[str, str]:
    """Return each text that the report can say with the place of the source where it stands first."""
    found: dict[str, str] = {}
    others = (PACKAGE / "study" / "verdict.py", PACKAGE / "export" / "card.py")
    for path in (*sorted((PACKAGE / "report").glob("*.py")), *others):
        collect(found, path.name, python_texts(ast.parse(path.read_text(encoding="utf-8"))))
    for path in sorted((PACKAGE / "report" / "templates").glob("*.html")):
        collect(found, path.name, template_texts(path.read_text(encoding="utf-8")))
    return found


def collect(found: dict[str, str], file: str, texts: Iterator[str]) -> None:
    for text in texts:
        for line in re.split(r"\n|(?<=\.) ", text):
            if is_sentence(line):
                found.setdefault(line.strip(), file)


def is_sentence(line: str) -> bool:
    words = len(re.findall(r"[^\W\d_]+", line.replace(FILLED, " ")))
    is_long = words >= 2 and words + line.count(FILLED) >= 3
    return is_long and " " in line.strip() and not line.strip().startswith("tuner ")


def python_texts(node: ast.AST) -> Iterator[str]:
    """Yield the strings below a node, f-strings with "{}" for their values, which are looked through as well."""
    if is_no_text(node):
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    if isinstance(node, ast.JoinedStr):
        yield "".join(part.value if isinstance(part, ast.Constant) else FILLED for part in node.values)
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)):
            yield from python_texts(child)


def is_no_text(node: ast.AST) -> bool:
    """Return whether a node is a docstring, a message of an error of commands, or a line of the log."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    return called in ERRORS or called.startswith("log.")


def template_texts(template: str) -> Iterator[str]:
    """Yield the texts between the tags of a template, and those in its expressions."""
    template = re.sub(r"{#.*?#}|<style>.*?</style>|<script[^>]*>.*?</script>", "", template, flags=re.DOTALL)
    for code in re.findall(r"{[{%].*?[%}]}", template, flags=re.DOTALL):
        yield from re.findall(r'"([^"]*)"', code)
    plain = re.sub(r"\s*\n\s*", " ", re.sub(r"{{.*?}}", FILLED, template, flags=re.DOTALL))
    yield from re.split(r"{%.*?%}|<[^>]*>", plain)
