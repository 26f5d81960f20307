"""`tuner check --data` ends as `tuner run` does, for every folder: the same exit code and the same last line."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers.command_line import write_space
from helpers.dataset_layouts import make_coco, make_scene
from helpers.image_folders import make_photos
from PIL import Image

from tuner.cli import main
from tuner.data.locate import candidate_folders
from tuner.search import run
from tuner.search.run import RunResult
from tuner.study.study import JoinedStudy

pytestmark = pytest.mark.usefixtures("forked_workers")

CLASSIFIER = """from tuner import Recipe, maximize, use

GOAL = maximize("accuracy")


def suggest(trial):
    trial.suggest_float("lr", 1e-4, 1e-2)
    data, model = use("badges", image_size=32), use("sport_vgg", reduced=4, hidden=4)
    return Recipe("classification", data, model, use("cross_entropy"), use("adam"), epochs=1, precision="fp32")
"""


def good(at: Path) -> None:
    make_photos(at, 6)


def horses(at: Path) -> None:
    make_photos(at, 6, "horse", "mask")


def real_horses(at: Path) -> None:
    place = next((place for place in candidate_folders("weizmann_horse") if (place / "rgb").is_dir()), None)
    if place is None:
        return horses(at)
    for source, target, suffix in (("rgb", "horse", ".jpg"), ("figure_ground", "mask", ".jpg")):
        (at / target).mkdir(parents=True)
        for file in sorted((place / source).glob(f"*{suffix}"))[:12]:
            shutil.copy(file, at / target)


def own_names(at: Path) -> None:
    make_photos(at, 6, "photos", "truth")


def classes(at: Path) -> None:
    for number, name in enumerate(("cat", "dog") * 3):
        (at / name).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 9, 9)).save(at / name / f"{number}.png")


def labels(at: Path) -> None:
    make_scene(at, 4)


def instances(at: Path) -> None:
    make_coco(at / "images", at / "annotations.json", 4)


def too_few(at: Path) -> None:
    make_photos(at, 1)


def broken(at: Path) -> None:
    make_photos(at, 6)
    (at / "images" / "photo02.jpg").write_bytes(b"no image")


def no_mask(at: Path) -> None:
    make_photos(at, 6)
    (at / "masks" / "photo02.png").unlink()


def other_shape(at: Path) -> None:
    make_photos(at, 6)
    Image.fromarray(np.zeros((9, 90), np.uint8)).save(at / "masks" / "photo02.png")


def empty(at: Path) -> None:
    at.mkdir()


def absent(at: Path) -> None:
    pass


def of_one_class(at: Path) -> None:
    (at / "cat").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(at / "cat" / "a.png")


def a_file(at: Path) -> None:
    at.touch()


Make = Callable[[Path], None]
FOLDERS: dict[Make, str] = {  # and the space that can be trained on it, if any
    good: "tiny", horses: "tiny", real_horses: "tiny", classes: "classifier", own_names: "classifier",
    labels: "", instances: "", too_few: "", broken: "", no_mask: "", other_shape: "", empty: "", absent: "",
    of_one_class: "", a_file: "",
}  # fmt: skip


def costly(cases: Iterable[Any], *kept: Any) -> list[Any]:
    """Leave all cases but a few to `make test-all`: each command imports torch in the process of its space."""
    return [case if case in kept else pytest.param(case, marks=pytest.mark.slow) for case in cases]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder with a space of each kind; `tuner run` ends where its workers would start."""

    def stop(joined: JoinedStudy, *_: object) -> RunResult:
        joined.engine.dispose()
        return RunResult(0, "", joined.info.name, None)

    monkeypatch.setattr(run, "run_workers", stop)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNER_STORAGE", raising=False)
    write_space(tmp_path)
    (tmp_path / "classifier.py").write_text(CLASSIFIER)
    return tmp_path


def call(*args: str) -> Result:
    return CliRunner().invoke(main, args)


def last_line(done: Result) -> str:
    return done.stderr.splitlines()[-1] if done.exit_code else ""


def both(space: str, *options: str) -> tuple[Result, Result]:
    return call("check", space, *options), call("run", "--space", space, "--trials", "1", *options)


@pytest.mark.parametrize("make", costly(FOLDERS, broken), ids=lambda make: make.__name__)
def test_check_ends_as_run_does(make: Make, place: Path) -> None:
    make(place / "data here")
    for space in ("tiny",) if make is broken else ("tiny", "classifier"):
        check, run = both(f"{space}.py", "--data", "./data here", "--home", space)
        assert (check.exit_code, last_line(check)) == (run.exit_code, last_line(run))
        assert check.exit_code == (0 if FOLDERS[make] == space else 2), check.output
    assert bool(FOLDERS[make]) == bool(list(place.rglob("*.db")))  # a study is made of what passes


