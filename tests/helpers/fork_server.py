"""Processes that fork from one which has imported torch and all of ours: milliseconds instead of seconds.

`ForkedPopen` is `subprocess.Popen` for `python -m ...` and `python -c ...` without the start of an interpreter:
the process has its own pid, pipes, environment, folder and exit code, and is a child of the caller. A command that
starts workers has a server beside it, from which they fork in turn. What depends on the start of an interpreter
(light imports, installed packages) belongs in a real process.

The server runs one thread and opens nothing. It ends when the process that started it does.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import inspect
import json
import os
import pkgutil
import resource
import runpy
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36
NAME = "fork-server"  # of the process beside a command
LENGTH = struct.Struct("!I")
STARTS_WORKERS = {"run", "extend"}
FORKABLE = sys.platform == "linux"
ALSO = (  # what is imported at the first use only
    "albumentations",
    "matplotlib.backends.backend_agg",
    "matplotlib.pyplot",
    "plotly.graph_objects",
    "psycopg",
    "pymysql",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.mysql.pymysql",
    "torch._refs",
    "torch.fx.experimental.symbolic_shapes",
)
Order = dict[str, Any]


@dataclass
class ForkServer:
    """The client's side of a server."""

    connection: socket.socket
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fork(self, order: Order, files: Sequence[int]) -> int:
        """Start what is ordered with these three standard files; its pid. It becomes a child of this process."""
        body = json.dumps(order).encode()
        with self.lock:
            set_subreaper(True)  # the parent of the fork ends at once, and its child is ours
            try:
                socket.send_fds(self.connection, [LENGTH.pack(len(body))], list(files))
                self.connection.sendall(body)
                return int(LENGTH.unpack(receive(self.connection, LENGTH.size))[0])
            finally:
                set_subreaper(False)


@cache
def server() -> ForkServer:
    """The server of this process; it ends with it."""
    ours, theirs = socket.socketpair()
    with theirs:
        here = str(Path(__file__).parents[1])
        path = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
        command = [sys.executable, "-m", "helpers.fork_server"]
        process = subprocess.Popen(command, stdin=theirs, env={**os.environ, "PYTHONPATH": path}, cwd=here)
    atexit.register(lambda: (ours.close(), process.wait()))
    return ForkServer(ours)


def start_python(
    module: str, *args: Any, code: str = "", env: dict[str, str], max_bytes: int = -1, **kwargs: Any
) -> Any:
    """`python -m module args`, or `python -c code args`, as a `subprocess.Popen`.

    It forks, unless its environment changes how the interpreter starts.
    """
    command = [sys.executable, *(("-c", code) if code else ("-m", module)), *map(str, args)]
    changed = {name for name in env if name.startswith("PYTHON") and env[name] != os.environ.get(name)}
    if FORKABLE and changed <= {"PYTHONPATH", "PYTHONUNBUFFERED"}:
        return ForkedPopen(command, max_bytes=max_bytes, env=env, **kwargs)
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, -1))  # noqa: E731
    return subprocess.Popen(command, preexec_fn=limit, env=env, **kwargs)


