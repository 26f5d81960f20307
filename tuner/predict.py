"""Predict with a bundle alone: masks and overlays for image files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
    pictures = list(read_all(images))
    device = find_device()
    model = load(bundle).to(device)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        for name, picture in zip(names(images), pictures, strict=True):
            mask = predict_mask(model, picture, recipe.image_size, device)
            Pillow.fromarray(mask * np.uint8(255)).save(out / f"{name}_mask.png")
            Pillow.fromarray(overlay(picture, mask)).save(out / f"{name}_overlay.png")
            yield out / f"{name}_mask.png"


def read_all(images: list[Path]) -> Iterator[Image]:
    """Every picture, or one DataError for all that cannot be read, before anything is written."""
    wrong = []
    for path in images:
        try:
            picture = read_image(path)
        except DataError as error:
            wrong.append(str(error))
        else:
            if not wrong:
                yield picture
    if wrong:
        raise DataError(f"{len(wrong)} of {len(images)} images cannot be read:{bullets(wrong)}")


def names(images: list[Path]) -> Iterable[str]:
    """Stems; of two equal ones the later gets a number."""
    taken: dict[str, int] = {}
    for path in images:
        taken[path.stem] = taken.get(path.stem, 0) + 1
        yield path.stem if taken[path.stem] == 1 else f"{path.stem}_{taken[path.stem]}"


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
