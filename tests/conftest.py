"""Shared by all tests: small image folders made on the spot, homes of their own, the command line."""

from __future__ import annotations

import os

# Before torch: several test processes share the cores, and threads beyond them wait for each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import gc
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from execnet import gateway_io
from helpers import fork_server
from helpers.command_line import finish
from helpers.fork_server import AVAILABLE, ForkedPopen, start_python
from helpers.generated_images import draw_once
from helpers.image_folders import make_photos
from helpers.optuna_revisions import load_once

from tuner.data.cache import CachedDataset, load_cached
from tuner.data.source import Source
from tuner.data.synthetic.badges import badges
from tuner.data.synthetic.cells import cells
from tuner.data.synthetic.scenes import scenes
from tuner.data.synthetic.shapes import shapes
from tuner.recipe import Recipe, use

ROOT = Path(__file__).parent.parent

NO_PARAMS = SimpleNamespace(params={})
draw_once()
load_once()
gc.disable()  # until all tests are collected


SHARED_SETUP = {  # modules whose tests share what takes seconds to set up
    *(
        "test_api",
        "test_each_choice",
        "test_table",
        "test_report_page_seen",
        "test_report_page",
        "test_figures",
        "test_extend",
    ),
    *("test_loop_instances", "test_mask_rcnn", "test_fork_server", "test_optuna_suite"),
    *("test_study_api", "test_web_artifacts", "test_architecture"),
}


DATABASES = {"sqlite", "postgresql", "mariadb"}


