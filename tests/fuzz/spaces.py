"""Spaces: code that never ends, ends its process, prints or returns what it should not."""

from __future__ import annotations

import random
import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

from helpers.command_line import SPACE
from helpers.fuzzing import ATOMS, Answer, Case, Ground, call, mutate_bytes

from tuner.space.child import SpaceProcess

SECONDS = 0.3  # for the code of a space
GOOD = SPACE.format(
    low=1e-4, high=1e-2, extra="    {extra}\n", model='use("unet", k=4)', epochs=1, batch=8
)  # fmt: skip
ACTS = (  # each in suggest() or in the module
    *("while True: pass", "import time; time.sleep(9)", "import os; os._exit(0)", "import os; os._exit(7)"),
    *("import os; os.abort()", "import ctypes; ctypes.string_at(0)", "import os; os.kill(os.getpid(), 9)"),
    *("raise BaseException('a')", "raise KeyboardInterrupt", "raise SystemExit(0)", "raise GeneratorExit"),
    *("print('x' * 10**6)", "import sys; sys.stderr.write('\\x1b[31m' * 10**5)", "raise ValueError('m' * 10**6)"),
    *("raise ValueError('m\\n' * 10**4)", "import os; os.closerange(0, 50)", "f = lambda: f(); f()", "input()"),
    *("import os; os.chdir('/')", "import sys; sys.exit('x' * 10**5)", "import sys; sys.stdout = None"),
    *("raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})()", "import sys; del sys.modules['os']"),
    *("import warnings; warnings.warn('w' * 1000)", "1 / 0", "import torch2", "raise UnicodeDecodeError"),
)
DRAWS = (
    *("suggest_float({0}, 0, 1)", "suggest_int({0}, 1, 9)", "suggest_categorical({0}, ['a', 'b'])"),
    *("suggest_categorical('x', [{0}])", "suggest_float('x', {0}, 1)", "suggest_int('x', 1, {0})"),
    *("suggest_float('x', 0, 1, step={0})", "suggest_categorical('x', {0})"),
)


def make_case(rng: random.Random, ground: Ground) -> Case:
    folder = ground.cwd / "search_spaces"
    folder.mkdir()
    path, what, text = folder / "mine.py", "", GOOD
    match rng.randrange(4):
        case 0:
            what = rng.choice(ACTS)
            text = GOOD.format(extra=what) if rng.random() < 0.5 else f"{what}\n{GOOD.format(extra='pass')}"
        case 1:
            what = f"trial.{rng.choice(DRAWS).format(to_python(rng.choice(ATOMS)))}"
            text = GOOD.format(extra=what)
        case 2:
            value = to_python(rng.choice(ATOMS))
            field = rng.choice(
                ("epochs=1", "batch_size=8", '"binary"', 'precision="fp32"', "use(loss)", "GOAL = ")
            )
            what = f"{field} -> {value[:60]}"
            text = GOOD.format(extra="pass").replace(
                field, f"{field.partition('=')[0]}={value}" if "=" in field else value
            )
        case _:
            what = "bytes"
    data = text.format(extra="pass").encode() if what == "bytes" else text.encode("utf-8", "backslashreplace")
    path.write_bytes(mutate_bytes(rng, data, 6) if what == "bytes" else data)
    if rng.random() < 0.2:
        return Case(f"spaces {what!r}", lambda: ground.command("spaces", "--json"))
    return Case(repr(what), lambda: draw(path))


def draw(path: Path) -> Answer:
    """The answer of what `check` does first, and what is printed meanwhile."""
    with redirect_stderr(StringIO()) as shown:
        answer = call(draw_in_process, path)
    return Answer(answer.code, b"", shown.getvalue().encode() + answer.err, answer.error)


def draw_in_process(path: Path) -> None:
    with SpaceProcess(path, SECONDS * 10 if "torch" not in sys.modules else SECONDS) as process:
        process.call("tuner.space.drawing:draw", "draw recipes", space=str(path), choice={})


def to_python(value: object) -> str:
    return (
        "10**400"
        if isinstance(value, int) and value > 10**300
        else f"float('{value}')"
        if isinstance(value, float)
        else repr(value)
    )
