"""Published tables: the parameters and numbers that a report printed, row by row.

A table is a TOML file in `studies/`:

    about = "one line"
    space = "unet_k"            # a name, or a .py file beside the table
    data = "weizmann_horse"     # the space's own dataset when left out
    metric = "iou"              # of the validation split; "train_iou" and "test_iou" are of the other splits
    where = "Table 1"
    compare = "order"           # if only the order can be compared, not the numbers; "none" without numbers
    also = ["dice"]             # further own metrics to show

    [[rows]]
    params = { lr = 1e-4, k = 64 }
    published = 0.7964          # or { train_iou = 0.8, val_iou = 0.7 }; or place = 1 without a printed number

Printing a table does not load its space.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unicodedata import category

from tuner.errors import TableError, did_you_mean, first_lines, format_names
from tuner.paths import DEEPEST_JSON, expand_path, is_deeper, read_text
from tuner.recipe import is_number, is_whole_number
from tuner.registry import COUNT, unknown_choice
from tuner.space.files import find_file, known_files
from tuner.tasks import MINIMIZED_METRICS

SPLITS = ("train_", "val_", "test_")
COMPARE_MODES = ("number", "order", "none")
TEXT_KEYS = ("about", "space", "data", "metric", "where", "note", "compare")
TABLE_KEYS = (*TEXT_KEYS, "also", "rows")
REQUIRED_KEYS = ("space", "metric", "rows")
ROW_KEYS = ("params", "published", "place", "where", "note")


@dataclass(frozen=True)
class PublishedRow:
    """One row of a published table: its parameters, and its numbers by metric, such as "val_iou"."""

    params: dict[str, Any]
    published: dict[str, float]
    place: int | None = None
    where: str = ""
    note: str = ""

    @property
    def key(self) -> str:
        return params_key(self.params)


@dataclass(frozen=True)
class PublishedTable:
    """A published table as defined by its file; `metric` and `metrics` include their split."""

    name: str
    path: Path
    space: str
    metric: str
    rows: tuple[PublishedRow, ...]
    about: str = ""
    data: str = ""
    where: str = ""
    note: str = ""
    compare: str = "number"
    also: tuple[str, ...] = ()

    @property
    def space_name(self) -> str:
        return Path(self.space).stem if self.space.endswith(".py") else self.space

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of all rows in order, or the table's own if there are none; then those of `also`."""
        met = dict.fromkeys(name for row in self.rows for name in row.published) or {self.metric: None}
        return tuple(dict.fromkeys((*met, *self.also)))

    @property
    def places(self) -> list[int]:
        """The published rank of each row, as given or by its number; empty unless compare = "order"."""
        if self.compare != "order":
            return []
        numbers = [row.published.get(self.metric) for row in self.rows]
        return [
            row.place or place for row, place in zip(self.rows, rank_values(numbers, self.metric), strict=True)
        ]


def params_key(params: Mapping[str, Any]) -> str:
    """Return parameters as text; 1 and 1.0 are equal."""
    plain = {k: float(v) if is_whole_number(v) else v for k, v in params.items()}
    return json.dumps(plain, sort_keys=True, default=str)


def rank_values(numbers: Iterable[float | None], metric: str) -> list[int]:
    """Return the rank of each number, 1 for the best; equal numbers share a rank, None has rank 0."""
    known = list(numbers)
    sign = -1 if without_split(metric) in MINIMIZED_METRICS else 1
    return [0 if x is None else 1 + sum(y is not None and sign * y > sign * x for y in known) for x in known]


def without_split(metric: str) -> str:
    split = next((split for split in SPLITS if metric.startswith(split)), "")
    return metric.removeprefix(split)


def with_split(metric: str) -> str:
    """Return a metric's name with its split, by default the validation split."""
    return metric if metric.startswith(SPLITS) else f"val_{metric}"


def known_tables() -> dict[str, Path]:
    return known_files("studies", "*.toml")


def find_table(name: str) -> Path:
    """Return the file of a table given by name or path; TableError if there is none."""
    return find_file("table", name, known_tables(), ".toml", TableError)


def load_table(name: str) -> PublishedTable:
    """Load a table by name or path; TableError lists everything that is wrong with the file."""
    path = find_table(name)
    plain = read_toml(path)
    if wrong := list(table_problems(plain)):
        raise TableError(f"{path} is not a valid table:{first_lines(wrong)}")
    metric, space = with_split(plain["metric"]), plain["space"]
    if space.endswith(".py"):  # relative to the table
        space = str((path.parent / expand_path(space, TableError)).absolute())
    rows = tuple(parse_row(row, metric) for row in plain["rows"])
    also = tuple(map(with_split, plain.get("also", [])))
    return PublishedTable(
        path.stem, path, **{**plain, "space": space, "metric": metric, "rows": rows, "also": also}
    )


