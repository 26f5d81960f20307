"""Seats on a Ray cluster: Ray finds each a node and a GPU, also when nodes come and go.

A seat is an actor of Ray's that starts the worker as a process of its own on the node, just as a local seat
does. The study stays in the database: Ray carries no data, and a trial goes on where its checkpoint is.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tuner.errors import FleetError
from tuner.fleet.config import WorkerConfig
from tuner.fleet.local import EXIT_SLOT_LOST, LocalSlot
from tuner.paths import Home

PENDING_SECONDS = 10.0  # after which a worker without a place is told
KILL_SECONDS = 10.0  # for a node to answer that it killed its worker
KNOCK_SECONDS = 5.0  # for the head of a cluster to answer
MOST_FAILURES = 3  # places in a row that could not begin a worker
NEEDED = "Every node needs the same tuner, Python and Ray, and the folders that were named."
STORE_BYTES = 80 * 2**20  # Ray's object store, about its least: nothing of ours goes through it


class SlotActor:
    """On a node, in Ray's actor: one local seat. `work` waits in one thread while another may stop it."""

    def __init__(self, number: int, home: str, folder: str, env: dict[str, str], share: float, space: str) -> None:
        import ray

        here = Path(folder) if Path(folder).is_dir() else None
        gpu = ",".join(map(str, ray.get_gpu_ids()))
        if not gpu:
            env = {**env, "CUDA_VISIBLE_DEVICES": ""}  # it asked for none, and Ray would leave it all
        self.gpu = f"{gpu} of {ray.util.get_node_ip_address()}" if gpu else ""
        self.slot = LocalSlot(number, Home(Path(home)), gpu, share=share, env=env, folder=here)
        self.space = space
        self.unwanted: set[str] = set()  # workers told to leave, also before they began

    def where(self) -> str:
        """The GPU, or nothing; answered as soon as the place is there."""
        return self.gpu

    def work(self, config: WorkerConfig) -> tuple[int, str, str]:
        """One worker from its start to its end: exit code, last words, log."""
        if config.worker in self.unwanted:
            return 0, "", self.slot.log
        self.slot.start(replace(config, space=self.space_here(config.space)))
        if config.worker in self.unwanted:  # told in this moment
            self.slot.terminate()
        while (code := self.slot.poll()) is None:
            time.sleep(0.1)
        return code, self.slot.last_words(), self.slot.log

    def space_here(self, path: str) -> str:
        """The space's file; written down where this node does not have it."""
        if not self.space or Path(path).is_file():
            return path
        copy = Path(tempfile.mkdtemp(prefix="tuner-")) / Path(path).name
        copy.write_text(self.space, encoding="utf-8")
        return str(copy)

    def terminate(self, worker: str) -> None:
        self.unwanted.add(worker)
        self.slot.terminate()

    def kill(self, worker: str) -> None:
        self.unwanted.add(worker)
        self.slot.kill()


@dataclass
class RayCluster:
    """What the seats share: what each asks of Ray, and that what is pending was told."""

    home: Home
    cpus: float
    gpus: float
    space: str  # the text of its file
    say: Callable[[str], None]
    slots: list[RaySlot] = field(default_factory=list)
    told: bool = False

    def actor(self, number: int) -> Any:
        import ray

        env = {name: os.environ[name] for name in ("PYTHONPATH", "GOMP_SPINCOUNT") if name in os.environ}
        options = {"num_cpus": self.cpus, "num_gpus": self.gpus, "max_concurrency": 4, "max_restarts": 0}
        return ray.remote(**options)(SlotActor).remote(
            number, str(self.home.folder.absolute()), str(Path.cwd()), env, self.gpus or 1.0, self.space
        )

    def tell_pending(self) -> None:
        """Once: most often the cluster is still growing."""
        if self.told:
            return
        self.told = True
        waiting = sum(slot.waiting for slot in self.slots)
        each = f"{self.cpus:g} CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")
        self.say(
            f"{waiting} of {len(self.slots)} workers wait for room in the Ray cluster ({each} each); "
            "the others work, and these begin as soon as there is room"
        )


