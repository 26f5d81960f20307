"""What only a GPU can show. Skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tuner.data.cache import CachedDataset, load_cached
from tuner.data.survey import survey
from tuner.data.synthetic.shapes import shapes
from tuner.fleet import gpus
from tuner.goal import maximize
from tuner.paths import Run
from tuner.recipe import Recipe, use
from tuner.train.loop import EpochReport, TrainingOutcome, train
from tuner.train.memory import MicroBatches

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine"),
]


@pytest.fixture
def data(tmp_path: Path) -> CachedDataset:
    source = shapes()
    return load_cached(source, survey(source, tmp_path).fingerprint, 64, tmp_path)


def run(data: CachedDataset, folder: Path, **changes: object) -> tuple[TrainingOutcome, list[EpochReport]]:
    parts = {"model": use("unet", k=8), "epochs": 8, **changes}
    recipe = Recipe(
        "binary", use("shapes", image_size=64), loss=use("bce"), optimizer=use("adam", lr=3e-3), **parts
    )
    reports: list[EpochReport] = []
    outcome = train(
        recipe,
        maximize("iou"),
        data,
        Run(folder / "run").make(),
        device=torch.device("cuda"),
        micro_batches=MicroBatches(folder / "micro.json"),
        on_epoch=reports.append,
    )
    return outcome, reports


def test_a_trial_learns_in_bfloat16(data: CachedDataset, tmp_path: Path) -> None:
    outcome, reports = run(data, tmp_path)
    assert outcome.dtype == "bfloat16"
    assert reports[-1].metrics["train_loss"] < reports[0].metrics["train_loss"]
    assert 0 < reports[0].peak_memory < torch.cuda.get_device_properties(0).total_memory


def test_a_finished_trial_leaves_no_memory_behind(data: CachedDataset, tmp_path: Path) -> None:
    from tuner.train.memory import release

    before = torch.cuda.memory_allocated()
    run(data, tmp_path, epochs=1)
    release(torch.device("cuda"))
    assert torch.cuda.memory_allocated() <= before + 2**20


def test_out_of_memory_is_answered_by_smaller_pieces(data: CachedDataset, tmp_path: Path) -> None:
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(2**30 / total)
    try:
        outcome, reports = run(data, tmp_path, model=use("unet", k=64), epochs=1, batch_size=96, precision="fp32")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert outcome.end == "finished" and len(reports) == 1
    assert outcome.micro < 96


def test_the_fleet_sees_the_gpus_that_torch_sees() -> None:
    assert len(gpus.visible_gpus()) == torch.cuda.device_count()
