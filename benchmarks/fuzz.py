"""Bad inputs by the ten thousand: the cases of tests/fuzz, in processes of a few hundred, each with limits.

    .venv/bin/python -m benchmarks.fuzz --cases 50000 --seed 1 --jobs 2
    .venv/bin/python -m benchmarks.fuzz --family tables --seed 1 --only 173

Prints bad answers as they come and a line for each family at the end, and exits with 1 if there was a bad one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT

BATCH = 250  # cases of a process
BATCH_SECONDS = 300


@dataclass(frozen=True)
class Batch:
    """Cases of a family, by their numbers."""

    family: str
    seed: int
    first: int
    end: int


def main() -> int:
    """Return 0 if every case was answered well."""
    args = parser().parse_args()
    sys.path[:0] = [str(ROOT / "tests")]
    families = import_families()
    if args.batch:
        return run_batch(Batch(**json.loads(args.batch)))
    chosen = {name: families[name] for name in args.family or families}
    if args.only is not None:
        batches = [Batch(name, args.seed, args.only, args.only + 1) for name in chosen]
    else:
        batches = list(split_cases(chosen, args.cases, args.seed))
    began = time.monotonic()
    trials: list[dict[str, Any]] = []
    number = sum(batch.end - batch.first for batch in batches)
    with ThreadPoolExecutor(args.jobs) as pool:
        for found in pool.map(start_batch, batches):
            trials += found
            print_problems(found)
            print(f"{found[0]['family']}: {len(trials):,} of {number:,} cases", file=sys.stderr)
    print_summary(trials, time.monotonic() - began)
    if args.report:
        args.report.write_text(json.dumps(trials, indent=1))
    return int(any(trial["problems"] for trial in trials))


def import_families() -> dict[str, int]:
    from importlib import import_module

    found: dict[str, int] = import_module("fuzz").FAMILIES
    return found


def split_cases(families: dict[str, int], cases: int, seed: int) -> Iterator[Batch]:
    """Yield batches of all families, each with its share of the cases."""
    for name, share in families.items():
        number = round(cases * share / sum(families.values()))
        for first in range(0, number, BATCH):
            yield Batch(name, seed, first, min(first + BATCH, number))


def start_batch(batch: Batch) -> list[dict[str, Any]]:
    """Run a batch in a process; if that dies or does not end, its halves, down to the case that it is."""
    command = [sys.executable, "-m", "benchmarks.fuzz", "--batch", json.dumps(asdict(batch))]
    with tempfile.TemporaryFile("w+") as output:
        try:
            env = {**os.environ, "OMP_NUM_THREADS": "1"}
            subprocess.run(command, cwd=ROOT, stdout=output, timeout=BATCH_SECONDS, check=True, env=env)
        except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
            if batch.end - batch.first == 1:
                what = {"family": batch.family, "number": batch.first, "what": "", "seconds": 0, "megabytes": 0}
                return [{**what, "problems": [f"its process died: {error}"[:200]]}]
            middle = (batch.first + batch.end) // 2
            halves = [(batch.first, middle), (middle, batch.end)]
            return [trial for half in halves for trial in start_batch(Batch(batch.family, batch.seed, *half))]
        output.seek(0)
        found: list[dict[str, Any]] = json.loads(output.read())
        return found


def run_batch(batch: Batch) -> int:
    """Run a batch in this process and print what came of each case as JSON."""
    from importlib import import_module

    fuzzing: Any = import_module("helpers.fuzzing")
    with tempfile.TemporaryDirectory() as folder:
        ground = fuzzing.Ground(Path(folder))
        numbers = range(batch.first, batch.end)
        trials = [fuzzing.try_case(batch.family, batch.seed, number, ground) for number in numbers]
    print(json.dumps([{"family": batch.family, **asdict(trial)} for trial in trials]))
    return 0


def print_problems(trials: list[dict[str, Any]]) -> None:
    """Print the cases of a batch that were answered badly."""
    for trial in trials:
        if trial["problems"]:
            told = [f"{trial['family']} {trial['number']}: {trial['what'][:150]}", *trial["problems"]]
            print("\n    ".join(told), flush=True)


def print_summary(trials: list[dict[str, Any]], seconds: float) -> None:
    for family in dict.fromkeys(trial["family"] for trial in trials):
        own = [trial for trial in trials if trial["family"] == family]
        bad = sum(bool(trial["problems"]) for trial in own)
        slow, large = max(trial["seconds"] for trial in own), max(trial["megabytes"] for trial in own)
        print(f"{family:<12} {len(own):>6,} cases  {bad:>4} bad   longest {slow:.2f} s   most {large:.0f} MB")
    print(f"{len(trials):,} cases in {seconds:,.0f} s")


def parser() -> argparse.ArgumentParser:
    asked = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    asked.add_argument("--cases", type=int, default=50_000)
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--family", action="append", metavar="NAME", help="only these")
    asked.add_argument("--only", type=int, metavar="N", help="only case N")
    asked.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at the same time")
    asked.add_argument("--report", type=Path, metavar="FILE", help="write what came of each case as JSON")
    asked.add_argument("--batch", help=argparse.SUPPRESS)
    return asked


if __name__ == "__main__":
    sys.exit(main())
