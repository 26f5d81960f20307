"""Worker slots on a Ray cluster: Ray finds a node and a GPU for each, also when nodes join or leave.

A slot is a Ray actor that starts the worker as a separate process on its node, as a local slot does. The study
stays in the database: Ray transports no data, and a trial resumes where its checkpoint is.
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

from tuner.errors import FleetError, SpaceError, first_line
from tuner.fleet.config import WorkerConfig
from tuner.fleet.local import EXIT_SLOT_LOST, LocalSlot
from tuner.paths import Home, read_text
from tuner.wording import pluralize

PENDING_SECONDS = 10.0  # after which a worker without a place is reported
KILL_SECONDS = 10.0  # for a node to confirm that it killed its worker
CONNECT_SECONDS = 5.0  # for the head node to accept a connection
NUM_CPUS = 1  # of a worker
MAX_FAILURES = 3  # consecutive places that could not start a worker
NEEDED = "Every node needs the same tuner, Python and Ray, and the folders that were named."
STORE_BYTES = 80 * 2**20  # Ray's object store, near its minimum: tuner stores nothing in it


class SlotActor:
    """A Ray actor on a node with one local slot. `work` blocks one thread while another can stop the worker."""

    def __init__(self, slot: LocalSlot, space: str) -> None:
        import ray

        self.slot, self.space = slot, space  # the slot is a copy, made for this node
        slot.folder = slot.folder if slot.folder and slot.folder.is_dir() else None
        slot.gpu = ",".join(map(str, ray.get_gpu_ids()))
        if not slot.gpu:
            slot.env["CUDA_VISIBLE_DEVICES"] = ""  # no GPU was requested, but Ray would leave all visible
        self.gpu = f"{slot.gpu} of {ray.util.get_node_ip_address()}" if slot.gpu else ""
        self.unwanted: set[str] = set()  # workers asked to stop, including before they started

    def gpu_name(self) -> str:
        """Return the GPU's name or ""; Ray answers as soon as the actor has a place."""
        return self.gpu

    def work(self, config: WorkerConfig) -> tuple[int, str, str]:
        """Run one worker to its end; return its exit code, its last words and the path of its log."""
        if config.worker in self.unwanted:
            return 0, "", self.slot.log
        self.slot.start(replace(config, space=self.space_here(config.space)))
        if config.worker in self.unwanted:  # stopped while it was starting
            self.slot.terminate()
        while (code := self.slot.poll()) is None:
            time.sleep(0.1)
        return code, self.slot.last_words(), self.slot.log

    def space_here(self, path: str) -> str:
        """Return the path of the space file, writing a copy if this node does not have it."""
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
    """The state shared by all slots: the GPUs of each, and whether pending slots were reported."""

    home: Home
    gpus: float
    space: str  # the text of its file
    say: Callable[[str], None]
    slots: list[RaySlot] = field(default_factory=list)
    is_reported: bool = False

    def create_actor(self, number: int) -> Any:
        import ray

        env = {name: os.environ[name] for name in ("PYTHONPATH", "GOMP_SPINCOUNT") if name in os.environ}
        home, share = Home(self.home.folder.absolute()), self.gpus or 1.0
        slot = LocalSlot(number, home, share=share, env=env, folder=Path.cwd(), forks=False)
        options = {"num_cpus": NUM_CPUS, "num_gpus": self.gpus, "max_concurrency": 4, "max_restarts": 0}
        return ray.remote(**options)(SlotActor).remote(slot, self.space)

    def report_pending(self) -> None:
        """Report pending workers, once: in most cases the cluster is still growing."""
        if self.is_reported:
            return
        self.is_reported = True
        waiting = sum(slot.waiting for slot in self.slots)
        each = f"{NUM_CPUS} CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")
        self.say(
            f"{waiting} of {pluralize(len(self.slots), 'worker')} wait for room in the Ray cluster ({each} each); "
            "the others work, and these begin as soon as there is room"
        )


