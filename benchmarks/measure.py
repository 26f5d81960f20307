"""Shared by all parts: alternating measurements, medians, result tables."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Setting:
    """How much to measure, and the folder for files."""

    quick: bool
    folder: Path  # for files made by a benchmark; what it finds there it uses again
    data: Path | None = None  # a user's own photographs
    curves: Path | None = None  # tables of learning curves
    log: Callable[[str], None] = field(default=lambda line: print(line, file=sys.stderr, flush=True))

    def pick(self, full: int, quick: int) -> int:
        return quick if self.quick else full


@dataclass(frozen=True)
class Row:
    """One comparison, in sections with three columns of values with a `third`. `met` is None without a target."""

    what: str
    ours: str
    other: str
    ratio: str = ""
    target: str = ""
    met: bool | None = None
    third: str = ""

    def cells(self, columns: int) -> list[str]:
        met = "" if self.met is None else "yes" if self.met else "NO"
        return [*[self.what, self.ours, self.other, self.third][:columns], self.ratio, self.target, met]


@dataclass(frozen=True)
class Section:
    """The result of one part; `reading` says in a few lines what the figures mean."""

    name: str
    title: str
    head: tuple[str, ...]  # what is measured, ours, the other, and a third where there is one
    rows: list[Row]
    reading: list[str]

    def table(self) -> list[list[str]]:
        return [[*self.head, "ratio", "target", "met"], *(row.cells(len(self.head)) for row in self.rows)]


def in_turns(rounds: int, **ways: Callable[[], float]) -> dict[str, list[float]]:
    """Call all ways once per round (ABABAB), so that load on the machine affects all of them."""
    results: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            results[name].append(way())
    return results


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def median(values: list[float]) -> float:
    return statistics.median(values)


def spread(values: list[float], digits: int = 1, unit: str = "") -> str:
    """Format the median and the range: '12.3 (11.9 to 13.0)'."""
    low, middle, high = min(values), median(values), max(values)
    return f"{middle:.{digits}f}{unit} ({low:.{digits}f} to {high:.{digits}f})"


def child(module: str, config: Mapping[str, Any], env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run `python -m benchmarks.MODULE` with a JSON configuration; parse its last line of output."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", json.dumps(config)],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def machine() -> dict[str, str]:
    """Describe the machine and the library versions."""
    import torch

    from tuner.train.precision import has_amx

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "processor": processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "AMX (bfloat16 in hardware)": "yes" if has_amx() else "no",
        "GPU": gpu,
        "torch": torch.__version__,
        "Python": sys.version.split()[0],
        "date": date.today().isoformat(),
        "load when it began": f"{os.getloadavg()[0]:.1f}",
    }


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
