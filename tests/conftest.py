"""Shared by all tests: small image folders made on the spot, homes of their own, the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuner.data.shapes import draw_picture

ROOT = Path(__file__).parent.parent


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty folder to be given as --home."""
    return tmp_path / "home"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve real image files with masks, in the layout images/ + masks/."""
    return make_photos(tmp_path / "photos", 12)


def make_photos(folder: Path, number: int, images: str = "images", masks: str = "masks") -> Path:
    """Write `number` generated pictures as JPEG and their masks as PNG."""
    for name in (images, masks):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for at in range(number):
        picture, mask = draw_picture(np.random.default_rng([at, 99]))
        Image.fromarray(picture).save(folder / images / f"photo{at:02d}.jpg", quality=92)
        Image.fromarray(mask * np.uint8(255)).save(folder / masks / f"photo{at:02d}.png")
    return folder


Tuner = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tuner(tmp_path: Path) -> Tuner:
    """The command line in a process of its own, in an empty folder, as a user has it."""

    def call(*args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tuner.cli", *map(str, args)],
            cwd=tmp_path,
            env={**os.environ, "HOME": str(tmp_path), "TUNER_DATA": "", **env},
            capture_output=True,
            text=True,
            timeout=240,
        )

    return call
