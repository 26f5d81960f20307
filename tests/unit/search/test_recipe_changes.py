"""A study whose space makes other recipes than before is not continued, unless the user says so."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.command_line import home_url, write_space
from helpers.optuna_revisions import prepare_file

from tuner.api.function_space import write_function_space
from tuner.errors import SpaceChanged
from tuner.goal import maximize
from tuner.paths import Home
from tuner.recipe import Recipe, use
from tuner.search.recipe_changes import check_same_recipes
from tuner.search.run import (
    RunOptions,
    RunRequest,
    StudySetup,
    check_request,
    join_requested_study,
    open_space_process,
    settle_study,
)
from tuner.space.child import SpaceProcess
from tuner.space.fixed_points import RecipeSample, describe_changes, differing, flatten_recipe
from tuner.study.optuna_tables import LONGEST_ATTR as LONGEST
from tuner.study.recipe_samples import StoredSample, read_mixed, read_samples
from tuner.study.study import JoinedStudy, join_study


@contextmanager
def requested(folder: Path, **given: Any) -> Iterator[tuple[RunRequest, SpaceProcess, StudySetup]]:
    """A checked request for the space tiny.py of the folder, and the process of the space."""
    (folder / "tuner.db").exists() or prepare_file(folder / "tuner.db")
    plain: dict[str, Any] = {"space": str(folder / "tiny.py"), "data": None, "trials": None, "study": None}
    options = RunOptions(home_url(folder), Home(folder))
    request = RunRequest(**{**plain, "options": options, "seed": 0, "rehearse": False, **given})
    with open_space_process(request) as process:
        setup = settle_study(check_request(request, process), request.options.url)
        yield request, process, setup


def begin(folder: Path, **given: Any) -> JoinedStudy:
    """Join a study as `tuner run` does, without its data."""
    with requested(folder, **given) as (request, process, setup):
        check_same_recipes(setup.info, request.options.url, process, setup.mix)
        joined = join_requested_study(setup, request, process)
        joined.engine.dispose()
        return joined


def refusal(folder: Path, **given: Any) -> str:
    with pytest.raises(SpaceChanged) as told:
        begin(folder, **given)
    return str(told.value)


def mixed(joined: JoinedStudy) -> list[str]:
    with joined.engine.connect() as db:
        return read_mixed(db, joined.id)


def test_other_epochs_are_refused_and_named_until_the_user_decides(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("tuner"), "propagate", True)
    write_space(tmp_path, epochs=5)
    first = begin(tmp_path)
    assert begin(tmp_path).id == first.id and mixed(first) == []
    write_space(tmp_path, epochs=2)
    said = refusal(tmp_path)
    assert "other recipes than those of study 'tiny'" in said and "\n  - epochs: from 5 to 2\n" in said
    assert "--study NEWNAME" in said and "--mix" in said
    assert begin(tmp_path, study="anew").id != first.id
    first.study.enqueue_trial({"lr": 1e-3})
    assert begin(tmp_path, mix=True).id == first.id
    told = "from trial 1 on with other recipes (epochs: from 5 to 2)"
    assert mixed(first) == [told] and f"study 'tiny' goes on {told}" in caplog.text
    assert begin(tmp_path, mix=True).id == first.id  # decided once
    assert mixed(first) == [told]
    write_space(tmp_path, epochs=5)  # on a host with the old code
    assert begin(tmp_path).id == first.id
    first.engine.dispose()


def test_what_is_no_part_of_the_recipes_may_change(tmp_path: Path) -> None:
    space = write_space(tmp_path)
    first = begin(tmp_path)
    write_space(tmp_path, low=1e-5, high=0.1, extra="    wide = 4  # a comment\n", model='use("unet", k=wide)')
    space.write_text(space.read_text().replace("Tiny:", "Very tiny:"))
    assert begin(tmp_path).id == first.id


@pytest.mark.slow
def test_a_field_that_varies_by_itself_is_not_compared(tmp_path: Path) -> None:
    write_space(tmp_path, epochs="time", extra="    time = __import__('time').time_ns() % 1000 + 1\n")
    varied = begin(tmp_path)
    assert begin(tmp_path).id == varied.id


@pytest.mark.slow
def test_a_branch_that_few_recipes_take_is_compared_too(tmp_path: Path) -> None:
    rare = '    epochs = {} if loss == "dice" and lr > 3e-3 else 3\n'
    write_space(tmp_path, epochs="epochs", extra=rare.format(4))
    begin(tmp_path)
    write_space(tmp_path, epochs="epochs", extra=rare.format(6))
    line = next(line for line in refusal(tmp_path).splitlines() if "epochs" in line)
    assert line.startswith("  - epochs: from 4 to 6, in ") and line.endswith(" of 64 recipes")


def test_a_study_without_stored_recipes_is_continued(tmp_path: Path) -> None:
    write_space(tmp_path)
    with requested(tmp_path) as (request, _, setup):
        joined = join_study(request.options.url, setup.info)
    write_space(tmp_path, epochs=9)
    assert begin(tmp_path).id == joined.id
    joined.engine.dispose()


@pytest.mark.slow
def test_a_study_that_another_host_created_meanwhile_is_compared(tmp_path: Path) -> None:
    write_space(tmp_path, epochs=5)
    with requested(tmp_path) as (request, process, setup):
        first = begin(tmp_path)
        same = join_requested_study(setup, request, process)
        assert same.id == first.id
        same.engine.dispose()
    write_space(tmp_path, epochs=2)
    with requested(tmp_path, study="raced") as (request, process, setup):
        write_space(tmp_path, epochs=5)
        begin(tmp_path, study="raced")
        with pytest.raises(SpaceChanged, match="epochs: from 5 to 2"):
            join_requested_study(setup, request, process)


@pytest.mark.parametrize(
    ("given", "now", "says"),
    [
        ({"rehearse": True}, {"epochs": 4}, ""),  # both are two epochs at toy size
        pytest.param({"rehearse": True}, {"batch": 4}, "batch_size: from 8 to 4", marks=pytest.mark.slow),
        pytest.param({"shorten": 2}, {"epochs": 8}, "epochs: from 2 to 4", marks=pytest.mark.slow),
    ],
)
def test_recipes_are_compared_in_the_size_in_which_they_are_trained(
    tmp_path: Path, given: dict[str, Any], now: dict[str, int], says: str
) -> None:
    write_space(tmp_path, epochs=3)
    first = begin(tmp_path, **given)
    write_space(tmp_path, **{"epochs": 3, **now})  # type: ignore[arg-type]
    if says:
        assert says in refusal(tmp_path, **given)
    else:
        assert begin(tmp_path, **given).id == first.id


@pytest.mark.slow
def test_the_rows_of_a_table_are_its_points(tmp_path: Path) -> None:
    space, table = write_space(tmp_path, epochs=5), tmp_path / "t.toml"
    row = '[[rows]]\nparams = {{ lr = {lr}, loss = "bce" }}\nplace = {place}\n'
    head = f'space = "{space}"\nmetric = "iou"\ncompare = "order"\n'
    rows = [row.format(lr=lr, place=place) for place, lr in enumerate((1e-3, 2e-3), start=1)]
    table.write_text(head + "".join(rows))
    first = begin(tmp_path, space=None, table=str(table))
    table.write_text(head + "".join([*rows, row.format(lr=5e-3, place=3)]))
    assert begin(tmp_path, space=None, table=str(table)).id == first.id
    write_space(tmp_path, epochs=2)
    assert "epochs: from 5 to 2" in refusal(tmp_path, space=None, table=str(table))


EPOCHS = 5


def of_function(trial: Any) -> Recipe:
    lr = trial.suggest_float("lr", 1e-4, 1e-2, log=True)
    data = use("shapes", image_size=32)
    return Recipe("binary", data, use("unet", k=4), use("bce"), use("adam", lr=lr), epochs=EPOCHS)


def test_a_function_is_compared_with_the_constants_that_it_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def space() -> str:
        return str(write_function_space(of_function, maximize("iou"), Home(tmp_path).make()))

    first = begin(tmp_path, space=space())
    assert begin(tmp_path, space=space()).id == first.id
    monkeypatch.setitem(of_function.__globals__, "EPOCHS", 2)
    assert "epochs: from 5 to 2" in refusal(tmp_path, space=space())


# --- fields ---

ONE = {"epochs": 5, "model": "unet", "model.k": 4, "optimizer.lr": 0.1, "stage 1.frozen": []}


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({}, []),
        ({"optimizer.lr": 0.1 + 1e-17}, []),  # another host's last digit
        ({"optimizer.lr": 0.2, "epochs": 6}, ["epochs", "optimizer.lr"]),
        ({"model": "fcn", "model.k": 9}, ["model"]),
        ({"model.dropout": 0.5}, ["model.dropout"]),
        ({"precision": "auto"}, []),  # the default, which an earlier version did not store
        ({"precision": "fp32"}, ["precision"]),
        ({"suggest()": "ValueError"}, ["suggest()"]),
    ],
)
def test_fields_that_differ(changed: dict[str, Any], names: list[str]) -> None:
    assert list(differing(ONE, {**ONE, **changed})) == names


def test_data_and_folders_are_no_part_of_a_recipe() -> None:
    def fields(data: str, folder: str, size: int = 32) -> dict[str, Any]:
        read = use(data, folder=folder, image_size=size)
        weights = use(f"{folder}/start.safetensors")
        recipe = Recipe("binary", read, use("unet"), use("bce"), use("adam"), epochs=2, weights=weights)
        return dict(flatten_recipe(recipe.to_json()))

    assert fields("mine:read", "/a/photos") == fields("shapes", "/b/photos")
    assert list(differing(fields("mine:read", "/a"), fields("mine:read", "/b", 64))) == ["data.image_size"]


def test_changes_are_said_with_both_values() -> None:
    def sample(*recipes: dict[str, Any]) -> RecipeSample:
        return RecipeSample(tuple({"at": at} for at in range(len(recipes))), recipes)

    before = sample({**ONE, "optimizer.lr": 0.1}, {**ONE, "optimizer.lr": 0.2})
    after = sample({"suggest()": "ValueError"}, {**ONE, "optimizer.lr": 0.4, "model.dropout": 0.5})
    assert describe_changes(before, after) == [
        "suggest(): from a recipe to ValueError, in 1 of 2 recipes",
        "optimizer.lr: from 0.2 to 0.4, in 1 of 2 recipes",
        "model.dropout: from absent to 0.5, in 1 of 2 recipes",
    ]
    doubled = sample(*({**recipe, "optimizer.lr": 2 * recipe["optimizer.lr"]} for recipe in before.recipes))
    assert describe_changes(before, doubled) == ["optimizer.lr: such as from 0.1 to 0.2"]


def test_a_sample_fits_a_column_of_every_database() -> None:
    import random

    wide = tuple({f"parameter {at}": random.random() for at in range(400)} for _ in range(64))
    stored = StoredSample(RecipeSample(wide, wide)).to_json()
    assert len(str(stored)) < LONGEST
    kept = StoredSample.from_json(stored).sample
    assert 0 < len(kept.points) < 64 and kept.points == kept.recipes == wide[: len(kept.points)]


def test_samples_are_read_in_their_order(tmp_path: Path) -> None:
    write_space(tmp_path)
    joined = begin(tmp_path)
    with joined.engine.connect() as db:
        (only,) = read_samples(db, joined.id)
    assert len(only.sample.points) == 64 and only.sample.recipes[0]["epochs"] == 3
    assert not {"seed", "classes", "version", "data"} & only.sample.recipes[0].keys()
    assert replace(only, since=3, changes=("x",)).since == 3
    joined.engine.dispose()
