"""The Python API does what the command line does."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command_line import environment, run
from helpers.fork_server import run_code
from PIL import Image

import tuner
from tuner import Recipe, Study, TunerError, maximize, use

pytestmark = pytest.mark.usefixtures("forked_workers")
EPOCHS = 2


def tiny(trial: Any) -> Recipe:
    """A U-Net of width 4 on 32 pixels."""
    return Recipe(
        task="binary",
        data=use("shapes", image_size=32),
        model=use("unet", k=4),
        loss=use("bce"),
        optimizer=use("adam", lr=trial.suggest_float("lr", 1e-4, 1e-2, log=True)),
        epochs=EPOCHS,
        batch_size=32,
        precision="fp32",
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api") / "home"


@pytest.fixture(scope="module")
def study(home: Path) -> Study:
    """A study of two trials, run once for all tests here."""
    return tuner.run(tiny, goal=maximize("iou"), trials=2, home=home, progress=False)


@pytest.fixture(scope="module")
def exported(study: Study, tmp_path_factory: pytest.TempPathFactory) -> tuner.Bundle:
    return study.export(tmp_path_factory.mktemp("exported") / "best")


@pytest.fixture(scope="module")
def photo(home: Path) -> Path:
    home.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(home / "photo.png")
    return home / "photo.png"


def test_a_study_says_what_was_searched_and_what_came_out(study: Study, home: Path) -> None:
    assert (study.name, study.space, study.data, study.goal) == ("tiny", "tiny", "shapes", maximize("iou"))
    assert study.storage.startswith("sqlite:///") and [trial.number for trial in study.trials] == [0, 1]
    best = study.best
    assert best.state == "COMPLETE" and best.value == best.metrics["val_iou"] and set(best.params) == {"lr"}
    assert best.recipe is not None and best.recipe.model == use("unet", k=4) and 1 <= best.best_epoch <= EPOCHS
    assert "tiny" in repr(study) and "2 of 2" in repr(study) and str(best.number) in study._repr_html_()
    again = tuner.load_study(home=home)
    assert again.best == best and tuner.load_study("tiny", home=home).trials == study.trials


def test_trials_become_a_dataframe(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = study.trials_dataframe()
    assert list(frame["number"]) == [0, 1] and {"state", "value", "params_lr", "val_iou"} <= set(frame.columns)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(TunerError, match="pip install"):
        study.trials_dataframe()


def test_the_same_call_resumes_and_the_command_line_sees_the_study(study: Study, home: Path) -> None:
    assert len(tuner.run(tiny, goal=maximize("iou"), trials=2, home=home, progress=False).trials) == 2
    shown = run(home.parent, "status", "--home", home)
    assert shown.returncode == 0, shown.stderr
    assert "tiny" in shown.stdout and "2 of 2" in shown.stdout


@pytest.mark.slow
def test_the_report_is_written_once(study: Study, tmp_path: Path) -> None:
    path = study.report(tmp_path / "report.html")
    assert path.read_text().count("tiny") and path == tmp_path / "report.html"
    with pytest.raises(TunerError, match=r"exists|there already"):
        study.report(path)
    assert study.report(path, force=True) == path


def test_the_exported_model_predicts_explains_and_is_scored(
    study: Study, home: Path, photo: Path, tmp_path: Path
) -> None:
    exported = study.export(tmp_path / "best")
    with pytest.raises(TunerError, match="exists"):
        study.export(tmp_path / "best")
    bundle = tuner.load_bundle(tmp_path / "best")
    assert bundle.recipe == exported.recipe and bundle.metrics == study.best.metrics
    assert bundle.params == study.best.params and "unet" in repr(bundle) and bundle.classes[1] == "object"
    mask = bundle.predict(photo)
    assert mask.shape == (40, 50) and mask.dtype == np.uint8 and set(np.unique(mask)) <= {0, 1}
    pixels = np.asarray(Image.open(photo))
    others = bundle.predict([str(photo), Image.open(photo), pixels])
    assert all(np.array_equal(mask, other) for other in others)
    assert bundle.predict(pixels[..., 0]).shape == (40, 50) and bundle.predict([]) == []
    seen = bundle.explain(photo, layers=["x4"])
    assert list(seen.maps) == ["x4"] and seen.maps["x4"].max() <= 1 and seen.class_name == "object"
    assert seen.save(tmp_path / "panel.png").is_file() and seen._repr_png_().startswith(b"\x89PNG")
    assert [one.class_name for one in bundle.explain([photo, photo], class_name="background")] == [
        "background"
    ] * 2
    scored = bundle.evaluate(split="val", home=home, out=tmp_path / "tested", sample=2)
    assert (tmp_path / "tested" / "sample.png").is_file()
    explained = bundle.explain_sample(2, layers=["x4"], home=home)
    assert [list(one.maps) for one in explained] == [["x4"], ["x4"]]
    assert [name for name, _ in explained[0].cells[:2]] == ["image", "truth"]
    assert scored.metrics["iou"] == pytest.approx(study.best.value, abs=1e-4)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), 7, "gone.png"],
    ids=["four channels", "floats", "number", "no file"],
)
def test_what_is_not_an_image_is_an_error(exported: tuner.Bundle, image: Any) -> None:
    with pytest.raises(TunerError):
        exported.predict(image)


def test_mistakes_are_errors_of_one_tree(home: Path, study: Study, exported: tuner.Bundle, tmp_path: Path) -> None:
    wrong: dict[str, Any] = {
        "no space 'unet'": lambda: tuner.run("unet", home=home),
        "goal= belongs": lambda: tuner.run("unet_k", goal=maximize("iou"), home=home),
        "maximize": lambda: tuner.run(tiny, home=home),
        "trials=0": lambda: tuner.run(tiny, goal=maximize("iou"), trials=0, home=home),
        "no metric|not a metric": lambda: tuner.run(tiny, goal=maximize("iuo"), home=home, progress=False),
        "no study 'tini'": lambda: tuner.load_study("tini", home=home),
        "no study yet": lambda: tuner.load_study(home=tmp_path),
        "no bundle|not a bundle": lambda: tuner.load_bundle(tmp_path),
        "no published table": study.table,
        "split is": lambda: exported.evaluate(split="train"),
        "sample is 0": lambda: exported.explain_sample(0),
    }
    for message, call in wrong.items():
        with pytest.raises(TunerError, match=message):
            call()


@pytest.mark.slow
def test_an_interrupted_run_saves_and_resumes(tmp_path: Path) -> None:
    script = tmp_path / "search.py"
    script.write_text(
        "from tuner import *\nimport tuner\n"
        "def long(trial):\n"
        "    return Recipe('binary', use('shapes', image_size=32), use('unet', k=4), use('bce'),\n"
        "                  use('adam', lr=trial.suggest_float('lr', 1e-4, 1e-2)), epochs=EPOCHS, batch_size=32)\n"
        "EPOCHS = 2000\n"
        "tuner.run(long, goal=maximize('iou'), trials=1, pruning='none')\n"
    )
    with subprocess.Popen(
        [sys.executable, script], cwd=tmp_path, env=environment(tmp_path), stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        next(line for line in process.stderr if "epoch" in line)
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode != 0 and "KeyboardInterrupt" in rest and "run it again to resume" in rest, rest
    stopped = tuner.load_study(home=tmp_path / "runs").trials
    assert [trial.state for trial in stopped] == ["WAITING"]


def test_importing_tuner_stays_cheap() -> None:
    code = (
        "import sys, tuner\ntuner.maximize, tuner.use, tuner.TunerError\n"
        "print(sorted({'numpy', 'torch', 'optuna', 'click', 'sqlalchemy', 'rich'} & set(sys.modules)))\n"
        "from tuner import run, load_study, load_bundle, parts\n"
        "print(sorted({'torch', 'pandas', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[0] == "[]" and "torch" not in done.stdout


def test_an_old_module_does_not_hide_a_public_name() -> None:
    code = (
        "import warnings; warnings.simplefilter('ignore')\nfrom tuner.parts import build\nimport tuner\n"
        "print(callable(build), tuner.parts('losses')[0].name)"
    )
    done = run_code(code)
    assert done.returncode == 0 and done.stdout.startswith("True "), done.stderr


def test_the_package_is_typed() -> None:
    assert (Path(tuner.__file__).parent / "py.typed").is_file()
