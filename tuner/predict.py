"""Predict with a bundle alone: masks and overlays for image files."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image as Pillow
from torch import nn

from tuner.bundle import load, read_recipe
from tuner.data.images import read_image, shrink
from tuner.data.source import Image
from tuner.errors import DataError, bullets, writing
from tuner.report.overlays import overlay
from tuner.train.precision import find_device
from tuner.train.trainer import normaliser


def predict_files(bundle: Path, images: list[Path], out: Path) -> Iterator[Path]:
    """Write NAME_mask.png (0 and 255) and NAME_overlay.png into `out`, as large as each image."""
    recipe = read_recipe(bundle)
    check_all(images)
    device = find_device()
    model = load(bundle).to(device)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for name, path in zip(names(images), images, strict=True):
            picture = read_image(path)
            mask = predict_mask(model, picture, recipe.image_size, device)
            Pillow.fromarray(mask * np.uint8(255)).save(out / f"{name}_mask.png")
            Pillow.fromarray(overlay(picture, mask)).save(out / f"{name}_overlay.png")
            yield out / f"{name}_mask.png"


def check_all(images: list[Path]) -> None:
    """One DataError for all images that cannot be read, before anything is written.

    They are decoded again one by one when their turn comes: a folder of photographs may not fit in memory.
    """
    wrong = []
    for path in images:
        try:
            read_image(path)
        except DataError as error:
            wrong.append(str(error))
    if wrong:
        raise DataError(f"{len(wrong)} of {len(images)} images cannot be read:{bullets(wrong)}")


def names(images: list[Path]) -> Iterator[str]:
    """Stems; of two equal ones the later gets the first number that no other file has for a name."""
    taken: set[str] = set()
    stems = {path.stem for path in images}
    for path in images:
        name = path.stem
        numbered = (f"{path.stem}_{number}" for number in count(2))
        while name in taken:
            name = next(other for other in numbered if other not in stems)
        taken.add(name)
        yield name


def predict_image(model: nn.Module, path: str | Path, *, image_size: int) -> Image:
    """The mask of one image file: 0 and 1, as large as the image."""
    return predict_mask(model, read_image(Path(path)), image_size, next(model.parameters()).device)


@torch.inference_mode()
def predict_mask(model: nn.Module, picture: Image, size: int, device: torch.device) -> Image:
    """Resize as in training, predict, and bring the probabilities back to the picture's size."""
    batch = torch.from_numpy(shrink(picture, size))[None].to(device)
    logits = model(normaliser(device)(batch))
    probabilities = logits[0, 0].float().sigmoid().cpu().numpy()
    full = cv2.resize(probabilities, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_LINEAR)
    return (full > 0.5).astype(np.uint8)
