"""From options to slots: where each worker runs, and which options contradict each other."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.command_line import home_url
from helpers.fake_nvidia_smi import smi

import tuner
from tuner.cli.live import make_view
from tuner.errors import FleetError, SpaceError, StudyError, TunerError
from tuner.fleet import fork_server
from tuner.fleet.local import LocalSlot
from tuner.fleet.placement import PlacementRequest, check_placement, open_placement
from tuner.fleet.ray_cluster import refuse_sqlite
from tuner.paths import Home
from tuner.search.extend import ExtendRequest, extend
from tuner.search.run import RunOptions


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")


def slots(wanted: PlacementRequest) -> list[LocalSlot]:
    with open_placement(wanted, Home(Path()), "sqlite:///x.db", None, print) as hands:
        assert all(isinstance(slot, LocalSlot) for slot in hands.slots)
        return [slot for slot in hands.slots if isinstance(slot, LocalSlot)]


@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        (PlacementRequest(), [("2", 1), ("5", 1)]),
        (PlacementRequest(gpus="all"), [("2", 1), ("5", 1)]),
        (PlacementRequest(gpus="1"), [("5", 1)]),
        (PlacementRequest(workers=3), [("2", 0.5), ("5", 1), ("2", 0.5)]),
        (PlacementRequest(workers=2, gpus="0"), [("2", 0.5), ("2", 0.5)]),
        (PlacementRequest(per_gpu="2"), [("2", 0.5), ("5", 0.5), ("2", 0.5), ("5", 0.5)]),
        (PlacementRequest(per_gpu="2", gpus="1", workers=2), [("5", 0.5), ("5", 0.5)]),
        (PlacementRequest(per_gpu="auto"), [("2", 1), ("5", 1)]),
    ],
    ids=str,
)
@pytest.mark.usefixtures("two_gpus")
def test_who_sits_on_which_gpu_and_with_what_share(
    wanted: PlacementRequest, places: list[tuple[str, float]]
) -> None:
    found = slots(wanted)
    assert [(slot.gpu, slot.share) for slot in found] == places
    assert [slot.number for slot in found] == list(range(len(places)))


def test_without_a_gpu_the_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 4, 5})
    assert [(slot.cores, slot.gpu) for slot in slots(PlacementRequest())] == [([], "")]
    assert [slot.cores for slot in slots(PlacementRequest(workers=2))] == [[0, 1], [4, 5]]
    assert sorted(core for slot in slots(PlacementRequest(workers=3)) for core in slot.cores) == [0, 1, 4, 5]
    assert all(len(slot.cores) == 1 for slot in slots(PlacementRequest(workers=7)))


def test_auto_adds_workers_when_the_first_have_been_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", smi(tmp_path / "bin", memory="10240, 0\n"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    said: list[str] = []
    with open_placement(PlacementRequest(per_gpu="auto"), Home(tmp_path), "", None, said.append) as hands:
        assert hands.grow is not None
        added = hands.grow({"0": 4 * 2**30, "1": 0})
    assert [slot.gpu for slot in added] == ["0"] and "GPU 0: 2 workers" in said[0]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (PlacementRequest(gpus_per_worker=1), "^--gpus-per-worker belongs to --ray.*--per-gpu N"),
        (PlacementRequest(ray="local", gpus="0"), "^--ray places the workers itself: leave out --gpus"),
        (PlacementRequest(ray="local", per_gpu="2"), "--gpus-per-worker 0.5"),
        (PlacementRequest(per_gpu="auto", workers=3), "auto finds the number of workers itself"),
        (PlacementRequest(per_gpu="2", workers=3), "--per-gpu 2 on 2 GPUs makes 4 workers, --workers asks for 3"),
        (PlacementRequest(per_gpu="0"), "^--per-gpu 0: give a number of workers from 1 up, or auto"),
        (PlacementRequest(per_gpu="many"), "^--per-gpu many: give a number"),
        (PlacementRequest(gpus="2"), "no GPU '2'"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("two_gpus")
def test_what_contradicts_itself_is_told_in_one_line(wanted: PlacementRequest, told: str) -> None:
    with pytest.raises(FleetError, match=told) as caught:
        check_placement(wanted)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("per_gpu", ["2", "auto"])
def test_gpus_that_are_not_there_cannot_be_shared(per_gpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(FleetError, match=r"^--per-gpu: no GPU is visible here .*--workers N"):
        check_placement(PlacementRequest(per_gpu=per_gpu))


def test_ray_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.fleet.placement.find_spec", lambda name: None)
    with pytest.raises(FleetError, match=r'^--ray needs Ray, which is not installed: pip install "tuner\[ray\]"$'):
        check_placement(PlacementRequest(ray="local"))


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1:9", "Connection refused"),
        ("nonsense", "it is not a HOST:PORT"),
        ("ray://127.0.0.1:9", "refused"),
    ],
)
def test_a_cluster_that_does_not_answer_is_told_in_one_line(address: str, told: str) -> None:
    with pytest.raises(
        FleetError, match=f"^--ray {address}: no cluster could be joined .*{told}.*: ray start --head"
    ):
        check_placement(PlacementRequest(ray=address))


@pytest.mark.parametrize("share", [2, -1])
def test_a_worker_on_ray_takes_one_gpu_at_most(share: float) -> None:
    with pytest.raises(FleetError, match=f"^--gpus-per-worker {share}: a worker trains on one GPU"):
        check_placement(PlacementRequest(ray="local", gpus_per_worker=share))


def test_sqlite_is_refused_where_workers_sit_on_several_hosts() -> None:
    nodes = [{"NodeManagerAddress": f"10.0.0.{i}", "Alive": i < 3} for i in range(4)]
    with pytest.raises(
        FleetError, match=r"^the cluster has 3 hosts, and SQLite is for one: give --storage postgres"
    ):
        refuse_sqlite("10.0.0.0:6379", "sqlite:///runs/tuner.db", nodes)
    refuse_sqlite("10.0.0.0:6379", "postgresql://db/tuner", nodes)
    refuse_sqlite("10.0.0.0:6379", "sqlite:///runs/tuner.db", nodes[2:])


def refused_run(home: Path) -> None:
    space = home.with_name("broken.py")
    space.write_text("raise ValueError('a space that cannot be loaded')")
    tuner.run(space, home=home)


def refused_extend(home: Path, per_gpu: str | None = None) -> None:
    options = RunOptions(home_url(home), Home(home), PlacementRequest(per_gpu=per_gpu))
    extend(ExtendRequest(None, 5, 1, (), options), make_view, print)


@pytest.mark.skipif(not fork_server.AVAILABLE, reason="workers fork on Linux only")
@pytest.mark.parametrize(("command", "error"), [(refused_run, SpaceError), (refused_extend, StudyError)])
def test_a_refused_command_leaves_no_fork_server(
    command: Callable[[Path], None], error: type[TunerError], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[fork_server.ForkServer] = []
    close = fork_server.ForkServer.close
    monkeypatch.setattr(fork_server.ForkServer, "close", lambda self: [close(self), closed.append(self)])
    with pytest.raises(error):
        command(home)
    assert fork_server.start_server.cache_info().currsize == 0
    assert [server.process is not None and server.process.poll() for server in closed] == [-signal.SIGKILL]


def test_extend_refuses_a_placement_before_it_reads_the_database(home: Path) -> None:
    with pytest.raises(FleetError, match="--per-gpu many"):
        refused_extend(home, "many")
