"""The study for the storm: a table whose model logs every epoch it is trained for."""

from __future__ import annotations

from pathlib import Path

NAME = "storm"  # of the table and its study: the seeds of its trials follow from it
STEPS = 6  # of an epoch: 96 images in batches of 16

SPACE = '''"""A narrow U-Net that uses every random generator and logs its epochs."""

from tuner import Recipe, maximize, search, use

GOAL = maximize("iou")
SEARCH = search(pruning="stop")


def suggest(trial):
    return Recipe(
        task="binary",
        data=use("shapes", image_size=32),
        augment=use("flip"),
        model=use("booked:net", tag=trial.number),
        loss=use("dice"),
        optimizer=use("adam", lr=trial.suggest_float("lr", 1e-4, 1e-1, log=True)),
        epochs={epochs},
        batch_size=16,
        precision="fp32",
    )
'''

FORWARD = """
    def forward(self, image):
        if self.training and not image.is_meta:
            self.step()
        return self.body(image)


def net(channels, classes, *, tag=0):
    return Net(unet(channels, classes, k=4, dropout=0.1), tag)
"""  # of a model that counts its steps

MODEL = (
    '''"""A model that counts its steps in its weights and logs each epoch it is trained for."""

import os
import time

import torch
from torch import nn

from tuner.models.unet import unet


class Net(nn.Module):
    def __init__(self, body, tag):
        super().__init__()
        self.body, self.tag = body, tag
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def note(self, what):
        book = os.open(os.environ["BOOK"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(book, f"{what} {self.tag} {int(self.steps)}\\n".encode())
        os.close(book)

    def step(self):
        """Log the start at the first step this process trains of an epoch, and the end at its last step."""
        if not self.steps % STEPS:
            self.note("begun")
        self.steps += 1
        time.sleep(float(os.environ["PACE"]))
        if not self.steps % STEPS:
            self.note("trained")
'''.replace("STEPS", str(STEPS))
    + FORWARD
)


def write_study(folder: Path, trials: int, epochs: int) -> None:
    """Write a table with this many rows, each with its own learning rate."""
    folder.mkdir()
    (folder / "booked.py").write_text(MODEL)
    (folder / f"{NAME}_space.py").write_text(SPACE.format(epochs=epochs))
    rows = [f"[[rows]]\nparams = {{ lr = {1e-3 * 1.05**at:.8f} }}\npublished = 0.5\n" for at in range(trials)]
    head = f'space = "{NAME}_space.py"\nmetric = "iou"\n'
    (folder / f"{NAME}.toml").write_text("\n".join([head, *rows]))
