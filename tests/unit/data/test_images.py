"""Every kind of file people have is read as they mean it, or named with what is wrong."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from helpers.fork_server import run_code
from numpy.typing import NDArray
from PIL import Image

from tuner.data.images import check_aspect, read_image, read_instances, read_labels, read_mask, resize_image
from tuner.errors import DataError

ROTATIONS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 3),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.fixture
def colours() -> NDArray[np.uint8]:
    """Six by four pixels, each of another colour."""
    return np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)


def save(path: Path, values: NDArray, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(values)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".ppm", ".PNG"])
def test_colours_come_back_exactly(tmp_path: Path, colours: NDArray, suffix: str) -> None:
    options = {"lossless": True} if suffix == ".webp" else {}
    assert np.array_equal(read_image(save(tmp_path / f"a{suffix}", colours, **options)), colours)


def test_a_jpeg_comes_back_closely(tmp_path: Path) -> None:
    smooth = np.full((16, 16, 3), (200, 40, 90), np.uint8)
    read = read_image(save(tmp_path / "a.jpg", smooth, quality=95))
    assert np.abs(read.astype(int) - smooth).max() <= 4


def test_grey_is_three_equal_channels(tmp_path: Path, colours: NDArray) -> None:
    read = read_image(save(tmp_path / "a.png", colours[..., 0]))
    assert np.array_equal(read, np.repeat(colours[..., :1], 3, axis=2))


def test_black_and_white_is_0_and_255(tmp_path: Path) -> None:
    read = read_image(save(tmp_path / "a.png", np.array([[0, 255]], np.uint8), "1"))
    assert read[0, :, 0].tolist() == [0, 255]


def test_a_palette_image_has_its_colours_and_not_its_indices(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    picture.putpalette([10, 20, 30, 200, 100, 50, 0, 0, 255])
    picture.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0].tolist() == [[10, 20, 30], [200, 100, 50], [0, 0, 255]]


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    values = np.array([[[9, 8, 7, 255], [9, 8, 7, 0], [0, 0, 0, 128]]], np.uint8)
    read = read_image(save(tmp_path / "a.png", values))
    assert read[0, :2].tolist() == [[9, 8, 7], [255, 255, 255]]
    assert np.abs(read[0, 2].astype(int) - 127).max() <= 1


def test_a_transparent_palette_colour_is_white(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.save(tmp_path / "a.png", transparency=0)
    assert read_image(tmp_path / "a.png")[0].tolist() == [[255, 255, 255], [200, 100, 50]]


def test_a_cmyk_jpeg_has_its_colours(tmp_path: Path) -> None:
    wanted = np.zeros((32, 32, 3), np.uint8)
    wanted[:, :16], wanted[:, 16:] = (200, 60, 20), (30, 90, 220)
    read = read_image(save(tmp_path / "a.jpg", wanted, "CMYK", quality=98))
    inner = np.r_[0:14, 18:32]  # away from the edge, where JPEG rings
    assert np.abs(read[:, inner].astype(int) - wanted[:, inner]).max() <= 10


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257, 257 * 100, 65535]], np.uint16)
    assert read_image(save(tmp_path / "a.png", values))[0, :, 1].tolist() == [0, 1, 100, 255]


def test_a_float_tiff_from_0_to_1_is_scaled(tmp_path: Path) -> None:
    values = np.array([[0, 0.5, 1]], np.float32)
    assert read_image(save(tmp_path / "a.tif", values))[0, :, 0].tolist() == [0, 128, 255]


def test_values_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tif", np.array([[0, np.nan]], np.float32))
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match=r"a\.tif holds values that are not finite"):
            read(path)


@pytest.mark.parametrize("orientation", ROTATIONS)
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_exif_turns_the_picture_upright(tmp_path: Path, colours: NDArray, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = read_image(save(tmp_path / f"a{suffix}", colours, exif=exif))
    assert np.array_equal(read, ROTATIONS[orientation](colours))


def test_exif_turns_a_mask_as_it_turns_its_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    read = read_mask(save(tmp_path / "a.png", np.array([[255, 0, 0]], np.uint8), exif=exif))
    assert read.tolist() == [[1], [0], [0]]


def test_a_zero_byte_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with pytest.raises(DataError, match=r"^a\.png is empty \(0 bytes\)$"):
        read_image(tmp_path / "a.png")


def test_a_text_file_named_png_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello, I am text\n" * 50)
    with pytest.raises(DataError, match=r"^a\.png is not an image file$"):
        read_image(tmp_path / "a.png")


def test_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"^a\.png cannot be read \(No such file"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".gif"])
def test_a_truncated_image_is_named(tmp_path: Path, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"^a\{suffix} "):
        read_image(path)


@pytest.mark.filterwarnings("ignore")  # of Pillow, about the same damage
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".gif", ".webp"])
def test_damaged_bytes_never_end_in_anything_but_a_picture_or_a_name(tmp_path: Path, suffix: str) -> None:
    rng, exif = random.Random(suffix), Image.Exif()
    exif[0x0112] = 6
    whole = save(tmp_path / f"a{suffix}", np.full((20, 30, 3), 77, np.uint8), exif=exif).read_bytes()
    path = tmp_path / f"b{suffix}"
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path.write_bytes(damaged)
        for read in (read_image, read_mask, read_labels):
            try:
                assert read(path).dtype == np.uint8
            except DataError as error:
                assert path.name in str(error)


@pytest.mark.parametrize(
    "values",
    [
        np.array([[0, 255, 0]], np.uint8),
        np.array([[0, 1, 0]], np.uint8),
        np.array([[0, 200, 0]], np.uint8),
        np.array([[0, 65535, 0]], np.uint16),
        np.array([[0, 1, 0]], np.uint16),
        np.array([[0, 255, 0]], np.uint16),
        np.array([[0, 1, 0]], np.float32),
    ],
    ids=["0-255", "0-1", "0-200", "16-bit", "16-bit 0-1", "16-bit 0-255", "float"],
)
def test_a_mask_of_two_values_is_taken_by_them(tmp_path: Path, values: NDArray) -> None:
    mask = read_mask(save(tmp_path / "a.tif", values))
    assert mask.tolist() == [[0, 1, 0]] and mask.dtype == np.uint8


def test_soft_edges_are_cut_at_half(tmp_path: Path) -> None:
    assert read_mask(save(tmp_path / "a.png", np.array([[0, 60, 127, 128, 255]], np.uint8))).tolist() == [
        [0, 0, 0, 1, 1]
    ]
    deep = np.array([[0, 20000, 32767, 32768, 65535]], np.uint16)
    assert read_mask(save(tmp_path / "b.png", deep)).tolist() == [[0, 0, 0, 1, 1]]
    fractions = np.array([[0, 0.4, 0.6, 1]], np.float32)
    assert read_mask(save(tmp_path / "c.tif", fractions)).tolist() == [[0, 0, 1, 1]]


def test_the_noise_of_a_jpeg_mask_is_no_object(tmp_path: Path) -> None:
    truth = np.zeros((64, 64), np.uint8)
    truth[16:48, 8:40] = 1  # on the borders of JPEG's blocks
    clean = save(tmp_path / "a.jpg", truth * np.uint8(255), quality=60)
    assert np.array_equal(read_mask(clean), truth)
    ragged = np.random.default_rng(0).random((64, 64)) < 0.02
    noisy = save(tmp_path / "b.jpg", (truth | ragged) * np.uint8(255), quality=40)
    assert len(np.unique(np.asarray(Image.open(noisy)))) > 20
    assert set(np.unique(read_mask(noisy))) == {0, 1}
    assert (read_mask(noisy) == truth).mean() > 0.95


def test_a_black_jpeg_mask_with_noise_is_empty(tmp_path: Path) -> None:
    faint = np.random.default_rng(0).integers(0, 3, (32, 32), np.uint8)
    path = save(tmp_path / "a.jpg", faint, quality=95)
    assert np.asarray(Image.open(path)).any() and not read_mask(path).any()


def test_masks_all_black_and_all_white_stay_so(tmp_path: Path) -> None:
    assert not read_mask(save(tmp_path / "a.png", np.zeros((3, 3), np.uint8))).any()
    assert read_mask(save(tmp_path / "b.png", np.full((3, 3), 255, np.uint8))).all()


def test_a_coloured_palette_mask_is_taken_by_index(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1, 2, 255]], np.uint8), "P")
    picture.putpalette([0, 0, 0, 64, 0, 0, 0, 1, 0] + [0, 0, 0] * 252 + [224, 224, 192])
    picture.save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png").tolist() == [[0, 1, 1, 1]]


def test_a_grey_palette_mask_is_taken_by_its_greys(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    picture.putpalette([255, 255, 255, 0, 0, 0, 40, 40, 40])
    picture.save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png").tolist() == [[1, 0, 0]]


def test_a_red_mask_counts_like_a_white_one(tmp_path: Path) -> None:
    red = np.zeros((1, 4, 3), np.uint8)
    red[0, :, 0] = [0, 100, 200, 255]
    assert read_mask(save(tmp_path / "a.png", red)).tolist() == [[0, 0, 1, 1]]


def test_a_mask_with_an_alpha_channel_is_taken_by_its_colour(tmp_path: Path) -> None:
    values = np.array([[[0, 0, 0, 255], [255, 255, 255, 255]]], np.uint8)
    assert read_mask(save(tmp_path / "a.png", values)).tolist() == [[0, 1]]


def test_a_mask_of_class_numbers_is_named_and_not_emptied(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array([[0, 1, 2, 3]], np.uint8))
    with pytest.raises(DataError, match=r"mask a\.png holds the values 0, 1, 2, 3; a mask needs two values"):
        read_mask(path)


@pytest.mark.parametrize("kind", ["grey", "palette", "16-bit", "float", "three channels"])
def test_label_maps_are_read_as_the_numbers_in_them(tmp_path: Path, kind: str) -> None:
    values = np.array([[0, 1, 2, 18, 254, 255]], np.uint8)
    if kind == "palette":
        picture = Image.fromarray(values, "P")
        picture.putpalette([7, 7, 7] * 256)  # the colours say nothing
        picture.save(tmp_path / "a.png")
    else:
        kinds = {"16-bit": values.astype(np.uint16), "float": values.astype(np.float32)}
        three = np.repeat(values[..., None], 3, axis=2) if kind == "three channels" else values
        save(tmp_path / ("a.tif" if kind == "float" else "a.png"), kinds.get(kind, three))
    (path,) = tmp_path.iterdir()
    assert read_labels(path).tolist() == values.tolist() and read_labels(path).dtype == np.uint8


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("a.jpg", np.zeros((8, 8), np.uint8), "is a JPEG, a lossy format that changes the numbers"),
        ("a.png", np.array([[3, 300]], np.uint16), "holds 3 to 300; classes are 0 to 254, and 255 is ignored"),
        ("a.tif", np.array([[-1, 3]], np.int32), "holds -1 to 3"),
        ("a.tif", np.array([[0.5, 3]], np.float32), "holds fractions"),
        ("a.png", np.array([[[1, 2, 3]]], np.uint8), "has colors"),
    ],
)
def test_what_is_no_label_map_is_named(tmp_path: Path, name: str, values: NDArray, words: str) -> None:
    with pytest.raises(DataError, match=f"^label map {name} {words}"):
        read_labels(save(tmp_path / name, values))


NUMBERED = np.array([[0, 1, 7], [300, 65535, 0]], np.uint16)


@pytest.mark.parametrize(
    "kind", ["8-bit", "palette", "three channels", "16-bit", "16-bit tiff", "32-bit", "float"]
)
def test_instance_maps_are_numbered_anew_without_gaps(tmp_path: Path, kind: str) -> None:
    small = np.array([[0, 3, 9], [200, 255, 0]], np.uint8)  # 255 is a number like any other
    if kind == "palette":
        picture = Image.fromarray(small, "P")
        picture.putpalette([7, 7, 7] * 256)  # the colours say nothing
        picture.save(tmp_path / "a.png")
    else:
        kinds = {"8-bit": small, "three channels": np.repeat(small[..., None], 3, axis=2), "16-bit": NUMBERED}
        wide = {"32-bit": NUMBERED.astype(np.int32), "float": NUMBERED.astype(np.float32)}
        values = {**kinds, **wide, "16-bit tiff": NUMBERED}[kind]
        save(tmp_path / ("a.tif" if kind in wide or "tiff" in kind else "a.png"), values)
    (path,) = tmp_path.iterdir()
    read = read_instances(path)
    assert read.dtype == np.uint16 and read.tolist() == [[0, 1, 2], [3, 4, 0]]


def test_every_number_of_16_bits_may_be_used(tmp_path: Path) -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(read_instances(save(tmp_path / "a.png", every)), every)
    assert read_instances(save(tmp_path / "b.png", every * 0)).max() == 0


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("a.jpg", np.zeros((8, 8), np.uint8), "is a JPEG, a lossy format that changes the numbers"),
        (
            "a.tif",
            np.array([[3, 70000]], np.int32),
            "holds 3 to 70000; 0 is background, and instances are 1 to 65535",
        ),
        ("a.tif", np.array([[-1, 3]], np.float32), "holds -1 to 3"),
        ("a.tif", np.array([[0.5, 3]], np.float32), "holds fractions"),
        (
            "a.png",
            np.array([[[1, 2, 3]]], np.uint8),
            "has colors; an 8- or 16-bit grey PNG is needed, with an instance num",
        ),
    ],
)
def test_what_is_no_instance_map_is_named(tmp_path: Path, name: str, values: NDArray, words: str) -> None:
    with pytest.raises(DataError, match=f"^instance map {name} {words}"):
        read_instances(save(tmp_path / name, values))


@pytest.mark.parametrize("size", [(103, 100), (97, 100), (50, 50), (200, 206)])
def test_a_mask_of_nearly_the_same_aspect_is_accepted(size: tuple[int, int]) -> None:
    check_aspect(Path("a.png"), np.zeros(size, np.uint8), np.zeros((100, 100, 3), np.uint8))


@pytest.mark.parametrize("size", [(104, 100), (100, 104), (20, 30)])
def test_a_mask_of_another_aspect_is_named_with_both_sizes(size: tuple[int, int]) -> None:
    height, width = size
    with pytest.raises(
        DataError, match=rf"mask a\.png is {width}x{height} for an image of 100x100.*3% is allowed"
    ):
        check_aspect(Path("a.png"), np.zeros(size, np.uint8), np.zeros((100, 100, 3), np.uint8))


def test_shrinking_averages_and_skips_no_pixel() -> None:
    stripes = np.zeros((8, 8, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.unique(resize_image(stripes, 4)).tolist() == [100]


@pytest.mark.parametrize("shape", [(1, 3000, 3), (3000, 1, 3), (1, 1, 3)])
def test_an_image_of_any_aspect_becomes_a_square(shape: tuple[int, int, int]) -> None:
    assert resize_image(np.full(shape, 9, np.uint8), 16).shape == (16, 16, 3)


def test_warnings_of_pillow_about_a_file_that_it_can_read_are_not_shown() -> None:
    code = "import tuner.data.images, warnings\n"
    code += "warnings.warn_explicit('Corrupt EXIF data.', UserWarning, 'x.py', 1, 'PIL.TiffImagePlugin')"
    assert run_code(code).stderr == ""