def run_code(code: str, *args: Any, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """`python -c code args` to its end."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    env = kwargs.pop("env", None) or dict(os.environ)
    with start_python("", *args, code=code, env=env, **pipes, **kwargs) as process:
        out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


class ForkedPopen(subprocess.Popen):  # type: ignore[type-arg]
    """A process that forks from a server: the one that is given, or that of this process.

    `max_bytes`: no file may grow beyond.
    """

    def __init__(
        self, args: Sequence[Any], *, origin: ForkServer | None = None, max_bytes: int = -1, **kwargs: Any
    ) -> None:
        self.origin, self.max_bytes = origin or server(), max_bytes
        super().__init__(list(map(str, args)), **kwargs)

    def _execute_child(self, *args: Any, **kwargs: Any) -> None:
        """Replaces what forks and executes a program; the only private name of `subprocess` that is used."""
        signature = inspect.signature(subprocess.Popen._execute_child)  # type: ignore[attr-defined]
        given = signature.bind(self, *args, **kwargs).arguments
        python, flag, what, *words = given["args"]
        assert python == sys.executable and flag in ("-m", "-c"), given["args"]
        order = {
            "flag": flag,
            "what": what,
            "args": words,
            "env": dict(os.environ if given["env"] is None else given["env"]),
            "cwd": str(Path(given["cwd"] or ".").absolute()),
            "new_session": given["start_new_session"],
            "max_bytes": self.max_bytes,
        }
        files = [given["p2cread"], given["c2pwrite"], given["errwrite"]]
        self.pid = self.origin.fork(order, [at if each == -1 else each for at, each in enumerate(files)])
        self._child_created = True
        ends = (("p2cread", "p2cwrite"), ("c2pwrite", "c2pread"), ("errwrite", "errread"))
        for each in {given[its] for its, ours in ends if -1 not in (given[its], given[ours])}:
            os.close(each)  # the process has it now


def set_subreaper(on: bool) -> None:
    """Whether orphans below this process become its children."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def set_name(name: str) -> None:
    """As the process is listed."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def receive(connection: socket.socket, number: int) -> bytes:
    found = b""
    while len(found) < number:
        part = connection.recv(number - len(found))
        if not part:
            raise EOFError("the other side has ended")
        found += part
    return found


def serve(connection: socket.socket) -> Order | None:
    """Fork on demand. Returns in each forked process, with its order; and in the server, with None, at the end."""
    while True:
        header, files, _, _ = socket.recv_fds(connection, LENGTH.size, 3)
        if not header:
            return None
        order: Order = json.loads(receive(connection, LENGTH.unpack(header)[0]))
        read, write = os.pipe()
        first = os.fork()
        if not first:
            between = os.getpid()
            second = os.fork()
            if not second:
                while os.getppid() == between:
                    time.sleep(0.0005)
                for each in (connection.detach(), read, write):
                    os.close(each)
                place(files)
                return order
            os.write(write, LENGTH.pack(second))
            os._exit(0)
        os.waitpid(first, 0)
        connection.sendall(os.read(read, LENGTH.size))
        for each in (*files, read, write):
            os.close(each)


def place(files: Sequence[int]) -> None:
    """Make them standard input, output and error."""
    for number, each in enumerate(files):
        os.dup2(each, number)
    for each in files:
        os.close(each)


def become(order: Order) -> None:
    """Be the process that was ordered, as a fresh interpreter would be it."""
    if order["new_session"]:
        os.setsid()
    if order["max_bytes"] >= 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["max_bytes"], -1))
    ours = {str(Path(path).absolute()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path}
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    os.chdir(order["cwd"])
    given = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [order["cwd"], *given, *(path for path in sys.path[1:] if path and path not in ours)]
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__ = tuple(streams())
    sys.argv = [order["what"] if order["flag"] == "-m" else "-c", *order["args"]]
    sys.modules["numpy"].random.seed()
    if threads := os.environ.get("OMP_NUM_THREADS"):
        sys.modules["torch"].set_num_threads(int(threads))
    if order["what"] == "tuner.cli" and STARTS_WORKERS & set(order["args"]):
        fork_workers()
    leave(run(order["flag"], order["what"]))


def streams() -> Any:
    """Standard input, output and error on the files of the process, buffered as at a start."""
    for number, old in enumerate((sys.__stdin__, sys.__stdout__, sys.__stderr__)):
        assert old
        line = number == 2 or os.isatty(number)
        new = open(  # noqa: SIM115
            number,
            "w" if number else "r",
            buffering=1 if line else -1,
            encoding=old.encoding,
            errors=old.errors,
            closefd=False,
        )
        if number and os.environ.get("PYTHONUNBUFFERED"):
            new.reconfigure(write_through=True)  # type: ignore[union-attr]
        yield new


def fork_workers() -> None:
    """Have the workers that this command starts fork from a server of its own."""
    from tuner.fleet import local

    ours, theirs = socket.socketpair()
    if os.fork():
        theirs.close()
        origin = ForkServer(ours)
        popen = lambda *args, **kwargs: ForkedPopen(*args, origin=origin, **kwargs)  # noqa: E731
        local.subprocess = SimpleNamespace(Popen=popen, PIPE=subprocess.PIPE)  # type: ignore[attr-defined]
        return
    ours.close()
    os.setsid()
    set_name(NAME)
    null = os.open(os.devnull, os.O_RDWR)
    place([null, os.dup(null), os.dup(null)])
    if order := serve(theirs):
        set_name("python")
        become(order)
    os._exit(0)


def run(flag: str, what: str) -> int:
    """Run a module, or code, as a program; the exit code."""
    try:
        if flag == "-c":
            program = sys.modules["__main__"] = ModuleType("__main__")
            exec(compile(what, "<string>", "exec"), program.__dict__)
        else:
            sys.modules.pop(what, None)
            runpy.run_module(what, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException as error:
        traceback.print_exc()
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        return 1
    return 0


def leave(code: int) -> None:
    """End as an interpreter does, but for the time that it takes to free a thousand modules."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 120  # as the interpreter has it
    os._exit(code)


def main() -> None:
    """The server: import, then serve standard input until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=os.dup(0))
    os.set_inheritable(connection.fileno(), False)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    import tuner

    for found in pkgutil.walk_packages(tuner.__path__, "tuner."):
        if not found.name.endswith("__main__"):
            import_module(found.name)
    for name in ALSO:
        import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy the pages of everything that is imported
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    if order := serve(connection):
        become(order)


if __name__ == "__main__":
    main()
