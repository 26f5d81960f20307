"""The strip while a trial is trained: in a thread of its own, under one name, never in the way."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from helpers.command_line import wait_for
from helpers.local_training import Trial
from optuna.artifacts import get_all_artifact_meta

from tuner.artifacts.optuna_store import Gallery
from tuner.data.cache import CachedDataset
from tuner.paths import Home, Run
from tuner.recipe import Recipe
from tuner.search import trial_pictures
from tuner.search.trial_pictures import Album, Painter, explain, leave
from tuner.train.loop import Progress


@pytest.fixture
def album(toy_recipe: Recipe, toy_data: CachedDataset, tmp_path: Path) -> Album:
    asked = optuna.create_study().ask()
    gallery = Gallery(Home(tmp_path / "home").make())
    return Album(asked, toy_recipe, toy_data, Run(tmp_path / "run").make(), gallery)


@pytest.fixture
def painter(album: Album) -> Iterator[Painter]:
    made = Painter(album)
    yield made
    made.close()


def progress(epochs: int) -> Progress:
    frame = torch.full((32, 32), 200, dtype=torch.uint8)
    return Progress(frames=dict.fromkeys(range(1, epochs + 1), frame), best_epoch=1)


def hung(album: Album) -> list[Path]:
    return sorted(album.gallery.home.artifacts.iterdir())


def names(album: Album) -> list[str]:
    return [meta.filename for meta in get_all_artifact_meta(album.trial)]


def test_the_strip_grows_under_one_name(album: Album, painter: Painter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_pictures, "LEAST_PAUSE", 0.0)
    monkeypatch.setattr(trial_pictures, "SHARE", 1e9)
    painter.show(progress(1))
    (file,) = wait_for(lambda: hung(album))
    first = wait_for(file.read_bytes)
    painter.show(progress(5))
    assert wait_for(lambda: file.read_bytes() != first)
    painter.close()
    assert names(album) == ["strip.png"] and hung(album) == [file]
    assert album.run.strip.read_bytes() == file.read_bytes() and len(list(album.run.folder.iterdir())) == 1


def test_another_attempt_goes_on_under_the_same_name(album: Album, painter: Painter) -> None:
    painter.show(progress(1))
    wait_for(lambda: hung(album))
    painter.close()
    again = Painter(album)
    again.show(progress(2))
    again.close()
    assert again.name == painter.name and names(album) == ["strip.png"]


def test_who_shows_never_waits_and_only_the_newest_is_drawn(
    album: Album, painter: Painter, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, drawn = threading.Event(), []

    def slow(album: Album, frames: dict[int, object], best: int, is_late: Callable[[], bool]) -> None:
        drawn.append(len(frames))
        assert going.wait(60)

    monkeypatch.setattr(trial_pictures, "paint_strip", slow)
    monkeypatch.setattr(trial_pictures, "LEAST_PAUSE", 0.0)
    painter.show(progress(1))
    wait_for(lambda: drawn)
    for epochs in range(2, 8):
        painter.show(progress(epochs))
    assert drawn == [1]
    going.set()
    wait_for(lambda: len(drawn) == 2)
    assert drawn == [1, 7]


def test_a_drawing_that_is_late_leaves_the_last_strip_alone(
    album: Album, painter: Painter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial ends while its strip is drawn: each draws into a file of its own, and the last one stays."""
    drawing, going = threading.Event(), threading.Event()
    plain = trial_pictures.draw_strip

    def slow(image: Any, truth: Any, frames: Any, best: int, path: Path, *more: Any) -> None:
        plain(image, truth, frames, best, path, *more)
        if threading.current_thread() is painter.thread:
            drawing.set()
            assert going.wait(60)

    monkeypatch.setattr(trial_pictures, "draw_strip", slow)
    monkeypatch.setattr(trial_pictures, "LEAVE_SECONDS", 0.0)
    painter.show(progress(1))
    assert drawing.wait(60)
    painter.close()
    trial_pictures.paint_strip(album, progress(5).frames, 1)
    last = album.run.strip.read_bytes()
    going.set()
    assert painter.thread
    painter.thread.join(60)
    assert album.run.strip.read_bytes() == last and list(album.run.folder.iterdir()) == [album.run.strip]
    assert not hung(album)


def test_an_error_is_logged_once_and_ends_nothing(
    album: Album, painter: Painter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried: list[int] = []

    def broken(*_: object) -> None:
        tried.append(1)
        raise ValueError("no paint")

    monkeypatch.setattr(trial_pictures, "paint_strip", broken)
    monkeypatch.setattr(trial_pictures, "LEAST_PAUSE", 0.0)
    with caplog.at_level(logging.WARNING, logger="tuner"):
        for number in (1, 2, 3):
            painter.show(progress(number))
            wait_for(lambda: len(tried) >= number)  # noqa: B023
        painter.close()
    assert [record.message for record in caplog.records] == ["the strip of trial 0 is not drawn: no paint"]


def test_a_stop_while_it_rests_is_obeyed_at_once(album: Album, painter: Painter) -> None:
    painter.show(progress(1))
    wait_for(lambda: hung(album))
    painter.close()
    assert painter.thread is not None and not painter.thread.is_alive()


def test_a_trial_without_a_validated_epoch_has_its_curves_alone(album: Album, tmp_path: Path) -> None:
    trial = Trial(album.recipe, album.data, tmp_path / "other")
    outcome = trial.train(lambda: "pruned")
    leave(album, outcome, explained=True)
    assert names(album) == ["curves.png"]


def test_a_model_that_cannot_be_explained_fails_no_trial(
    album: Album, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []

    def broken(model: object, images: list[object]) -> None:
        given.extend(images)
        raise RuntimeError("no layer")

    monkeypatch.setattr("tuner.export.gradcam.explain", broken)
    outcome = Trial(album.recipe, album.data, tmp_path / "other").train()
    with caplog.at_level(logging.WARNING, logger="tuner"):
        explain(album, outcome)
    assert "trial 0 is not explained: no layer" in caplog.text and len(given) == 4
    assert outcome.examples is not None and not album.run.explanation.exists()
    ranked = [outcome.examples.positions[kind][0] for kind in ("worst", "median", "best")]
    expected = [album.image(at)[0] for at in (*ranked, outcome.examples.positions["worst"][1])]
    pairs = zip(given, expected, strict=True)
    assert all((one == other).all() for one, other in pairs)  # type: ignore[attr-defined]
