"""`tuner best` and `tuner predict` as a user types them, after one small real search."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers.command_line import run, write_space
from helpers.image_folders import make_photos
from PIL import Image

Done = subprocess.CompletedProcess[str]
pytestmark = pytest.mark.xdist_group("best")  # one search for all of them


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `tuner run` was typed: three trials of two epochs."""
    folder = tmp_path_factory.mktemp("searched")
    done = run(folder, "run", "--space", write_space(folder, epochs=2), "--trials", "3")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def exported(searched: Path) -> Path:
    """The exported bundle; tests that harm it take a copy."""
    done = run(searched, "best", "--export", "exported")
    assert done.returncode == 0 and "exported to exported; use it with: tuner predict exported" in done.stdout
    return searched / "exported"


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    """A copy of the bundle in another folder, with no database near it."""
    return Path(shutil.copytree(exported, tmp_path / "elsewhere" / "bundle"))


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def refused(done: Done, *told: str) -> None:
    """One clear message, exit code 2, no traceback, nothing on stdout."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr
    assert done.stderr.startswith("tuner: ")
    for text in told:
        assert text in done.stderr, done.stderr


def test_best_tells_the_trial_its_parameters_epoch_metrics_and_rank(searched: Path) -> None:
    done = run(searched, "best")
    assert done.returncode == 0 and done.stderr == ""
    for told in ("tiny: trial ", ", iou 0.", "best of 3 trials, beat ", "lr ", "loss ", "at epoch ", "val_iou "):
        assert told in done.stdout


def test_best_as_json_is_the_same_for_a_pipe(searched: Path) -> None:
    told = json.loads(run(searched, "best", "--json", "--study", "tiny").stdout)
    assert told["goal"] == {"metric": "iou", "direction": "maximize"}
    assert told["value"] == told["metrics"]["val_iou"] and told["epoch"] in (1, 2)
    assert told["params"].keys() == {"lr", "loss"}
    assert (told["finished"], told["failed"]) == (3, 0) and 0 <= told["beaten"] <= 2
    listed = json.loads(run(searched, "status", "--json").stdout)
    assert listed[0]["best"] == {"trial": told["trial"], "value": told["value"], "params": told["params"]}


def test_the_bundle_holds_everything_about_the_best(exported: Path, searched: Path) -> None:
    names = {"weights.safetensors", "recipe.json", "metrics.json", "history.csv", "card.md", "bundle.json"}
    pictures = {"strip.png", "predictions.png", "curves.png", "quality.png"}
    left = content(exported).keys() - {"explanation.png"}
    assert names | pictures | {"confusion.csv", "details.json"} == left
    told = json.loads(run(searched, "best", "--json").stdout)
    assert json.loads((exported / "metrics.json").read_text()) == told
    recipe = json.loads((exported / "recipe.json").read_text())
    assert recipe["loss"]["name"] == told["params"]["loss"]
    assert recipe["optimizer"]["args"]["lr"] == told["params"]["lr"]
    for picture in pictures:
        assert f"![{picture}]({picture})" in (exported / "card.md").read_text()
        with Image.open(exported / picture) as image:
            assert min(image.size) > 100


def test_an_existing_folder_is_refused_and_force_replaces_a_bundle(searched: Path, exported: Path) -> None:
    again = Path(shutil.copytree(exported, searched / "again"))
    (again / "card.md").write_text("mine")
    before = content(again)
    refused(run(searched, "best", "--export", "again"), "again already exists", "--force")
    assert content(again) == before
    assert run(searched, "best", "--export", "again", "--force").returncode == 0
    replaced, first = content(again), content(exported)
    assert replaced.pop("card.md") == first.pop("card.md").replace(b"exported", b"again")
    assert replaced.pop("bundle.json") != first.pop("bundle.json")  # it has the hash of the card
    assert replaced == first


def test_force_does_not_replace_a_folder_of_the_users(searched: Path) -> None:
    (searched / "thesis").mkdir()
    (searched / "thesis" / "chapter.tex").write_text("years")
    refused(run(searched, "best", "--export", "thesis", "--force"), "thesis exists and is not a bundle")
    assert (searched / "thesis" / "chapter.tex").read_text() == "years"


def test_export_and_json_together_keep_stdout_for_the_pipe(searched: Path) -> None:
    told = json.loads(run(searched, "best", "--json", "--export", "piped").stdout)
    assert told["exported"] == "piped" and (searched / "piped" / "bundle.json").is_file()


def test_an_unknown_study_and_an_empty_home_are_told(searched: Path, tmp_path: Path) -> None:
    refused(run(searched, "best", "--study", "tny"), "no study 'tny'. Did you mean 'tiny'?")
    refused(run(tmp_path, "best"), "no study yet", "tuner run --space")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_on_this_host_are_told(searched: Path) -> None:
    url = f"sqlite:///{searched / 'runs' / 'tuner.db'}"
    done = run(searched, "best", "--export", "lost", "--home", "other", "--storage", url)
    refused(done, "the weights of trial", "Export on the host that trained it")
    assert not (searched / "lost").exists()


def images_of_many_kinds(folder: Path) -> dict[str, tuple[int, int]]:
    """Real image files by name, with the size (width, height) that a person sees."""
    folder.mkdir(exist_ok=True)
    photo = Image.open(next((make_photos(folder.parent / "photos", 1) / "images").iterdir()))
    quarter_turn = Image.Exif()
    quarter_turn[0x0112] = 6
    wide = photo.resize((90, 50))
    photo.save(folder / "plain.jpg")
    photo.resize((640, 200)).save(folder / "wide.png")
    photo.convert("L").resize((31, 77)).save(folder / "grey.png")
    photo.convert("RGBA").save(folder / "alpha.png")
    photo.convert("P").save(folder / "palette.png")
    photo.convert("CMYK").save(folder / "print.jpg")
    wide.save(folder / "turned.jpg", exif=quarter_turn)
    Image.fromarray(np.asarray(photo.convert("L"), np.uint16) * 257).save(folder / "deep.png")
    sizes = {"wide.png": (640, 200), "grey.png": (31, 77), "turned.jpg": (50, 90)}
    return {file.name: sizes.get(file.name, photo.size) for file in folder.iterdir()}


def test_a_copied_bundle_predicts_after_the_database_is_gone(
    searched: Path, exported: Path, tmp_path: Path
) -> None:
    """The whole study is copied aside and deleted there, so that nothing but the bundle is left."""
    there = Path(shutil.copytree(searched, tmp_path / "there"))
    bundle = Path(shutil.move(there / "exported", tmp_path / "alone" / "model"))
    shutil.rmtree(there)
    sizes = images_of_many_kinds(tmp_path / "photos-to-do")
    images = sorted((tmp_path / "photos-to-do").iterdir())
    done = run(tmp_path, "predict", bundle, *images, "--out", "found")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"found/{image.stem}_mask.png" for image in images]
    for image in images:
        with Image.open(tmp_path / "found" / f"{image.stem}_mask.png") as mask:
            assert mask.size == sizes[image.name] and set(np.unique(np.asarray(mask))) <= {0, 255}
        with Image.open(tmp_path / "found" / f"{image.stem}_overlay.png") as overlay:
            assert (overlay.size, overlay.mode) == (sizes[image.name], "RGB")


def test_a_missing_and_an_altered_file_of_the_bundle_are_named(bundle: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (40, 40)).save(photo)
    weights = bytearray((bundle / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (bundle / "weights.safetensors").write_bytes(weights)
    (bundle / "recipe.json").unlink()
    done = run(tmp_path, "predict", bundle, photo)
    refused(done, "differs from what was exported", "missing: recipe.json", "altered: weights.safetensors")
    assert not (tmp_path / "predictions").exists()
    refused(run(tmp_path, "predict", "nowhere", photo), "no bundle nowhere", "tuner best --export")


def test_bad_images_do_not_cancel_the_others(bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    folder.mkdir()
    Image.new("RGB", (40, 40)).save(folder / "good.png")
    (folder / "empty.jpg").touch()
    done = run(tmp_path, "predict", bundle, folder, "absent.png", "--threshold", "0.3", "--probabilities")
    assert done.returncode == 2 and done.stdout == "predictions/good_mask.png\n"
    assert done.stderr.startswith(
        "tuner: 2 of 3 images cannot be read; the results of the others are in predictions:"
    )
    assert "empty.jpg" in done.stderr and "absent.png" in done.stderr
    assert (tmp_path / "predictions" / "good_probability.png").is_file()
    done = run(tmp_path, "predict", bundle, folder, "--threshold", "2")
    assert done.returncode == 2 and "2.0 is not in the range 0<x<1" in done.stderr
