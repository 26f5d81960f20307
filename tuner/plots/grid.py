"""Lay pictures and lines of text out on a grid, and write it into one file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from tuner.data.source import Image

T = TypeVar("T")
Colour = tuple[int, int, int]
BACKDROP = 245
INK, FAINT = (17, 24, 39), (90, 100, 115)  # of texts
LINE = 18  # pixels of a line of text
GAP = 4  # pixels between the pictures and around them
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 75]
ENCODING = {".png": [cv2.IMWRITE_PNG_COMPRESSION, 1], ".jpg": JPEG, ".jpeg": JPEG}  # fast, and hardly larger
if hasattr(cv2, "IMWRITE_PNG_FILTER"):  # a fixed filter takes half the time of an adaptive one
    ENCODING[".png"] += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB]


def write_grid(rows: Iterable[Sequence[Image]], path: Path, gap: int = GAP) -> None:
    """Write rows of pictures, aligned left and top, into a file in the format of its suffix."""
    sheet = join_vertically([join_horizontally(row, gap) for row in rows], gap)
    whole = cv2.copyMakeBorder(sheet, gap, gap, gap, gap, cv2.BORDER_CONSTANT, value=(BACKDROP,) * 3)
    suffix = path.suffix.lower()
    _, packed = cv2.imencode(suffix, cv2.cvtColor(whole, cv2.COLOR_RGB2BGR), ENCODING[suffix])
    path.write_bytes(packed.tobytes())


def split_rows(cells: Sequence[T], columns: int) -> list[Sequence[T]]:
    return [cells[at : at + columns] for at in range(0, len(cells), columns)]


def join_horizontally(cells: Sequence[Image], gap: int = GAP) -> Image:
    """Return the pictures side by side, with a gap between them, aligned at the top."""
    height = max(cell.shape[0] for cell in cells)
    padded = [pad_picture(cell, height, cell.shape[1] + gap) for cell in cells[:-1]]
    return np.concatenate([*padded, pad_picture(cells[-1], height)], axis=1)


def join_vertically(rows: Sequence[Image], gap: int = GAP) -> Image:
    """Return the pictures from top to bottom, with a gap between them, aligned left."""
    width = max(row.shape[1] for row in rows)
    padded = [pad_picture(row, row.shape[0] + gap, width) for row in rows[:-1]]
    return np.concatenate([*padded, pad_picture(rows[-1], width=width)])


def pad_picture(picture: Image, height: int = 0, width: int = 0) -> Image:
    """Return the picture with background below and to the right of it, at least of the height and width."""
    canvas = blank_picture(max(height, picture.shape[0]), max(width, picture.shape[1]))
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    return canvas


def blank_picture(height: int, width: int) -> Image:
    """Return a picture in the background colour."""
    return np.full((height, width, 3), BACKDROP, np.uint8)


def draw_text_line(text: str, width: int, colour: Colour = INK, size: int = 12) -> Image:
    """Return an image of a line of text, cut off at `width`."""
    return draw_coloured_words([(text, colour)], width, size)


def draw_coloured_words(words: Sequence[tuple[str, Colour]], width: int, size: int = 12) -> Image:
    """Return an image of words in one line, each in its colour."""
    canvas = Pillow.fromarray(blank_picture(LINE, width))
    pen, font, at = ImageDraw.Draw(canvas), ImageFont.load_default(size), 2.0
    for word, colour in words:
        pen.text((at, LINE // 2), word, fill=colour, font=font, anchor="lm")
        at += pen.textlength(word, font=font) + 12
    return np.array(canvas)
