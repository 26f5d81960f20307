"""A process that has imported torch and the worker, from which the workers of this host fork.

A worker that forks starts in milliseconds instead of the seconds that the imports take, and shares their memory
with the others. The server imports while the command that starts it checks its space. It runs a single thread and
uses no GPU: a fork of it is in the same state as a fresh interpreter after its imports. It ends with its client.
Workers that it has forked are children of the client, as if `subprocess` had started them. Linux only.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

from tuner.errors import FleetError
from tuner.fleet.config import SPINS

AVAILABLE = sys.platform == "linux"
WORKER = "tuner.search.worker"
PRELOADED = (WORKER, "albumentations", "torch._dynamo")  # the first training would import the last two
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}  # numpy's and scipy's: a process with threads should not be forked
NAME = "fork-server"  # of the process, in lists of processes
IMPORT_SECONDS = 120.0  # for which a client waits for the imports
PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36
LENGTH = struct.Struct("!I")
Order = dict[str, Any]  # the process to fork: its environment, working directory, ...


@dataclass
class ForkServer:
    """The client's side of the server."""

    connection: socket.socket
    process: subprocess.Popen[bytes] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fork(self, order: Order, files: Sequence[int]) -> int:
        """Fork a process with these files as stdin, stdout and stderr, and return its pid.

        The process becomes a child of this one: its parent between the two exits at once, and this process adopts
        orphans meanwhile. Raise FleetError if the server has ended or does not answer.
        """
        body = json.dumps(order).encode()
        with self.lock:
            set_subreaper(True)
            try:
                socket.send_fds(self.connection, [LENGTH.pack(len(body))], list(files))
                self.connection.sendall(body)
                return int(LENGTH.unpack(receive(self.connection, LENGTH.size))[0])
            except (OSError, EOFError) as error:
                raise FleetError(f"the fork server does not answer ({error})") from error
            finally:
                set_subreaper(False)

    def close(self) -> None:
        self.connection.close()
        if self.process:
            self.process.kill()
            self.process.wait()


@cache
def start_server() -> ForkServer | None:
    """Start the server of this process, without waiting for its imports; return None where it is not available."""
    if not AVAILABLE:
        return None
    ours, theirs = socket.socketpair()
    ours.settimeout(IMPORT_SECONDS)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tuner.fleet.fork_server"],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"GOMP_SPINCOUNT": SPINS, **ONE_THREAD, **os.environ},
            start_new_session=True,
        )
    atexit.register(stop_server)
    return ForkServer(ours, process)


def stop_server() -> None:
    """Stop the server, if it was started; its workers are not affected."""
    if start_server.cache_info().currsize and (server := start_server()):
        server.close()
    start_server.cache_clear()
    atexit.unregister(stop_server)


class ForkedWorker:
    """A worker process that was forked by a server, with the methods of `subprocess.Popen` that a slot needs."""

    def __init__(self, server: ForkServer, env: dict[str, str], folder: Path | None, log: int) -> None:
        """Fork a worker that logs to the file `log`; raise FleetError if the server does not answer."""
        (their_stdin, our_stdin), (our_stdout, their_stdout) = os.pipe(), os.pipe()
        order = {"env": env, "cwd": str((folder or Path()).absolute()), "new_session": True}
        with os.fdopen(their_stdin), os.fdopen(their_stdout, "w"):
            self.stdin, self.stdout = os.fdopen(our_stdin, "w"), os.fdopen(our_stdout)
            try:
                self.pid = server.fork(order, [their_stdin, their_stdout, log])
            except FleetError:
                self.stdin.close()
                self.stdout.close()
                raise
        self.returncode: int | None = None

    def poll(self, options: int = os.WNOHANG) -> int | None:
        """Return the exit code (negative for a signal), or None while the process runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self) -> int | None:
        return self.poll(0)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # as long as it was not waited for, no other process has its pid
            os.kill(self.pid, number)


def set_subreaper(on: bool) -> None:
    """Set whether orphans below this process become its children."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def set_name(name: str) -> None:
    """Set the name of this process in lists of processes."""
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def receive(connection: socket.socket, number: int) -> bytes:
    """Return so many bytes; raise EOFError if the other side closes before."""
    data = b""
    while len(data) < number:
        part = connection.recv(number - len(data))
        if not part:
            raise EOFError("it has ended")
        data += part
    return data


# --- the server ---


def serve(connection: socket.socket) -> Order | None:
    """Fork on demand. Return in each forked process, with its order; in the server at the end, with None."""
    while True:
        header, files, _, _ = socket.recv_fds(connection, LENGTH.size, 3)
        if not header:
            return None
        order: Order = json.loads(receive(connection, LENGTH.unpack(header)[0]))
        read, write = os.pipe()
        between = os.fork()
        if not between:
            parent = os.getpid()
            child = os.fork()
            if not child:
                while os.getppid() == parent:  # until it has exited: then the client is the parent
                    time.sleep(0.0005)
                for each in (connection.detach(), read, write):
                    os.close(each)
                set_stdio(files)
                return order
            os.write(write, LENGTH.pack(child))
            os._exit(0)
        os.waitpid(between, 0)
        connection.sendall(os.read(read, LENGTH.size))
        for each in (*files, read, write):
            os.close(each)


def set_stdio(files: Sequence[int]) -> None:
    """Make these files stdin, stdout and stderr."""
    for number, each in enumerate(files):
        os.dup2(each, number)
    for each in files:
        os.close(each)


def open_stream(number: int) -> TextIOWrapper:
    """Return a standard stream, buffered as at the start of an interpreter."""
    by_line = 1 if number == 2 or os.isatty(number) else -1
    errors = "backslashreplace" if number == 2 else "strict"
    stream = os.fdopen(number, "w" if number else "r", by_line, encoding="utf-8", errors=errors, closefd=False)
    if number and os.environ.get("PYTHONUNBUFFERED"):
        stream.reconfigure(write_through=True)
    return stream


def apply_order(order: Order) -> None:
    """Give a forked process the session, environment and folder that were ordered, and its own random numbers."""
    if order["new_session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    os.chdir(order["cwd"])
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = open_stream(number)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    sys.modules["numpy"].random.seed()  # Python's own generator is reseeded by the fork; torch's by each trial
    if threads := os.environ.get("OMP_NUM_THREADS"):
        sys.modules["torch"].set_num_threads(int(threads))


def is_cuda_lost() -> bool:
    """Return whether an import has asked for CUDA devices in the server: then no fork of it can use them."""
    cuda = sys.modules["torch"].cuda
    return bool(getattr(cuda, "_is_in_bad_fork", lambda: False)())


def exit_process(code: int) -> NoReturn:
    """Exit as an interpreter does, without the time that it takes to free a thousand modules."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 120  # as the interpreter does
    os._exit(code)


def main() -> NoReturn:
    """Import, then fork on demand until stdin closes; in a forked process, run the worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_name(NAME)
    connection = socket.socket(fileno=os.dup(0))
    set_stdio([os.open(os.devnull, os.O_RDWR) for _ in range(3)])
    for name in PRELOADED:
        with suppress(ImportError):  # a worker that needs it will say so in its log
            import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a worker would copy the pages of all that is imported
    order = serve(connection)
    if order is None:
        os._exit(0)
    set_name("python")
    apply_order(order)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if is_cuda_lost():
        os.execv(sys.executable, [sys.executable, "-P", "-m", WORKER])
    exit_process(sys.modules[WORKER].main())


if __name__ == "__main__":
    main()
