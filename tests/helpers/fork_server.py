"""Processes that fork from one which has imported torch and all of ours: milliseconds instead of seconds.

`ForkedPopen` is `subprocess.Popen` for `python -m ...` and `python -c ...` without the start of an interpreter:
the process has its own pid, pipes, environment, folder and exit code, and is a child of the caller. A command that
starts workers has a server beside it, from which they fork in turn. What depends on the start of an interpreter
(light imports, installed packages) belongs in a real process.

The server runs one thread and opens nothing. It ends when the process that started it does.
"""

from __future__ import annotations

import atexit
import gc
import inspect
import os
import pkgutil
import resource
import runpy
import signal
import socket
import subprocess
import sys
import traceback
import weakref
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from helpers.generated_images import draw_once, draw_shapes, limit_shapes
from helpers.optuna_revisions import load_once, prepared_bytes
from tuner.fleet.fork_server import (
    AVAILABLE,
    NAME,
    WORKER,
    ForkServer,
    Order,
    apply_order,
    exit_process,
    is_cuda_lost,
    serve,
    set_name,
    set_stdio,
)

STARTS_WORKERS = {"run", "extend"}
ALSO = (  # what is imported at the first use only
    "albumentations",
    "matplotlib.backends.backend_agg",
    "matplotlib.pyplot",
    "plotly.graph_objects",
    "psycopg",
    "pymysql",
    "scipy.signal",
    "scipy.stats",
    "segmentation_models_pytorch",
    "sqlalchemy.dialects.sqlite",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.mysql.pymysql",
    "torch._dynamo",
    "torch._refs",
    "torch.fx.experimental.symbolic_shapes",
    "torchmetrics",
    "torchvision.models.detection",
)


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
    if AVAILABLE and changed <= {"PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONSAFEPATH"}:
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
    """A process that forks from the server of this process.

    `max_bytes`: no file may grow beyond. `runs_tests`: it has a server of its own beside it from the start.
    """

    def __init__(
        self, args: Sequence[Any], *, max_bytes: int = -1, runs_tests: bool = False, **kwargs: Any
    ) -> None:
        self.max_bytes, self.runs_tests = max_bytes, runs_tests
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
            "runs_tests": self.runs_tests,
        }
        files = [given["p2cread"], given["c2pwrite"], given["errwrite"]]
        self.pid = server().fork(order, [at if each == -1 else each for at, each in enumerate(files)])
        self._child_created = True
        ends = (("p2cread", "p2cwrite"), ("c2pwrite", "c2pread"), ("errwrite", "errread"))
        for each in {given[its] for its, ours in ends if -1 not in (given[its], given[ours])}:
            os.close(each)  # the process has it now


def become(order: Order) -> None:
    """Be the process that was ordered, as a fresh interpreter would be it: a worker, if no program is named."""
    order = {"flag": "-m", "what": WORKER, "args": [], "max_bytes": -1, "runs_tests": False, **order}
    if order["max_bytes"] >= 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["max_bytes"], -1))
    ours = {str(Path(path).absolute()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path}
    apply_order(order)
    limit_shapes()
    given = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    first = [] if os.environ.get("PYTHONSAFEPATH") else [order["cwd"]]
    sys.path[:] = [*first, *given, *(path for path in sys.path[1:] if path and path not in ours)]
    sys.argv = [order["what"] if order["flag"] == "-m" else "-c", *order["args"]]
    if order["what"] == "tuner.cli" and STARTS_WORKERS & set(order["args"]):
        beside = fork_server()
        product = import_module("tuner.fleet.fork_server")
        product.start_server, product.stop_server = lambda: beside, lambda: None  # type: ignore[attr-defined]
    elif order["runs_tests"]:
        beside = fork_server()
        import_module("helpers.fork_server").server = lambda: beside  # type: ignore[attr-defined]
        forget_pytest_plugins()
    exit_process(run(order["flag"], order["what"]))


def forget_pytest_plugins() -> None:
    """Have pytest import its plugins anew: it rewrites their assertions, and warns of those it finds imported."""
    plugins = {point.module.partition(".")[0] for point in entry_points(group="pytest11")}
    for name in [each for each in sys.modules if each.partition(".")[0] in plugins]:
        del sys.modules[name]


def fork_server() -> ForkServer:
    """Fork a server beside this process, without another import."""
    ours, theirs = socket.socketpair()
    if os.fork():
        theirs.close()
        return ForkServer(ours)
    ours.close()
    os.setsid()
    set_name(NAME)
    set_stdio([os.open(os.devnull, os.O_RDWR) for _ in range(3)])
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


def main() -> None:
    """The server: import, then serve standard input until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=os.dup(0))
    os.set_inheritable(connection.fileno(), False)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    import tuner
    from tuner.plots.charts import Chart, Series
    from tuner.plots.render_plotly import plotly_figure

    for found in pkgutil.walk_packages(tuner.__path__, "tuner."):
        if not found.name.endswith("__main__"):
            import_module(found.name)
    for name in ALSO:
        import_module(name)
    draw_once()
    draw_shapes()
    load_once()
    prepared_bytes()
    assert psutil.Process().num_threads() == 1, "an import has started a thread: forks would lack it"
    assert not is_cuda_lost(), "an import has asked for CUDA devices: no fork could use them"
    chart = Chart("", "", "", [Series("", [0.0], [0.0], "points"), Series("", [0.0], [0.0])])
    plotly_figure(chart)  # plotly loads its schema with the first figure
    for finalizer in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        finalizer.atexit = False  # torch has hundreds, to unregister operators: a tenth of a second at each exit
    gc.collect()
    gc.freeze()  # a collection in a fork would copy the pages of everything that is imported
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    if order := serve(connection):
        become(order)
    os._exit(0)


if __name__ == "__main__":
    main()
