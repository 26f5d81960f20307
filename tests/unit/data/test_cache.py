"""The cache: built once, shared, whole or not there, never larger than allowed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.fork_server import start_python
from helpers.image_folders import make_photos
from PIL import Image

from tuner.data import cache
from tuner.data.cache import CachedDataset, load_cached
from tuner.data.folder import folder
from tuner.data.images import resize_image
from tuner.data.source import Source
from tuner.data.survey import survey
from tuner.errors import DataError, FilesError

BUILD = """
import resource, signal, sys
from dataclasses import replace
from pathlib import Path
from tuner.data.cache import load_cached
from tuner.data.folder import folder
from tuner.data.source import Source
from tuner.data.survey import survey
from tuner.errors import FilesError

photos, place, limit, pause_at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
source = folder(photos)
found = survey(source, place)
builds = []

def progress(done, of):
    if of:  # nothing is built while another one builds
        builds.append(done)
    if pause_at and done == pause_at:
        print("building", flush=True)
        sys.stdin.read()

if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    data = load_cached(source, found.fingerprint, 64, place, progress=progress)
    print("built" if builds else "found", int(data.images.sum()), flush=True)
except FilesError as error:
    print(f"FilesError: {error}", flush=True)
"""


def open_cache(photos: Path, place: Path, size: int = 64, **options: object) -> CachedDataset:
    source = folder(photos)
    return load_cached(source, survey(source, place).fingerprint, size, place, **options)


def builder(photos: Path, place: Path, limit: int = 0, pause_at: int = 0) -> subprocess.Popen[str]:
    """A process of its own that builds the cache; it waits for its stdin after `pause_at` pictures."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process: subprocess.Popen[str] = start_python(
        "", photos, place, limit, pause_at, code=BUILD, env=dict(os.environ), **pipes
    )
    return process


def entries(place: Path) -> list[str]:
    """What looks like an entry, whole or not, hidden or not."""
    return sorted(path.name for path in place.iterdir() if path.is_dir())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_every_picture_is_there_resized_with_its_mask(photos: Path, place: Path) -> None:
    data = open_cache(photos, place)
    source = folder(photos)
    assert data.images.shape == (12, 64, 64, 3) and data.targets.shape == (12, 64, 64)
    assert data.images.dtype == data.targets.dtype == np.uint8 and set(np.unique(data.targets)) == {0, 1}
    for at, item in enumerate(source.items):
        image, mask = source.read(item)
        assert data.keys[at] == item.key
        assert np.array_equal(data.images[at], resize_image(image, 64))
        assert any(np.array_equal(data.targets[at], mask[y::2, x::2]) for y in (0, 1) for x in (0, 1))


def test_train_and_val_are_those_of_the_source(photos: Path, place: Path) -> None:
    data, source = open_cache(photos, place), folder(photos)
    for split, indices in (("train", data.train), ("val", data.val)):
        assert [data.keys[at] for at in indices] == [item.key for item in source.split(split)]


def test_the_cache_is_mapped_and_cannot_be_written(photos: Path, place: Path) -> None:
    data = open_cache(photos, place)
    assert isinstance(data.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        data.images[0] = 0


def test_the_test_split_is_not_in_it(tmp_path: Path, place: Path) -> None:
    for split in ("train", "test"):
        make_photos(tmp_path / "data" / split, 4)
    for file in (tmp_path / "data" / "test" / "images").iterdir():
        file.rename(file.with_stem(f"secret{file.stem}"))
    for file in (tmp_path / "data" / "test" / "masks").iterdir():
        file.rename(file.with_stem(f"secret{file.stem}"))
    data = open_cache(tmp_path / "data", place)
    assert len(data.images) == len(data.train) + len(data.val) == 4
    assert not [key for key in data.keys if "secret" in key]


def test_classes_are_numbers(tmp_path: Path, place: Path) -> None:
    for at, name in enumerate(("cat", "dog", "emu")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (20, 30), (80 * at, 9, 9)).save(tmp_path / "data" / name / f"{number}.png")
    data = open_cache(tmp_path / "data", place, 16)
    assert data.targets.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2] and data.targets.dtype == np.int64
    assert data.images[:, 0, 0, 0].tolist() == [0, 0, 0, 80, 80, 80, 160, 160, 160]


def test_the_second_opening_reads_no_picture(photos: Path, place: Path) -> None:
    source = folder(photos)
    found = survey(source, place).fingerprint
    first = load_cached(source, found, 64, place)
    shutil.rmtree(photos)
    again = load_cached(source, found, 64, place)
    assert np.array_equal(first.images, again.images) and first.keys == again.keys


def test_another_size_is_another_entry(photos: Path, place: Path) -> None:
    open_cache(photos, place, 64), open_cache(photos, place, 32)
    assert len(entries(place)) == 2


def test_it_is_built_again_when_a_file_changes(photos: Path, place: Path) -> None:
    before = open_cache(photos, place)
    Image.new("RGB", (128, 128), (255, 0, 0)).save(photos / "images" / "photo03.jpg", quality=100)
    after = open_cache(photos, place)
    assert np.array_equal(before.images[2], after.images[2])
    assert np.abs(after.images[3].astype(int) - [255, 0, 0]).max() < 5
    assert len(entries(place)) == 2


