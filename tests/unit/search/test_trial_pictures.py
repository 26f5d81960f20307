"""The strip of a running trial: drawn in a thread, saved under one id, without delaying the training."""

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

from tuner.artifacts.optuna_store import TrialArtifacts
from tuner.data.cache import CachedDataset
from tuner.paths import Home, Run
from tuner.recipe import Recipe
from tuner.search import trial_pictures
from tuner.search.trial_pictures import StripThread, TrialPictures, write_explanation, write_pictures
from tuner.train.loop import Progress


@pytest.fixture
def pictures(toy_recipe: Recipe, toy_data: CachedDataset, tmp_path: Path) -> TrialPictures:
    asked = optuna.create_study().ask()
    artifacts = TrialArtifacts(Home(tmp_path / "home").make())
    return TrialPictures(asked, toy_recipe, toy_data, Run(tmp_path / "run").make(), artifacts)


@pytest.fixture
def strip_thread(pictures: TrialPictures) -> Iterator[StripThread]:
    made = StripThread(pictures)
    yield made
    made.close()


def progress(epochs: int) -> Progress:
    frame = torch.full((32, 32), 200, dtype=torch.uint8)
    return Progress(frames=dict.fromkeys(range(1, epochs + 1), frame), best_epoch=1)


def hung(pictures: TrialPictures) -> list[Path]:
    return sorted(pictures.artifacts.home.artifacts.iterdir())


def names(pictures: TrialPictures) -> list[str]:
    return [meta.filename for meta in get_all_artifact_meta(pictures.trial)]


def test_the_strip_grows_under_one_name(
    pictures: TrialPictures, strip_thread: StripThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_pictures, "MIN_PAUSE", 0.0)
    monkeypatch.setattr(trial_pictures, "DRAWING_SHARE", 1e9)
    strip_thread.show(progress(1))
    (file,) = wait_for(lambda: hung(pictures))
    first = wait_for(file.read_bytes)
    strip_thread.show(progress(5))
    assert wait_for(lambda: file.read_bytes() != first)
    strip_thread.close()
    assert names(pictures) == ["strip.png"] and hung(pictures) == [file]
    assert pictures.run.strip.read_bytes() == file.read_bytes() and len(list(pictures.run.folder.iterdir())) == 1


def test_another_attempt_goes_on_under_the_same_name(pictures: TrialPictures, strip_thread: StripThread) -> None:
    strip_thread.show(progress(1))
    wait_for(lambda: hung(pictures))
    strip_thread.close()
    again = StripThread(pictures)
    again.show(progress(2))
    again.close()
    assert again.artifact_id == strip_thread.artifact_id and names(pictures) == ["strip.png"]


def test_who_shows_never_waits_and_only_the_newest_is_drawn(
    pictures: TrialPictures, strip_thread: StripThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, drawn = threading.Event(), []

    def slow(pictures: TrialPictures, frames: dict[int, object], best: int, is_late: Callable[[], bool]) -> None:
        drawn.append(len(frames))
        assert going.wait(60)

    monkeypatch.setattr(trial_pictures, "write_strip", slow)
    monkeypatch.setattr(trial_pictures, "MIN_PAUSE", 0.0)
    strip_thread.show(progress(1))
    wait_for(lambda: drawn)
    for epochs in range(2, 8):
        strip_thread.show(progress(epochs))
    assert drawn == [1]
    going.set()
    wait_for(lambda: len(drawn) == 2)
    assert drawn == [1, 7]


def test_a_drawing_that_is_late_leaves_the_last_strip_alone(
    pictures: TrialPictures, strip_thread: StripThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial ends while its strip is drawn: each drawing has its own temporary file, and the last one stays."""
    drawing, going = threading.Event(), threading.Event()
    plain = trial_pictures.draw_strip

    def slow(image: Any, truth: Any, frames: Any, best: int, path: Path, *more: Any) -> None:
        plain(image, truth, frames, best, path, *more)
        if threading.current_thread() is strip_thread.thread:
            drawing.set()
            assert going.wait(60)

    monkeypatch.setattr(trial_pictures, "draw_strip", slow)
    monkeypatch.setattr(trial_pictures, "CLOSE_SECONDS", 0.0)
    strip_thread.show(progress(1))
    assert drawing.wait(60)
    strip_thread.close()
    trial_pictures.write_strip(pictures, progress(5).frames, 1)
    last = pictures.run.strip.read_bytes()
    going.set()
    assert strip_thread.thread
    strip_thread.thread.join(60)
    assert pictures.run.strip.read_bytes() == last and list(pictures.run.folder.iterdir()) == [pictures.run.strip]
    assert not hung(pictures)


def test_an_error_is_logged_once_and_ends_nothing(
    pictures: TrialPictures,
    strip_thread: StripThread,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tried: list[int] = []

    def broken(*_: object) -> None:
        tried.append(1)
        raise ValueError("no paint")

    monkeypatch.setattr(trial_pictures, "write_strip", broken)
    monkeypatch.setattr(trial_pictures, "MIN_PAUSE", 0.0)
    with caplog.at_level(logging.WARNING, logger="tuner"):
        for number in (1, 2, 3):
            strip_thread.show(progress(number))
            wait_for(lambda: len(tried) >= number)  # noqa: B023
        strip_thread.close()
    assert [record.message for record in caplog.records] == ["the strip of trial 0 cannot be drawn: no paint"]


def test_a_stop_while_it_rests_is_obeyed_at_once(pictures: TrialPictures, strip_thread: StripThread) -> None:
    strip_thread.show(progress(1))
    wait_for(lambda: hung(pictures))
    strip_thread.close()
    assert strip_thread.thread is not None and not strip_thread.thread.is_alive()


def test_a_trial_without_a_validated_epoch_has_its_curves_alone(pictures: TrialPictures, tmp_path: Path) -> None:
    trial = Trial(pictures.recipe, pictures.data, tmp_path / "other")
    outcome = trial.train(lambda: "pruned")
    write_pictures(pictures, outcome, is_explained=True)
    assert names(pictures) == ["curves.png"]


def test_a_model_that_cannot_be_explained_fails_no_trial(
    pictures: TrialPictures, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []

    def broken(model: object, images: list[object]) -> None:
        given.extend(images)
        raise RuntimeError("no layer")

    monkeypatch.setattr("tuner.export.gradcam.explain", broken)
    outcome = Trial(pictures.recipe, pictures.data, tmp_path / "other").train()
    with caplog.at_level(logging.WARNING, logger="tuner"):
        write_explanation(pictures, outcome)
    assert "trial 0 cannot be explained: no layer" in caplog.text and len(given) == 6
    assert outcome.examples is not None and not pictures.run.explanation.exists()
    shown = outcome.examples.positions
    kinds = ("worst", "median", "best", "random")
    ranked = [shown[kind][rank] for rank in range(3) for kind in kinds]
    expected = [pictures.image(at)[0] for at in dict.fromkeys(ranked)]
    pairs = zip(given, expected[:6], strict=True)
    assert all((one == other).all() for one, other in pairs)  # type: ignore[attr-defined]
