"""Published tables: TOML that is broken, or says what no table may; one of them among others."""

from __future__ import annotations

import math
import random
from typing import Any

from helpers.fuzzing import TEXTS, Case, Ground, mutate_bytes, mutate_data, words

GOOD: dict[str, Any] = {
    "about": "three rows",
    "space": "tiny.py",
    "data": "shapes",
    "metric": "iou",
    "where": "Table 1",
    "compare": "number",
    "also": ["dice", "train_iou"],
    "rows": [
        {"params": {"lr": 1e-3, "loss": "bce"}, "published": 0.5, "note": "by hand"},
        {"params": {"lr": 2, "loss": "dice"}, "published": {"train_iou": 0.8, "val_iou": 0.7}},
    ],
}
RAW = (
    *("x = " + "9" * 5000, "x = " + "[" * 500, "x = " + "[" * 400 + "]" * 400, "x = 2020-01-01", "x = 25:00:00"),
    *("a." * 2000 + "b = 1", "[" + "a." * 1000 + "b]", "[[rows]]\nparams = { lr = 2020-01-01T00:00:00Z }"),
    *(
        "x = 1e999",
        "x = -nan",
        "x = 0x" + "f" * 5000,
        'x = "\\uD800"',
        "x = '''",
        "\ufeffspace = 'a'",
        "#" * 2**20,
    ),
)


def make_case(rng: random.Random, ground: Ground) -> Case:
    folder = ground.cwd / "studies"
    folder.mkdir()
    (folder / "other.toml").write_text(to_toml(GOOD))
    (folder / "few.toml").write_bytes(make_table(rng))
    args = ["table", *rng.choice((*[["few"]] * 8, [], ["studies/few.toml"])), "--home", str(ground.home)]
    args += rng.choice(([], [], ["--json"], ["--markdown"]))
    if rng.random() < 0.1:
        args[rng.randrange(1, len(args))] = rng.choice(TEXTS)
    return Case(words(args), lambda: ground.command(*args))


def make_table(rng: random.Random) -> bytes:
    text = to_toml(GOOD)
    match rng.randrange(6):
        case 0:
            return mutate_bytes(rng, text.encode(), 8)
        case 1:
            raw = rng.choice(RAW)
            return "\n".join(rng.choice(([raw, text], [text, raw], [raw]))).encode()
    data = GOOD
    for _ in range(rng.randint(1, 3)):
        data = mutate_data(rng, data)
    return to_toml(data).encode("utf-8", "surrogateescape")


def to_toml(data: Any) -> str:
    """Data as TOML on one line each; a value that TOML does not have becomes one that cannot be read."""
    if not isinstance(data, dict):
        return to_value(data)
    return "\n".join(f"{to_value(str(key))} = {to_value(value)}" for key, value in data.items()) + "\n"


def to_value(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float() if not math.isfinite(value):
            return str(value)
        case dict():
            return (
                "{ " + ", ".join(f"{to_value(str(key))} = {to_value(each)}" for key, each in value.items()) + " }"
            )
        case list():
            return "[" + ", ".join(map(to_value, value)) + "]"
        case str():
            return '"' + "".join(escape(c) for c in value) + '"'
    return repr(value) if value is not None else "none"


def escape(c: str) -> str:
    return f"\\u{ord(c):04x}" if c in '"\\' or ord(c) < 32 or ord(c) == 127 else c
