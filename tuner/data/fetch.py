"""Download a public dataset; for the others, print the steps to obtain them.

Archives are downloaded into a hidden folder beside their place, verified, unpacked and removed. An unpacked folder
appears when complete, so an existing one is not downloaded again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from tuner.data.datasets import DATASETS, GENERATED, ISIC
from tuner.data.download import Progress, check_disk_space, download, remote_size, unpack
from tuner.data.locate import FOLDERS, candidate_folders, data_roots
from tuner.errors import DataError, FilesError, did_you_mean, writing
from tuner.paths import expand_path
from tuner.wording import write_command

MIRROR = "TUNER_MIRROR"  # environment variable: URL of a folder with the same file names
DOWNLOAD_FOLDER = ".download"  # inside the folder of the dataset
ProgressBar = Callable[[str], AbstractContextManager[Progress]]  # a progress bar for a description


@dataclass(frozen=True)
class Archive:
    """A file to download, and the folder it unpacks to. A zip needs no digest: it has checksums."""

    url: str
    holds: str
    digest: str = ""

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def address(self) -> str:
        mirror = os.environ.get(MIRROR, "").rstrip("/")
        return f"{mirror}/{self.name}" if mirror else self.url


PETS = "https://thor.robots.ox.ac.uk/~vgg/data/pets"
LESIONS = "https://isic-challenge-data.s3.amazonaws.com/2016"
PUBLIC = {
    "oxford_pet": [
        Archive(f"{PETS}/images.tar.gz", "images", "md5:5c4f3ee8e5d25df40f4fd59a7f44e54c"),
        Archive(f"{PETS}/annotations.tar.gz", "annotations", "md5:95a8c909bbe2e81eed6a22bccdf3f68f"),
    ],
    "penn_fudan": [Archive("https://www.cis.upenn.edu/~jshi/ped_html/PennFudanPed.zip", "PennFudanPed")],
    "isic2016": [Archive(f"{LESIONS}/{part}.zip", part) for part in ISIC],
}
MANUAL_STEPS = {
    "weizmann_horse": [
        "log in at kaggle.com and search for 'Weizmann Horse Database'",
        "download the archive and unpack it",
        "put its folders rgb/ and figure_ground/ into {place}/",
    ],
    "sports100": [
        "log in at kaggle.com and search for '100 Sports Image Classification'",
        "download the archive and unpack it",
        "put its folders train/, valid/ and test/ into {place}/",
    ],
    "cityscapes": [
        "register at cityscapes-dataset.com and wait for the answer",
        "download leftImg8bit_trainvaltest.zip (11 GB) and gtFine_trainvaltest.zip (241 MB) and unpack both",
        "put the folders leftImg8bit/ and gtFine/ into {place}/",
    ],
    "scene": [
        "put your images into {place}/images/",
        "put a label map for each into {place}/labels/: a PNG of the same name, the number of a class at each "
        "pixel, 255 where it shall not count",
        "write the names of the classes into {place}/classes.txt, one a line, in the order of the numbers",
    ],
}


def fetch_dataset(name: str, to: Path | None, bar: ProgressBar) -> str:
    """Download a dataset into `to`, or the first writable folder for datasets; return a line with its place.

    The disk space is checked before anything is written.
    """
    name = FOLDERS.get(name, name)
    root = expand_path(to, DataError) if to else writable_root()
    place = root / name
    archives = archives_for(name, place)
    for spot in [place] if to else [place, *candidate_folders(name)]:
        if not missing_archives(archives, spot):
            return f"{name} is complete at {spot}"
    with writing(root):
        check_disk_space(root, required_bytes(missing_archives(archives, place), place / DOWNLOAD_FOLDER))
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".{name}.lock"):
            for left in root.glob(f".{name}.[0-9]*"):
                shutil.rmtree(left, ignore_errors=True)  # of an interrupted unpacking
            fetch_archives(missing_archives(archives, place), place, bar)
    return f"{name} is now at {place}"


def archives_for(name: str, place: Path) -> list[Archive]:
    """Return the archives of a public dataset; for others, raise DataError with the steps to obtain it."""
    if name in PUBLIC:
        return PUBLIC[name]
    if name in GENERATED:
        raise DataError(f"'{name}' is generated: there is nothing to download. Use it with --data {name}.")
    if name not in MANUAL_STEPS:
        raise DataError(f"no dataset '{name}'.{did_you_mean(name, DATASETS)} Public: {', '.join(PUBLIC)}.")
    steps = [f"{at}. {step.format(place=place)}" for at, step in enumerate(MANUAL_STEPS[name], start=1)]
    steps.append(f"{len(steps) + 1}. {write_command('data', name)}")
    raise DataError(f"'{name}' cannot be downloaded automatically. To obtain it:\n  " + "\n  ".join(steps))


def writable_root() -> Path:
    """Return the first folder for datasets that is writable or can be created."""
    for root in data_roots():
        there = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            return root
    raise FilesError(f"none of {', '.join(map(str, data_roots()))} is writable. Choose a folder with --to.")


def missing_archives(archives: list[Archive], place: Path) -> list[Archive]:
    return [archive for archive in archives if not (place / archive.holds).is_dir()]


def fetch_archives(archives: list[Archive], place: Path, bar: ProgressBar) -> None:
    """Download, verify and unpack one archive after the other."""
    aside = place / DOWNLOAD_FOLDER
    for archive in archives:
        with bar(f"fetching {archive.name}") as progress:
            download(archive.address, aside / archive.name, digest=archive.digest, progress=progress)
        with bar(f"unpacking {archive.name}"):
            unpack(aside / archive.name, place)
        if missing_archives([archive], place):
            raise FilesError(
                f"{archive.address} does not contain a folder {archive.holds}/. Is it the right file?"
            )
        (aside / archive.name).unlink()
    shutil.rmtree(aside, ignore_errors=True)


def required_bytes(archives: list[Archive], aside: Path) -> int:
    """Return the bytes left to download, plus those to unpack, about as many: images hardly compress."""
    sizes = [remote_size(archive.address) for archive in archives]
    files = [aside / f"{archive.name}{ending}" for archive in archives for ending in ("", ".part")]
    return 2 * sum(sizes) - sum(file.stat().st_size for file in files if file.exists())
