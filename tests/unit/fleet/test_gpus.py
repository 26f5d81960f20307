"""Which GPUs there are and which are broken, from what CUDA and nvidia-smi say."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.fake_nvidia_smi import DIVIDED, WHOLE, smi

from tuner.errors import FailureKind, FleetError, TrialFailed
from tuner.fleet import gpus


def host(folder: Path, monkeypatch: pytest.MonkeyPatch, listed: str, memory: str = "") -> None:
    monkeypatch.setenv("PATH", smi(folder, listed, memory))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("given", "names"),
    [("2,5", ["2", "5"]), ("", []), ("-1", []), ("0,-1,1", ["0"]), (" GPU-4f1e , MIG-aa", ["GPU-4f1e", "MIG-aa"])],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(
    given: str, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert gpus.visible_gpus() == names == gpus.select_gpus(None)


def test_without_that_the_driver_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host(tmp_path, monkeypatch, WHOLE)
    assert gpus.visible_gpus() == ["0", "1"]


def test_a_divided_gpu_is_used_by_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host(tmp_path, monkeypatch, DIVIDED)
    parts = [f"MIG-{letter * 8}-0000-0000-0000-000000000000" for letter in "ab"]
    assert gpus.visible_gpus() == [*parts, "1"]
    assert gpus.select_gpus("MIG-bbbb,2") == [parts[1], "1"]


def test_without_a_driver_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.visible_gpus() == [] and gpus.read_memory("0") is None


def test_numbers_are_places_among_the_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,GPU-4f1e8f0c")
    assert gpus.select_gpus("all") == ["2", "5", "GPU-4f1e8f0c"]
    assert gpus.select_gpus("2, 0") == ["GPU-4f1e8f0c", "2"]
    assert gpus.select_gpus("GPU-4f1e") == ["GPU-4f1e8f0c"]


@pytest.mark.parametrize(
    ("visible", "given", "told"),
    [
        ("2,5", "3", r"^--gpus 3: no GPU '3'\. Visible here \(CUDA_VISIBLE_DEVICES=2,5\): 0 to 1"),
        ("7", "0,first", r"no GPU 'first'.*: 0\. Or say --gpus all"),
        ("2,5", "", "no GPU ''"),
        ("2,5", "1,1", "names GPU 5 twice. --per-gpu 2"),
        ("2,5", "-1", "no GPU '-1'"),
        ("", "0", r"^--gpus 0: no GPU is visible here \(CUDA_VISIBLE_DEVICES=''\)\. Leave"),
        ("", "all", "no GPU is visible here"),
    ],
)
def test_a_gpu_that_is_not_there_is_told(
    visible: str, given: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with pytest.raises(FleetError, match=told):
        gpus.select_gpus(given)


def test_memory_is_read_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host(tmp_path, monkeypatch, WHOLE, "143771, 4\n")
    assert gpus.read_memory("0") == gpus.GpuMemory(143771 * 2**20, 4 * 2**20)


@pytest.mark.parametrize("said", ["[N/A], [N/A]\n", "", "No devices were found\n", "1,2,3\n"])
def test_memory_that_is_not_told_is_none(said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host(tmp_path, monkeypatch, WHOLE, said)
    assert gpus.read_memory("0") is None


def test_the_memory_of_a_part_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host(tmp_path, monkeypatch, DIVIDED, "40960, 1\n")  # what it answers is of the whole GPU
    assert gpus.read_memory("MIG-aaaaaaaa-0000-0000-0000-000000000000") is None


ADVICE = "\nCUDA kernel errors might be asynchronously reported at some other API call."
BROKEN = (
    "CUDA error: uncorrectable ECC error encountered",
    "CUDA error: CUDA-capable device(s) is/are busy or unavailable",
    "CUDA error: all CUDA-capable devices are busy or unavailable",
    "CUDA error: no CUDA-capable device is detected",
    "CUDA error: uncorrectable NVLink error detected during the execution",
    "CUDA error: initialization error",
    "CUDA error: unknown error",
    "CUDA unknown error - this may be due to an incorrectly set up environment",
    "No CUDA GPUs are available",
    "Unable to determine the device handle for GPU 0000:3B:00.0: GPU is lost",
    "CUDA driver: GPU has fallen off the bus",
)
POISONED = (
    "CUDA error: device-side assert triggered",
    "CUDA error: an illegal memory access was encountered",
    "CUDA error: misaligned address",
    "CUDA error: unspecified launch failure",  # most often a program's own fault, says CUDA
    "CUDA error: hardware stack error",
    "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`",
    "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
)
NEITHER = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 1.00 GiB",
    "CUDA error: out of memory",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "CUDA error: no kernel image is available for execution on the device",
    "CUDA error: invalid device ordinal",
    "CUDA error: invalid argument",
    "unknown error",
    "The size of tensor a (3) must match the size of tensor b (4)",
)


@pytest.mark.parametrize("said", BROKEN)
def test_a_broken_gpu_is_known_by_what_cuda_says(said: str) -> None:
    error = RuntimeError(said + ADVICE)
    assert gpus.is_broken(error) and not gpus.is_process_unusable(error)


@pytest.mark.parametrize("said", POISONED)
def test_a_poisoned_process_is_told_from_a_broken_gpu(said: str) -> None:
    error = RuntimeError(said + ADVICE)
    assert gpus.is_process_unusable(error) and not gpus.is_broken(error)


@pytest.mark.parametrize("said", NEITHER)
def test_what_is_a_trials_own_fault_is_neither(said: str) -> None:
    error = RuntimeError(said + ADVICE)
    assert not gpus.is_broken(error) and not gpus.is_process_unusable(error)


def test_the_error_behind_an_error_counts() -> None:
    try:
        try:
            raise RuntimeError(BROKEN[0])
        except RuntimeError as error:
            raise TrialFailed(FailureKind.UNKNOWN, "could not go on") from error
    except TrialFailed as failed:
        assert gpus.is_broken(failed)


def test_a_circle_of_errors_ends() -> None:
    one, two = RuntimeError("one"), RuntimeError("two")
    one.__context__, two.__context__ = two, one
    assert not gpus.is_broken(one)


def test_only_errors_of_the_kind_that_torch_raises_count() -> None:
    assert not gpus.is_broken(ValueError(BROKEN[0]))
