"""A child process in which a space is loaded, drawn from and checked: whatever its code does is one error.

The code of a space is a user's: it may loop, sleep, crash, fill the memory, end its process, print without end.
In its own process this is limited in time and memory, and does not happen to the command. The process forks from
the command in milliseconds, or starts anew where a fork would not be safe.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import resource
import selectors
import signal
import socket
import struct
import sys
import time
import warnings
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import psutil

from tuner import errors
from tuner.errors import SpaceError, TunerError, locate_error, shorten
from tuner.space.files import TIMEOUT

MOST_MEMORY = 4 << 30  # bytes that a request may add
MOST_OUTPUT = 1 << 16  # bytes that are kept of what a space prints
MOST_ANSWER = 1 << 26  # bytes
IMPORT_SECONDS = 600.0  # for tuner's own imports, which are not counted
POLL_SECONDS = 0.05
LENGTH = struct.Struct("!I")
PR_SET_PDEATHSIG = 1


class Ended(Exception):
    """The process has closed its connection. Never shown to a user."""


class SpaceProcess:
    """The process of a space; use it as a context manager. It starts at the first call.

    Fork it before threads start: `start()`.
    """

    def __init__(self, path: Path, timeout: float = TIMEOUT, most_memory: int = MOST_MEMORY) -> None:
        self.path, self.timeout, self.most_memory = path, timeout, most_memory
        self.pid = 0
        self.output = b""

    def __enter__(self) -> SpaceProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the process, without waiting for it."""
        self.connection, theirs = socket.socketpair()
        self.printed, written = os.pipe()
        os.set_blocking(self.printed, False)
        try:
            self.pid = start_child(theirs, written)
        finally:
            theirs.close()
            os.close(written)
        self.process = psutil.Process(self.pid)

    def close(self) -> None:
        """Kill the process and all that it has started."""
        if self.pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait_for_exit()
        self.connection.close()
        os.close(self.printed)

    def call(self, function: str, purpose: str, **args: Any) -> Any:
        """Return what a function ("module:name") returns in the process for these arguments, all of it JSON.

        `purpose` is for errors: "draw 64 recipes". What the space prints goes to stderr.
        """
        request = {"function": function, "args": args, "path": str(self.path)}
        try:
            send(self.connection, request)
            self.receive(purpose, IMPORT_SECONDS)  # it is imported
            answer = self.receive(purpose, self.timeout)
        except (Ended, OSError):
            raise SpaceError(self.describe_end(purpose)) from None
        finally:
            self.show_output()
        if "error" in answer:
            raise error_class(answer["error"])(answer["message"])
        return answer["value"]

    def receive(self, purpose: str, seconds: float) -> Any:
        """Return the next message; SpaceError if it takes too long or too much memory."""
        end, data = time.monotonic() + seconds, b""
        start = self.memory()
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            selector.register(self.printed, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select(POLL_SECONDS):
                    if key.fileobj is not self.connection:
                        if not self.read_output():
                            selector.unregister(self.printed)
                        continue
                    data += receive_some(self.connection, missing(data))
                    if len(data) >= LENGTH.size and not missing(data):
                        return json.loads(data[LENGTH.size :])
                if time.monotonic() > end:
                    raise SpaceError(
                        f"{self.path} took more than {seconds:g} s to {purpose}, and was stopped. Is there a loop "
                        "or a download in it? Allow more with --timeout."
                    )
                if self.memory() - start > self.most_memory:
                    limit = f"{self.most_memory / 2**30:g} GB"
                    raise SpaceError(
                        f"{self.path} took more than {limit} of memory to {purpose}, and was stopped."
                    )

    def memory(self) -> int:
        try:
            return self.process.memory_info().rss
        except psutil.Error:
            return 0

    def read_output(self) -> bool:
        """Read what was printed, keep the first of it, and return whether there may be more."""
        try:
            data = os.read(self.printed, 1 << 16)
        except BlockingIOError:
            return True
        self.output += data[: MOST_OUTPUT - len(self.output)]
        return bool(data)

    def show_output(self) -> None:
        """Print what was printed since the last time, within the limits of a message."""
        with suppress(OSError):
            while data := os.read(self.printed, 1 << 16):
                self.output += data[: MOST_OUTPUT - len(self.output)]
        if text := self.output.decode("utf-8", "backslashreplace").rstrip():
            print(shorten(text), file=sys.stderr)
        self.output = b""

    def describe_end(self, purpose: str) -> str:
        """Return how the process has ended before it answered."""
        code = self.wait_for_exit()
        if code is None:
            return f"{self.path} closed the files of the process that was to {purpose}."
        if code == -signal.SIGKILL:
            return f"{self.path}: the process that was to {purpose} was killed. Was there too little memory?"
        if code < 0:
            return f"{self.path} crashed the process that was to {purpose} ({signal.Signals(-code).name})."
        return f"{self.path} ended the process that was to {purpose}, with exit code {code}."

    def wait_for_exit(self, seconds: float = 1.0) -> int | None:
        """Return the exit code, negative for a signal, or None if it does not end."""
        end = time.monotonic() + seconds
        while self.pid:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, signal.SIGKILL)  # what it has left behind
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                break
            time.sleep(0.002)
        return None


