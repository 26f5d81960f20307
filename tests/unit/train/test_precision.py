"""bf16 where the hardware gains, fp32 elsewhere, and as the recipe insists."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tuner.errors import PartError
from tuner.train import precision
from tuner.train.precision import device_name, find_device, has_amx, has_fast_bf16, resolve_dtype
from tuner.wording import pluralize

CPU = torch.device("cpu")


@pytest.mark.parametrize(("amx", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_on_a_processor_follows_its_matrix_unit(
    amx: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_amx", lambda: amx)
    assert resolve_dtype("auto", CPU) is dtype


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_on_a_gpu_does_not_emulate(native: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation)
    assert resolve_dtype("auto", torch.device("cuda")) is dtype


def test_auto_on_any_other_device_is_fp32() -> None:
    assert not has_fast_bf16(torch.device("meta"))


@pytest.mark.parametrize("amx", [True, False])
def test_a_recipe_may_insist(amx: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "has_amx", lambda: amx)
    assert resolve_dtype("fp32", CPU) is torch.float32
    assert resolve_dtype("bf16", CPU) is torch.bfloat16


def test_an_unknown_precision_is_told_the_near_one() -> None:
    with pytest.raises(PartError, match=r"precision is 'fp23'. Did you mean 'fp32'\? Known: auto, fp32, bf16"):
        resolve_dtype("fp23", CPU)


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux tells its processor's features here")
def test_amx_is_what_the_processor_says() -> None:
    assert has_amx() == (" amx_bf16" in Path("/proc/cpuinfo").read_text())


def test_a_processor_is_named_with_its_threads() -> None:
    assert device_name(CPU) == f"cpu, {pluralize(torch.get_num_threads(), 'thread')}"


def test_without_a_gpu_the_processor_is_used() -> None:
    assert find_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin processes")
@pytest.mark.slow
def test_a_worker_keeps_to_its_cores() -> None:
    """In a process of its own: it would pin the tests."""
    core = min(os.sched_getaffinity(0))
    code = (
        "import os, torch\nfrom tuner.train.precision import pin_to_cores\n"
        f"pin_to_cores([{core}])\nprint(os.sched_getaffinity(0), torch.get_num_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{{{core}}} 1"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_named_as_people_call_it() -> None:
    assert device_name(find_device()) == torch.cuda.get_device_name(0)
