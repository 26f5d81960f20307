"""One base test over every table: what each entry must say of itself; and over every dataset."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

from tuner.data.augment import AUGMENTATIONS
from tuner.data.datasets import DATASETS, GENERATED, open_data
from tuner.data.folder import folder
from tuner.data.locate import FOLDERS, how_to_get
from tuner.errors import DataError, PartError
from tuner.models import MODELS
from tuner.recipe import Part, use
from tuner.registry import PartTable, build, find_builder, part_problems, searchable_args
from tuner.train.losses import LOSSES
from tuner.train.optimizers import OPTIMIZERS
from tuner.train.schedules import SCHEDULES

SUPPLIED: dict[str, tuple[PartTable, list[str]]] = {  # what the program gives to the builders of each table
    "model": (MODELS, ["channels", "classes"]),
    "loss": (LOSSES, ["mode", "shares"]),
    "optimizer": (OPTIMIZERS, ["params"]),
    "schedule": (SCHEDULES, ["optimizer", "epochs"]),
    "augmentation": (AUGMENTATIONS, ["size"]),
    "dataset": (DATASETS, []),
}
ENTRIES = [(kind, name) for kind, (table, _) in SUPPLIED.items() for name in table]
every_entry = pytest.mark.parametrize(("kind", "name"), ENTRIES, ids=lambda text: text)
every_dataset = pytest.mark.parametrize("name", DATASETS)


@every_entry
def test_the_first_line_says_what_it_is(kind: str, name: str) -> None:
    first = (find_builder(kind, SUPPLIED[kind][0], name).__doc__ or "").partition("\n")[0]
    assert len(first) > 10 and first.endswith(".")


@every_entry
def test_positional_is_supplied_and_keyword_only_is_searchable(kind: str, name: str) -> None:
    table, supplied = SUPPLIED[kind]
    parameters = inspect.signature(find_builder(kind, table, name)).parameters.values()
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == supplied[: len(positional)], "it may take less than it is given, in the same order"
    assert all(p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) for p in parameters)


@every_entry
def test_every_argument_has_a_type_and_a_default(kind: str, name: str) -> None:
    for parameter in searchable_args(find_builder(kind, SUPPLIED[kind][0], name)).values():
        assert parameter.annotation is not parameter.empty, parameter.name
        assert parameter.default is not parameter.empty, parameter.name


@every_entry
def test_its_own_arguments_are_accepted(kind: str, name: str) -> None:
    table = SUPPLIED[kind][0]
    defaults = {key: p.default for key, p in searchable_args(find_builder(kind, table, name)).items()}
    assert part_problems(kind, table, Part(name, defaults)) == []


@every_entry
def test_an_unknown_argument_is_named_with_a_near_one(kind: str, name: str) -> None:
    table = SUPPLIED[kind][0]
    known = list(searchable_args(find_builder(kind, table, name)))
    wrong = f"{known[0]}x" if known else "speed"
    (line,) = part_problems(kind, table, Part(name, {wrong: 1}))
    assert f"'{name}' takes no argument '{wrong}'" in line
    assert all(f"Did you mean '{near}'?" in line for near in known[:1])
    assert "no arguments" in line or all(other in line for other in known)


@every_entry
def test_what_the_program_supplies_cannot_be_searched(kind: str, name: str) -> None:
    table, supplied = SUPPLIED[kind]
    args = dict.fromkeys(supplied, 1)
    assert len(part_problems(kind, table, Part(name, args))) == len(supplied)


@every_entry
def test_a_mistyped_name_is_told_the_near_one(kind: str, name: str) -> None:
    with pytest.raises(PartError, match=f"no {kind} '{name}z'.* Did you mean '"):
        build(kind, SUPPLIED[kind][0], Part(f"{name}z"))


@every_dataset
def test_every_dataset_takes_the_same_arguments(name: str) -> None:
    """So that --data swaps one for another under any space; a folder takes them too."""
    known = set(searchable_args(find_builder("dataset", DATASETS, name)))
    assert known == {"image_size", "val", "split_seed", "split"}
    assert known <= set(searchable_args(folder))


@every_dataset
def test_a_dataset_is_generated_or_says_where_to_put_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TUNER_DATA", str(tmp_path / "mine"))
    try:
        source = open_data(use(name, image_size=32))
    except DataError as error:
        place = tmp_path / "mine" / FOLDERS.get(name, name)
        assert how_to_get(name) in str(error) and str(place) in str(error) and name not in GENERATED
        return
    assert source.revision, "what has no files needs a revision, or its cache would outlive a change"
    assert len(source.split("train")) > len(source.split("val")) > 0


@pytest.mark.parametrize("name", GENERATED)
def test_generated_pictures_are_the_same_at_every_reading(name: str) -> None:
    source = open_data(use(name))
    for item in source.items[:3]:
        first, second = source.read(item), source.read(item)
        assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