def error_class(name: str) -> type[TunerError]:
    found = getattr(errors, name, SpaceError)
    return found if isinstance(found, type) and issubclass(found, TunerError) else SpaceError


def start_child(theirs: socket.socket, written: int) -> int:
    """Start the process with its end of the connection and the file to print to; return its pid."""
    if can_fork():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's idle threads
            pid = os.fork()
        if not pid:
            run_child(os.dup(theirs.fileno()), written)
        return pid
    files = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0), *((os.POSIX_SPAWN_DUP2, written, to) for to in (1, 2))]
    command = [sys.executable, "-P", "-m", "tuner.space.child"]
    return os.posix_spawn(sys.executable, command, os.environ, file_actions=files)


def can_fork() -> bool:
    """Return whether a fork can do all that a new process can: not on macOS, nor once CUDA is in use."""
    torch = sys.modules.get("torch")
    return sys.platform == "linux" and not (torch and torch.cuda.is_initialized())


def missing(data: bytes) -> int:
    """Return how many bytes of a message are still missing; Ended if it is too long to be one."""
    if len(data) < LENGTH.size:
        return LENGTH.size - len(data)
    length = int(LENGTH.unpack(data[: LENGTH.size])[0])
    if length > MOST_ANSWER:
        raise Ended
    return LENGTH.size + length - len(data)


def receive_some(connection: socket.socket, most: int) -> bytes:
    data = connection.recv(most)
    if not data:
        raise Ended
    return data


def send(connection: socket.socket, message: Any) -> None:
    body = json.dumps(message).encode()
    connection.sendall(LENGTH.pack(len(body)) + body)


# --- the process ---


def run_child(connection: int, written: int) -> NoReturn:
    """Answer requests until the connection closes."""
    try:
        isolate(connection, written)
        serve(socket.socket(fileno=connection))
    finally:
        os._exit(70)


def isolate(connection: int, written: int) -> None:
    """Leave the command's session, files and streams; end with it; write no core files."""
    with suppress(OSError):
        os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    for number, each in enumerate((null, written, written)):
        os.dup2(each, number)
    for name in os.listdir("/proc/self/fd") if sys.platform == "linux" else ():  # noqa: PTH208
        if (number := int(name)) > 2 and number != connection:
            with suppress(OSError):  # that of the list itself
                os.close(number)
    sys.parent_streams = (sys.stdin, sys.stdout, sys.stderr)  # type: ignore[attr-defined]  # never flushed here
    sys.stdin = sys.__stdin__ = os.fdopen(0, closefd=False)  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # type: ignore[misc]
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # the threads of the command's did not come along


def serve(connection: socket.socket) -> None:
    """Answer requests until the other side closes the connection."""
    pid = os.getpid()
    while True:
        data = b""
        try:
            while len(data) < LENGTH.size or missing(data):
                data += receive_some(connection, missing(data))
        except Ended:
            return
        request = json.loads(data[LENGTH.size :])
        module, _, name = request["function"].partition(":")
        function = getattr(import_module(module), name)
        send(connection, {"imported": True})
        answer = answer_request(function, request)
        if os.getpid() != pid:  # a process that the space has forked
            os._exit(0)
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        send(connection, answer)


def answer_request(function: Any, request: Any) -> dict[str, Any]:
    """Return the value of the function, or its error: one that is not of tuner comes from the user's code."""
    path = Path(request["path"])
    try:
        answer = {"value": function(**request["args"])}
        json.dumps(answer)
    except TunerError as error:
        return {"error": type(error).__name__, "message": str(error)}
    except BaseException as error:
        return {"error": SpaceError.__name__, "message": f"{path} raised {locate_error(error, path)}"}
    return answer


if __name__ == "__main__":
    run_child(os.dup(0), os.dup(1))
