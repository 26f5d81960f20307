"""Snapshots of a run in an artifact store: the files to resume from, and a manifest that lists them.

    trials/STUDY-KEY/00003/attempt-2/checkpoint-9c1185a5c5e9.pt     named by its content
    trials/STUDY-KEY/00003/attempt-2/best-5feceb66ffc8.safetensors
    trials/STUDY-KEY/00003/attempt-2/kept-000007.json               the manifest: written last, so all files exist

A manifest holds the size and checksum of each file. The newest two manifests are kept with their files: if a
file of the newest is damaged, the one before it is used.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tuner.artifacts.store import Store
from tuner.errors import writing
from tuner.paths import ATTEMPT, Run, hash_file, link_file

LIST = re.compile(rf"{ATTEMPT}(\d+)/kept-(\d+)\.json$")
TRIES = 3  # to download an undamaged file
log = logging.getLogger("tuner")


@dataclass(frozen=True, order=True)
class Manifest:
    """A manifest in the store: its attempt, its number within the attempt, and its name."""

    attempt: int
    number: int
    name: str

    @property
    def place(self) -> str:
        """The prefix of its files, ending with a slash."""
        return self.name.rpartition("/")[0] + "/"


def find_manifests(names: Iterable[str]) -> list[Manifest]:
    """Return all manifests among the names of a trial, newest first."""
    found = ((LIST.search(name), name) for name in names)
    return sorted((Manifest(int(at[1]), int(at[2]), name) for at, name in found if at), reverse=True)


def take_snapshot(run: Run, number: int) -> Path:
    """Link the run's current checkpoint, its best weights, code and pictures into a folder, and return it."""
    folder = run.folder / f".sending-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    best = run.checkpoint_best if run.checkpoint_best.is_file() else run.best
    for source, name in ((best, run.best.name), *((f, f.name) for f in (run.code, run.checkpoint, *run.pictures))):
        if source.is_file():
            link_file(source, folder / name)
    return folder


def upload_snapshot(store: Store, snapshot: Path, place: str, number: int) -> None:
    """Upload the files of a snapshot, then its manifest; skip files that are already in the store."""
    there = set(store.names(place))
    listed = {}
    for file in sorted(snapshot.iterdir()):
        checksum = hash_file(file)
        name = f"{file.stem}-{checksum[:12]}{file.suffix}"
        if place + name not in there:
            store.put(file, place + name)
        listed[file.name] = {"name": name, "bytes": file.stat().st_size, "sha256": checksum}
    with TemporaryDirectory() as folder:
        written = Path(folder) / "kept.json"
        written.write_text(json.dumps({"version": 1, "files": listed}))
        store.put(written, f"{place}kept-{number:06d}.json")


def read_manifest(store: Store, kept: Manifest) -> dict[str, dict[str, str | int]] | None:
    """Return the manifest's entries by file name, or None if it is missing or damaged."""
    with TemporaryDirectory() as folder:
        came = Path(folder) / "kept.json"
        for _ in range(TRIES):
            try:
                store.get(kept.name, came)
                listed: dict[str, dict[str, str | int]] = json.loads(came.read_text())["files"]
                if all({"name", "bytes", "sha256"} <= set(entry) for entry in listed.values()):
                    return listed
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            except FileNotFoundError:
                break
    return None


def delete_outdated(store: Store, trial: str, most: int) -> None:
    """Delete all but the newest `most` manifests of a trial, and the files that only those used; with 0, all."""
    names = store.names(trial)
    needed = set()
    for kept in find_manifests(names)[:most]:
        listed = read_manifest(store, kept)
        if listed is None:
            return  # the files it needs are unknown: leave everything until the next call
        needed |= {kept.name, *(f"{kept.place}{entry['name']}" for entry in listed.values())}
    for name in names if needed or most == 0 else ():
        if name not in needed:
            store.delete(name)


def restore_run(store: Store, found: Iterable[Manifest], run: Run) -> bool:
    """Restore a run from the first manifest whose files are all intact; return False if none is."""
    for kept in found:
        listed = read_manifest(store, kept)
        if listed is not None and restore_files(store, kept.place, listed, run):
            return True
        log.warning("%s/%s is damaged: the one before is used", store.location, kept.name)
    return False


def restore_files(store: Store, place: str, listed: dict[str, dict[str, str | int]], run: Run) -> bool:
    """Restore all files or none, the checkpoint among the last; return whether all were intact."""
    known = [file for file in (*run.pictures, *run.weights) if file.name in listed]
    with writing(run.folder), TemporaryDirectory(dir=run.folder, prefix=".", ignore_cleanup_errors=True) as folder:
        aside = Path(folder)
        if not all(download_verified(store, place, listed[file.name], aside / file.name) for file in known):
            return False
        for file in known:
            (aside / file.name).replace(file)
        return True


def download_verified(store: Store, place: str, entry: dict[str, str | int], path: Path) -> bool:
    """Download a file, retrying if it is damaged; return whether it matches its size and checksum."""
    for _ in range(TRIES):
        try:
            store.get(f"{place}{entry['name']}", path)
        except FileNotFoundError:
            return False
        if path.stat().st_size == entry["bytes"] and hash_file(path) == entry["sha256"]:
            return True
    return False
