"""Every part of the five reports is reachable by name, and the page that says how tells the truth."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tuner.cli import main
from tuner.data.augment import AUGMENTATIONS
from tuner.data.datasets import DATASETS
from tuner.models import MODELS
from tuner.registry import KINDS, find_builder
from tuner.space.published import known_tables
from tuner.space.space import known_spaces
from tuner.tasks import TASKS
from tuner.train.losses import LOSSES
from tuner.train.optimizers import OPTIMIZERS, SCHEDULES

PAGE = Path(__file__).parent.parent / "docs" / "reports.md"
README = PAGE.parent.parent / "README.md"
IDS = [
    *(f"A{n}" for n in range(1, 11)),
    *(f"B{n}" for n in range(1, 9)),
    *(f"C{n}" for n in range(1, 9)),
    *(f"D{n}" for n in range(1, 7)),
    *(f"E{n}" for n in range(1, 12)),
]
TABLES = {
    "model": MODELS,
    "data": DATASETS,
    "loss": LOSSES,
    "losses": LOSSES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "augmentation": AUGMENTATIONS,
}
METRICS = {name for task in TASKS.values() for name in task.metrics}
NAMED = re.compile(r"(\w+) ((?:`\w+`(?:, )?)+)")  # "losses `bce`, `dice`"
COMMAND = re.compile(r"`tuner ([^`]+)`")


def rows() -> dict[str, tuple[str, str]]:
    """The names and the commands of each id on the page."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines()]
    return {row[0]: (row[2], row[3]) for row in cells if len(row) == 4 and re.fullmatch(r"[A-E]\d+", row[0])}


def test_every_id_stands_on_the_page_once() -> None:
    assert list(rows()) == IDS
    assert PAGE.read_text().count("\n| A") + PAGE.read_text().count("\n| B") >= 15


@pytest.mark.parametrize("id", IDS)
def test_every_name_of_an_id_can_be_found(id: str) -> None:
    names, commands = rows()[id]
    for kind, listed in NAMED.findall(names):
        for name in re.findall(r"`(\w+)`", listed):
            if kind in TABLES:
                assert callable(find_builder(kind, TABLES[kind], name))
            elif kind in ("metric", "metrics"):
                assert name in METRICS
            elif kind == "space":
                assert name in known_spaces()
            elif kind == "table":
                assert name in known_tables()
            else:
                assert kind in ("weights", "with") and name in ("imagenet", *known_spaces())
    assert COMMAND.findall(commands), "an id without a command"


@pytest.mark.parametrize("id", IDS)
def test_every_command_of_an_id_is_one(id: str) -> None:
    for text in COMMAND.findall(rows()[id][1]):
        name, *rest = text.split()
        params = main.commands[name].params
        options = {option for param in params for option in (*param.opts, *param.secondary_opts)}
        assert {word for word in rest if word.startswith("--")} <= options, text
        for option, known in (("--space", known_spaces()), ("--table", known_tables())):
            if option in rest:
                assert rest[rest.index(option) + 1] in known


def test_the_readme_leads_to_the_page() -> None:
    assert "docs/reports.md" in README.read_text()


def test_parts_lists_every_kind() -> None:
    assert {"models", "losses", "optimizers", "schedules", "datasets", "augmentations", "metrics"} <= set(KINDS)
