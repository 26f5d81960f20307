"""The study for the storm on paused trials: a grid whose model logs its weights before every step."""

from __future__ import annotations

import hashlib
import inspect
import json
from pathlib import Path
from typing import Any

from benchmarks.booked import FORWARD

NAME = "paused_storm"  # of the space and its study: the seeds of its trials follow from it
STEPS = 3  # of an epoch: 96 images in batches of 32
FACTOR = 3

SPACE = '''"""A narrow U-Net that uses every random generator and logs its steps."""

from tuner import Recipe, maximize, search, use

GOAL = maximize("iou")
RATES = [1e-4 * 1.01**at for at in range({trials})]
SEARCH = search(sampler="grid", grid={{"lr": RATES}}, pruning="promote", first_rung=1, factor={factor})


def suggest(trial):
    return Recipe(
        task="binary",
        data=use("shapes", image_size=32),
        augment=use("flip"),
        model=use("logged:net", tag=trial.number),
        loss=use("dice"),
        optimizer=use("adam", lr=trial.suggest_float("lr", 1e-5, 1.0)),
        epochs={epochs},
        batch_size=32,
        precision="fp32",
    )
'''

MODEL = (
    '''"""A model that counts its steps in its weights, and logs step and weights before each of them."""

import hashlib
import os
import time
from typing import Any

import torch
from torch import nn

OWN
from tuner.models.unet import unet


DIGEST


class Net(nn.Module):
    def __init__(self, body, tag):
        super().__init__()
        self.body, self.tag = body, tag
        self.token = os.urandom(6).hex()  # of this attempt
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def step(self):
        line = f"{self.token} {self.tag} {int(self.steps)} {digest(self.body.state_dict())}\\n"
        book = os.open(os.environ["BOOK"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(book, line.encode())
        os.close(book)
        self.steps += 1
        time.sleep(float(os.environ["PACE"]))
'''
    + FORWARD
)


def digest(state: dict[str, Any]) -> str:
    """Return a digest of tensors by name."""
    found = hashlib.blake2b(digest_size=8)
    for name in sorted(state):
        found.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


UNBROKEN = '''"""Imported by the model: each trial is trained in one stretch, for so many epochs at least."""

from tuner.search.scheduler import PromoteHalving
from tuner.study.decisions import Decision

LENGTHS = {{int(number): epochs for number, epochs in {lengths}.items()}}


def judge(self, curves, number, epoch):
    return Decision("stop" if epoch >= LENGTHS[number] else "continue", number, epoch, {{}})


PromoteHalving.rungs = lambda self, length: [*range(1, length)]
PromoteHalving.judge = judge
'''


def write_study(folder: Path, trials: int, epochs: int, lengths: dict[int, int] | None = None) -> None:
    """Write a space with this many points, each with its own learning rate.

    With `lengths`, trials neither pause nor go on: each is trained for so many epochs at once.
    """
    folder.mkdir()
    own = "import unbroken\n" if lengths else ""
    (folder / "logged.py").write_text(MODEL.replace("DIGEST", inspect.getsource(digest)).replace("OWN\n", own))
    if lengths:
        (folder / "unbroken.py").write_text(UNBROKEN.format(lengths=json.dumps(lengths)))
    (folder / f"{NAME}.py").write_text(SPACE.format(trials=trials, epochs=epochs, factor=FACTOR))
