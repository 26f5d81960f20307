"""Whatever the code of a space does, it ends as one error, and nothing of it is left."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil
import pytest
from helpers.command_line import write_space
from helpers.fork_server import run_code

from tuner.errors import SpaceError, TableError
from tuner.space import child
from tuner.space.child import SpaceProcess
from tuner.space.drawing import Choice, inspect_space

pytestmark = pytest.mark.usefixtures("own_folders")

ENDS = {
    "a loop": ("while True: pass", "took more than 0.5 s to load it and draw 64 recipes, and was stopped"),
    "a sleep": ("import time; time.sleep(1e6)", "Allow more with --timeout"),
    "much memory": (
        "x = b'a' * 900_000_000; import time; time.sleep(1e6)",
        "than 0.25 GB of memory",
    ),
    "exit 0": (
        "import os; os._exit(0)",
        "process that was to load it and draw 64 recipes, with exit code 0",
    ),
    "exit 7": ("import os; os._exit(7)", "with exit code 7"),
    "a crash": ("import ctypes; ctypes.string_at(0)", "crashed the process that was to"),
    "an abort": ("import os; os.abort()", "(SIGABRT)"),
    "a kill": ("import os; os.kill(os.getpid(), 9)", "was killed. Was there too little memory?"),
    "all files closed": ("import os, time; os.closerange(0, 99); time.sleep(1e6)", "closed the files of"),
    "BaseException": ("raise BaseException('mine')", "BaseException: mine (line 11)"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "KeyboardInterrupt:  (line 11)"),
    "SystemExit": ("raise SystemExit(3)", "SystemExit: 3 (line 11)"),
    "an error without text": ("class E(Exception):\n        __str__ = None\n    raise E", "E:  (line 13)"),
    "a long error": ("raise ValueError('m' * 10**6)", "characters) ... mmm"),
    "a thread that stays": (
        "import threading, time\n    threading.Thread(target=time.sleep, args=(99,)).start()",
        "",
    ),
    "a process that stays": ("import os, time\n    ONCE and (ONCE.pop(), os.fork() or time.sleep(1e6))", ""),
    "a process that goes on": ("import os\n    ONCE and (ONCE.pop(), os.fork())", ""),
    "another folder": ("import os; os.chdir('/')", ""),
    "input": ("input()", "EOFError: EOF when reading a line (line 11)"),
}
SECOND = {
    "exit 0",
    "an abort",
    "KeyboardInterrupt",
    "SystemExit",
    "a long error",
    "a process that goes on",
    "another folder",
}


@pytest.fixture
def own_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave where modules of the user's own are found as it was."""
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setattr("tuner.registry.own_modules.OWN_FOLDERS", {})


def inspect(path: Path, timeout: float = 20.0, check: bool = False, **limits: int) -> str:
    """The error of a space, or ""."""
    try:
        with SpaceProcess(path, timeout, **limits) as process:
            if check:
                inspect_space(process, Choice())
            else:
                draw = "tuner.space.drawing:draw"
                process.call(draw, "load it and draw 64 recipes", space=str(path), choice={})
    except SpaceError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SECOND else []) for name in ENDS]
)
def test_every_end_is_one_error(name: str, tmp_path: Path) -> None:
    body, said = ENDS[name]
    path = write_space(tmp_path, extra=f"    {body}\n")
    path.write_text(f"{path.read_text()}\n\nONCE = [1]\n")
    limited = name in ("a loop", "a sleep", "much memory")
    before = set(psutil.Process().children(recursive=True))
    told = inspect(path, *([0.5 if "memory" not in name else 20.0] if limited else []), most_memory=1 << 28)
    assert told.startswith(str(path) if said else "") and said in told and len(told) < 700
    assert (told == "") == (said == "")
    assert set(psutil.Process().children(recursive=True)) <= before


def test_a_module_that_never_ends_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("while True: pass\n")
    assert "took more than 0.2 s" in inspect(path, 0.2)


def test_an_own_model_that_never_ends_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text("def net(channels, classes):\n    while True: pass\n")
    path = write_space(tmp_path, model='use("endless:net")')
    assert "took more than 2 s to check its recipes" in inspect(path, 2.0, check=True)


def test_what_a_space_prints_is_shown_within_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect(write_space(tmp_path, extra="    print('drawn')\n")) == ""
    told = capsys.readouterr()
    assert told.out == "" and told.err.splitlines()[:2] == ["drawn", "drawn"]
    assert told.err.splitlines()[-1] == "... and 42 more lines"
    flood = "    import sys; sys.stderr.write('y' * 10**7); print('\\x1b[31m' * 1000)\n"
    assert inspect(write_space(tmp_path, extra=flood)) == ""
    assert len(capsys.readouterr().err) < 1000


def test_nothing_of_the_code_reaches_this_process(tmp_path: Path) -> None:
    lines = "    import os, sys\n    os.environ['MINE'] = 'x'; os.umask(0); sys.setrecursionlimit(5000)\n"
    before = (dict(os.environ), sys.getrecursionlimit(), set(sys.modules))
    assert inspect(write_space(tmp_path, extra=lines, name="secluded"), check=True) == ""
    assert before[:2] == (dict(os.environ), sys.getrecursionlimit())
    assert not [name for name in sys.modules if "secluded" in name]


def test_the_process_is_gone_with_the_command(tmp_path: Path) -> None:
    path = write_space(tmp_path, extra="    while True: pass\n")
    code = (
        "import os, sys, time\nfrom pathlib import Path\nfrom tuner.space.child import SpaceProcess, send\n"
        "process = SpaceProcess(Path(sys.argv[1]))\nprocess.start()\n"
        "args = {'space': sys.argv[1], 'choice': {}}\n"
        "send(process.connection, {'function': 'tuner.space.drawing:draw', 'args': args, 'path': ''})\n"
        "print(process.pid, flush=True)\ntime.sleep(1)\nos.kill(os.getpid(), 9)\n"
    )
    done = run_code(code, path)
    pid, end = int(done.stdout), time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_it_starts_anew_where_a_fork_is_not_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "can_fork", lambda: False)
    path = write_space(tmp_path, extra="    assert 'pytest' not in __import__('sys').modules\n    1 // 0\n")
    assert "ZeroDivisionError" in inspect(path)


def test_errors_keep_their_class(tmp_path: Path) -> None:
    path, table = write_space(tmp_path), tmp_path / "few.toml"
    table.write_text('space = "tiny.py"\nmetric = "iou"\n[[rows]]\nparams = { x = 1 }\npublished = 1\n')
    with pytest.raises(TableError, match="unknown parameter 'x'"), SpaceProcess(path) as process:
        inspect_space(process, Choice(str(table)))
