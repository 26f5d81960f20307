"""A small proxy between a client and a server that misbehaves when told to: slow, cut, refusing, stalled, short.

`Proxy` runs in its own thread. `python tests/helpers/tcp_proxy.py TARGET [DELAY]` runs one in its own process,
prints the port, and lives until its standard input closes: what is timed should not share an interpreter with it.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CHUNK = 1 << 16  # bytes
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Proxy:
    """Passes bytes from a port of the loopback to `target`: "host:port", or the path of a unix socket.

    A folder as target is that of a PostgreSQL server's socket. All of its doings can be changed while it runs, for
    connections that are open as well:

    - `delay`: seconds that whatever the client sends is held back, so that each round trip takes that much longer.
    - `refuse()`: new connections are refused, as by a server that is down; `accept()` ends it.
    - `cut()`: every open connection is reset at once.
    - `stall()`: nothing is read or passed on while connections stay open, as behind a dead switch, until `flow()`.
    - `short(size)`: the next connection is cut when so many bytes came back through it: half a file.
    """

    target: str | Path
    delay: float = 0.0
    port: int = 0  # 0 takes a free one
    connections: int = 0  # since it began
    round_trips: int = 0  # times that a client spoke after the server had
    most_back: int | None = None
    stalled: bool = False
    open: set[asyncio.StreamWriter] = field(default_factory=set)

    def __enter__(self) -> Proxy:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.server: asyncio.Server | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.writers: list[asyncio.StreamWriter] = []  # of all connections so far
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self.wait(self.end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def through(self, url: str) -> str:
        """The URL of a database on the server behind it, as it is reached through the proxy."""
        plain, database = url.partition("?")[0].rsplit("/", 1)
        user = plain.partition("://")[2].rpartition("@")[0] or "postgres"
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def accept(self) -> None:
        self.wait(self.listen())

    def refuse(self) -> None:
        self.wait(self.close())

    def cut(self) -> None:
        self.wait(self.reset())

    def stall(self) -> None:
        self.stalled = True

    def flow(self) -> None:
        self.stalled = False

    def short(self, size: int) -> None:
        self.most_back = size

    def wait(self, what: Coroutine[Any, Any, None]) -> None:
        """Have something done in the proxy's thread, and wait until it is."""
        done: Future[None] = asyncio.run_coroutine_threadsafe(what, self.loop)
        done.result(timeout=30)

    async def listen(self) -> None:
        if self.server is None:
            self.server = await asyncio.start_server(self.begin, "127.0.0.1", self.port)
            self.port = self.server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self.server is not None:
            for listening in self.server.sockets:
                self.loop.remove_reader(listening.fileno())
            # asyncio leaks the socket of an accepted connection that is not set up yet when its server closes
            await asyncio.sleep(0.01)
            self.server.close()
            self.server = None

    async def reset(self) -> None:
        for writer in list(self.open):
            tear(writer)
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def end(self) -> None:
        """Close every socket, also those of tasks that have not begun and those with bytes left to send."""
        await self.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in self.writers:
            tear(writer)
        await asyncio.sleep(0.01)  # for the transports to close

    def begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client in a task of our own: the server's would log what it is cancelled by."""
        self.writers.append(writer)
        task = self.loop.create_task(self.serve((reader, writer)))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def serve(self, client: Pair) -> None:
        self.connections += 1
        most, self.most_back = self.most_back, None
        self.open.add(client[1])
        try:
            server = await self.reach()
        except OSError:
            self.shut(client[1])
            return
        self.open.add(server[1])
        self.writers.append(server[1])
        spoke = Turns()
        there = self.pass_on(client[0], server[1], lambda: self.delay, lambda size: self.count(spoke))
        back = self.pass_on(server[0], client[1], lambda: 0.0, spoke.answered, most)
        try:
            await asyncio.gather(there, back)
        finally:
            self.shut(client[1])
            self.shut(server[1])

    async def reach(self) -> Pair:
        target = Path(self.target)
        if target.is_absolute():
            found = target.glob(".s.PGSQL.*[0-9]") if target.is_dir() else [target]
            return await asyncio.open_unix_connection(str(next(iter(found), target)))
        host, _, port = str(self.target).rpartition(":")
        return await asyncio.open_connection(host, int(port))

    def count(self, spoke: Turns) -> None:
        self.round_trips += spoke.asked()

    async def pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay: Callable[[], float],
        seen: Callable[[int], None], most: int | None = None,
    ) -> None:  # fmt: skip
        """Bytes from one side to the other, each so much later than it came, until one side ends."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        sending = asyncio.ensure_future(self.send(waiting, writer, most))
        try:
            while data := await receive(reader):
                seen(len(data))
                waiting.put_nowait((self.loop.time() + delay(), data))
                await self.until_flowing()
            waiting.put_nowait((self.loop.time() + delay(), b""))
            await sending
        finally:
            sending.cancel()

    async def send(
        self, waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter, most: int | None
    ) -> None:
        sent = 0
        while True:
            due, data = await waiting.get()
            await asyncio.sleep(max(0.0, due - self.loop.time()))
            await self.until_flowing()
            if most is not None and sent + len(data) > most:
                writer.write(data[: most - sent])
                await asyncio.sleep(0.05)  # the half must arrive before the end does
                tear(writer)
                return
            sent += len(data)
            if not data:
                with suppress(OSError):
                    writer.write_eof()
                return
            writer.write(data)
            with suppress(ConnectionError):
                await writer.drain()

    async def until_flowing(self) -> None:
        while self.stalled:
            await asyncio.sleep(0.01)

    def shut(self, writer: asyncio.StreamWriter) -> None:
        self.open.discard(writer)
        writer.close()


@dataclass
class Turns:
    """Who spoke last on a connection."""

    client: bool = False

    def asked(self) -> int:
        """1 where this begins a round trip."""
        new, self.client = not self.client, True
        return int(new)

    def answered(self, size: int) -> None:
        self.client = False


async def receive(reader: asyncio.StreamReader) -> bytes:
    """The next bytes; none where the connection has ended in whatever way."""
    try:
        return await reader.read(CHUNK)
    except OSError:
        return b""


def tear(writer: asyncio.StreamWriter) -> None:
    """End a connection as a dead host does: reset, with nothing more sent."""
    ours: socket.socket | None = writer.get_extra_info("socket")
    if ours is not None and ours.family != socket.AF_UNIX:
        with suppress(OSError):
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


def main() -> None:
    target, delay = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    with Proxy(target, delay) as proxy:
        print(proxy.port, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