LAYOUTS = {  # options -> the exit code, and what is said
    ("--data", "horses"): (0, "horses: read as horse/ + mask/ (masks); it can also be read as class folders"),
    ("--data", "horses", "--layout", "classes"): (2, "holds classes; the task 'binary' needs masks."),
    ("--data", "own"): (2, "needs masks. It is read as the classes photos and truth, whose files have the same"),
    ("--data", "own", "--layout", "masks=photos,truth"): (0, ""),
    ("--data", "own", "--layout", "masks=photos,truth", "--rehearse"): (0, ""),
    ("--data", "own", "--layout", "mask"): (2, "layout is 'mask'. Did you mean 'masks'?"),
    ("--data", "own", "--layout", "masks=photos,gone"): (2, "has no gone/; it has photos/, truth/."),
    ("--data", "shapes", "--layout", "masks"): (2, "--layout needs a folder"),
    ("--data", "gone", "--layout", "masks"): (2, "no dataset or folder 'gone'"),
}


@pytest.mark.parametrize("options", costly(LAYOUTS, ("--data", "horses"), ("--data", "own")), ids=" ".join)
def test_check_and_run_read_a_folder_in_the_same_way(
    options: tuple[str, ...], place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    horses(place / "horses"), own_names(place / "own")
    code, words = LAYOUTS[options]
    check, run = both("tiny.py", *options)
    assert check.exit_code == run.exit_code == code and last_line(check) == last_line(run)
    if words.startswith("horses:"):
        assert caplog.text.count(words) == 2
    else:
        assert words in check.stderr and "read as" not in caplog.text


@pytest.mark.slow
def test_check_refuses_large_images_as_run_does(place: Path) -> None:
    good(place / "photos")
    for most, code in (("100", 2), ("1000000", 0)):
        check, run = both("tiny.py", "--data", "photos", "--max-pixels", most)
        assert check.exit_code == run.exit_code == code and check.stderr == run.stderr
        assert ("6 of 6 items cannot be used" in check.stderr) == bool(code)


@pytest.mark.slow
def test_check_compares_the_study_that_exists(place: Path) -> None:
    good(place / "photos")
    for _ in range(2):  # the second time, the study exists
        assert [done.exit_code for done in both("tiny.py", "--data", "photos")] == [0, 0]
    write_space(place, low=1e-5, extra="    trial.suggest_int('depth', 1, 2)\n")
    check, run = both("tiny.py", "--data", "photos")
    assert check.exit_code == run.exit_code == 2 and check.stderr == run.stderr
    assert "parameter 'depth': from absent" in check.stderr
    check, run = both("tiny.py", "--data", "photos", "--study", "mine")
    assert check.exit_code == run.exit_code == 0


@pytest.mark.slow
def test_check_counts_the_images_and_leaves_no_study(place: Path) -> None:
    make_photos(place / "photos", 12)
    out = call("check", "tiny.py", "--data", "photos", "--shrink", "2").stdout
    assert f"data: {place / 'photos'}" in out and "images: 10 train, 2 val   split: exact" in out
    out = call("check", "tiny.py", "--data", "photos", "--layout", "masks=images,masks").stdout
    assert "layout: masks=images,masks" in out
    assert not list(place.rglob("*.db"))


@pytest.mark.slow
def test_without_data_check_tells_why_run_would_stop(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.delenv("TUNER_DATA", raising=False)
    space = (place / "tiny.py").read_text()
    for change, words in (
        (("shapes", "weizmann_horse"), "dataset 'weizmann_horse' is not on this machine; looked for"),
        (("epochs=3", "epochs=3, weights='first'"), "its weights cannot be used: weights 'first': neither a file"),
    ):
        (place / "tiny.py").write_text(space.replace(*change))
        check, run = call("check", "tiny.py"), call("run", "--space", "tiny.py")
        assert (check.exit_code, run.exit_code) == (0, 2) and "64 draws, all valid" in check.stdout
        assert check.stdout.splitlines()[-1].startswith("here tuner run would stop: ") and words in check.stdout
        assert words in run.stderr
    assert not list(place.rglob("*.db"))


@pytest.mark.slow
def test_a_table_can_be_checked(place: Path) -> None:
    good(place / "photos")
    row = "[[rows]]\nparams = { lr = 1e-3, loss = 'bce' }\n"
    head = "about = 'x'\nspace = 'tiny.py'\ndata = 'shapes'\nmetric = 'iou'\nwhere = 'Table 1'\ncompare = 'none'\n"
    (place / "few.toml").write_text(head + row)
    done = call("check", "--table", "./few.toml", "--data", "photos")
    assert done.exit_code == 0 and "1 rows, all valid" in done.stdout, done.output
    (place / "few.toml").write_text(head + row.replace("bce", "bcee"))
    check, run = (call(*command, "--table", "./few.toml") for command in (("check",), ("run",)))
    assert check.exit_code == run.exit_code == 2 and last_line(check) == last_line(run)


def test_check_needs_a_space_or_a_table(place: Path) -> None:
    assert "Missing argument 'SPACE', or --table NAME." in call("check").stderr
    assert "both were given" in call("check", "tiny.py", "--table", "few").stderr
