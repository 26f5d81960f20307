"""What a training keeps for pictures: a small frame per validated epoch, and the predictions for a few images.

The predictions are those of the best epoch's validation. If they exceed MAX_BUFFER_BYTES, the best weights predict
these images again when the trial ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner.train import details

MAX_FRAME_SIDE = 96  # pixels
MAX_BUFFER_BYTES = 1 << 25  # of predictions kept during a validation


@dataclass(frozen=True)
class ExamplePredictions:
    """Example images of the validation split by position, and the best weights' predictions for them."""

    positions: Mapping[str, Sequence[int]]
    guesses: Mapping[int, NDArray[Any]]  # bytes or instance numbers per pixel, or class probabilities


def make_frame(guess: Tensor) -> Tensor:
    """Return a prediction for one image, reduced in size: bytes per pixel, or class probabilities."""
    if guess.ndim == 1:
        return guess.half()
    if guess.dtype == torch.int32:  # instances; numbers repeat beyond 255
        guess = torch.where(guess > 0, (guess - 1) % 255 + 1, 0).byte()
    down, across = (nearest_rows(side, guess.device) for side in guess.shape)
    return guess[down][:, across]


def nearest_rows(side: int, device: torch.device) -> Tensor:
    """Return the indices of the rows of a frame among `side` rows."""
    num_rows = min(side, MAX_FRAME_SIDE)
    return (torch.arange(num_rows, device=device) * side + side // 2) // num_rows


def add_frame(frames: Mapping[int, Tensor], epoch: int, frame: Tensor, best: int) -> dict[int, Tensor]:
    """Return the frames with one more; of too many, a selection spread over the epochs."""
    grown = {**frames, epoch: frame.cpu()}
    if len(grown) <= 2 * details.MAX_FRAMES:
        return grown
    return {at: grown[at] for at in details.choose_epochs(list(grown), best)}


@dataclass
class PredictionBuffer:
    """The frame of the first image, and the predictions for all; emptied when they exceed MAX_BUFFER_BYTES."""

    to_prediction: Callable[[Any], Tensor]
    frame: Tensor | None = None
    pieces: list[Tensor] = field(default_factory=list)
    bytes: int = 0

    def add(self, output: Any) -> None:
        """Keep the predictions from a model's output for a batch, unless the limit was exceeded before."""
        if self.bytes > MAX_BUFFER_BYTES:
            return
        guess = self.to_prediction(output)
        self.frame = make_frame(guess[0]) if self.frame is None else self.frame
        self.bytes += guess.nbytes
        self.pieces.append(guess)
        if self.bytes > MAX_BUFFER_BYTES:
            self.pieces.clear()

    def select(self, positions: Iterable[int]) -> dict[int, Tensor] | None:
        """Return the predictions for some images by position; None if the limit was exceeded."""
        if not self.pieces:
            return None
        guesses = torch.cat(self.pieces)
        return {at: guesses[at].cpu().clone() for at in positions}
