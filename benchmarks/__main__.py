"""Measure all parts or one; print the tables and write them as a page."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from benchmarks.measure import Section, Setting, machine
from benchmarks.page import as_page, as_text

PARTS = (
    *(
        "start",
        "startup",
        "restart",
        "input",
        "augmenting",
        "training",
        "models",
        "between",
        "stretches",
        "pictures",
    ),
    *(
        "workers",
        "pruning",
        "search",
        "live",
        "warm",
        "confirming",
        "instances",
        "many",
        "latency",
        "large",
        "reporting",
        "rows",
        "storm",
        "paused_storm",
    ),
)


def main() -> int:
    """Return 0 if every target was met or the sizes are toys, 1 otherwise."""
    args = parser().parse_args()
    host = machine()
    folder = args.folder or Path(tempfile.gettempdir()) / "tuner-benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    setting = Setting(args.quick, folder.absolute(), args.data and args.data.absolute(), args.curves)
    sections: list[Section] = []
    for name in args.only or PARTS:
        began = time.monotonic()
        sections.append(import_module(f"benchmarks.{name}").measure(setting))
        print(as_text(sections[-1]), flush=True)
        setting.log(f"{name}: {time.monotonic() - began:.0f} s")
        if args.markdown:  # after each part: an interrupted run keeps its results
            missing = [part for part in PARTS if part not in {section.name for section in sections}]
            args.markdown.parent.mkdir(parents=True, exist_ok=True)
            args.markdown.write_text(as_page(sections, missing, host, args.quick), encoding="utf-8")
    if args.quick:
        return 0
    return int(any(row.met is False for section in sections for row in section.rows))


def parser() -> argparse.ArgumentParser:
    asked = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    asked.add_argument("--only", action="append", choices=PARTS, metavar="NAME", help=f"one of {', '.join(PARTS)}")
    asked.add_argument("--quick", action="store_true", help="toy sizes: shows that it works, not how fast")
    asked.add_argument("--markdown", type=Path, metavar="FILE", help="write the page")
    asked.add_argument(
        "--data", type=Path, metavar="FOLDER", help="your own images/ and masks/ instead of generated"
    )
    asked.add_argument(
        "--curves",
        type=Path,
        metavar="DIR",
        help="tables of learning curves for `search`: *.npz of TaskSet, *.json",
    )
    asked.add_argument(
        "--folder", type=Path, metavar="DIR", help="for files made on the way; kept, and used again"
    )
    return asked


if __name__ == "__main__":
    sys.exit(main())
