"""Images of very many pixels are refused before they are decoded, and threads decode within a bound of memory."""

from __future__ import annotations

import os
import re
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.image_folders import make_photos
from helpers.made_studies import make_bundle
from PIL import Image as Pillow

import tuner
from tuner.cli import main
from tuner.data import images, limits
from tuner.data.cache import load_cached
from tuner.data.folder import folder
from tuner.data.limits import MAX_PIXELS, PIXEL_LIMIT, DecodeBudget, limit_pixels
from tuner.data.survey import survey
from tuner.errors import DataError
from tuner.fleet.config import WorkerConfig, WorkerSettings
from tuner.recipe import Recipe, use
from tuner.search import run as launch

GREY, RGB = 0, 2  # colour types of a PNG
MEGABYTE = 1 << 20


def write_png(path: Path, width: int, height: int, colour: int = RGB, bits: int = 8) -> Path:
    """Write a black PNG with a white line on top, of any size: it takes a thousandth of its pixels."""
    row = bytes(1 + (width * (3 if colour == RGB else 1) * bits + 7) // 8)
    packer = zlib.compressobj(1)
    rows = [packer.compress(b"\0" + b"\xff" * (len(row) - 1)), *(packer.compress(row) for _ in range(height - 1))]
    data = b"".join(rows) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", data), (b"IEND", b""))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )
    )
    return path