@pytest.mark.parametrize("hurt", ["images.npy", "targets.npy", "entry.json"])
def test_an_entry_cut_short_or_without_a_file_is_built_again(photos: Path, place: Path, hurt: str) -> None:
    whole = np.array(open_cache(photos, place).images)
    (entry,) = entries(place)
    for damage in (lambda file: os.truncate(file, file.stat().st_size // 2), Path.unlink):
        damage(place / entry / hurt)
        assert np.array_equal(open_cache(photos, place).images, whole)
        assert entries(place) == [entry]


def test_a_killed_builder_leaves_no_entry_and_the_next_one_builds_it(photos: Path, place: Path) -> None:
    process = builder(photos, place, pause_at=6)
    assert process.stdout.readline() == "building\n"
    (half,) = entries(place)
    assert half.startswith(".")
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdin.close(), process.stdout.close()
    assert entries(place) == [half]
    seen: list[int] = []
    assert len(open_cache(photos, place, progress=lambda done, of: seen.append(done)).images) == 12
    assert seen == list(range(1, 13)) and half not in entries(place) and len(entries(place)) == 1


def test_two_processes_at_once_build_once(photos: Path, place: Path) -> None:
    first = builder(photos, place, pause_at=6)
    assert first.stdout.readline() == "building\n"  # it holds the lock now, half-way
    second = builder(photos, place)
    first.stdin.close()
    said = [process.stdout.read().split() for process in (first, second)]
    assert [first.wait(), second.wait()] == [0, 0]
    second.stdin.close(), first.stdout.close(), second.stdout.close()
    assert [words[0] for words in said] == ["built", "found"] and said[0][1] == said[1][1]
    assert len(entries(place)) == 1


def test_who_waits_for_a_builder_says_that_it_lives_and_can_be_stopped(photos: Path, place: Path) -> None:
    class Stopped(Exception):
        pass

    def stop(done: int, of: int) -> None:
        raise Stopped

    first = builder(photos, place, pause_at=6)
    assert first.stdout.readline() == "building\n"
    source = folder(photos)
    with pytest.raises(Stopped):
        load_cached(source, survey(source, place).fingerprint, 64, place, progress=stop)
    first.communicate()
    assert first.returncode == 0


def test_a_full_disk_is_one_clear_error_and_leaves_no_half_entry(photos: Path, place: Path) -> None:
    """The limit on the length of a file is a real refusal to write, in the middle of images.npy."""
    process = builder(photos, place, limit=64 * 64 * 3 * 5)
    said, _ = process.communicate()
    assert process.returncode == 0
    assert said.startswith(f"FilesError: the disk is full: could not write {place}. Free some space")
    assert entries(place) == []
    assert len(open_cache(photos, place).images) == 12


def test_a_picture_gone_bad_since_the_survey_leaves_no_half_entry(photos: Path, place: Path) -> None:
    source = folder(photos)
    found = survey(source, place).fingerprint
    (photos / "images" / "photo07.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"photo07\.jpg is empty"):
        load_cached(source, found, 64, place)
    assert entries(place) == []


def test_a_place_that_cannot_be_written_is_a_clear_error(photos: Path, tmp_path: Path) -> None:
    source = folder(photos)
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "cache"):
        with pytest.raises(FilesError, match="is a file where a folder is needed"):
            load_cached(source, "x", 64, place)


def size_in_gb(place: Path) -> float:
    return sum(file.stat().st_size for file in place.rglob("*.npy")) / cache.GIGABYTE


def test_the_entries_used_longest_ago_go_first(photos: Path, place: Path) -> None:
    for size in (16, 24, 32):
        open_cache(photos, place, size)
    room = size_in_gb(place)
    for age, size in ((300, 16), (200, 24), (100, 32)):
        (entry,) = place.glob(f"*-{size}-v*/")
        os.utime(entry, (1e9 - age, 1e9 - age))
    open_cache(photos, place, 16)  # used again: 24 is the oldest now
    open_cache(photos, place, 20, most_gb=room)
    assert {int(name.split("-")[1]) for name in entries(place)} == {16, 20, 32}
    assert size_in_gb(place) <= room


def test_the_entry_just_built_stays_even_without_room(photos: Path, place: Path) -> None:
    open_cache(photos, place, 16)
    data = open_cache(photos, place, 24, most_gb=0)
    assert len(data.images) == 12 and [name.split("-")[1] for name in entries(place)] == ["24"]


def test_an_evicted_entry_lives_on_for_who_has_it_open(photos: Path, place: Path) -> None:
    data = open_cache(photos, place, 16)
    before = int(np.array(data.images).sum())
    open_cache(photos, place, 24, most_gb=0)
    assert int(np.array(data.images).sum()) == before


def test_an_entry_evicted_between_look_and_opening_is_built_again(
    photos: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_cache(photos, place)
    load, tries = cache.open_entry, []

    def evicted_once(entry: Path, source: Source, fingerprint: str) -> CachedDataset:
        tries.append(entry)
        if len(tries) == 1:
            shutil.rmtree(entry)
        return load(entry, source, fingerprint)

    monkeypatch.setattr(cache, "open_entry", evicted_once)
    assert len(open_cache(photos, place).images) == 12 and len(tries) == 2


def test_what_another_is_building_is_never_evicted(photos: Path, place: Path) -> None:
    process = builder(photos, place, pause_at=12)  # every file is nearly complete
    assert process.stdout.readline() == "building\n"
    open_cache(photos, place, 24, most_gb=0)
    said, _ = process.communicate()
    assert said.startswith("built") and process.returncode == 0
    assert {name.split("-")[1] for name in entries(place)} == {"24", "64"}


def test_remains_of_yesterday_are_swept(photos: Path, place: Path) -> None:
    for name, age in ((".dead-64-v2.1", 90_000), (".young-64-v2.2", 10)):
        (place / name).mkdir(parents=True)
        since = (place / name).stat().st_mtime - age
        os.utime(place / name, (since, since))
    open_cache(photos, place, 16)
    open_cache(photos, place, 24, most_gb=0)
    assert ".dead-64-v2.1" not in entries(place) and ".young-64-v2.2" in entries(place)


def test_the_listing_tells_what_is_where(photos: Path, place: Path) -> None:
    data = open_cache(photos, place)
    (entry,) = entries(place)
    listing = json.loads((place / entry / "entry.json").read_text())
    assert tuple(listing["keys"]) == data.keys and set(listing["splits"]) == {"train", "val"}


def test_label_maps_are_resized_by_the_nearest_pixel_and_named(tmp_path: Path, place: Path) -> None:
    for part in ("images", "labels"):
        (tmp_path / "data" / part).mkdir(parents=True)
    corners = np.kron(np.array([[0, 7], [200, 255]], np.uint8), np.ones((20, 30), np.uint8))
    for stem in "ab":
        Image.fromarray(corners).save(tmp_path / "data" / "images" / f"{stem}.png")
        Image.fromarray(corners).save(tmp_path / "data" / "labels" / f"{stem}.png")
    source = folder(tmp_path / "data")
    found = survey(source, place)
    data = load_cached(replace(source, classes=found.classes), found.fingerprint, 16, place)
    assert data.targets.dtype == np.uint8 and len(data.classes) == 201
    assert np.array_equal(data.targets[0], np.kron(np.array([[0, 7], [200, 255]]), np.ones((8, 8))))


def test_instances_keep_16_bits_and_are_resized_by_the_nearest_pixel(tmp_path: Path, place: Path) -> None:
    for part in ("images", "instances"):
        (tmp_path / "data" / part).mkdir(parents=True)
    numbers = np.kron(np.arange(400, dtype=np.uint16).reshape(20, 20) * 100, np.ones((4, 4), np.uint16))
    noise = np.random.default_rng(0).integers(0, 256, (*numbers.shape, 3), np.uint8)
    for stem in "ab":
        Image.fromarray(noise).save(tmp_path / "data" / "images" / f"{stem}.png")
        Image.fromarray(numbers).save(tmp_path / "data" / "instances" / f"{stem}.png")
    source = folder(tmp_path / "data")
    key = survey(source, place).fingerprint
    half, few = (load_cached(source, key, size, place).targets for size in (40, 10))
    assert half.dtype == np.uint16 and half.shape == (2, 40, 40)
    assert np.array_equal(half[0], np.kron(np.arange(400).reshape(20, 20), np.ones((2, 2))))
    assert len(np.unique(few[0])) == 100 and few.max() > 255  # what vanishes leaves a gap


def held(targets: np.ndarray, train: list[int], classes: tuple[str, ...] = ()) -> CachedDataset:
    images = np.zeros((len(targets), 1, 1, 3), np.uint8)
    return CachedDataset(images, targets, (), np.array(train), np.array([0]), "x", "x", classes)


def test_shares_are_of_the_training_targets() -> None:
    masks = np.array([[[1, 1], [1, 1]], [[0, 0], [0, 1]], [[0, 0], [0, 0]]], np.uint8)
    assert held(masks, [1, 2]).shares() == [7 / 8, 1 / 8]
    assert held(masks.astype(np.uint16) * 700, [1, 2]).shares() == [7 / 8, 1 / 8]  # instances: object or not
    labels = np.array([[[9, 9]], [[0, 255]], [[2, 0]]], np.uint8)
    assert held(labels, [1, 2], ("a", "b", "c")).shares() == pytest.approx([2 / 3, 0, 1 / 3])
    assert held(np.array([0, 1, 1, 2]), [1, 2, 3], ("a", "b", "c")).shares() == pytest.approx([0, 2 / 3, 1 / 3])
    assert held(np.full((2, 1, 1), 255, np.uint8), [0, 1], ("a", "b")).shares() == [0, 0]


def test_shares_are_counted_once(photos: Path, place: Path) -> None:
    data = open_cache(photos, place)
    first = data.shares()
    first.append(0.5)  # the caller may change the list
    assert len(data.shares()) == 2 and sum(data.shares()) == pytest.approx(1) and "_class_shares" in vars(data)
    assert data.classes == ()
