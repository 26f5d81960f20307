"""What a trial goes on from, as it lies in a store: files that belong together, and a list of them beside.

    trials/STUDY-KEY/00003/attempt-2/checkpoint-9c1185a5c5e9.pt     named by its content
    trials/STUDY-KEY/00003/attempt-2/best-5feceb66ffc8.safetensors
    trials/STUDY-KEY/00003/attempt-2/kept-000007.json               the list: put last, so all of it is there

A list names each file with its size and checksum. The last two lists stand with their files: where something of
the newest comes back damaged, the one before is used.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tuner.artifacts.store import Store
from tuner.errors import writing
from tuner.paths import ATTEMPT, Run, hash_file

LIST = re.compile(rf"{ATTEMPT}(\d+)/kept-(\d+)\.json$")
TRIES = 3  # to get a file whole
log = logging.getLogger("tuner")


@dataclass(frozen=True, order=True)
class Manifest:
    """A list in the store: of which attempt, the how manieth of it, and its name."""

    attempt: int
    number: int
    name: str

    @property
    def place(self) -> str:
        """Where its files are, ending with a slash."""
        return self.name.rpartition("/")[0] + "/"


def find_manifests(names: Iterable[str]) -> list[Manifest]:
    """Every list among these names of a trial, the newest first."""
    found = ((LIST.search(name), name) for name in names)
    return sorted((Manifest(int(at[1]), int(at[2]), name) for at, name in found if at), reverse=True)


def upload_snapshot(store: Store, snapshot: Path, place: str, number: int) -> None:
    """Put the files of a snapshot and then their list; what is there already is not sent again."""
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
    """The files of a list by their own names, or None where the list is damaged."""
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
    """Remove what is not needed any more: all but the newest lists of a trial, and their files."""
    names = store.names(trial)
    needed = set()
    for kept in find_manifests(names)[:most]:
        listed = read_manifest(store, kept)
        if listed is None:
            return  # nobody knows what it needs: another time
        needed |= {kept.name, *(f"{kept.place}{entry['name']}" for entry in listed.values())}
    for name in names if needed else ():
        if name not in needed:
            store.delete(name)


def delete_snapshots(store: Store, trial: str) -> None:
    for name in store.names(trial):
        store.delete(name)


def restore_run(store: Store, found: Iterable[Manifest], run: Run) -> bool:
    """Fill a run from the first of these lists whose files all come whole; False where none does."""
    for kept in found:
        listed = read_manifest(store, kept)
        if listed is not None and restore_files(store, kept.place, listed, run):
            return True
        log.warning("%s/%s is damaged: the one before is used", store.shown, kept.name)
    return False


def restore_files(store: Store, place: str, listed: dict[str, dict[str, str | int]], run: Run) -> bool:
    """All of the files or none: under their names only when all are whole, the checkpoint among the last."""
    aside = run.folder / ".coming"
    with writing(run.folder):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            known = [file for file in (*run.pictures, *run.weights) if file.name in listed]
            if not all(download_verified(store, place, listed[file.name], aside / file.name) for file in known):
                return False
            for file in known:
                (aside / file.name).replace(file)
            return True
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def download_verified(store: Store, place: str, entry: dict[str, str | int], path: Path) -> bool:
    """Get a file, again where it comes damaged."""
    for _ in range(TRIES):
        try:
            store.get(f"{place}{entry['name']}", path)
        except FileNotFoundError:
            return False
        if path.stat().st_size == entry["bytes"] and hash_file(path) == entry["sha256"]:
            return True
    return False
