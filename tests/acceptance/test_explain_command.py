"""`tuner explain` as a user types it, with an exported bundle alone."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from helpers.made_studies import make_bundle
from PIL import Image

from tuner.cli import main
from tuner.recipe import Recipe, use

Tuner = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def bundle(tmp_path: Path, toy_recipe: Recipe) -> Path:
    return make_bundle(toy_recipe, tmp_path / "best")


def typed(*args: str | Path) -> Result:
    return CliRunner().invoke(main, ["explain", *map(str, args)])


def refused(done: Result, *told: str) -> None:
    """One clear line, exit code 2, nothing on stdout."""
    assert done.exit_code == 2 and done.stdout == "", done.output
    assert done.stderr.startswith("tuner: ") and done.stderr.count("\n") == 1
    for text in told:
        assert text in done.stderr, done.stderr


def test_a_panel_is_written_for_each_photograph(bundle: Path, photos: Path, tuner: Tuner) -> None:
    first, second = sorted((photos / "images").iterdir())[:2]
    done = tuner("explain", "best", first, second, "--layers", "x1, x4", "--out", "seen")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    panels = [line.split(" (")[0] for line in done.stdout.splitlines()]
    assert panels == ["seen/photo00_explanation.png", "seen/photo01_explanation.png"]
    for panel, photo in zip(panels, (first, second), strict=True):
        with Image.open(bundle.parent / panel) as drawn, Image.open(photo) as given:
            ratio = given.height / given.width
            cell = (256, round(256 * ratio)) if ratio <= 1 else (round(256 / ratio), 256)
            assert drawn.size == (4 * (cell[0] + 6) + 6, cell[1] + 24 + 6)  # image, prediction, x1, x4
            shown = np.asarray(drawn)[24 : 24 + cell[1]]
        assert shown[:, 6 : 6 + cell[0]].std() > 0


def test_a_mistyped_layer_is_one_line_and_exit_code_2(bundle: Path, tuner: Tuner) -> None:
    (bundle.parent / "broken.jpg").touch()
    done = tuner("explain", "best", "broken.jpg", "--layers", "x1,botleneck")
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "tuner: the model has no layer 'botleneck'. Did you mean 'bottleneck'?" in done.stderr
    assert not (bundle.parent / "explanations").exists()


def test_what_is_summed_can_be_chosen(bundle: Path, photos: Path) -> None:
    photo = next((photos / "images").iterdir())
    panels = {}
    for score in ("probability", "logit", None):
        given = ["--score", score] if score else []
        assert typed(bundle, photo, "--out", bundle.parent / "seen", *given).exit_code == 0
        panels[score] = (bundle.parent / "seen" / f"{photo.stem}_explanation.png").read_bytes()
    assert panels["probability"] == panels[None] != panels["logit"]
    assert typed(bundle, photo, "--score", "sum").exit_code == 2


def test_random_images_of_the_data_are_explained_with_their_truths(
    bundle: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = (bundle, "--data", photos, "--layers", "x1", "--home", "home")
    drawn: dict[str, list[str]] = {}
    for out, seed in (("one", "0"), ("same", "0"), ("other", "1")):
        done = typed(*given, "--sample", "2", "--seed", seed, "--out", out)
        assert done.exit_code == 0, done.output
        drawn[out] = [line.split(" (")[0].removeprefix(f"{out}/") for line in done.stdout.splitlines()]
        assert sorted(drawn[out]) == sorted(file.name for file in (tmp_path / out).iterdir())
    assert drawn["one"] == drawn["same"] != drawn["other"]
    assert drawn["one"][-1] == "explanations.png" and len(drawn["one"]) == 3
    names = {f"{file.stem}_explanation.png" for file in (photos / "images").iterdir()}
    assert set(drawn["one"][:-1]) <= names
    with (
        Image.open(tmp_path / "one" / "explanations.png") as sheet,
        Image.open(tmp_path / "one" / drawn["one"][0]) as panel,
    ):
        assert sheet.size == (4 * 134 + 6, 2 * 152 + 6)  # image, truth, prediction, x1
        assert panel.size == (4 * 262 + 6, 280 + 6)


def test_a_sample_larger_than_the_split_is_all_of_it(bundle: Path, photos: Path, tmp_path: Path) -> None:
    out, home = tmp_path / "out", tmp_path / "home"
    done = typed(bundle, "--data", photos, "--layers", "x1", "--home", home, "--sample", "100", "--out", out)
    number = len(list(out.glob("*_explanation.png")))
    assert 1 < number < 12 and done.stdout.endswith(f"explanations.png (all {number} images of the val split)\n")
    refused(typed(bundle, "--data", photos, "--home", home, "--sample", "1", "--split", "test"), "no test split")


def test_layers_are_listed_without_an_image(bundle: Path) -> None:
    done = typed(bundle, "--list-layers")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[:2] == ["x1 = down1", "x2 = down2"] and "  bottleneck" in done.stdout


def test_what_cannot_be_is_refused_in_one_line(bundle: Path, photos: Path, toy_recipe: Recipe) -> None:
    photo = next((photos / "images").iterdir())
    refused(typed(bundle, photo, "--class", "backgroud"), "no class 'backgroud'. Did you mean 'background'?")
    refused(typed(bundle, bundle / "card.md"), "1 of 1 image cannot be read", "card.md")
    refused(typed(bundle.parent / "bets", photo), "no bundle")
    counts = make_bundle(replace(toy_recipe, model=use("pixel_frequency", side=8)), bundle.parent / "counts")
    refused(typed(counts, photo), "the model has no gradients")
    (bundle / "card.md").write_text("mine")
    refused(typed(bundle, photo), "altered: card.md")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ((), "Missing argument 'IMAGES...'"),
        (("x.png", "--layers", " ,"), "no layer given; --list-layers lists them"),
        (("x.png", "--sample", "2"), "give IMAGES, or --sample N for random ones of the data, not both"),
        (("x.png", "--seed", "2"), "--seed needs --sample N"),
        (("x.png", "--split", "test"), "--split needs --sample N"),
        (("x.png", "--data", "shapes"), "--data needs --sample N"),
        (("--sample", "0"), "0 is not in the range 1<=x<=100"),
    ],
)
def test_what_is_missing_is_told(bundle: Path, args: tuple[str, ...], told: str) -> None:
    done = typed(bundle, *args)
    assert done.exit_code == 2 and told in done.stderr


@pytest.mark.parametrize("given", [("--sample", "3"), ("--seed", "3")])
def test_an_evaluation_without_a_folder_draws_nothing_and_says_so(bundle: Path, given: tuple[str, str]) -> None:
    done = CliRunner().invoke(main, ["evaluate", str(bundle), *given])
    assert done.exit_code == 2 and f"{given[0]} needs --out DIR: pictures are written there." in done.output


def test_an_evaluation_replaces_no_folder_of_the_users(bundle: Path) -> None:
    done = CliRunner().invoke(main, ["evaluate", str(bundle), "--out", str(bundle)])
    refused(done, "best exists and is not an evaluation, the only thing replaced. Choose another folder.")
