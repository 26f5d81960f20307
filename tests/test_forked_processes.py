"""A process that forks is as one that starts: what the tests of the command line rest on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from helpers.command_line import children, home_url, running, wait_for, worker_pids, write_space
from helpers.fork_server import AVAILABLE, ForkedPopen, run_code, start_python

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="forks become children of their client on Linux only")
SELF = """
import json, os, random, sys
import numpy, torch
print(json.dumps({
    "argv": sys.argv, "cwd": os.getcwd(), "env": dict(os.environ), "path": sys.path, "parent": os.getppid(),
    "session": os.getsid(0), "pid": os.getpid(), "threads": torch.get_num_threads(), "name": __name__,
    "draws": [random.random(), float(numpy.random.rand())], "files": len(os.listdir("/proc/self/fd")),
    "cuda": torch.cuda.is_initialized(),
}))
"""


def test_it_has_its_own_arguments_folder_environment_and_path(tmp_path: Path) -> None:
    env = {"HOME": "/nowhere", "PYTHONPATH": f"{tmp_path}/code", "OMP_NUM_THREADS": "2"}
    kwargs = {"cwd": tmp_path, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    with start_python("", "a", "b", code=SELF, env={**env}, **kwargs) as process:
        told = json.loads(process.communicate()[0])
    assert process.returncode == 0
    assert told["argv"] == ["-c", "a", "b"] and told["name"] == "__main__" and told["cwd"] == str(tmp_path)
    assert told["env"] == env and told["threads"] == 2 and not told["cuda"]
    assert told["path"][:2] == [str(tmp_path), f"{tmp_path}/code"]
    assert str(Path(__file__).parent) not in told["path"]
    assert told["pid"] == told["session"] == process.pid and told["parent"] == os.getpid()
    assert told["files"] == 4  # the standard ones, and the folder that is listed


def test_no_two_draw_the_same() -> None:
    first, second = (json.loads(run_code(SELF).stdout)["draws"] for _ in range(2))
    assert not {*first} & {*second}


@pytest.mark.parametrize(
    ("code", "ends", "said"),
    [
        ("pass", 0, ""),
        ("raise SystemExit(75)", 75, ""),
        ("raise SystemExit('why')", 1, "why"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL, ""),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt"),
        ("import atexit, sys; atexit.register(print, 'late', file=sys.stderr)", 0, "late"),
    ],
)
def test_it_ends_as_any_process(code: str, ends: int, said: str) -> None:
    done = run_code(code)
    real = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == real.returncode == ends
    assert said in done.stderr and said in real.stderr


def test_it_can_be_killed_and_waited_for() -> None:
    with ForkedPopen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        assert process.poll() is None
        process.terminate()
        assert process.wait(20) == -signal.SIGTERM


def test_what_a_killed_command_leaves_ends_by_itself(tmp_path: Path) -> None:
    write_space(tmp_path, epochs=400)
    search = ["run", "--space", tmp_path / "tiny.py", "--home", tmp_path / "home"]
    with running(tmp_path, *search) as fleet:
        (pid,) = wait_for(lambda: worker_pids(home_url(tmp_path / "home")), fleet)
        worker = psutil.Process(pid)
        assert worker.ppid() == fleet.pid and [child.pid for child in children(fleet.pid)] == [pid]
        beside = psutil.Process(fleet.pid).children()
        fleet.kill()
        assert psutil.wait_procs(beside, timeout=60)[1] == []
