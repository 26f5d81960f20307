"""What a training keeps for pictures: a small frame of each validated epoch, and the answers for a few images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from tuner import chosen
from tuner.data.batches import Batches
from tuner.parts import locate
from tuner.train.trainer import Trainer

FRAME = 96  # pixels of a frame's side at most


@dataclass(frozen=True)
class Shown:
    """The worst, median and best validation images, by position, and what the best weights say of each."""

    positions: Mapping[str, Sequence[int]]
    guesses: Mapping[int, NDArray[Any]]  # bytes or numbers of pixels, or the share of each class


def frame_of(guess: Tensor) -> Tensor:
    """What was guessed for one image, small enough to be kept: bytes of pixels, or the share of each class."""
    if guess.ndim == 1:
        return guess.half()
    if guess.dtype == torch.int32:  # instances: beyond 255 two have the same number, and colour
        guess = torch.where(guess > 0, (guess - 1) % 255 + 1, 0).byte()
    down, across = (nearest(side, guess.device) for side in guess.shape)
    return guess[down][:, across]


def nearest(side: int, device: torch.device) -> Tensor:
    """Which rows to keep of so many."""
    kept = min(side, FRAME)
    return (torch.arange(kept, device=device) * side + side // 2) // kept


def with_frame(frames: Mapping[int, Tensor], epoch: int, frame: Tensor, best: int) -> dict[int, Tensor]:
    """The frames with one more; where they get too many, every other one goes."""
    grown = {**frames, epoch: frame}
    if len(grown) <= 2 * chosen.MOST_FRAMES:
        return grown
    return {at: grown[at] for at in chosen.epochs(list(grown), best)}


@torch.inference_mode()
def show(trainer: Trainer, batches: Batches, scores: Sequence[float | None]) -> Shown:
    """What the trainer's model says of the worst, median and best images."""
    trainer.model.eval()
    guess = locate("guess", {}, trainer.task.guess)
    positions = chosen.examples(scores)
    every = [at for some in positions.values() for at in some]
    guesses: dict[int, NDArray[Any]] = {}
    for at in every:  # one by one: what fits then fits now
        ((_, said, _),) = trainer.validate(*batches.one_of_val(at))
        guesses[at] = guess(said)[0].cpu().numpy()
    return Shown(positions, guesses)
