"""Published tables as files: what they may say, and every mistake told before anything runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from helpers.command_line import write_space

from tuner.cli import main
from tuner.errors import TableError
from tuner.space.published import find_table, known_tables, load_table, rank_values
from tuner.space.space import draw_recipes, load_space
from tuner.space.table_rows import draw_row_recipes
from tuner.study.trial_list import table_trials

HEAD = 'space = "tiny.py"\ndata = "shapes"\nmetric = "iou"\n'
BRANCH = '    smooth = trial.suggest_float("smooth", 0.1, 2.0) if loss == "dice" else 1.0\n'
ROW = '[[rows]]\nparams = { lr = 1e-3, loss = "bce" }\npublished = 0.5\n'


def table(folder: Path, text: str, name: str = "few") -> Any:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return load_table(str(path))


def row(params: str, published: str = "0.5") -> str:
    return f"[[rows]]\nparams = {{ {params} }}\npublished = {published}\n"


def test_metrics_have_their_split_and_rows_what_was_said_of_them(tmp_path: Path) -> None:
    text = HEAD + ROW + row('lr = 1, loss = "dice"', "{ train_iou = 0.6, test_dice = 1 }") + 'note = "by hand"\n'
    found = table(tmp_path, text)
    assert found.metric == "val_iou" and found.metrics == ("val_iou", "train_iou", "test_dice")
    assert found.rows[0].published == {"val_iou": 0.5}
    assert found.rows[1].published == {"train_iou": 0.6, "test_dice": 1.0} and found.rows[1].note == "by hand"
    assert found.space == str(tmp_path / "tiny.py") and found.space_name == "tiny" and found.places == []


def test_places_are_as_given_or_by_the_number(tmp_path: Path) -> None:
    given = "".join(f"[[rows]]\nparams = {{ lr = 1e-{n} }}\nplace = {p}\n" for n, p in ((2, 1), (3, 3), (4, 1)))
    assert table(tmp_path, HEAD + 'compare = "order"\n' + given).places == [1, 3, 1]
    losses = HEAD.replace("iou", "loss") + 'compare = "order"\n'
    assert table(tmp_path, losses + row("lr = 1e-2", "14.8") + row("lr = 1e-3", "12.8")).places == [2, 1]
    assert rank_values([0.5, None, 0.7, 0.5], "val_iou") == [2, 0, 1, 2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["no space", "no metric", "no rows"]),
        (HEAD, ["no rows"]),
        (HEAD + 'metrc = "iou"\n' + ROW, ["unknown key 'metrc'. Did you mean 'metric'?"]),
        (HEAD.replace('"tiny.py"', "7") + ROW, ["space is 7; text is needed"]),
        (HEAD + 'compare = "odrer"\n' + ROW, ["compare is 'odrer'. Did you mean 'order'?"]),
        (HEAD + "rows = 3\n", ["rows are written as [[rows]]"]),
        (HEAD + ROW + "pulished = 1\n", ["row 1: unknown key 'pulished'. Did you mean 'published'?"]),
        (HEAD + ROW.replace("0.5", '"high"'), ["row 1: published is 'high'; a number is needed"]),
        (HEAD + ROW.replace("0.5", "{ iou = true }"), ["row 1: iou is True; a number is needed"]),
        (HEAD + ROW.replace("0.5", "nan"), ["row 1: published is nan"]),
        (HEAD + ROW.replace("published = 0.5", ""), ["row 1: it has no published number"]),
        (HEAD + ROW.replace("params", "param"), ["row 1: unknown key 'param'", "row 1: it has no params"]),
        (HEAD + ROW + "place = 1\n", ['a place needs compare = "order"']),
        (HEAD + 'compare = "order"\n' + ROW + "place = 0\n", ["place is 0; a whole number of at least 1"]),
        (HEAD + ROW + ROW, ["row 2 has the parameters of row 1: lr=0.001, loss=bce"]),
        (HEAD + row("lr = 1, k = 2") + row("k = 2.0, lr = 1.0"), ["row 2 has the parameters of row 1"]),
        (HEAD + ROW + "published = 0.6\n", ["cannot be read", "line 7"]),
        ("\x00", ["cannot be read"]),
        ("x = " + "9" * 5000, ["cannot be read", "too many digits"]),
        ("x = " + "[" * 5000, ["cannot be read", "nested deeper than 100 levels"]),
        ("a." * 150 + "b = 1", ["cannot be read", "nested deeper than 100 levels"]),
        (HEAD + row("lr = 1" + "0" * 400), ["row 1: lr is 1000", "text, a number, true or false is needed"]),
        (HEAD + row("lr = 9223372036854775808"), ["row 1: lr is 9223372036854775808; text, a number"]),
        (HEAD + row("lr = 2020-01-01"), ["row 1: lr is 2020-01-01; text, a number, true or false is needed"]),
        (HEAD + row("lr = [1]"), ["row 1: lr is [1]; text"]),
        (HEAD + row("lr = nan"), ["row 1: lr is nan; text"]),
        (HEAD + row("lr = 1", "1" + "0" * 400), ["row 1: published is 1000"]),
        (HEAD + 'about = "a\\u0000b"\n' + ROW, ["the control character '\\x00'"]),
    ],
)
def test_every_mistake_of_form_is_told_at_once(tmp_path: Path, text: str, said: list[str]) -> None:
    with pytest.raises(TableError) as error:
        table(tmp_path, text)
    assert all(words in str(error.value) for words in [*said, "few.toml"])


@pytest.mark.parametrize("kind", ["FIFO", "folder", "device"])
def test_a_table_is_a_regular_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "few.toml"
    {"FIFO": lambda: os.mkfifo(path), "folder": path.mkdir, "device": lambda: path.symlink_to("/dev/zero")}[kind]()
    with pytest.raises(TableError, match=r"few\.toml"):
        load_table(str(path))


def test_a_broken_table_is_marked_in_the_list_and_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "studies"
    folder.mkdir()
    for name, text in {
        "digits": "x = " + "9" * 5000,
        "rowless": 'space = "tiny.py"\n',
        "fine": HEAD + ROW,
    }.items():
        (folder / f"{name}.toml").write_text(text)
    (folder / "latin.toml").write_bytes(b'about = "caf\xe9"')
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["table", "--json", "--home", str(tmp_path)])
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert done.exit_code == 0 and done.stderr == "" and rows["fine"]["rows"] == 1
    assert {name for name, row in rows.items() if "error" in row} == {"digits", "rowless", "latin"}
    assert "it has no metric" in rows["rowless"]["error"]
    shown = CliRunner().invoke(main, ["table", "--home", str(tmp_path)]).stdout
    assert "latin    " in shown and "latin.toml is not UTF-8 text (byte 12)." in shown


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ('lr = 1e-3, loss = "bec"', ["row 2: loss is 'bec', outside one of bce, dice. Did you mean 'bce'?"]),
        ('lr = "1e-3", loss = "bce"', ["row 2: lr is '1e-3', outside float 0.0001 to 0.01, log"]),
        ('lr = 0.5, loss = "bce"', ["row 2: lr is 0.5, outside float 0.0001 to 0.01, log"]),
        ('loss = "bce"', ["row 2: the parameter 'lr' is missing"]),
        ('lrr = 1e-3, loss = "bce"', ["unknown parameter 'lrr'. Did you mean 'lr'?", "'lr' is missing"]),
        ('lr = 1e-3, loss = "bce", k = 4', ["row 2: unknown parameter 'k'. The space has: loss, lr, smooth"]),
        ('lr = 1e-3, loss = "dice"', ["row 2: the parameter 'smooth' is missing"]),
        ('lr = 1e-3, loss = "bce", smooth = 1.0', ["'smooth' is not used with its other parameters"]),
        ('lr = 1e-3, loss = "dice", smooth = 3.0', ["row 2: smooth is 3.0, outside float 0.1 to 2"]),
    ],
)
def test_every_row_outside_its_space_is_told(tmp_path: Path, rows: str, said: list[str]) -> None:
    space = load_space(str(write_space(tmp_path, extra=BRANCH)))
    found = table(tmp_path, HEAD + ROW + row(rows) + row('lr = 9, loss = "bce"'))
    with pytest.raises(TableError) as error:
        draw_row_recipes(space, found, draw_recipes(space))
    assert all(words in str(error.value) for words in [*said, "row 3: lr is 9, outside"])
    assert "row 1:" not in str(error.value)


def test_a_metric_that_the_task_lacks_is_told(tmp_path: Path) -> None:
    space = load_space(str(write_space(tmp_path)))
    found = table(tmp_path, HEAD.replace("iou", "test_iuo") + ROW)
    with pytest.raises(TableError, match=r"no metric 'iuo' of the task\. Did you mean 'iou'\?"):
        draw_row_recipes(space, found, draw_recipes(space))


def test_each_row_comes_once_before_any_comes_twice(tmp_path: Path) -> None:
    found = table(tmp_path, HEAD + ROW + row('lr = 1e-3, loss = "dice"'))
    items = table_trials(found, 2)
    assert [(item.params["loss"], item.attrs["repeat"]) for item in items] == [
        ("bce", 1), ("dice", 1), ("bce", 2), ("dice", 2),
    ]  # fmt: skip
    assert len({item.key for item in items}) == 4


def test_the_users_own_tables_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "studies" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name in ("weizmann_unet", "mine/first"):
        Path("studies", f"{name}.toml").write_text(HEAD + ROW)
    assert known_tables()["weizmann_unet"] == Path("studies/weizmann_unet.toml")
    assert load_table("mine/first").name == "first" and "sport_vgg" in known_tables()
    for name in ("weizman_unet", "./gone.toml"):
        with pytest.raises(TableError, match=r"Did you mean 'weizmann_unet'\?|no table file gone\.toml"):
            find_table(name)


def test_a_table_without_printed_numbers_shows_ours_and_what_else_it_names(tmp_path: Path) -> None:
    path = tmp_path / "ours.toml"
    path.write_text(
        'space = "unet_k"\nmetric = "iou"\nalso = ["dice", "train_iou"]\ncompare = "none"\n'
        "[[rows]]\nparams = { k = 32 }\n[[rows]]\nparams = { k = 64 }\n"
    )
    table = load_table(str(path))
    assert table.metrics == ("val_iou", "val_dice", "train_iou") and table.places == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('also = "dice"', "also is 'dice'; a list of names of metrics is needed"),
        ("also = [3]", r"also is \[3\]; a list of names"),
        ('compare = "nothing"', "compare is 'nothing'.*Known: number, order, none"),
    ],
)
def test_what_else_is_wrong_with_such_a_table_is_told(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "ours.toml"
    path.write_text(
        f'space = "unet_k"\nmetric = "iou"\n{text}\n[[rows]]\nparams = {{ k = 32 }}\npublished = 0.5\n'
    )
    with pytest.raises(TableError, match=told):
        load_table(str(path))


def test_a_number_has_no_place_in_a_table_without_numbers(tmp_path: Path) -> None:
    path = tmp_path / "ours.toml"
    path.write_text(
        'space = "unet_k"\nmetric = "iou"\ncompare = "none"\n[[rows]]\nparams = { k = 32 }\npublished = 0.5\n'
    )
    with pytest.raises(TableError, match='row 1: it has a published number, in a table with compare = "none"'):
        load_table(str(path))
