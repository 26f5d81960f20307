"""The public functions refuse odd arguments as the command line does: one line of one of our errors."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.made_studies import make_bundle

import tuner
from tuner.api.bundle import Bundle, ImageExplanation
from tuner.api.run import check_options
from tuner.api.study import Study
from tuner.errors import LONGEST_LINE, TunerError
from tuner.goal import maximize
from tuner.paths import Home
from tuner.recipe import Recipe, use
from tuner.study.info import StudyInfo


class OddPath:
    def __fspath__(self) -> int:  # of the wrong type
        return 5


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError


NO_PATHS = (5, 1.5, True, b"best", [], ["best"], {}, OddPath(), Unprintable(), "", "\0", "x" * 300, "~nobodyx/y")
SPECIAL = ("./fifo", "/dev/null")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    data, model, optimizer = use("shapes", image_size=32), use("unet", k=4), use("adam", lr=1e-3)
    recipe = Recipe("binary", data, model, use("bce"), optimizer, epochs=1)
    return tuner.load_bundle(make_bundle(recipe, tmp_path_factory.mktemp("bundle") / "best"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNER_STORAGE", raising=False)
    os.mkfifo("fifo")


def refuse(call: Callable[[Any], object], values: Any) -> None:
    for value in values:
        with pytest.raises(TunerError) as caught:
            call(value)
        line = str(caught.value)
        assert "\n" not in line and 0 < len(line) <= LONGEST_LINE, line


def suggest(trial: object) -> None: ...


TEXTS: dict[str, Callable[[Any], object]] = {
    "load_bundle": lambda value: tuner.load_bundle(value),
    "load_study(home)": lambda value: tuner.load_study(home=value),
    "load_study(storage)": lambda value: tuner.load_study(storage=value),
    "parts(space)": lambda value: tuner.parts("mine:net", space=value),
    "run(space)": lambda value: tuner.run(value, progress=False),
    "run(home)": lambda value: tuner.run("unet_k", home=value),
    "run(storage)": lambda value: tuner.run("no such space", storage=value),
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_no_path_or_url_is_refused(name: str) -> None:
    refuse(TEXTS[name], (*NO_PATHS, *SPECIAL))
    assert sorted(Path().iterdir()) == [Path("fifo")]  # nothing is created


def test_what_is_no_path_is_refused_by_a_bundle(bundle: Bundle) -> None:
    values = (*NO_PATHS, *SPECIAL)
    refuse(lambda value: bundle.predict(value), (5, b"best", {5}, OddPath(), "", *SPECIAL))
    refuse(lambda value: bundle.evaluate(value, split="val"), values)
    refuse(lambda value: bundle.evaluate(split="val", out=value), values)
    refuse(lambda value: bundle.evaluate(split="val", home=value), values)
    refuse(lambda value: bundle.explain_sample(1, data=value), values)
    refuse(lambda value: bundle.explain_sample(1, home=value), values)
    refuse(lambda value: bundle.explain_sample(value), (0, "x", None, [], 10**5000, Unprintable()))


def test_a_picture_is_written_to_a_file_of_its_kind_only(tmp_path: Path) -> None:
    picture = np.zeros((8, 8, 3), np.uint8)
    seen = ImageExplanation({}, "object", True, [("caption", picture)])
    Path("fifo.png").unlink(missing_ok=True)
    os.mkfifo("fifo.png")
    refuse(seen.save, (*NO_PATHS, *SPECIAL, "fifo.png", "picture", "picture.txt"))
    assert seen.save("picture.JPG").is_file() and Path("fifo.png").is_fifo()


def test_a_study_is_written_to_a_path(tmp_path: Path) -> None:
    study = Study(None, StudyInfo("made", "tiny", maximize("iou"), "shapes"), Home(tmp_path))  # type: ignore[arg-type]
    refuse(study.export, (None, *NO_PATHS, *SPECIAL))
    refuse(study.report, (*NO_PATHS, *SPECIAL))


def test_a_link_to_itself_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    Path("loop").symlink_to("loop")
    refuse(lambda value: bundle.evaluate(split="val", out=value), ["loop"])


def test_trust_is_true_or_false(bundle: Bundle) -> None:
    refuse(lambda value: tuner.load_bundle(bundle.path, trust=value), ("no", 1, None, []))


def test_layers_are_names(bundle: Bundle) -> None:
    picture = np.zeros((24, 24, 3), np.uint8)
    refuse(lambda value: bundle.explain(picture, layers=value), (5, "x1", [5], b"x1"))


@pytest.mark.parametrize("name", ["trials", "seed", "shrink", "hours", "workers", "cache_gb"])
def test_numbers_are_numbers(name: str) -> None:
    values = ("x", "\u0663", "1_0", True, [], 10**5000, float("nan"), float("inf"), 2j, Unprintable())
    refuse(lambda value: check_options({name: value}), values)


@pytest.mark.parametrize("name", ["data", "table", "artifacts"])
def test_paths_of_options_are_paths(name: str) -> None:
    refuse(lambda value: check_options({name: value}), (5, b"x", [], OddPath(), Unprintable(), *SPECIAL))
