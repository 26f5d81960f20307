"""The number of workers on a GPU, from the memory that the first one uses."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.fake_nvidia_smi import smi

from tuner.fleet.gpus import MEBI, GpuMemory, read_memory
from tuner.fleet.placement import CONTEXT, MOST, GpuSharing, count_fitting, foresee_nothing
from tuner.paths import Home

GIGA = 2**30


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def sharing(tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> GpuSharing:
    """Two GPUs of 10 GiB, of which other programs use one."""
    monkeypatch.setenv("PATH", smi(tmp_path / "bin", memory="10240, 1024\n"))
    memory = {gpu: read_memory(gpu) for gpu in ("0", "1")}
    return GpuSharing(Home(tmp_path), said.append, memory, 2, foresee_nothing)


def test_nothing_is_decided_before_a_worker_has_trained(sharing: GpuSharing, said: list[str]) -> None:
    assert sharing.grow({}) == sharing.grow({"0": 0, "1": 0, "": 5}) == said == []


def test_as_many_as_fit_share_a_gpu_and_it_is_said_once(sharing: GpuSharing, said: list[str]) -> None:
    slots = sharing.grow({"0": 5 * GIGA // 2 - CONTEXT, "1": 0})
    assert [(slot.number, slot.gpu) for slot in slots] == [(2, "0"), (3, "0")]  # 3 times 2.5 of 9 - 1 GiB
    assert said == ["GPU 0: 3 workers. One takes up to 2.5 GB of 10.0 GB, others take 1.0 GB, 10% stays free"]
    assert sharing.grow({"0": 1, "1": 0}) == []


def test_each_gpu_is_decided_about_for_itself(sharing: GpuSharing) -> None:
    first = sharing.grow({"1": 3 * GIGA, "0": 0})
    second = sharing.grow({"1": 3 * GIGA, "0": 3 * GIGA})
    assert [(slot.number, slot.gpu) for slot in [*first, *second]] == [(2, "1"), (3, "0")]


def test_what_the_gpu_itself_says_counts_where_it_is_more(
    sharing: GpuSharing, tmp_path: Path, said: list[str]
) -> None:
    (tmp_path / "bin" / "memory").write_text("10240, 5120\n")  # 4 GiB more than before the first worker came
    assert len(sharing.grow({"0": 1 * GIGA})) == 1
    assert "One takes up to 4.0 GB" in said[0]


def test_those_that_come_later_count_nothing_in_the_budget_of_gpu_hours(sharing: GpuSharing) -> None:
    assert {slot.share for slot in sharing.grow({"0": GIGA})} == {0.0}


def test_without_an_answer_it_stays_at_one(sharing: GpuSharing, tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "bin" / "memory").write_text("[N/A], [N/A]\n")
    assert sharing.grow({"0": GIGA}) == []
    assert said == ["GPU 0: one worker, its memory cannot be read (nvidia-smi). Say --per-gpu N for more."]


@pytest.mark.parametrize(
    ("total", "used", "each", "number"),
    [(10, 0, 3, 3), (10, 0, 9, 1), (10, 0, 20, 1), (10, 9, 1, 1), (1000, 0, 1, MOST), (20, 4, 7, 2)],
)
def test_a_tenth_stays_free_and_one_is_the_least_and_eight_the_most(
    total: int, used: int, each: int, number: int
) -> None:
    assert count_fitting(GpuMemory(total * MEBI, used * MEBI), each * MEBI) == number


def test_the_largest_recipe_that_is_foreseen_counts_where_it_is_more(sharing: GpuSharing, said: list[str]) -> None:
    sharing.foresee = lambda: 4 * GIGA - CONTEXT
    assert len(sharing.grow({"0": 1 * GIGA})) == 1  # twice 4 of 9 - 1 GiB
    assert "One takes up to 4.0 GB" in said[0]
