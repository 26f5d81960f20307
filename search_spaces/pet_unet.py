"""Pets against background: the real run of 50 epochs, for the learning rates that pet_lr found."""

from pet_lr import suggest as short

from tuner import maximize

GOAL = maximize("dice")


def suggest(trial):
    return short(trial).with_epochs(50)
