"""Look at every file of a dataset once: can it be decoded, what is its content's hash?

The findings are remembered by path, size and time of change, so that the next look takes milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tuner.data.source import Item, Source
from tuner.errors import DataError, first_lines, writing

Progress = Callable[[int, int], None]  # done, of how many


@dataclass(frozen=True)
class Finding:
    """What one look at an item found; `stamp` tells whether its files changed since."""

    stamp: list[list[int]]
    digest: str
    size: list[int]
    problem: str = ""
    notice: str = ""


@dataclass(frozen=True)
class Survey:
    """`fingerprint` stands for the content of all items that a search may see."""

    fingerprint: str
    findings: dict[str, Finding]

    def notices(self) -> list[str]:
        return [f"{Path(key).name}: {found.notice}" for key, found in self.findings.items() if found.notice]


def survey(source: Source, memory: Path, progress: Progress | None = None) -> Survey:
    """Survey a source; DataError names every file that cannot be used. `memory` is a folder of ours."""
    if source.revision:
        return Survey(fingerprint(source, {item.key: source.revision for item in source.items}), {})
    notes = memory / f"survey-{hashlib.sha256(source.where.encode()).hexdigest()[:12]}.json"
    known = recall(notes)
    findings = dict(look_at_all(source, known, progress))
    if findings != known:
        remember(notes, findings)
    bad = [found.problem for found in findings.values() if found.problem]
    if bad:
        raise DataError(f"{source.where}: {len(bad)} of {len(findings)} items cannot be used.{first_lines(bad)}")
    return Survey(fingerprint(source, {key: found.digest for key, found in findings.items()}), findings)


def look_at_all(
    source: Source, known: dict[str, Finding], progress: Progress | None
) -> Iterable[tuple[str, Finding]]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda item: look_at(source, item, known.get(name_of(item))), source.items)
        for done, (item, finding) in enumerate(zip(source.items, found, strict=True), start=1):
            if progress:
                progress(done, len(source.items))
            yield name_of(item), finding


def name_of(item: Item) -> str:
    """Unique over the splits: the image's file, or the key of a generated item."""
    return str(item.image or item.key)


def look_at(source: Source, item: Item, known: Finding | None) -> Finding:
    """Decode an item fully, unless its files are as they were at the last look."""
    files = [path for path in (item.image, item.target) if isinstance(path, Path)]
    try:
        stamp = [[f.stat().st_size, f.stat().st_mtime_ns] for f in files]
        if known and known.stamp == stamp:
            return known
        digest = hashlib.sha256(b"".join(hashlib.sha256(f.read_bytes()).digest() for f in files)).hexdigest()
        image, target = source.read(item)
    except DataError as error:
        return Finding([], "", [], problem=str(error))
    except OSError as error:
        return Finding([], "", [], problem=f"{Path(error.filename or '').name} cannot be read ({error.strerror})")
    notice = "a picture of one colour" if np.ptp(image, axis=(0, 1)).max() < 8 else ""
    if not isinstance(target, int) and not target.any():
        notice = notice or "an empty mask"
    return Finding(stamp, digest, [image.shape[1], image.shape[0]], notice=notice)


def fingerprint(source: Source, digests: dict[str, str]) -> str:
    """One hash over the names, splits and contents of what a search sees; the test split is left out."""
    whole = hashlib.sha256(source.targets.encode())
    for item in source.split("train", "val"):
        whole.update(f"{item.key}\0{item.split}\0{digests[name_of(item)]}\0".encode())
    return whole.hexdigest()[:16]


def recall(notes: Path) -> dict[str, Finding]:
    try:
        return {key: Finding(**found) for key, found in json.loads(notes.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def remember(notes: Path, findings: dict[str, Finding]) -> None:
    """Write aside, then rename: two processes at once leave one whole file."""
    with writing(notes):
        notes.parent.mkdir(parents=True, exist_ok=True)
        aside = notes.with_suffix(f".{os.getpid()}.tmp")
        aside.write_text(json.dumps({key: asdict(found) for key, found in findings.items()}))
        aside.replace(notes)
