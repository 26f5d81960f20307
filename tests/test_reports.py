"""Every part of the five reports is reachable by name, and the page that says how tells the truth."""

from __future__ import annotations

import re
from inspect import signature
from pathlib import Path

import pytest

from tuner.cli import main
from tuner.data.augment import AUGMENTATIONS
from tuner.data.datasets import DATASETS
from tuner.models import MODELS
from tuner.registry import find_builder
from tuner.registry.listing import KINDS
from tuner.space.published import known_tables
from tuner.space.space import known_spaces
from tuner.tasks import TASKS
from tuner.train.losses import LOSSES
from tuner.train.optimizers import OPTIMIZERS
from tuner.train.schedules import SCHEDULES

PAGE = Path(__file__).parent.parent / "docs" / "reports.md"
README = PAGE.parent.parent / "README.md"
IDS = [
    *(f"A{n}" for n in range(1, 11)),
    *(f"B{n}" for n in range(1, 9)),
    *(f"C{n}" for n in range(1, 9)),
    *(f"D{n}" for n in range(1, 8)),
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


def differences() -> dict[str, tuple[str, str]]:
    """What is equal and what differs for each id on the page."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines()]
    return {row[0]: (row[1], row[2]) for row in cells if len(row) == 3 and re.fullmatch(r"[A-E]\d+", row[0])}


def test_every_id_stands_on_the_page_once() -> None:
    assert list(rows()) == IDS
    assert PAGE.read_text().count("\n| A") + PAGE.read_text().count("\n| B") >= 15


def test_the_page_says_of_every_id_what_is_equal_and_what_differs() -> None:
    assert list(differences()) == IDS
    for id in IDS:
        assert PAGE.read_text().count(f"\n| {id} |") == 2
        assert all(len(cell.split()) >= 2 for cell in differences()[id]), f"{id} says nothing"


@pytest.mark.parametrize(
    ("id", "said", "table", "part", "arg", "default"),
    [
        ("A1", "`reduced` is 256", MODELS, "sport_vgg", "reduced", 256),
        ("A1", "`hidden` 512", MODELS, "sport_vgg", "hidden", 512),
        ("A5", "`focal` has gamma 2", LOSSES, "focal", "gamma", 2.0),
        ("A5", "`dice` adds 1", LOSSES, "dice", "smooth", 1.0),
        ("A6", "5 epochs", SCHEDULES, "plateau", "patience", 5),
        ("A6", "halve the rate", SCHEDULES, "plateau", "factor", 0.5),
        ("B1", "down to 16 channels", MODELS, "mobilenet_unet", "k", 16),
        ("C1", "64 and 4 levels", MODELS, "unet_transposed", "depth", 4),
        ("C1", "64 and 4 levels", MODELS, "unet_transposed", "k", 64),
        ("C2", "down to 16", MODELS, "resnet34_unet", "k", 16),
        ("C6", "crop of 0.8 to 1", AUGMENTATIONS, "pet", "scale", 0.8),
        ("C6", "rotation 30", AUGMENTATIONS, "pet", "rotate", 30.0),
        ("C6", "up to 0.05 of the range", AUGMENTATIONS, "pet", "noise", 0.05),
        ("D2", "b0", MODELS, "segformer", "size", "b0"),
        ("D4", "gamma 0.98", SCHEDULES, "exponential", "gamma", 0.98),
        ("E2", "64 x 64", MODELS, "pixel_frequency", "side", 64),
        ("E5", "of 32 to 128 channels", MODELS, "basic_cnn", "k", 32),
        ("E6", "width 64", MODELS, "unet", "k", 64),
        ("E7", "down to 16", MODELS, "resnet18_unet", "k", 16),
    ],
)
def test_the_numbers_that_the_page_says_are_those_of_the_code(
    id: str, said: str, table: dict[str, str], part: str, arg: str, default: object
) -> None:
    assert said in " ".join(differences()[id])
    assert signature(find_builder("part", table, part)).parameters[arg].default == default


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
            elif kind in ("table", "tables"):
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
