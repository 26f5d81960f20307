"""The recipe: all that one trial trains, as plain frozen data.

A recipe can be compared, hashed into a record, written as JSON and read back, without importing any
model code. It names parts; `tuner.parts` finds and builds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

VERSION = 1
PARTS = ("data", "model", "loss", "optimizer", "schedule", "augment")
Value = None | bool | int | float | str | list[Any] | tuple[Any, ...]


@dataclass(frozen=True)
class Part:
    """The name of a builder and the keyword arguments it is called with."""

    name: str
    args: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "args", MappingProxyType(dict(self.args)))
        if not isinstance(self.name, str):
            raise TypeError(f"a part is named {self.name!r}; a name as text is needed")
        for key, value in self.args.items():
            if not is_plain(value):
                raise TypeError(
                    f"argument '{key}' of '{self.name}' is {value!r}; a recipe is written down, so it holds "
                    "numbers, text, True, False, None and lists of them only: use int(...) or float(...)"
                )

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in self.args.items())})"

    def without(self, *args: str) -> Part:
        """The same part with these arguments left out."""
        return Part(self.name, {k: v for k, v in self.args.items() if k not in args})

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "args": dict(self.args)}


def is_plain(value: object) -> bool:
    """Whether JSON gives the value back; a numpy number, for one, does not come back."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def use(name: str, /, **args: Value) -> Part:
    """Name a part and its arguments: `use("unet", k=64)`."""
    return Part(name, args)


@dataclass(frozen=True)
class Recipe:
    """What one trial trains. `seed` is set by the program from the study and the trial."""

    task: str
    data: Part
    model: Part
    loss: Part
    optimizer: Part
    epochs: int
    schedule: Part = Part("none")
    augment: Part = Part("none")
    batch_size: int = 8
    precision: str = "auto"  # "auto": bfloat16 where the hardware gains; "fp32"; "bf16"
    seed: int = 0

    def __post_init__(self) -> None:
        """Parts must be parts. Whether they exist and fit is asked by `tuner.check`, which knows the tables."""
        wrong = [
            f"{name} is {value!r}; write {name}=use({value!r})"
            if isinstance(value, str)
            else f"{name} is {value!r}"
            for name in PARTS
            if not isinstance(value := getattr(self, name), Part)
        ]
        if wrong:
            raise TypeError(f"a part is needed: {'; '.join(wrong)}")

    @property
    def image_size(self) -> int:
        """The side of the square every image is resized to, in pixels."""
        size = self.data.args.get("image_size", 256)
        return size if isinstance(size, int) else 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, with the version that `from_json` checks."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {k: v.to_json() if isinstance(v, Part) else v for k, v in values.items()}
        return {"version": VERSION, **plain}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Recipe:
        """The recipe written by `to_json`; ValueError when another version wrote it."""
        plain = dict(data)
        if (version := plain.pop("version", None)) != VERSION:
            raise ValueError(f"a recipe of version {version}; this tuner reads version {VERSION}")
        values: dict[str, Any] = {
            k: Part(v["name"], v["args"]) if isinstance(v, dict) else v for k, v in plain.items()
        }
        return Recipe(**values)
