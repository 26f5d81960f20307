"""The same command on a real Ray cluster of two nodes, one of which goes in the middle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers.command_line import (
    claims,
    epochs_of,
    finish,
    home_url,
    rows,
    run,
    running,
    states,
    wait_for,
    worker_pids,
    write_space,
)

STORE = 80 * 2**20
ENDED = {"COMPLETE", "PRUNED"}
SHOW = """
import os
from pathlib import Path

from torch import nn


class Net(nn.Conv2d):
    def forward(self, batch):
        if self.training and not batch.is_meta:
            Path(f"gpu-{os.getpid()}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
        return super().forward(batch)


def net(channels, outputs):
    return Net(channels, outputs, 3, padding=1)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two processors and a pretended GPU on one node, one processor on the other; both are this host."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 2, "num_gpus": 1, "object_store_memory": STORE, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.small = made.add_node(num_cpus=1, object_store_memory=STORE)
    yield made
    made.shutdown()


def search(folder: Path, cluster: Any, *args: str | Path, trials: int) -> list[str | Path]:
    where = ["--space", folder / "tiny.py", "--home", folder / "home", "--ray", cluster.address]
    return ["run", *where, "--trials", str(trials), *args]


@pytest.mark.slow
def test_two_workers_share_a_gpu_of_the_cluster(tmp_path: Path, cluster: Any) -> None:
    (tmp_path / "mine.py").write_text(SHOW)
    write_space(tmp_path, epochs=2, model='use("mine:net")')
    done = run(tmp_path, *search(tmp_path, cluster, "--workers", "2", "--gpus-per-worker", "0.5", trials=4))
    assert done.returncode == 0, done.stderr
    assert set(states(home_url(tmp_path / "home")).values()) <= ENDED
    assert {file.read_text() for file in tmp_path.glob("gpu-*")} == {"0"}
    assert "Traceback" not in done.stderr and "ray" not in done.stderr.lower()  # it is quiet


def on_node(node: Any, url: str) -> int:
    """How many epochs the trial has that a worker on that node trains; 0 while there is none."""
    ours = {info.process.pid for kind in node.all_processes.values() for info in kind}
    for row in rows(url, "SELECT pid, number, step FROM tuner_worker"):
        with suppress(psutil.NoSuchProcess):
            if ours & {parent.pid for parent in psutil.Process(row.pid).parents()}:
                return int(row.step)
    return 0


@pytest.mark.slow
def test_a_node_that_goes_takes_no_trial_with_it(tmp_path: Path, cluster: Any) -> None:
    write_space(tmp_path, epochs=40)
    url = home_url(tmp_path / "home")
    workers = ("--workers", "4", "--gpus-per-worker", "0")
    # not pruned: the trial of the worker on the node must reach its second epoch
    with running(tmp_path, *search(tmp_path, cluster, *workers, "--no-pruning", trials=5)) as fleet:
        wait_for(lambda: on_node(cluster.small, url) >= 2, fleet)
        cluster.remove_node(cluster.small, allow_graceful=False)
        done = finish(fleet)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    told = [line for line in done.stderr.splitlines() if "wait for room in the Ray cluster" in line]
    assert len(told) == 1  # of the fourth, for which there never was room
    ends = states(url)
    assert sorted(ends) == [0, 1, 2, 3, 4] and set(ends.values()) <= ENDED
    assert len(claims(url)) == 5
    for number in ends:
        epochs = epochs_of(url, number)
        assert epochs == list(range(1, len(epochs) + 1)) and epochs
    assert worker_pids(url) == []