def memory(field: str) -> int:
    """Return VmRSS or VmHWM, the peak, of this process in bytes."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


@contextmanager
def grows_at_most(megabytes: int) -> Iterator[None]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is used
    before = memory("VmRSS")
    yield
    assert memory("VmHWM") - before < megabytes * MEGABYTE


@pytest.mark.parametrize(
    "read",
    [images.read_image, images.read_mask, images.read_labels, images.read_instances],
    ids=lambda f: f.__name__,
)
def test_a_small_file_of_169_million_pixels_is_refused_without_decoding_it(
    read: Callable[[Path], object], tmp_path: Path
) -> None:
    path = write_png(tmp_path / "bomb.png", 13_000, 13_000, GREY, bits=1)
    assert path.stat().st_size < MEGABYTE / 2
    with (
        grows_at_most(16),
        pytest.raises(DataError, match=r"13000 x 13000 = 169,000,000 pixels; at most 50,000,000"),
    ):
        read(path)


def test_a_side_of_a_hundred_million_pixels_is_refused_whatever_the_limit(tmp_path: Path) -> None:
    path = write_png(tmp_path / "wide.png", 100_000, 1, GREY)
    with limit_pixels(10**12), pytest.raises(DataError, match="a side may have at most 65,535"):
        images.read_image(path)


def test_more_pixels_can_be_allowed_and_fewer(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", 40, 30)
    with limit_pixels(1199), pytest.raises(DataError, match=r"--max-pixels, in Python with max_pixels=$"):
        images.read_image(path)
    with limit_pixels(1200):
        assert images.read_image(path).shape == (30, 40, 3)
    assert PIXEL_LIMIT.get() == MAX_PIXELS


def test_threads_of_a_survey_and_of_the_cache_have_the_limit_of_their_caller(photos: Path, tmp_path: Path) -> None:
    source = folder(photos)
    found = survey(source, tmp_path)
    with limit_pixels(100):
        with pytest.raises(DataError, match="12 of 12 items cannot be used"):
            survey(source, tmp_path)  # also what was read before
        with pytest.raises(DataError, match="--max-pixels"):
            load_cached(source, found.fingerprint, 16, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("step", ["survey", "cache"])
def test_many_threads_decode_within_the_memory_of_one(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write_png(tmp_path / "data" / "a" / "0.png", 3000, 3000, GREY, bits=16)
    (tmp_path / "data" / "b").mkdir()
    for number in range(1, 8):
        (tmp_path / "data" / "ab"[number % 2] / f"{number}.png").hardlink_to(first)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(images, "BUDGET", DecodeBudget(1))
    with grows_at_most(250):  # one image takes 60, eight take 460
        if step == "survey":
            survey(folder(tmp_path / "data"), tmp_path / "memory")
        else:
            load_cached(folder(tmp_path / "data"), "f", 16, tmp_path / "memory")


def test_a_budget_is_never_exceeded_but_by_one_alone() -> None:
    budget, seen = DecodeBudget(10), []

    def work(number: int) -> None:
        with budget.hold(number):
            seen.append((number, budget.used))

    threads = [threading.Thread(target=work, args=(number,)) for number in (3, 4, 25, 5, 6, 0, 10) * 20]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 140 and budget.used == 0
    assert all(used <= 10 or used == number for number, used in seen)


def test_what_decoding_takes_is_estimated_from_the_header(tmp_path: Path) -> None:
    assert images.decoded_bytes(write_png(tmp_path / "a.png", 100, 50)) == 100 * 50 * 12
    assert images.decoded_bytes(write_png(tmp_path / "b.png", 100, 50, GREY, bits=16)) == 100 * 50 * 24
    assert images.decoded_bytes(write_png(tmp_path / "c.png", 13_000, 13_000, GREY, bits=1)) == 0  # refused
    assert images.decoded_bytes(tmp_path / "none.png") == 0


def test_16_bits_are_scaled_in_strips_as_at_once() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (700, 30))
    assert (images.to_eight_bits(values) == np.clip(values / 257 + 0.5, 0, 255).astype(np.uint8)).all()
    assert images.to_eight_bits(np.empty((0, 3), np.uint16)).shape == (0, 3)


def test_the_bound_of_pillow_is_replaced_by_a_stricter_one() -> None:
    assert Pillow.MAX_IMAGE_PIXELS is None and limits.MAX_PIXELS < 89_478_485  # Pillow's own


def test_the_limit_reaches_workers_by_their_settings() -> None:
    config = WorkerConfig("sqlite:///x", "s", "", "h", WorkerSettings(max_pixels=7))
    assert WorkerConfig.from_line(config.to_line()).settings.max_pixels == 7


def test_a_damaged_file_is_told_in_one_line_without_warnings_of_pillow(tmp_path: Path) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        for name in "ab":
            Pillow.new("L", (64, 64)).save(tmp_path / part / f"{name}.tif")
            whole = (tmp_path / part / f"{name}.tif").read_bytes()
            (tmp_path / part / f"{name}.tif").write_bytes(whole[:80])
    done = CliRunner().invoke(main, ["data", str(tmp_path), "--home", str(tmp_path / "home")])
    assert done.exit_code == 2 and "2 of 2 items cannot be used" in done.stderr
    assert "UserWarning" not in done.stderr and len(done.stderr.splitlines()) <= 4


def test_every_command_that_reads_images_has_the_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path, 4)
    done = CliRunner().invoke(main, ["data", ".", "--max-pixels", "100"])
    assert done.exit_code == 2 and "4 of 4 items cannot be used" in done.stderr and "--max-pixels" in done.stderr
    assert PIXEL_LIMIT.get() == MAX_PIXELS
    for command in ("run", "extend", "check", "predict", "evaluate", "explain"):
        assert "--max-pixels" in CliRunner().invoke(main, [command, "--help"]).output


def test_check_has_the_limit_that_run_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(*_: object) -> None:
        raise DataError(f"at most {PIXEL_LIMIT.get()} pixels")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "prepare_workers", lambda _: nullcontext())
    monkeypatch.setattr(launch, "check_request", tell)
    for command in (["check", "unet_k"], ["run", "--space", "unet_k"]):
        for option, most in ([], MAX_PIXELS), (["--max-pixels", "7"], 7):
            done = CliRunner().invoke(main, [*command, "--data", ".", *option])
            assert done.exit_code == 2 and done.stderr == f"tuner: at most {most} pixels\n"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuner.Bundle:
    folder = tmp_path_factory.mktemp("exported")
    recipe = Recipe("binary", use("shapes", image_size=32), use("unet", k=2), use("bce"), use("adam"), epochs=2)
    return tuner.load_bundle(make_bundle(recipe, folder / "best"))


@pytest.mark.parametrize("method", ["predict", "explain"])
def test_a_bundle_in_python_has_the_limit_of_the_command(
    method: str, exported: tuner.Bundle, tmp_path: Path
) -> None:
    path = write_png(tmp_path / "large.png", 40, 30)
    done = CliRunner().invoke(main, [method, str(exported.path), str(path), "--max-pixels", "1199"])
    assert done.exit_code == 2
    use_on = getattr(exported, method)
    for image in (path, Pillow.open(path), [path]):
        with pytest.raises(DataError) as error:
            use_on(image, max_pixels=1199)
        assert done.stderr.endswith(f"{error.value}\n")
        assert use_on(image, max_pixels=1200) is not None
    assert use_on(np.zeros((30, 40, 3), np.uint8), max_pixels=1) is not None  # decoded already
    with pytest.raises(DataError, match="169,000,000 pixels; at most 50,000,000 are read"):
        use_on(write_png(tmp_path / "bomb.png", 13_000, 13_000, GREY, bits=1))
    with pytest.raises(DataError, match="max_pixels is 0; a whole number of at least 1 is needed"):
        use_on(path, max_pixels=0)
    assert PIXEL_LIMIT.get() == MAX_PIXELS


def test_a_bundle_in_python_reads_a_dataset_with_the_limit(exported: tuner.Bundle, tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 5)
    given = {"data": tmp_path / "photos", "split": "val", "home": tmp_path / "home", "max_pixels": 100}
    for call in (exported.evaluate, partial(exported.explain_sample, 1)):
        with pytest.raises(DataError, match="5 of 5 items cannot be used"):
            call(**given)
