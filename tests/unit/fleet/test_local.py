"""A local slot: its worker is a separate, pinned process, and its reported error is kept."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers.command_line import wait_for

from tuner.errors import FilesError
from tuner.fleet.config import WorkerConfig
from tuner.fleet.local import LocalSlot
from tuner.paths import Home

ORDERS = WorkerConfig("sqlite:////nowhere.db", "s", "", "/nowhere")
TELL = """
import json, os, sys, time
orders = json.loads(sys.stdin.readline())
print("a library prints what it likes")
seen = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "OMP_NUM_THREADS")}
print(json.dumps({"error": json.dumps({"orders": orders, "env": seen})}), flush=True)
"""


def worker(folder: Path, code: str) -> dict[str, str]:
    """Return an environment in which `python -m tuner.search.worker` runs this code."""
    package = folder / "code" / "tuner" / "search"
    package.mkdir(parents=True)
    for made in (package, package.parent):
        (made / "__init__.py").touch()
    (package / "worker.py").write_text(code)
    return {"PYTHONPATH": str(folder / "code")}


def shell_slot(folder: Path, code: str, number: int = 1, **options: Any) -> LocalSlot:
    """Return a slot whose worker runs this code in a new interpreter."""
    return LocalSlot(number, Home(folder), env=worker(folder, code), folder=folder, forks=False, **options)


def said(slot: LocalSlot) -> str:
    slot.start(ORDERS)
    wait_for(lambda: slot.poll() is not None)
    return slot.last_words()


def test_a_slot_on_a_gpu_shows_its_worker_that_gpu_alone(tmp_path: Path) -> None:
    slot = LocalSlot(
        3, Home(tmp_path), gpu="GPU-4f1e", share=0.5, env=worker(tmp_path, TELL), folder=tmp_path, forks=False
    )
    words = said(slot)
    assert '"CUDA_VISIBLE_DEVICES": "GPU-4f1e", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"' in words
    assert '"gpu": "GPU-4f1e", "gpu_share": 0.5' in words


def test_a_slot_on_cores_tells_its_worker_which(tmp_path: Path) -> None:
    words = said(shell_slot(tmp_path, TELL, number=0, cores=[4, 5]))
    assert '"OMP_NUM_THREADS": "2"' in words and '"cores": [4, 5]' in words and '"gpu": ""' in words


def test_a_bug_names_the_log_where_its_traceback_is(tmp_path: Path) -> None:
    code = 'import sys\nprint(\'{"bug": "KeyError: 3"}\')\nprint("trace", file=sys.stderr)\nsys.exit(1)'
    slot = shell_slot(tmp_path, code, number=1)
    assert said(slot).endswith(
        f"a worker failed with a bug: KeyError: 3. The trial was marked as failed; the traceback is in {slot.log}"
    )
    assert Path(slot.log).read_text() == "trace\n"


def test_a_worker_that_says_nothing_has_no_last_words_and_its_code_is_kept(tmp_path: Path) -> None:
    slot = LocalSlot(1, Home(tmp_path), env=worker(tmp_path, "raise SystemExit(75)"), folder=tmp_path, forks=False)
    slot.start(ORDERS)
    assert wait_for(slot.poll) == 75
    assert slot.last_words() == "" and slot.poll() is None
    slot.start(ORDERS)  # and another one may sit there
    assert wait_for(slot.poll) == 75
    slot.last_words()


ENDLESS = (
    "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nopen('up', 'w')\nwhile True: time.sleep(1)"
)


@pytest.mark.parametrize(("way", "number"), [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)])
def test_a_worker_is_stopped_or_killed(way: str, number: int, tmp_path: Path) -> None:
    slot = shell_slot(tmp_path, ENDLESS, number=1)
    getattr(slot, way)()  # nobody sits there yet: nothing to do
    slot.start(ORDERS)
    wait_for((tmp_path / "up").exists)
    assert slot.process and os.getsid(slot.process.pid) == slot.process.pid  # Ctrl-C reaches the fleet alone
    getattr(slot, way)()
    assert wait_for(slot.poll) == -number
    assert not psutil.pid_exists(slot.process.pid)
    slot.last_words()


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("in the way")
    with pytest.raises(FilesError, match="is a file where a folder is needed"):
        LocalSlot(1, Home(tmp_path)).start(ORDERS)
