"""The recipe: everything that one trial trains, as plain frozen data.

A recipe can be compared, written as JSON and read back without importing any model code. It names parts;
`tuner.registry` finds and builds them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from itertools import accumulate
from types import MappingProxyType
from typing import Any, TypeGuard

from tuner.errors import did_you_mean, first_lines, format_names, printable
from tuner.paths import is_path

VERSION = 2
READABLE_VERSIONS = (1, 2)  # fields that version 1 lacks have defaults
PART_FIELDS = ("data", "model", "loss", "optimizer", "schedule", "augment", "weights")
TEXT_FIELDS = ("task", "precision")
WHOLE_FIELDS = ("epochs", "batch_size", "seed", "copies", "validate_every")
BUILT_IN_WEIGHTS = ("none", "imagenet", "random")  # names of weights that need no file
MOST_LISTED = 1 << 16  # stages or classes of a recipe, or modules that a stage freezes
Value = None | bool | int | float | str | list[Any] | tuple[Any, ...] | dict[str, Any]


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
                    f"argument '{key}' of '{self.name}' is {value!r}; a recipe is stored as JSON: only numbers, "
                    "text, True, False, None, and lists and dicts of these are allowed: use int(...) or float(...)"
                )

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={value}' for key, value in self.args.items())})"

    def without(self, *args: str) -> Part:
        """Return the part without these arguments."""
        return Part(self.name, {k: v for k, v in self.args.items() if k not in args})

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "args": dict(self.args)}


def is_plain(value: object) -> bool:
    """Return whether a value survives a round trip through JSON; numpy numbers do not."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(name, str) and is_plain(each) for name, each in value.items())
    return value is None or isinstance(value, bool | int | float | str)


