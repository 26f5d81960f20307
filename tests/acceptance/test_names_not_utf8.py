"""Homes, class folders, images and outputs whose names are not UTF-8, from the survey to the prediction."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.command_line import write_space
from helpers.image_folders import make_photos

from tuner.cli import main

pytestmark = [pytest.mark.usefixtures("forked_workers"), pytest.mark.slow]
NAME = os.fsdecode(b"caf\xe9")
HEAD = '''"""One convolution."""

from torch import nn


def net(channels, classes):
    return nn.Sequential(nn.Conv2d(channels, classes, 3, stride=8), nn.AdaptiveAvgPool2d(1), nn.Flatten())
'''


def test_names_that_are_not_utf8_are_read_and_shown_with_escapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "head.py").write_text(HEAD)
    space = write_space(tmp_path, epochs=1, batch=4, model='use("head:net")')
    text = space.read_text().replace("binary", "classification").replace('"iou"', '"accuracy"')
    space.write_text(text.replace('["bce", "dice"]', '["cross_entropy"]'))
    data = tmp_path / f"data{NAME}"
    for kind in ("a", NAME):
        make_photos(tmp_path / "made", 3, images=str(data / kind))
        (data / kind / "photo00.jpg").rename(data / kind / f"{NAME}.jpg")
    home, bundle, out = f"home{NAME}", f"bundle{NAME}", f"out{NAME}"

    def call(*args: str | Path) -> str:
        done = CliRunner().invoke(main, [*map(str, args)])
        assert done.exit_code == 0, (args, done.output, done.exception)
        return done.output

    assert r"classes: a, caf\xe9" in call("data", data, "--home", home)
    ran = call("run", "--space", space, "--data", data, "--trials", "1", "--workers", "1", "--home", home)
    assert r"study 'tiny@datacaf\xe9': 1 of 1 trial ended" in ran
    assert r"exported to bundlecaf\udce9" in call("best", "--home", home, "--export", bundle)
    call("report", "--home", home, "--out", f"{NAME}.html")
    call("evaluate", bundle, "--trust", "--split", "val", "--confusion", f"{NAME}.csv", "--home", home)
    assert "class" in call("predict", bundle, "--trust", data / NAME / f"{NAME}.jpg", "--out", out)
    assert (tmp_path / f"{NAME}.html").is_file() and (tmp_path / out / "classes.csv").is_file()
    assert r"caf\xe9" in (tmp_path / f"{NAME}.csv").read_text()
