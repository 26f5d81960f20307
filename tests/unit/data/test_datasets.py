"""A dataset is a name of the table or a folder; what is neither is named with the near name."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.image_folders import make_photos

from tuner.data.datasets import (
    DATASETS,
    add_split,
    check_layout,
    data_problems,
    is_path,
    open_data,
    swap_data,
)
from tuner.data.locate import find_folder
from tuner.errors import DataError
from tuner.recipe import Part, Recipe, use


def test_an_unknown_dataset_is_told_the_near_name() -> None:
    (line,) = data_problems(use("shaps"))
    assert line == (
        "no dataset or folder 'shaps'. Did you mean 'shapes'? "
        f"Known: {', '.join(sorted(DATASETS))}, or the path of a folder."
    )


def test_an_unknown_argument_is_told_the_near_name(photos: Path) -> None:
    for part in (Part("shapes", {"image_sise": 64}), Part(str(photos), {"image_sise": 64})):
        (line,) = data_problems(part)
        assert "takes no argument 'image_sise'. Did you mean 'image_size'?" in line


@pytest.mark.parametrize("val", [0, 1, 20, "0.2", None])
def test_a_part_to_hold_out_that_is_none_is_named_before_anything_is_opened(val: object, photos: Path) -> None:
    for name in ("shapes", str(photos)):
        (line,) = data_problems(Part(name, {"val": val}))
        assert f"val is {val!r}" in line and "between 0 and 1" in line


def test_an_unknown_way_to_divide_is_named_before_anything_is_opened(photos: Path) -> None:
    for name in ("cityscapes", str(photos)):
        (line,) = data_problems(Part(name, {"split": "exakt"}))
        assert line == "split is 'exakt'. Did you mean 'exact'? Known: exact, stable."


def test_a_layout_is_an_argument_of_folders_and_named_when_it_is_unknown(photos: Path) -> None:
    assert data_problems(use(str(photos), layout="masks")) == []
    (line,) = data_problems(use(str(photos), layout="mask"))
    assert line.startswith("layout is 'mask'. Did you mean 'masks'?")
    (line,) = data_problems(use("shapes", layout="masks"))
    assert "'shapes' takes no argument 'layout'" in line


def test_another_dataset_takes_the_layout_that_is_given(photos: Path) -> None:
    recipe = Recipe("binary", use("horses", layout="classes"), use("unet"), use("bce"), use("adam"), epochs=1)
    assert swap_data(recipe, "shapes", layout="").data == use("shapes")
    assert swap_data(recipe, str(photos), layout="masks").data == use(str(photos), layout="masks")
    with pytest.raises(DataError, match=r"--layout needs a folder, as in --data FOLDER; 'shapes' is"):
        check_layout(recipe, "shapes", "masks")
    with pytest.raises(DataError, match=r"reads its own folder with layout='classes'; say with --layout how to"):
        check_layout(recipe, str(photos), None)
    check_layout(recipe, str(photos), "masks"), check_layout(recipe, "shapes", None)


def test_the_split_of_a_study_is_an_argument_of_its_data_unless_that_says_it(photos: Path) -> None:
    for name in ("shapes", str(photos)):
        assert add_split(use(name, val=0.3), "exact") == use(name, val=0.3, split="exact")
        assert add_split(use(name), "stable") == use(name)  # the recipe of an old study stays the same text
        assert add_split(use(name, split="stable"), "exact") == use(name, split="stable")
    assert add_split(use("shapez"), "exact") == use("shapez")


def test_every_dataset_takes_the_same_arguments() -> None:
    part = {"image_size": 32, "val": 0.5, "split_seed": 3, "split": "exact"}
    assert [data_problems(Part(name, part)) for name in (*DATASETS, ".")] == [[]] * (len(DATASETS) + 1)


def test_a_folder_given_by_path_is_opened(photos: Path) -> None:
    source = open_data(Part(str(photos), {"val": 0.5}))
    assert source.where == str(photos) and len(source.items) == 12


def test_a_folder_beside_us_needs_no_slash(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    assert is_path("photos") and not is_path("other") and len(open_data(use("photos")).items) == 12


def test_the_table_comes_before_a_folder_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "shapes", 3)
    assert not is_path("shapes") and open_data(use("shapes")).where == "generated"
    assert is_path("./shapes") and len(open_data(use("./shapes")).items) == 3


def test_a_tilde_is_the_home(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(photos.parent))
    assert len(open_data(use("~/photos")).items) == 12


def test_a_file_and_an_empty_name_are_no_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos.zip").touch()
    with pytest.raises(DataError, match="is a file; a folder of images is needed"):
        open_data(use("photos.zip"))
    assert not is_path("")


def test_a_dataset_not_on_this_machine_says_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TUNER_DATA", f"{tmp_path / 'one'}:{tmp_path / 'two'}")
    with pytest.raises(DataError) as caught:
        open_data(use("weizmann_horse"))
    for said in (str(tmp_path / "one" / "weizmann_horse"), "data/weizmann_horse", "rgb/", "TUNER_DATA", "--data"):
        assert said in str(caught.value)


def test_long_folders_do_not_hide_how_to_get_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNER_DATA", ":".join(str(tmp_path / (letter * 200)) for letter in "abc"))
    with pytest.raises(DataError, match=r"It is on Kaggle as .* in TUNER_DATA, or use your own with --data"):
        open_data(use("weizmann_horse"))


def test_a_dataset_is_found_in_the_named_folders_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNER_DATA", f"{tmp_path / 'one'}:{tmp_path / 'two'}")
    make_photos(tmp_path / "data" / "weizmann_horse", 2, "rgb", "figure_ground")
    assert find_folder("weizmann_horse") == tmp_path / "data" / "weizmann_horse"
    make_photos(tmp_path / "two" / "weizmann_horse", 4, "rgb", "figure_ground")
    source = open_data(use("weizmann_horse", image_size=64))
    assert source.name == "weizmann_horse" and len(source.items) == 4