def read_toml(path: Path) -> dict[str, Any]:
    """Return the data of a TOML file; TableError if it cannot be read."""
    text = read_text(path, TableError)
    try:
        plain = tomllib.loads(text)
        if is_deeper(plain, DEEPEST_JSON):
            raise RecursionError
    except RecursionError:
        raise TableError(f"{path} cannot be read: it is nested deeper than {DEEPEST_JSON} levels.") from None
    except tomllib.TOMLDecodeError as error:
        raise TableError(f"{path} cannot be read: {error}.") from error
    except ValueError as error:
        raise TableError(f"{path} cannot be read: it holds a number of too many digits.") from error
    return plain


def parse_row(plain: Mapping[str, Any], metric: str) -> PublishedRow:
    published = plain.get("published", {})
    numbers = published if isinstance(published, dict) else {metric: published}
    numbers = {with_split(name): float(number) for name, number in numbers.items()}
    return PublishedRow(**{**plain, "published": numbers})


def table_problems(plain: Mapping[str, Any]) -> Iterator[str]:
    """Yield everything that is wrong with a table's file, without loading its space."""
    yield from unknown_keys(plain, TABLE_KEYS)
    if odd := sorted({c for text in texts_in(plain) for c in text if category(c) == "Cc"} - {"\n", "\t"}):
        yield f"it holds the control character {odd[0]!r}"
    yield from (f"it has no {key}" for key in REQUIRED_KEYS if not plain.get(key))
    for key in TEXT_KEYS:
        if not isinstance(plain.get(key, ""), str):
            yield f"{key} is {plain[key]!r}; text is needed"
    compare = plain.get("compare", "number")
    if compare not in COMPARE_MODES:
        yield unknown_choice("compare", compare, COMPARE_MODES).rstrip(".")
    also = plain.get("also", [])
    if not isinstance(also, list) or not all(isinstance(name, str) for name in also):
        yield f"also is {also!r}; a list of names of metrics is needed"
    rows = plain.get("rows", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        yield "rows are written as [[rows]], each with params and published"
        return
    for number, row in enumerate(rows, start=1):
        yield from (f"row {number}: {line}" for line in row_problems(row, compare))
    yield from duplicate_rows(rows)


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text in a file's data, names included."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from texts_in(each)
    elif isinstance(value, str):
        yield value


def unknown_keys(plain: Mapping[str, Any], known: tuple[str, ...]) -> Iterator[str]:
    for key in plain:
        if key not in known:
            yield f"unknown key '{key}'.{did_you_mean(key, known)} Known: {', '.join(known)}"


def row_problems(row: Mapping[str, Any], compare: str) -> Iterator[str]:
    in_order = compare == "order"
    yield from unknown_keys(row, ROW_KEYS)
    if not isinstance(row.get("params"), dict) or not row["params"]:
        yield "it has no params = { ... }"
    else:
        for name, value in row["params"].items():
            if not isinstance(value, bool | str) and (not is_number(value) or is_beyond_64_bits(value)):
                yield f"{name} is {value}; text, a number, true or false is needed"
    published = row.get("published", {})
    for name, number in (published if isinstance(published, dict) else {"published": published}).items():
        if not is_number(number):
            yield f"{name} is {number!r}; a number is needed"
    place = row.get("place", 1)
    if place not in COUNT:
        yield f"place is {place!r}; {COUNT} is needed"
    if "place" in row and not in_order:
        yield 'a place needs compare = "order" in the table'
    if compare == "none" and published != {}:
        yield 'it has a published number, in a table with compare = "none"'
    if published == {} and compare != "none" and not (in_order and ("place" in row or row.get("note"))):
        yield "it has no published number" + (", no place, and no note that says why" if in_order else "")
    for key in ("where", "note"):
        if not isinstance(row.get(key, ""), str):
            yield f"{key} is {row[key]!r}; text is needed"


def is_beyond_64_bits(value: float) -> bool:
    return isinstance(value, int) and not is_whole_number(value)


def duplicate_rows(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield rows with equal parameters."""
    seen: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        params = row.get("params")
        if isinstance(params, dict) and (first := seen.setdefault(params_key(params), number)) != number:
            same = format_names(f"{name}={value}" for name, value in params.items())
            yield f"row {number} has the parameters of row {first}: {same}"
