"""Bad data on the command line is named before a study is made; good data is shown."""

from __future__ import annotations

import shutil
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from helpers.dataset_layouts import make_coco, make_instances, make_isic, make_scene
from helpers.error_output import one_message
from helpers.file_server import mirror
from PIL import Image

from tests.conftest import Tuner, make_photos
from tuner.data.datasets import ISIC

SPACE = """from tuner import Recipe, maximize, use

GOAL = maximize("iou")


def suggest(trial):
    model = use("unet", k=trial.suggest_int("k", 4, 8))
    return Recipe("binary", use("shapes", image_size=32), model, use("bce"), use("adam"), epochs=1)
"""


@pytest.fixture
def search(tuner: Tuner, tmp_path: Path) -> Tuner:
    """`tuner run` of a small space on a folder."""
    (tmp_path / "small.py").write_text(SPACE)
    return lambda data, *more: tuner("run", "--space", "small.py", "--trials", "1", "--data", data, *more)


def refused(done: CompletedProcess[str], folder: Path, *said: str) -> str:
    """Exit code 2, one message of ours without a traceback, no database and no study made."""
    one_message(done, *said)
    assert not list(folder.rglob("*.db*")) and not list(folder.rglob("trials"))
    return done.stderr


def missing(at: Path) -> None:
    pass


def empty(at: Path) -> None:
    at.mkdir()


def a_file(at: Path) -> None:
    at.write_text("no folder")


def lonely(at: Path) -> None:
    make_photos(at, 3)
    for number in range(7):
        (at / "masks" / f"photo{number + 50}.png").touch()
    (at / "images" / "alone.jpg").touch()


def one_image(at: Path) -> None:
    make_photos(at, 1)


