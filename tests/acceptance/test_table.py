"""`tuner run --table`, `tuner table` and `tuner extend` as a user types them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from helpers.command_line import epochs_of, glance, home_url, opened, states, write_space

from tuner.cli import main
from tuner.search import run as launch
from tuner.study import queries, trial_queries

pytestmark = pytest.mark.usefixtures("forked_workers")

TABLE = """
about = "Two losses, tried by hand"
space = "../tiny.py"
data = "shapes"
metric = "iou"
where = "Table 9"

[[rows]]
params = { lr = 1e-3, loss = "bce" }
published = 0.5

[[rows]]
params = { lr = 1e-3, loss = "dice" }
published = { iou = 0.4, train_loss = 0.7 }
"""
FLAKY = """
from pathlib import Path
from torch import nn


def net(channels, classes, *, loss="bce"):
    return Net(channels, classes, 3, padding=1)


class Net(nn.Conv2d):
    def forward(self, batch):
        return super().forward(batch) * (1.0 if Path({mended!r}).exists() else float("nan"))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: a space, a table of it, and a model that fails for one of its rows until it is mended."""
    place = tmp_path_factory.mktemp("tables")
    (place / "studies").mkdir()
    (place / "studies" / "few.toml").write_text(TABLE)
    (place / "flaky.py").write_text(FLAKY.format(mended=str(place / "mended")))
    write_space(place, epochs=2, model='use("flaky:net") if loss == "dice" else use("unet", k=4)')
    return place


def call(folder: Path, *args: str | Path) -> Result:
    """The command line in this process, which has torch loaded already; workers are processes of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.delenv("TUNER_STORAGE", raising=False)
        return CliRunner().invoke(main, [str(arg) for arg in args])


def table(folder: Path, *args: str) -> dict[str, Any]:
    return json.loads(call(folder, "table", "few", "--json", *args).stdout)


def test_a_table_is_run_row_by_row_and_set_beside_the_published_numbers(folder: Path) -> None:
    url = home_url(folder / "runs")
    before = table(folder)
    assert [row["state"] for row in before["rows"]] == ["not run yet"] * 2 and before["study"] is None

    first = call(folder, "run", "--table", "few")
    assert first.exit_code == 0, first.stderr
    assert (
        "1 failed; retry with: tuner run --table few\n" in first.stdout
        and "next: tuner table few\n" in first.stdout
    )
    assert states(url) == {0: "COMPLETE", 1: "FAIL"} and epochs_of(url, 0) == [1, 2]
    assert [row["state"] for row in table(folder)["rows"]] == ["done", "failed"]
    assert table(folder)["rows"][1]["ours"] == {"val_iou": None, "train_loss": None}

    (folder / "mended").touch()
    second = call(folder, "run", "--table", "few", "--seeds", "2")
    assert second.exit_code == 0, second.stderr
    assert glance(url, "few").states == {"COMPLETE": 4, "FAIL": 1} and glance(url, "few").num_trials == 5
    with opened(url) as engine:
        trials = trial_queries.read_trials(engine, queries.find_study(engine, "few"))
    recipes = {(t.params["loss"], t.attrs["repeat"]): t.attrs["recipe"] for t in trials if t.state == "COMPLETE"}
    assert recipes["bce", 1]["seed"] == recipes["dice", 1]["seed"] != recipes["bce", 2]["seed"]
    assert len({json.dumps(recipe["data"]) for recipe in recipes.values()}) == 1  # the same split

    again = call(folder, "run", "--table", "few", "--seeds", "2")
    assert again.exit_code == 0 and glance(url, "few").num_trials == 5
    printed_in_every_way(folder, {t.number: t for t in trials})


