"""The layouts of the public datasets, as small files made on the spot; `folder` is the dataset's own."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tuner.data.cityscapes import SCORED
from tuner.data.datasets import ISIC
from tuner.data.synthetic.badges import CLASSES, draw_badge
from tuner.data.synthetic.cells import draw_culture
from tuner.data.synthetic.scenes import draw_scene
from tuner.data.synthetic.shapes import draw_picture


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def make_oxford_pet(folder: Path, number: int) -> Path:
    """`number` pictures for training and half as many for testing, with trimaps and the files beside them."""
    breeds = ("Abyssinian", "beagle", "Maine_Coon")
    names = [f"{breeds[at % 3]}_{at + 1}" for at in range(number + number // 2)]
    for at, name in enumerate(names):
        picture, mask = draw_picture(np.random.default_rng([at, 5]))
        grown = cv2.dilate(mask, np.ones((5, 5), np.uint8))
        save(folder / "images" / f"{name}.jpg", picture)
        save(
            folder / "annotations" / "trimaps" / f"{name}.png",
            np.where(mask, 1, np.where(grown, 3, 2)).astype(np.uint8),
        )
    for listing, listed in (("trainval", names[:number]), ("test", names[number:])):
        lines = [f"{name} {at % 3 + 1} 1 1\n" for at, name in enumerate(listed)]
        (folder / "annotations" / f"{listing}.txt").write_text("".join(lines))
    for stray in ("images/Abyssinian_1.mat", "annotations/trimaps/._beagle_2.png", "annotations/README"):
        (folder / stray).write_bytes(b"\0\5\26\7")
    return folder


def make_cityscapes(folder: Path, number: int, train_ids: bool = False) -> Path:
    """`number` pictures for training, half as many for validation and two for testing without truth.

    The label maps hold the official ids, 4 (static) for what is ignored; or train ids, where asked for.
    """
    ids = np.zeros(256, np.uint8)
    ids[:4], ids[255] = [SCORED[at] for at in (10, 0, 11, 13)], 4  # sky, road, person, car
    if train_ids:
        ids[:4], ids[255] = (10, 0, 11, 13), 255
    ending = "labelTrainIds" if train_ids else "labelIds"
    for split, city, count in (("train", "aachen", number), ("val", "lindau", number // 2), ("test", "berlin", 2)):
        for at in range(count):
            name = f"{city}_{at:06d}_000019"
            picture, labels = draw_scene(np.random.default_rng([at, len(city)]))
            save(folder / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", picture)
            truth = np.zeros_like(labels) if split == "test" else ids[labels]
            save(folder / "gtFine" / split / city / f"{name}_gtFine_{ending}.png", truth)
            save(folder / "gtFine" / split / city / f"{name}_gtFine_color.png", picture)
            (folder / "gtFine" / split / city / f"{name}_gtFine_polygons.json").write_text("{}")
    return folder


def make_isic(folder: Path, number: int) -> Path:
    """`number` lesions for training and half as many for testing."""
    for at in range(number + number // 2):
        images, masks = ISIC[:2] if at < number else ISIC[2:]
        picture, mask = draw_picture(np.random.default_rng([at, 3]))
        save(folder / images / f"ISIC_{at:07d}.jpg", picture)
        save(folder / masks / f"ISIC_{at:07d}_Segmentation.png", mask * np.uint8(255))
    return folder


def make_weizmann(folder: Path, number: int) -> Path:
    """`number` horses; each mask is a JPEG of another size than its image."""
    for at in range(number):
        picture, mask = draw_picture(np.random.default_rng([at, 4]))
        save(folder / "rgb" / f"horse{at + 1:03d}.jpg", picture)
        save(
            folder / "figure_ground" / f"horse{at + 1:03d}.jpg",
            cv2.resize(mask * np.uint8(255), None, fx=0.9, fy=0.9),
        )
    return folder


def make_sports(folder: Path, number: int) -> Path:
    """Six sports; `number` pictures of each for training, two for validation, one for testing."""
    for split, count in (("train", number), ("valid", 2), ("test", 1)):
        for kind, name in enumerate(CLASSES):
            for at in range(count):
                picture = draw_badge(np.random.default_rng([at, kind, len(split)]), name)
                save(folder / split / f"{name} ball" / f"{at + 1:03d}.jpg", picture)
    (folder / "sports.csv").write_text("class id,filepaths,labels,data set\n")
    (folder / "EfficientNetB0-100-(224 X 224)- 98.40.h5").write_bytes(b"\x89HDF")
    return folder


def make_scene(folder: Path, number: int, names: str = "sky\nground\ndisc\nbox\n") -> Path:
    """`number` scenes with label maps; without `names`, no classes.txt."""
    for at in range(number):
        picture, labels = draw_scene(np.random.default_rng([at, 2]))
        save(folder / "images" / f"scene{at:02d}.jpg", picture)
        save(folder / "labels" / f"scene{at:02d}_labels.png", labels)
    if names:
        (folder / "classes.txt").write_text(names)
    return folder


def make_penn_fudan(folder: Path, number: int) -> Path:
    """`number` pictures of cells for pedestrians, below the folder of the archive."""
    inner = folder / "PennFudanPed"
    for at in range(number):
        picture, labels = draw_culture(np.random.default_rng([at, 6]))
        save(inner / "PNGImages" / f"FudanPed{at + 1:05d}.png", picture)
        save(inner / "PedMasks" / f"FudanPed{at + 1:05d}_mask.png", labels.astype(np.uint8))
    (inner / "Annotation").mkdir(parents=True, exist_ok=True)
    (inner / "readme.txt").write_text("Penn-Fudan")
    return folder


def make_instances(folder: Path, number: int) -> Path:
    """`number` pictures of cells, each with a 16-bit map of numbers that have gaps."""
    for at in range(number):
        picture, labels = draw_culture(np.random.default_rng([at, 7]))
        save(folder / "images" / f"cell{at:02d}.jpg", picture)
        save(folder / "instances" / f"cell{at:02d}.png", labels * np.uint16(1000))
    return folder


def runs(mask: np.ndarray) -> dict[str, Any]:
    """A mask as COCO's runs, down one column after the other."""
    counts = [len(list(group)) for _, group in groupby(mask.T.ravel().tolist())]
    return {"size": list(mask.shape), "counts": [0, *counts] if mask[0, 0] else counts}


def make_coco(images: Path, file: Path, number: int, seed: int = 8, stem: str = "cell") -> Path:
    """`number` pictures of cells in `images`, and the JSON file that tells of them; the folder of the file."""
    listed, annotations = [], []
    for at in range(number):
        picture, labels = draw_culture(np.random.default_rng([at, seed]))
        save(images / f"{stem}{at:02d}.jpg", picture)
        listed.append({"id": at + 1, "file_name": f"{stem}{at:02d}.jpg", "width": 128, "height": 128})
        for cell in range(1, int(labels.max()) + 1):
            of_image = {"id": len(annotations) + 1, "image_id": at + 1, "category_id": 1, "iscrowd": 0}
            annotations.append({**of_image, "segmentation": runs(labels == cell)})
    file.parent.mkdir(parents=True, exist_ok=True)
    categories = [{"id": 1, "name": "cell"}]
    file.write_text(json.dumps({"images": listed, "annotations": annotations, "categories": categories}))
    return file.parent


MAKERS = {
    "oxford_pet": make_oxford_pet,
    "oxford_pet_trimap": make_oxford_pet,
    "cityscapes": make_cityscapes,
    "isic2016": make_isic,
    "penn_fudan": make_penn_fudan,
    "sports100": make_sports,
    "scene": make_scene,
}
