"""Numbers and names of options: beyond every limit, not finite, of thousands of digits, or no number at all."""

from __future__ import annotations

import random

from helpers.fuzzing import NUMBERS, TEXTS, Case, Ground, words

COMMANDS = (  # words that are replaced begin with "="
    *(["status", "--study", "=made"], ["stop", "=7", "--study", "=made"], ["compare", "=0", "=1"]),
    *(["compare", "=0", "=1", "--metric", "=val_iou"], ["compare", "--by", "=lr"], ["budget", "--trials", "=-1"]),
    *(
        ["budget", "--hours", "=-1"],
        ["budget", "--gpu-hours", "=-1"],
        ["best", "--study", "=made"],
        ["parts", "=models"],
    ),
    *(
        ["extend", "--top", "=1", "--epochs", "=0"],
        ["extend", "--trial", "=9", "--epochs", "=5"],
        ["workers", "--study", "=x"],
    ),
    *(["run", "--space", "absent.py", "--trials", "=5"], ["run", "--space", "absent.py", "--seed", "=5"]),
    *(["run", "--space", "absent.py", "--shrink", "=2"], ["run", "--space", "absent.py", "--cache-gb", "=1"]),
    *(["run", "--space", "absent.py", "--workers", "=2"], ["run", "--space", "absent.py", "--hang-timeout", "=9"]),
    *(["check", "absent.py", "--timeout", "=9"], ["run", "--table", "absent", "--seeds", "=2"]),
)
DIGITS = ("9" * 5000, "-" + "9" * 400, "1e400", "0x10", "1_000", "٣", "+5", "5.0", " 5", "1e3", "nan", "-inf")
VALUES = (*TEXTS, *(str(number) for number in NUMBERS if not isinstance(number, bool)), *DIGITS)
HOME = ("parts", "check")  # have no --home, or need none


def make_case(rng: random.Random, ground: Ground) -> Case:
    args = list(rng.choice(COMMANDS))
    marked = [at for at, word in enumerate(args) if word.startswith("=")]
    chosen = rng.choice(marked)
    args = [word.removeprefix("=") for word in args]
    args[chosen] = rng.choice(VALUES)
    if args[0] not in HOME:
        args += ["--home", str(ground.home)]
    return Case(words(args), lambda: ground.command(*args))