class ForkedGateway(gateway_io.Popen2IOMaster):  # type: ignore[misc]
    """The connection of pytest-xdist to a test process that forks instead of importing everything anew."""

    def __init__(self, args: list[str], execmodel: Any) -> None:
        self.popen = ForkedPopen(
            [each for each in args if each != "-u"], runs_tests=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        gateway_io.Popen2IO.__init__(self, self.popen.stdin, self.popen.stdout, execmodel=execmodel)


def pytest_xdist_setupnodes() -> None:
    """Have the test processes fork from one that has imported everything, each with a server of its own."""
    if AVAILABLE:
        gateway_io.Popen2IOMaster = ForkedGateway


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Import the test modules of a whole run in another order in each process.

    pytest rewrites the assertions of a module at its first import and caches the code. In a new clone all
    processes would rewrite the same modules at the same time; so each begins with a part of its own.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if not worker or session.config.args != session.config.getini("testpaths"):
        return
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    first = len(files) * int(worker.removeprefix("gw")) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    for file in (*files[first:], *files[:first]):
        if (file.parent / "__init__.py").exists():
            continue
        sys.path.insert(0, str(file.parent))
        with suppress(Exception, pytest.skip.Exception):  # to be reported when it is collected
            import_module(file.stem)
        sys.path.pop(0)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Run tests that share a set-up in one process, and those on MariaDB: each process would start a server."""
    if "mariadb" in text_params(item):
        item.add_marker(pytest.mark.xdist_group("mariadb"))
    elif item.path.stem in SHARED_SETUP:
        item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave all databases but one to `make test-all`: the first case of a test on PostgreSQL, others on SQLite."""
    on_postgresql: dict[str, str] = {}  # the case of each test
    for item in items:
        if "postgresql" in text_params(item) and not item.get_closest_marker("slow"):
            on_postgresql.setdefault(item.nodeid.partition("[")[0], without_database(item))
    for item in items:
        databases = DATABASES & text_params(item)
        is_first = on_postgresql.get(item.nodeid.partition("[")[0]) == without_database(item)
        if databases and databases != {"postgresql" if is_first else "sqlite"}:
            item.add_marker(pytest.mark.slow)


def text_params(item: pytest.Item) -> set[str]:
    values = getattr(item, "callspec", NO_PARAMS).params.values()
    return {each for each in values if isinstance(each, str)}


def without_database(item: pytest.Item) -> str:
    """Return the name of a case without the database it runs on."""
    test, _, case = item.nodeid.rstrip("]").partition("[")
    return f"{test} {[part for part in case.split('-') if part not in DATABASES]}"


def pytest_collection_finish() -> None:
    """Leave what lives as long as the process (torch, thousands of tests) out of every later collection."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        import_module("torch._dynamo")  # many tests import it, with their first optimizer
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape what is not UTF-8 in captured output: pytest-xdist cannot send it to the controlling process."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Leave what a module's tests imported out of every later collection, too: each training starts one."""
    if nextitem and item.path != nextitem.path:
        gc.collect()
        gc.freeze()


def pytest_unconfigure() -> None:
    """Let the interpreter free everything at its end: some libraries report what is left as leaked."""
    gc.unfreeze()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty folder to be given as --home."""
    return tmp_path / "home"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve real image files with masks, in the layout images/ + masks/."""
    return make_photos(tmp_path / "photos", 12)


@pytest.fixture(scope="module")
def forked_workers() -> Iterator[None]:
    """Workers of a command in this process fork from the server of the tests: no import is repeated."""
    if not AVAILABLE:
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tuner.fleet.fork_server.start_server", fork_server.server)
        patch.setattr("tuner.fleet.fork_server.stop_server", lambda: None)
        yield


Tuner = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tuner(tmp_path: Path) -> Tuner:
    """The command line in its own process, in an empty folder."""

    def call(*args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        given = {**os.environ, "HOME": str(tmp_path), "TUNER_DATA": "", **env}
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with start_python("tuner.cli", *args, env=given, cwd=tmp_path, **pipes) as process:
            return finish(process)

    return call


def toy(source: Source, number: int, folder: Path) -> CachedDataset:
    """The first few pictures of a source, 32 pixels large, as training sees them. Read-only, as every cache."""
    return load_cached(replace(source, items=source.items[:number]), "toy", 32, folder)


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> CachedDataset:
    """Thirty generated pictures with masks."""
    return toy(shapes(), 30, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def toy_scenes(tmp_path_factory: pytest.TempPathFactory) -> CachedDataset:
    """Twenty generated pictures with label maps of four classes, of which some pixels are ignored."""
    return toy(scenes(), 20, tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="session")
def toy_badges(tmp_path_factory: pytest.TempPathFactory) -> CachedDataset:
    """Thirty generated pictures of six classes."""
    return toy(badges(), 30, tmp_path_factory.mktemp("badges"))


@pytest.fixture(scope="session")
def toy_cells(tmp_path_factory: pytest.TempPathFactory) -> CachedDataset:
    """Sixteen generated pictures of touching cells, each with a number of its own; one has none."""
    return toy(cells(), 16, tmp_path_factory.mktemp("cells"))


@pytest.fixture
def toy_recipe() -> Recipe:
    """A recipe for `toy_data` that draws on every generator: dropout, flips, shuffling."""
    return Recipe(
        task="binary",
        data=use("shapes", image_size=32),
        augment=use("flip"),
        model=use("unet", k=4, dropout=0.2),
        loss=use("bce"),
        optimizer=use("adam", lr=3e-3),
        schedule=use("plateau", patience=0),
        epochs=2,
        batch_size=8,
        precision="fp32",
        seed=7,
    )


@pytest.fixture
def label_recipe(toy_recipe: Recipe, toy_scenes: CachedDataset) -> Recipe:
    """A recipe for `toy_scenes`, as the program completes it from the data."""
    return replace(
        toy_recipe,
        task="multiclass",
        data=use("scenes", image_size=32),
        loss=use("cross_entropy"),
        classes=toy_scenes.classes,
    )


@pytest.fixture
def instance_recipe(toy_recipe: Recipe) -> Recipe:
    """A recipe for `toy_cells`: a watershed of what a small U-Net says."""
    return replace(
        toy_recipe,
        task="instance",
        data=use("cells", image_size=32),
        model=use("deep_watershed", k=4),
        loss=use("watershed"),
    )


@pytest.fixture
def class_recipe(toy_recipe: Recipe, toy_badges: CachedDataset, own_models: Path) -> Recipe:
    """A recipe for `toy_badges`, as the program completes it from the data."""
    return replace(
        toy_recipe,
        task="classification",
        data=use("badges", image_size=32),
        model=use("mine.nets:sorter"),
        loss=use("cross_entropy"),
        classes=toy_badges.classes,
    )


OWN_MODELS = '''
"""Models as a user writes them: a small net that runs out of memory, breaks, or draws at random; two in parts."""

import random

import numpy
import torch
from torch import nn

ERRORS = {
    "gpu": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cublas": lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "cpu": lambda: RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    "python": lambda: MemoryError(),
    "bug": lambda: RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"),
}


class Net(nn.Module):
    def __init__(self, channels, classes, most, fail_at, train_only, error, noisy):
        super().__init__()
        self.first, self.last = nn.Conv2d(channels, 4, 3, padding=1), nn.Conv2d(4, classes, 1)
        self.most, self.fail_at, self.train_only, self.noisy = most, fail_at, train_only, noisy
        self.error, self.calls = ERRORS[error], 0

    def forward(self, image):
        self.calls += 1
        tight = self.training or not self.train_only
        if self.calls == self.fail_at or (tight and len(image) > self.most):
            raise self.error()
        if self.noisy and self.training:
            image = image * (1 + 0.1 * random.random() + 0.1 * numpy.random.rand())
        return self.last(self.first(image).relu())


def net(channels, classes, *, most=99, fail_at=0, train_only=False, error="gpu", noisy=False):
    """A net that raises `error` for more than `most` images, and at its call number `fail_at`."""
    return Net(channels, classes, most, fail_at, train_only, error, noisy)


class Parted(nn.Module):
    """An encoder of six layers, with all that a frozen one must keep still, and a head."""

    def __init__(self, channels, classes, k, pooled, still):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, k, 3, padding=1), nn.BatchNorm2d(k), nn.ReLU(),
            nn.Dropout2d(0.3), nn.Conv2d(k, k, 3, padding=1), nn.BatchNorm2d(k),
        )
        self.head = nn.Sequential(nn.Dropout(0.1), nn.Conv2d(k, classes, 1))
        self.pooled = pooled
        if still:
            self.encoder[0].bias.requires_grad_(False)

    def forward(self, image):
        scores = self.head(self.encoder(image).relu())
        return scores.mean((2, 3)) if self.pooled else scores


def parted(channels, classes, *, k=4, still=False):
    """A model with a part named encoder; `still`: one of its weights is never trained."""
    return Parted(channels, classes, k, False, still)


def sorter(channels, classes, *, k=4):
    """The same, for whole images."""
    return Parted(channels, classes, k, True, False)


def huge(channels, classes):
    """A model whose weights alone do not fit."""
    raise ERRORS["gpu"]()
'''


@pytest.fixture
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a user's package, to be named as "mine.nets:net"."""
    package = tmp_path / "code" / "mine"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(OWN_MODELS)
    monkeypatch.syspath_prepend(package.parent)
    for name in ("mine", "mine.nets"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return package.parent
