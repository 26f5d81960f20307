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
    done = tuner("explain", "best", "absent.jpg", "--layers", "x1,botleneck")
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


def test_layers_are_listed_without_an_image(bundle: Path) -> None:
    done = typed(bundle, "--list-layers")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[:2] == ["x1 = down1", "x2 = down2"] and "  bottleneck" in done.stdout


def test_what_cannot_be_is_refused_in_one_line(bundle: Path, photos: Path, toy_recipe: Recipe) -> None:
    photo = next((photos / "images").iterdir())
    refused(typed(bundle, photo, "--class", "backgroud"), "no class 'backgroud'. Did you mean 'background'?")
    refused(typed(bundle, bundle / "card.md"), "1 of 1 images cannot be read", "card.md")
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
    ],
)
def test_what_is_missing_is_told(bundle: Path, args: tuple[str, ...], told: str) -> None:
    done = typed(bundle, *args)
    assert done.exit_code == 2 and told in done.stderr
