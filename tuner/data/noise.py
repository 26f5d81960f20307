"""Gaussian noise for bytes, six times faster than with one random number per value."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import albumentations
import cv2
import numpy as np

from tuner.data.source import Image

QUANTILES = np.array([NormalDist().inv_cdf((at + 0.5) / 256) for at in range(256)])


class ByteNoise(albumentations.ImageOnlyTransform):  # type: ignore[misc]
    """Add noise with a standard deviation drawn up to `most`, a fraction of the full range.

    Each value gets one of 256 quantiles of the normal distribution: results are rounded to bytes anyway.
    """

    def __init__(self, most: float, p: float = 0.5) -> None:
        super().__init__(p=p)
        self.most = most

    def get_params(self) -> dict[str, Any]:
        return {"deviation": self.py_random.uniform(0, 255 * self.most)}

    def apply(self, img: Image, deviation: float = 0.0, **params: Any) -> Image:
        drawn = np.frombuffer(self.random_generator.bytes(img.size), np.uint8).reshape(img.shape)
        added = cv2.LUT(drawn, np.rint(deviation * QUANTILES).astype(np.int16))
        return cv2.add(img, added, dtype=cv2.CV_8U)