@dataclass
class RaySlot:
    """A seat in the cluster. Its place is kept when a worker dies, and sought anew when the node goes."""

    number: int
    cluster: RayCluster
    gpu: str = ""
    log: str = ""
    actor: Any = None
    placed: bool = False
    where: Any = None  # Ray's promise of the GPU's name,
    ending: Any = None  # and of how the worker ended
    asked: float = 0.0
    worker: str = ""
    withdrawn: bool = False  # not wanted any more before it had a place
    failures: int = 0  # places in a row where not even a beginning was made
    words: str = ""

    @property
    def name(self) -> str:
        return f"worker {self.number}"

    @property
    def waiting(self) -> bool:
        return self.ending is not None and not self.placed

    def start(self, config: WorkerConfig) -> None:
        if self.actor is None:
            self.actor = self.cluster.actor(self.number)
            self.placed, self.where = False, self.actor.where.remote()
        self.worker, self.asked, self.withdrawn = config.worker, time.monotonic(), False
        self.ending = self.actor.work.remote(config)

    def poll(self) -> int | None:
        import ray
        from ray.exceptions import RayError, RayTaskError

        if self.withdrawn:
            return 0
        if self.ending is None:
            return None
        try:
            self.find()
            ready, _ = ray.wait([self.ending], timeout=0)
            if not ready:
                return None
            code, self.words, self.log = ray.get(self.ending)
        except RayTaskError as error:  # before a worker ran: no room for its log, for example
            self.words = str(error.cause if isinstance(error.cause, Exception) else error).splitlines()[0]
            code = 2
        except RayError as error:
            return self.lost(str(error))
        self.ending = None
        return int(code)

    def lost(self, why: str) -> int:
        """The place went with the worker; or Ray could make nothing of it, time after time."""
        self.failures = 0 if self.placed else self.failures + 1
        self.leave()
        if self.failures < MOST_FAILURES:
            return EXIT_SLOT_LOST
        said = [line.strip() for line in why.splitlines() if line.strip()]
        self.words = f"no node could begin a worker ({said[-1] if said else 'Ray does not say why'}). {NEEDED}"
        return 2

    def find(self) -> None:
        """See whether Ray has found a place by now."""
        import ray

        if self.placed:
            return
        if ray.wait([self.where], timeout=0)[0]:
            self.gpu, self.placed = ray.get(self.where), True
        elif time.monotonic() - self.asked > PENDING_SECONDS:
            self.cluster.tell_pending()

    def terminate(self) -> None:
        self.ask("terminate")

    def kill(self) -> None:
        import ray

        if (promise := self.ask("kill")) is not None:
            with suppress(Exception):  # a node that is gone has killed it already
                ray.get(promise, timeout=KILL_SECONDS)

    def ask(self, what: str) -> Any:
        """Have the node do something to the worker; a worker that has no place yet is not wanted any more."""
        if self.ending is None:
            return None
        with suppress(Exception):  # the node is going: the next look sees it
            self.find()
        if self.placed:
            return getattr(self.actor, what).remote(self.worker)
        self.leave()
        self.withdrawn = True
        return None

    def last_words(self) -> str:
        words, self.words, self.withdrawn = self.words, "", False
        return words

    def leave(self) -> None:
        import ray

        if self.actor is not None:
            with suppress(Exception):
                ray.kill(self.actor)
        self.actor = self.where = self.ending = None
        self.placed, self.gpu = False, ""


@contextmanager
def ray_slots(
    address: str, home: Home, storage: str, workers: int | None, gpus_each: float | None, space: Path | None,
    say: Callable[[str], None],
) -> Iterator[list[RaySlot]]:  # fmt: skip
    """Join a cluster, or begin one on this host ("local"), and leave it again, or end it, in any case."""
    connect(address, workers)
    import ray

    try:
        refuse_sqlite(address, storage, ray.nodes())
        have = ray.cluster_resources().get("GPU", 0)
        each = gpus_each if gpus_each is not None else float(have > 0)
        text = space.read_text(encoding="utf-8") if space else ""
        cluster = RayCluster(home, 1.0, each, text, say)
        number = workers or (max(1, int(have / each)) if each else 1)
        cluster.slots = [RaySlot(i, cluster) for i in range(number)]
        yield cluster.slots
    finally:
        ray.shutdown()


def check_gpu_share(gpus_each: float | None) -> None:
    """FleetError for more than a worker can use."""
    if gpus_each is not None and not 0 <= gpus_each <= 1:
        raise FleetError(
            f"--gpus-per-worker {gpus_each:g}: a worker trains on one GPU; give 1, a share as 0.5, or 0 for none."
        )


def connect(address: str, workers: int | None) -> None:
    """Connect, quietly: Ray reports to nobody, opens no dashboard, and what its nodes say stays in their logs."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    local["num_cpus"] = max(workers or 1, os.cpu_count() or 1)  # as many as were asked for share this host
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(address=address, **quiet, **(local if address == "local" else {}))
    except Exception as error:
        raise unreachable_error(address, (str(error) or type(error).__name__).strip().splitlines()[0]) from error


def check_reachable(address: str) -> None:
    """FleetError where nobody listens: Ray itself would try for many minutes."""
    if address in ("local", "auto"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise unreachable_error(address, "it is no HOST:PORT")
    try:
        socket.create_connection((host, int(port)), KNOCK_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise unreachable_error(address, str(error)) from error


def unreachable_error(address: str, why: str) -> FleetError:
    return FleetError(
        f"--ray {address}: no cluster could be joined ({why}). Begin one with: ray start --head, and give the "
        "HOST:PORT it prints, or auto; or say --ray local for this host alone."
    )


def refuse_sqlite(address: str, storage: str, nodes: list[dict[str, Any]]) -> None:
    """FleetError where workers of other hosts would have to share a file."""
    if address == "local" or not storage.startswith("sqlite"):
        return
    hosts = {str(node["NodeManagerAddress"]) for node in nodes if node["Alive"]}
    if len(hosts) > 1:
        raise FleetError(
            f"the cluster has {len(hosts)} hosts, and SQLite is for one: give --storage postgresql://..., "
            "which all of them can reach."
        )
