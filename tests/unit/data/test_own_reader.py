"""A dataset that a function of the user's own reads: checked before it is used, and read anew when edited."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as Pillow

from tuner.data.datasets import add_split, data_problems, open_data
from tuner.data.survey import survey
from tuner.errors import DataError
from tuner.recipe import use
from tuner.registry import own_modules

TEXT = """
from pathlib import Path
import numpy as np
from PIL import Image
from tuner.data.source import Item, Source
from tuner.data.split import hold_out
from reader_helper import threshold

def reader(*, image_size=256, val=0.2, split_seed=0, split="stable", folder):
    items = tuple(Item(path.stem, "train", path) for path in sorted(Path(folder).glob("*.png")))
    return Source("photos", folder, {targets!r}, hold_out(items, val, split_seed, split), read{more}){after}

def read(item):
    image = np.array(Image.open(item.image).convert("RGB"))
    {lines}
    return image, {target}
"""
MASK = "(image[..., 0] > threshold()).astype(np.uint8)"
Write = Callable[..., str]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        Pillow.linear_gradient("L").rotate(90 * number).resize((8 + number, 8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def write(own_folder: Path) -> Write:
    def write(
        targets: str = "masks",
        target: str = MASK,
        more: str = "",
        lines: str = "",
        helper: int = 99,
        after: str = "",
    ) -> str:
        text = TEXT.format(targets=targets, target=target, more=more, lines=lines, after=after)
        (own_folder / "photo_reader.py").write_text(text)
        (own_folder / "reader_helper.py").write_text(f"def threshold():\n    return {helper}\n")
        own_modules.search_in({own_folder: "beside the space"})
        return "photo_reader:reader"

    return write


def test_an_own_reader_is_a_dataset(write: Write, photos: Path, tmp_path: Path) -> None:
    part = add_split(use(write(), folder=str(photos), val=0.4), "exact")
    assert data_problems(part) == [] and part.args["split"] == "exact"
    source = open_data(part)
    assert source.counts() == "3 train, 2 val"
    first = survey(source, tmp_path)
    assert survey(open_data(part), tmp_path).fingerprint == first.fingerprint


@pytest.mark.parametrize("change", [{"helper": 50}, {"target": f"1 - {MASK}"}])
def test_an_edited_reader_is_another_dataset(
    write: Write, photos: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    part = use(write(), folder=str(photos))
    before = survey(open_data(part), tmp_path).fingerprint
    write(**change)
    assert survey(open_data(part), tmp_path).fingerprint != before


def test_a_reader_that_is_not_there_or_lacks_an_argument_is_told(write: Write) -> None:
    (line,) = data_problems(use("nowhere_reader:read"))
    assert line.startswith("there is no module 'nowhere_reader'. Looked in ")
    (line,) = data_problems(use(write()))
    assert line == "dataset 'photo_reader:reader' needs the argument 'folder'."


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"targets": "boxes"}, "its targets are 'boxes'; known: masks, labels, classes, instances"),
        ({"after": " and None"}, "returned NoneType; a tuner.data.source.Source is needed."),
        ({"after": " + nothing"}, "NameError: name 'nothing' is not defined (line 11)."),
        ({"targets": "classes"}, "item 0 has the class None; 0 to -1 are named"),
    ],
)
def test_a_source_that_cannot_be_used_is_told(
    write: Write, photos: Path, change: dict[str, str], told: str
) -> None:
    name = write(**change)
    with pytest.raises(DataError) as error:
        open_data(use(name, folder=str(photos)))
    assert str(error.value).startswith("dataset 'photo_reader:reader'") and told in str(error.value)


def test_items_are_checked(write: Write, photos: Path) -> None:
    other = " and Source('photos', '', 'masks', (Item('0', 'tran'),) * 2, read)"
    with pytest.raises(DataError) as error:
        open_data(use(write(after=other), folder=str(photos)))
    text = str(error.value)
    assert "item 0 has the split 'tran'" in text and "no item has the split 'val'" in text
    assert "the same split and key have several items: tran 0" in text
    assert "item 0 has no file as image, and the source no revision" in text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"target": "None"}, "its masks are a NoneType; an array of uint8, 8 x 8 as its image, is needed"),
        ({"target": f"{MASK} * 255"}, "its mask has the value 255; 0 and 1 are allowed"),
        (
            {"lines": "image = image[..., 0]", "target": "image"},
            "its image is 8 x 8 of uint8; an array of",
        ),
        ({"lines": "raise KeyError('x')"}, "item 0 of 'photo_reader:reader': KeyError: 'x' (line 15)"),
    ],
)
def test_what_a_reader_returns_is_checked_item_by_item(
    write: Write, photos: Path, tmp_path: Path, change: dict[str, str], told: str
) -> None:
    with pytest.raises(DataError, match="5 of 5 items cannot be used") as error:
        survey(open_data(use(write(**change), folder=str(photos))), tmp_path)
    assert told in str(error.value)


def test_a_reader_of_generated_images_is_checked_when_it_is_opened(write: Write, photos: Path) -> None:
    with pytest.raises(DataError, match="its masks are a NoneType"):
        open_data(use(write(target="None", more=", revision='1'"), folder=str(photos)))
