"""When a GPU counts as broken because workers die on it."""

from __future__ import annotations

from tuner.fleet.gpus import GpuQuarantine


def test_three_deaths_in_a_row_on_different_trials_close_a_gpu() -> None:
    quarantine = GpuQuarantine()
    assert [quarantine.record_death("1", trial) for trial in (4, 5, 6)] == [False, False, True]
    assert "3 workers in a row died on it" in quarantine.closed["1"]


def test_a_trial_that_kills_its_workers_is_no_fault_of_the_gpu() -> None:
    quarantine = GpuQuarantine()
    assert not any(quarantine.record_death("1", 4) for _ in range(10))


def test_a_trial_that_ended_between_shows_that_the_gpu_works() -> None:
    quarantine = GpuQuarantine()
    for trial in range(10):
        assert not quarantine.record_death("1", trial)
        quarantine.record_success("1")


def test_deaths_before_any_trial_count_each() -> None:
    quarantine = GpuQuarantine()
    assert [quarantine.record_death("1", None) for _ in range(3)] == [False, False, True]


def test_each_gpu_counts_for_itself() -> None:
    quarantine = GpuQuarantine()
    assert not any(quarantine.record_death(gpu, trial) for trial in (1, 2) for gpu in "0123")


def test_the_line_says_which_gpu_and_why_and_what_to_do() -> None:
    quarantine = GpuQuarantine()
    quarantine.close("1", "CUDA error: uncorrectable ECC error encountered")
    quarantine.close("1", "something that came after")
    line = quarantine.closing_message("1", 3)
    assert line.startswith("GPU 1 is broken or busy: CUDA error: uncorrectable ECC error encountered. ")
    assert "The other 3 go on. Look at it with nvidia-smi" in line and "--gpus" in line
    assert "The other one goes on" in quarantine.closing_message("1", 1)
    assert "No GPU is left" in quarantine.closing_message("1", 0)