@dataclass
class RaySlot:
    """A slot in the cluster. It keeps its place when a worker dies, and requests a new one if the node is lost."""

    number: int
    cluster: RayCluster
    gpu: str = ""
    log: str = ""
    actor: Any = None
    gpu_future: Any = None  # Ray future of the GPU's name, until there is a place
    exit_future: Any = None  # Ray future of `SlotActor.work`
    requested: float = 0.0  # when its place was, by time.monotonic()
    worker: str = ""
    withdrawn: bool = False  # stopped before it had a place
    failures: int = 0  # consecutive places where no worker could be started
    error: str = ""

    @property
    def name(self) -> str:
        return f"worker {self.number}"

    @property
    def waiting(self) -> bool:
        return self.exit_future is not None and self.gpu_future is not None

    def start(self, config: WorkerConfig) -> None:
        if self.actor is None:
            self.actor = self.cluster.create_actor(self.number)
            self.gpu_future = self.actor.gpu_name.remote()
        self.worker, self.requested, self.withdrawn = config.worker, time.monotonic(), False
        self.exit_future = self.actor.work.remote(config)

    def poll(self) -> int | None:
        import ray
        from ray.exceptions import RayError, RayTaskError

        if self.withdrawn:
            return 0
        if self.exit_future is None:
            return None
        try:
            self.check_place()
            ready, _ = ray.wait([self.exit_future], timeout=0)
            if not ready:
                return None
            code, self.error, self.log = ray.get(self.exit_future)
        except RayTaskError as error:  # before a worker ran: no room for its log, for example
            self.error = first_line(error.cause if isinstance(error.cause, Exception) else error)
            code = 2
        except RayError as error:
            return self.handle_lost_place(str(error))
        self.exit_future = None
        return int(code)

    def handle_lost_place(self, why: str) -> int:
        """Release the lost place; return EXIT_SLOT_LOST, or 2 after too many consecutive failures."""
        self.failures = self.failures + 1 if self.waiting else 0
        self.leave()
        if self.failures < MAX_FAILURES:
            return EXIT_SLOT_LOST
        lines = [line.strip() for line in why.splitlines() if line.strip()]
        self.error = f"no node could begin a worker ({lines[-1] if lines else 'Ray does not say why'}). {NEEDED}"
        return 2

    def check_place(self) -> None:
        """Check whether Ray has found a place, and report the wait if it takes long."""
        import ray

        if self.gpu_future is None:
            return
        if ray.wait([self.gpu_future], timeout=0)[0]:
            self.gpu, self.gpu_future = ray.get(self.gpu_future), None
        elif time.monotonic() - self.requested > PENDING_SECONDS:
            self.cluster.report_pending()

    def terminate(self) -> None:
        self.call_actor("terminate")

    def kill(self) -> None:
        import ray

        if (future := self.call_actor("kill")) is not None:
            with suppress(Exception):  # the worker of a lost node is dead already
                ray.get(future, timeout=KILL_SECONDS)

    def call_actor(self, method: str) -> Any:
        """Call a method of the actor for the worker; withdraw a worker that has no place yet."""
        if self.exit_future is None:
            return None
        with suppress(Exception):  # the node is being lost: the next `poll` reports it
            self.check_place()
        if not self.waiting:
            return getattr(self.actor, method).remote(self.worker)
        self.leave()
        self.withdrawn = True
        return None

    def last_words(self) -> str:
        error, self.error, self.withdrawn = self.error, "", False
        return error

    def leave(self) -> None:
        import ray

        if self.actor is not None:
            with suppress(Exception):
                ray.kill(self.actor)
        self.actor = self.gpu_future = self.exit_future = None
        self.gpu = ""


@contextmanager
def ray_slots(
    address: str, home: Home, storage: str, workers: int | None, gpus_each: float | None, space: Path | None,
    say: Callable[[str], None],
) -> Iterator[list[RaySlot]]:  # fmt: skip
    """Join a cluster, or start one on this host ("local"); disconnect or stop it at the end of the context."""
    connect(address, workers)
    import ray

    try:
        refuse_sqlite(address, storage, ray.nodes())
        have = ray.cluster_resources().get("GPU", 0)
        each = gpus_each if gpus_each is not None else float(have > 0)
        text = read_text(space, SpaceError) if space else ""
        cluster = RayCluster(home, each, text, say)
        number = workers or (max(1, int(have / each)) if each else 1)
        cluster.slots = [RaySlot(i, cluster) for i in range(number)]
        yield cluster.slots
    finally:
        ray.shutdown()


def check_gpu_share(gpus_each: float | None) -> None:
    """Raise FleetError unless the share is between 0 and 1."""
    if gpus_each is not None and not 0 <= gpus_each <= 1:
        raise FleetError(
            f"--gpus-per-worker {gpus_each:g}: a worker trains on one GPU; give 1, a share as 0.5, or 0 for none."
        )


def connect(address: str, workers: int | None) -> None:
    """Connect without usage statistics, dashboard or node logs; raise FleetError if that fails."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": STORE_BYTES}
    local["num_cpus"] = max(workers or 1, os.cpu_count() or 1)  # so that all requested workers fit on this host
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(address=address, **quiet, **(local if address == "local" else {}))
    except Exception as error:
        raise unreachable_error(address, first_line(error)) from error


def check_reachable(address: str) -> None:
    """Raise FleetError if nothing listens at the address: Ray itself would retry for many minutes."""
    if address in ("local", "auto"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise unreachable_error(address, "it is not a HOST:PORT")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise unreachable_error(address, str(error)) from error


def unreachable_error(address: str, why: str) -> FleetError:
    return FleetError(
        f"--ray {address}: no cluster could be joined ({why}). Begin one with: ray start --head, and give the "
        "HOST:PORT it prints, or auto; or say --ray local for this host alone."
    )


def refuse_sqlite(address: str, storage: str, nodes: list[dict[str, Any]]) -> None:
    """Raise FleetError if workers on several hosts would have to share a SQLite file."""
    if address == "local" or not storage.startswith("sqlite"):
        return
    hosts = {str(node["NodeManagerAddress"]) for node in nodes if node["Alive"]}
    if len(hosts) > 1:
        raise FleetError(
            f"the cluster has {len(hosts)} hosts, and SQLite is for one: give --storage postgresql://..., "
            "which all of them can reach."
        )
