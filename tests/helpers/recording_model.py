"""A model that writes down what it was trained for, and stops, hangs or waits where a test wants it to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from helpers.command_line import write_space

STEPS = 3  # of an epoch: 96 images in batches of 32

MODEL = '''
import ctypes
import os
import time
from pathlib import Path

import torch
from torch import nn


class Net(nn.Module):
    """A model that counts its training steps in its weights, so that any process can read the count."""

    def __init__(self, channels, outputs, tag, pace, gate, hang):
        super().__init__()
        self.body = nn.Conv2d(channels, outputs, 3, padding=1)
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.tag, self.pace, self.gate, self.hang = tag, pace, gate, hang

    def note(self, what):
        book = os.open("book", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(book, f"{what} {self.tag} {int(self.steps)} {os.getpid()}\\n".encode())
        os.close(book)

    def forward(self, batch):
        if self.training and not batch.is_meta:
            self.before_a_step(int(self.steps) // STEPS + 1)
            self.steps += 1
            if not self.steps % STEPS:
                self.note("trained")
        return self.body(batch)

    def before_a_step(self, epoch):
        self.note("step")
        time.sleep(self.pace * (not Path("quick").exists()))
        if epoch == self.gate:
            Path("waiting").touch()
            while not Path("go").exists():
                time.sleep(0.02)
        if epoch == self.hang:
            deaths = Path("book").read_text().count("hangs")
            self.note("hangs")
            if deaths == 1:  # without giving the interpreter back: no other thread can do anything
                ctypes.PyDLL(None).sleep(3600)
            while True:
                time.sleep(1)


def net(channels, outputs, *, tag=0, pace=0.0, gate=0, hang=0):
    """`pace`: seconds of a step, until there is a file `quick`. `gate`: the epoch that waits for a file `go`.

    `hang`: the epoch in which it waits for ever.
    """
    return Net(channels, outputs, tag, pace, gate, hang)
'''.replace("STEPS", str(STEPS))


def write_booked(folder: Path, epochs: int = 3, options: str = "", **space: str) -> Path:
    """A space with that model; `options` are further arguments of it, as they stand in suggest()."""
    (folder / "booked.py").write_text(MODEL)
    model = f'use("booked:net", tag=trial.number{options and ", "}{options})'
    return write_space(folder, epochs=epochs, model=model, **space)


def write_rows(folder: Path, number: int) -> Path:
    """A table of so many rows of the space: a study named rows, in which nothing is pruned."""
    rows = [f'[[rows]]\nparams = {{ lr = {at + 1}e-3, loss = "bce" }}\npublished = 0.5\n' for at in range(number)]
    table = folder / "rows.toml"
    table.write_text("\n".join(['space = "tiny.py"\nmetric = "iou"\n', *rows]))
    return table


def noted(folder: Path, what: str) -> list[tuple[int, int]]:
    """(trial, steps made so far) of every such line in the book, in order."""
    book = folder / "book"
    lines = [line.split() for line in book.read_text().splitlines()] if book.exists() else []
    return [(int(line[1]), int(line[2])) for line in lines if line[0] == what]


def trained(folder: Path, trial: int = 0) -> Counter[int]:
    """How often each epoch of a trial was trained to its end."""
    return Counter(steps // STEPS for at, steps in noted(folder, "trained") if at == trial)


def go_on(folder: Path) -> None:
    """Nothing waits any more, nor takes its time."""
    for name in ("go", "quick"):
        (folder / name).touch()


def once(epochs: int) -> Counter[int]:
    """Every epoch trained once."""
    return Counter(range(1, epochs + 1))