def printed_in_every_way(folder: Path, trials: dict[int, Any]) -> None:
    found = table(folder)
    one, two = found["rows"]
    assert (found["study"], found["metrics"], found["where"]) == ("few", ["val_iou", "train_loss"], "Table 9")
    assert one["params"] == {"lr": 1e-3, "loss": "bce"} and one["published"] == {
        "val_iou": 0.5,
        "train_loss": None,
    }
    values = [t.value for t in trials.values() if t.params["loss"] == "bce" and t.state == "COMPLETE"]
    assert one["ours"]["val_iou"] == pytest.approx(sum(values) / 2)
    assert one["difference"]["val_iou"] == pytest.approx(sum(values) / 2 - 0.5)
    assert one["deviation"]["val_iou"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert (one["seeds"], two["seeds"], one["epochs"], one["state"]) == (2, 2, 2, "done") and one["seconds"] > 0
    number = f"{one['ours']['val_iou']:.4f} ± {one['deviation']['val_iou']:.4f} (2 seeds)"
    shown, marked = (call(folder, "table", "few", *form).stdout for form in ([], ["--markdown"]))
    assert number in shown and f"| bce | 0.5000 | {number} |" in marked and "lr=0.001" in marked
    assert re.search(r"^\| --- \|", marked, re.M)
    listed = {row["name"]: row for row in json.loads(call(folder, "table", "--json").stdout)}
    assert (listed["few"]["done"], listed["weizmann_unet"]["rows"]) == (2, 12)
    assert "2 of 2 rows done, tiny on shapes" in call(folder, "table").stdout
    assert "Did you mean 'few'?" in call(folder, "table", "few", "--study", "fwe").stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run"], "neither was given"),
        (["run", "--space", "tiny.py", "--table", "few"], "both were given"),
        (["run", "--table", "few", "--trials", "3"], "leave out --trials, or say --seeds"),
        (["run", "--space", "tiny.py", "--seeds", "3"], "--seeds belongs to --table"),
        (["run", "--table", "few", "--rehearse", "--shrink", "2"], "leave out --shrink and --shorten"),
        (["run", "--table", "fwe"], "no table 'fwe'. Did you mean 'few'?"),
        (["run", "--table", "bad"], "unknown parameter 'lrr'. Did you mean 'lr'?"),
        (["table", "fwe"], "no table 'fwe'. Did you mean 'few'?"),
        (["table", "few", "--json", "--markdown"], "give either --markdown or --json, not both"),
        (["extend", "--epochs", "9", "--home", "nowhere"], "no study yet"),
        (["extend", "--epochs", "9", "--top", "1", "--trial", "0"], "give either --top N"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(folder: Path, args: list[str], said: str) -> None:
    (folder / "studies" / "bad.toml").write_text(TABLE.replace("lr =", "lrr ="))
    done = call(folder, *args)
    (folder / "studies" / "bad.toml").unlink()
    assert done.exit_code == 2 and said in done.stderr and done.stdout == ""
    assert done.stderr.startswith("tuner: ") and done.stderr.count("tuner: ") == 1


def test_names_say_what_is_not_as_in_the_table(folder: Path) -> None:
    from dataclasses import replace

    from tuner.paths import Home
    from tuner.search.run import RunOptions, RunRequest, StudySetup, check_request, open_space_process
    from tuner.space.published import PublishedTable, load_table

    def checked(request: RunRequest) -> StudySetup:
        with open_space_process(request) as process:
            return check_request(request, process)

    loaded: list[str] = []

    def load(name: str) -> PublishedTable:
        loaded.append(name)
        return load_table(name)

    means = RunOptions("", Home(folder / "runs"))
    asked = RunRequest(None, None, None, means, None, 0, False, table=str(folder / "studies" / "few.toml"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setattr(launch, "load_table", load)
        jobs = [checked(replace(asked, **change)) for change in (
            {}, {"rehearse": True}, {"shrink": 2}, {"shorten": 2}, {"data": str(folder)}, {"study": "mine"},
        )]  # fmt: skip
    assert len(loaded) == len(jobs)  # each once
    names = ["few", "few-rehearsal", "few-shrink2", "few-shorten2", f"few@{folder.name}", "mine"]
    assert [job.info.name for job in jobs] == names
    assert {job.info.table for job in jobs} == {"few"}
    assert [job.info.shrink for job in jobs] == [1, 1, 2, 1, 1, 1] and jobs[4].recipes[0].data.name == str(folder)