def numbers_in(value: object) -> Iterator[float]:
    """Yield the numbers in a plain value, at any depth."""
    if isinstance(value, list | tuple | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(each)
    elif isinstance(value, int | float):
        yield value


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a finite number that a float can hold; booleans are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def is_whole_number(value: object) -> TypeGuard[int]:
    """Return whether a value is a whole number of at most 64 bits, as databases hold it; booleans are not."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def is_storable(value: float) -> bool:
    """Return whether a number is one that databases and JSON hold."""
    return isinstance(value, bool) or (is_whole_number(value) if isinstance(value, int) else is_number(value))


def format_number(value: float) -> str:
    """Return a number as text; Python refuses to write one of more than 4300 digits."""
    return (
        str(value) if isinstance(value, float) or value.bit_length() < 4096 else f"of {value.bit_length():,} bits"
    )


def is_own_metric(name: str) -> bool:
    """Return whether a metric is the user's own "package.module:function"; "iou:sky" is that of a class."""
    return ":" in name and not name.startswith("iou:")


def parse_whole(digits: str) -> int | None:
    """Return the number that is written in at most 18 digits from 0 to 9, None for any other text."""
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= 18 else None


def use(name: str, /, **args: Value) -> Part:
    """Return a part by its name and arguments: `use("unet", k=64)`."""
    return Part(name, args)


@dataclass(frozen=True)
class Stage:
    """One of several consecutive phases of training. Each stage continues with the weights of the one before.

    `frozen` names modules of the model that are not trained, such as "encoder", or the first layers of one:
    "encoder[:-10]". Default learning rates are the optimizer's, the default schedule is the recipe's. With
    `judged=False` no trial is pruned in this stage, as its metrics say nothing yet about the end of the training.
    """

    epochs: int
    frozen: str | tuple[str, ...] | list[str] = ()
    lr: float | None = None
    encoder_lr: float | None = None
    schedule: Part | None = None
    judged: bool = True

    def __post_init__(self) -> None:
        frozen = (self.frozen,) if isinstance(self.frozen, str) else self.frozen
        if not isinstance(frozen, list | tuple) or not all(isinstance(name, str) for name in frozen):
            raise TypeError(f'a stage freezes {self.frozen!r}; write frozen="encoder", or a list of such names')
        object.__setattr__(self, "frozen", tuple(frozen))
        if not (self.schedule is None or isinstance(self.schedule, Part)):
            raise TypeError(f"a stage's schedule is {self.schedule!r}; write schedule=use({str(self.schedule)!r})")
        if not isinstance(self.judged, bool):
            raise TypeError(f"a stage's judged is {self.judged!r}; write judged=False, to not prune in this stage")

    def to_json(self) -> dict[str, Any]:
        """Return the stage as plain JSON; `judged` only if it is False, as older versions do not know it."""
        plain = asdict(replace(self, schedule=None)) | {"schedule": self.schedule and self.schedule.to_json()}
        return {name: value for name, value in plain.items() if name != "judged" or not value}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Stage:
        """Return the stage written by `to_json`, which `Recipe.from_json` has checked."""
        schedule = data.get("schedule")
        return Stage(**{**data, "schedule": schedule and Part(**schedule)})


@dataclass(frozen=True)
class Recipe:
    """What one trial trains. The program sets `seed` from the trial and `classes` from the data."""

    task: str
    data: Part
    model: Part
    loss: Part
    optimizer: Part
    epochs: int = 0  # with stages, their sum
    schedule: Part = Part("none")
    augment: Part = Part("none")
    batch_size: int = 8
    precision: str = "auto"  # "auto": bfloat16 if the hardware is faster with it; "fp32"; "bf16"
    seed: int = 0
    stages: tuple[Stage, ...] = ()
    weights: Part = Part("none")  # "none", "imagenet", a file, a bundle or a study; with part="encoder" or "all"
    copies: int = 0  # augmented copies in addition to each image; 0: images are augmented in place
    validate_every: int = 1  # epochs
    classes: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()  # of the user's own, "package.module:function", beside those of the task

    def __post_init__(self) -> None:
        """Check types. `tuner.space.check` checks that parts exist and fit together."""
        if isinstance(self.weights, str):
            object.__setattr__(self, "weights", Part(self.weights))
        for name in ("stages", "classes", "metrics"):
            if not isinstance(getattr(self, name), list | tuple):
                raise TypeError(f"{name} is {getattr(self, name)!r}; a list is needed")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if odd := [stage for stage in self.stages if not isinstance(stage, Stage)]:
            raise TypeError(f"a stage is {odd[0]!r}; write stages=[Stage(epochs=..., ...)]")
        if odd_metrics := [name for name in self.metrics if not isinstance(name, str)]:
            raise TypeError(f'a metric is {odd_metrics[0]!r}; write metrics=["mine:score"]')
        if self.stages and not self.epochs and all(isinstance(stage.epochs, int) for stage in self.stages):
            object.__setattr__(self, "epochs", sum(stage.epochs for stage in self.stages))
        wrong = [
            f"{name} is {value!r}" + (f"; write {name}=use({value!r})" if isinstance(value, str) else "")
            for name in PART_FIELDS
            if not isinstance(value := getattr(self, name), Part)
        ]
        if wrong:
            raise TypeError(f"a part is needed: {'; '.join(wrong)}")

    @property
    def image_size(self) -> int:
        """The side of the square that images are resized to, in pixels."""
        size = self.data.args.get("image_size", 256)
        return size if isinstance(size, int) else 0

    @property
    def resolved_stages(self) -> tuple[Stage, ...]:
        """The stages, each with its schedule; one stage if the recipe has none."""
        stages = self.stages or (Stage(self.epochs),)
        return tuple(replace(stage, schedule=stage.schedule or self.schedule) for stage in stages)

    @property
    def weights_part(self) -> str:
        """The part of the model that `weights` initialize: of ImageNet weights, the encoder."""
        return "encoder" if self.weights.name == "imagenet" else str(self.weights.args.get("part", "all"))

    @property
    def own_names(self) -> tuple[str, ...]:
        """The names of all parts of the user's own, each "package.module:function"."""
        schedules = [stage.schedule.name for stage in self.resolved_stages if stage.schedule]
        parts = (self.model, self.loss, self.optimizer, self.schedule, self.augment)
        names = [name for name in (*(part.name for part in parts), *schedules, *self.metrics) if ":" in name]
        data = self.data.name  # a folder may have a colon too
        return tuple(dict.fromkeys([data, *names] if ":" in data and not is_path(data) else names))

    def with_metric(self, metric: str) -> Recipe:
        """Return the recipe with a goal's metric among its own, if it is one of the user's own."""
        return self.with_metrics([metric])

    def with_metrics(self, metrics: Iterable[str]) -> Recipe:
        """Return the recipe with the metrics of goals among its own, those that are of the user's own."""
        new = [metric for metric in metrics if is_own_metric(metric) and metric not in self.metrics]
        return replace(self, metrics=(*self.metrics, *new)) if new else self

    def stage_at(self, epoch: int) -> Stage:
        """Return the stage of an epoch, counted from 1."""
        stages = self.resolved_stages
        ends = accumulate(stage.epochs for stage in stages)
        return next((stage for stage, end in zip(stages, ends, strict=True) if epoch <= end), stages[-1])

    def with_epochs(self, epochs: int) -> Recipe:
        """Return the recipe with another number of epochs; with stages, the last one changes."""
        if not self.stages:
            return replace(self, epochs=epochs)
        *before, last = self.stages
        last = replace(last, epochs=epochs - sum(stage.epochs for stage in before))
        return replace(self, epochs=epochs, stages=(*before, last))

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as plain JSON, with a format version."""
        plain = {k: v.to_json() if isinstance(v, Part) else v for k, v in vars(self).items()}
        lists = {"stages": [stage.to_json() for stage in self.stages], "classes": list(self.classes)}
        metrics = plain.pop("metrics")  # without them the text is that of older versions, which compare it
        return {"version": VERSION, **plain, **lists, **({"metrics": list(metrics)} if metrics else {})}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Recipe:
        """Return the recipe written by `to_json`; ValueError names every field that is wrong."""
        if not isinstance(data, Mapping):
            raise ValueError(f"a recipe is {show(data)}; an object is needed")
        plain = dict(data)
        if (version := plain.pop("version", None)) not in READABLE_VERSIONS:
            raise ValueError(f"a recipe of version {printable(version)}; this tuner reads version {VERSION}")
        if wrong := list(recipe_field_problems(plain)):
            raise ValueError(f"{len(wrong)} fields are wrong:{first_lines(wrong)}" if wrong[1:] else wrong[0])
        values: dict[str, Any] = {
            k: Part(v["name"], v["args"]) if isinstance(v, dict) else v for k, v in plain.items()
        }
        stages = tuple(Stage.from_json(stage) for stage in values.pop("stages", ()))
        return Recipe(**values, stages=stages)


def recipe_field_problems(plain: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the fields of a recipe's JSON: unknown and missing ones, and wrong types."""
    yield from field_names_problems("", plain, Recipe)
    for name, value in plain.items():
        if name == "weights" and isinstance(value, str):
            continue  # a short form that a space may write
        if name in PART_FIELDS:
            yield from part_json_problems(name, value)
        elif name in TEXT_FIELDS and not isinstance(value, str):
            yield f"{name} is {show(value)}; text is needed"
        elif name in WHOLE_FIELDS and not is_whole_number(value):
            yield f"{name} is {show(value)}; a whole number is needed"
        elif name in ("classes", "metrics") and not is_list_of(str, value):
            yield f"{name} is {show(value)}; a list of names is needed"
        elif name == "stages" and not is_list_of(dict, value):
            yield f"{name} is {show(value)}; a list of stages is needed"
        elif name == "stages":
            for at, stage in enumerate(value, start=1):
                yield from stage_json_problems(f" of stage {at}", stage)


def stage_json_problems(where: str, plain: Mapping[str, Any]) -> Iterator[str]:
    yield from field_names_problems(where, plain, Stage)
    if not is_whole_number(plain.get("epochs", 0)):
        yield f"epochs{where} is {show(plain['epochs'])}; a whole number is needed"
    if not isinstance(frozen := plain.get("frozen", ()), str) and not is_list_of(str, frozen):
        yield f"frozen{where} is {show(frozen)}; a list of names is needed"
    for name in ("lr", "encoder_lr"):
        if plain.get(name) is not None and not is_number(plain[name]):
            yield f"{name}{where} is {show(plain[name])}; a number or null is needed"
    if plain.get("schedule") is not None:
        yield from part_json_problems(f"schedule{where}", plain["schedule"])
    if not isinstance(plain.get("judged", True), bool):
        yield f"judged{where} is {show(plain['judged'])}; true or false is needed"


def part_json_problems(what: str, value: object) -> Iterator[str]:
    if not isinstance(value, dict) or set(value) != {"name", "args"}:
        yield f'{what} is {show(value)}; an object with "name" and "args" is needed'
        return
    if not isinstance(value["name"], str):
        yield f"the name of {what} is {show(value['name'])}; text is needed"
    if not isinstance(value["args"], dict):
        yield f"the args of {what} are {show(value['args'])}; an object is needed"


def field_names_problems(where: str, plain: Mapping[str, Any], owner: type[Recipe | Stage]) -> Iterator[str]:
    """Yield the unknown fields of a recipe or stage, and the missing ones that have no default."""
    known = {field.name: field.default is MISSING and field.default_factory is MISSING for field in fields(owner)}
    if unknown := [name for name in plain if name not in known]:
        yield f"unknown: {printable(format_names(unknown, 3))}{where}.{did_you_mean(unknown[0][:80], known)}"
    missing = [name for name, is_needed in known.items() if is_needed and name not in plain]
    yield from (f"the field {name}{where} is missing" for name in missing)


def is_list_of(kind: type, value: object) -> bool:
    return (
        isinstance(value, list | tuple) and len(value) <= MOST_LISTED and all(isinstance(v, kind) for v in value)
    )


def show(value: object) -> str:
    """Return a value of a JSON file as part of a message."""
    return printable(value if isinstance(value, float) else json.dumps(value))