def classes(at: Path) -> None:
    for name in ("cat", "dog"):
        (at / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(at / name / "a.png")


def splits_of_other_classes(at: Path) -> None:
    for name in ("train/cat", "train/dog", "val/cat"):
        (at / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(at / name / "a.png")


FOLDERS = {
    missing: ["data here does not exist"],
    empty: [
        "holds no images. Expected images/ + masks/, rgb/ + figure_ground/, images/ + labels/, images/ + inst"
    ],
    a_file: ["is a file; a folder of images is needed"],
    lonely: ["1 images without a mask: alone", "7 masks without an image: photo50, photo51", "and 2 more"],
    one_image: ["at least two images outside test/ are needed"],
    splits_of_other_classes: ["train and val hold different classes: dog (only in train)"],
}


@pytest.mark.parametrize("make", FOLDERS, ids=lambda make: make.__name__)
def test_a_folder_that_is_no_dataset_is_refused_before_anything_is_made(
    tuner: Tuner, tmp_path: Path, make
) -> None:
    make(tmp_path / "data here")
    refused(tuner("data", "./data here"), tmp_path, *FOLDERS[make])
    assert not (tmp_path / "runs").exists()


def test_a_search_on_such_a_folder_is_refused_before_anything_is_made(search: Tuner, tmp_path: Path) -> None:
    lonely(tmp_path / "data here")
    refused(search("./data here"), tmp_path, *FOLDERS[lonely])
    assert not (tmp_path / "runs").exists()


def test_a_dataset_of_another_task_is_refused(search: Tuner, tmp_path: Path) -> None:
    classes(tmp_path / "animals")
    refused(search("animals"), tmp_path, "holds classes; the task 'binary' needs masks")
    assert not (tmp_path / "runs").exists()


def test_every_unusable_file_is_named_at_once(search: Tuner, tuner: Tuner, photos: Path, tmp_path: Path) -> None:
    images, masks = photos / "images", photos / "masks"
    (images / "photo00.jpg").write_bytes(b"")
    (images / "photo01.jpg").write_bytes((images / "photo01.jpg").read_bytes()[:2000])
    (images / "photo02.jpg").write_text("a text file")
    Image.new("L", (128, 60)).save(masks / "photo03.png")
    Image.fromarray(np.arange(5, dtype=np.uint8).reshape(1, 5).repeat(5, 0)).save(masks / "photo04.png")
    for done in (search(photos), tuner("data", photos)):
        message = refused(
            done,
            tmp_path,
            f"{photos}: 5 of 12 items cannot be used.",
            "photo00.jpg is empty (0 bytes)",
            "photo01.jpg cannot be read (",
            "photo02.jpg is not an image file",
            "mask photo03.png is 128x60 for an image of 128x128",
            "mask photo04.png holds the values 0, 1, 2, 3, 4",
        )
        assert len(message.splitlines()) == 6


def test_the_kinds_of_files_people_have_are_taken(tuner: Tuner, photos: Path) -> None:
    images, masks = photos / "images", photos / "masks"
    for at, mode in enumerate(("CMYK", "L", "P", "RGBA", "LA", "1")):
        suffix = ".jpg" if mode in ("CMYK", "L") else ".png"
        whole = Image.open(images / f"photo{at:02d}.jpg").copy()
        (images / f"photo{at:02d}.jpg").unlink()
        whole.convert(mode).save(images / f"photo{at:02d}{suffix}")
    deep = np.random.default_rng(0).integers(0, 65536, (128, 128)).astype(np.uint16)
    (images / "photo06.jpg").unlink()
    Image.fromarray(deep).save(images / "photo06.PNG")
    Image.new("L", (128, 128)).save(masks / "photo07.png")
    Image.open(masks / "photo08.png").resize((64, 63)).save(masks / "photo08.png")
    for name in (".DS_Store", "Thumbs.db", "notes.txt"):
        (images / name).write_bytes(b"x")
    done = tuner("data", photos)
    assert done.returncode == 0, done.stderr
    assert "12 images with masks; " in done.stdout
    assert [line for line in done.stdout.splitlines() if "notice" in line] == [
        "  notice: photo07.jpg: an empty mask"
    ]


def test_a_folder_is_checked_and_its_contact_sheet_opens(tuner: Tuner, photos: Path, tmp_path: Path) -> None:
    done = tuner("data", "photos")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(f"{photos}: 12 images with masks; ")
    assert "contact sheet: runs/sheet-photos.png" in done.stdout
    with Image.open(tmp_path / "runs" / "sheet-photos.png") as sheet:
        sheet.load()
        assert sheet.width > 900 and len(sheet.getcolors(10**7)) > 1000
    assert not list(tmp_path.rglob("*.db*"))


def test_a_folder_of_classes_is_shown(tuner: Tuner, tmp_path: Path) -> None:
    classes(tmp_path / "animals")
    done = tuner("data", "animals", "--sheet", "my sheet.jpg")
    assert "2 images with classes of 2 classes; 1 train, 1 val" in done.stdout
    Image.open(tmp_path / "my sheet.jpg").load()


@pytest.mark.parametrize("sheet", ["sheet.txt", "gone/sheet.png", "photos.png"])
def test_a_sheet_that_cannot_be_written_is_refused(tuner: Tuner, photos: Path, tmp_path: Path, sheet: str) -> None:
    (tmp_path / "photos.png").mkdir()
    refused_with = tuner("data", "photos", "--sheet", sheet)
    assert refused_with.returncode == 2 and sheet in refused_with.stderr and "Traceback" not in refused_with.stderr


def test_a_home_that_cannot_be_written_is_refused(
    search: Tuner, tuner: Tuner, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    for home, said in (
        ("taken", "is a file where a folder is needed"),
        ("/proc/home", "could not write /proc/home"),
    ):
        refused(tuner("data", photos, "--home", home), tmp_path, said)
    refused(search(photos, "--home", home), tmp_path, said)


def test_the_known_datasets_are_listed_with_where_they_are_looked_for(tuner: Tuner, tmp_path: Path) -> None:
    make_photos(tmp_path / "mine" / "weizmann_horse", 3, "rgb", "figure_ground")
    listed = tuner("data").stdout
    assert "shapes" in listed and "generated" in listed and "weizmann_horse" in listed
    assert "not on this machine" in listed and str(tmp_path / ".cache" / "tuner" / "data") in listed
    listed = tuner("data", TUNER_DATA=str(tmp_path / "mine")).stdout
    assert f"at {tmp_path / 'mine' / 'weizmann_horse'}: 3 images with masks; " in listed
    assert "generated: 120 images with labels of 4 classes; " in listed
    done = tuner("data", "weizmann_horse", TUNER_DATA=str(tmp_path / "mine"))
    assert done.returncode == 0 and "3 images with masks" in done.stdout


def test_label_maps_are_shown_and_strange_ones_named(tuner: Tuner, tmp_path: Path) -> None:
    make_scene(tmp_path / "scene", 4)
    done = tuner("data", "--sheet", "s.png", "./scene")
    assert "4 images with labels of 4 classes; " in done.stdout and done.returncode == 0
    assert "  classes: sky, ground, disc, box\n" in done.stdout
    Image.open(tmp_path / "s.png").load()
    make_scene(tmp_path / "scene", 4, "sky\nground\n")
    words = "holds 2, 3; the 2 classes are 0 to 1, and 255 is ignored"
    refused(tuner("data", "./scene"), tmp_path, "label map scene00_labels.png", words)


def test_instances_are_counted_and_what_is_wrong_with_their_json_is_named(tuner: Tuner, tmp_path: Path) -> None:
    make_instances(tmp_path / "maps", 4)
    coco = make_coco(tmp_path / "coco" / "images", tmp_path / "coco" / "annotations.json", 4)
    for name in ("maps", "coco"):
        done = tuner("data", "--sheet", "s.png", f"./{name}")
        assert "4 images with instances; " in done.stdout and done.returncode == 0, done.stderr
        assert " per image; " in done.stdout and " touch another; areas of " in done.stdout
        Image.open(tmp_path / "s.png").load()
    (coco / "images" / "cell01.jpg").unlink()
    refused(
        tuner("data", "./coco"),
        tmp_path,
        "1 of its entries cannot be used. cell01.jpg is listed but does not exist",
    )
    (coco / "annotations.json").write_text("{")
    refused(tuner("data", "./coco"), tmp_path, "annotations.json is not valid JSON")


def test_a_public_dataset_is_fetched_by_name(tuner: Tuner, tmp_path: Path) -> None:
    lesions = make_isic(tmp_path / "lesions", 4)
    for part in ISIC:
        shutil.make_archive(str(tmp_path / "packed" / part), "zip", lesions, part)
    with mirror() as server:
        server.put(tmp_path / "packed")
        where = {"TUNER_MIRROR": server.url, "no_proxy": "127.0.0.1"}
        done = tuner("data", "get", "isic2016", **where)
        assert done.stdout == "isic2016 is now at data/isic2016\nnext: tuner data isic2016\n", done.stderr
        one_message(tuner("data", "get", "oxford_pet", **where), "images.tar.gz: the server answered 404")
    again = tuner("data", "get", "isic2016")
    assert again.stdout.startswith("isic2016 is complete at data/isic2016") and again.returncode == 0
    assert "6 images with masks; " in tuner("data").stdout
    one_message(tuner("data", "get", "cityscapes"), "1. register at cityscapes-dataset.com")


def test_a_dataset_that_is_not_here_says_where_to_put_it(search: Tuner, tuner: Tuner, tmp_path: Path) -> None:
    for done in (search("weizmann_horse"), tuner("data", "weizmann_horse")):
        refused(done, tmp_path, "not on this machine; looked for", "rgb/ and figure_ground/", "--data FOLDER")
        assert not (tmp_path / "runs").exists()
