"""The bundle: the exported best model as a folder that needs no database.

weights.safetensors  recipe.json  metrics.json  history.csv  card.md
predictions.png  strip.png  curves.png  quality.png  explanation.png  confusion.csv  details.json   if available
code/                the source of the parts of the user's own, which runs only if it is trusted
bundle.json          the format version and the hash of every other file
"""

from __future__ import annotations

import csv
import logging
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from tuner.artifacts.own_code import load_code, read_own_code, write_code
from tuner.errors import BundleError, FilesError, StudyError, format_names, printable, writing
from tuner.export.card import make_card
from tuner.export.manifest import CODE, MANIFEST, VERSION, WEIGHTS
from tuner.export.manifest import verify_bundle as verify_bundle
from tuner.paths import Run, expand_path, format_json, hash_file, read_bytes, read_json
from tuner.recipe import Recipe, is_number, is_whole_number
from tuner.registry.own_modules import find_own_file, own_sources, search_in, working_folder

if TYPE_CHECKING:
    from torch import nn

    from tuner.export.best_trial import BestTrial

log = logging.getLogger("tuner")


def export_bundle(best: BestTrial, run: Run, folder: Path, force: bool) -> Path:
    """Write a bundle atomically and return its path; an existing bundle is replaced only with `force`."""
    real = resolve_folder(folder)
    if folder.exists() and not force:
        raise FilesError(f"{folder} already exists. Choose another folder, or replace it with --force.")
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        rule = "--force replaces only bundles. Choose another folder."
        raise FilesError(f"{folder} exists and is not a bundle; {rule}")
    if not run.best.is_file():
        raise StudyError(
            f"the weights of trial {best.trial.number} are not at {run.best}. "
            "Export on the host that trained it, or with the --home or the --artifacts it was trained with."
        )
    with atomic_folder(real) as aside:
        write_files(aside, best, run, real.name)
    return real


def resolve_folder(folder: Path) -> Path:
    """Return where a folder is: "." and links have no name to write beside. FilesError for a link to itself."""
    real = Path(os.path.realpath(folder))
    if real.is_symlink():
        raise FilesError(f"{folder} is a link that leads to itself. Choose another folder.")
    return real


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that replaces a resolved `folder` at the end; raise FilesError as `writing`."""
    aside = folder.with_name(f".{folder.name}.{os.getpid()}")
    with writing(folder):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            yield aside
            replace_folder(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def write_files(folder: Path, best: BestTrial, run: Run, name: str) -> None:
    """Write every file of the bundle, the manifest last; `name` is the one that the folder will have."""
    shutil.copyfile(run.best, folder / WEIGHTS)
    write_json(folder / "recipe.json", best.trial.attrs["recipe"])
    write_json(folder / "metrics.json", best.to_json())
    with (folder / "history.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in best.history for key in row)))
        writer.writeheader()
        writer.writerows(best.history)
    for extra in run.pictures:
        if extra.is_file():
            shutil.copyfile(extra, folder / extra.name)
    write_code(find_code(best, run), folder / CODE)
    if not all((folder / file.name).exists() for file in run.lazy_pictures):  # the dashboard draws them on demand
        from tuner.report.on_demand import DrawRequest, draw_missing_pictures

        request = DrawRequest(best.study.goal.metric, best.history, best.trial.attrs, lambda: run.details)
        draw_missing_pictures(request, folder)
    there = {file.name for file in folder.iterdir()}
    card = make_card(best, there, name)
    (folder / "card.md").write_text(card, encoding="utf-8", errors="backslashreplace")
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    hashes = {file.relative_to(folder).as_posix(): hash_file(file) for file in files}
    write_json(folder / MANIFEST, {"version": VERSION, "files": hashes})


def find_code(best: BestTrial, run: Run) -> dict[str, str]:
    """Return the source of the trial's own parts; of a trial that has kept none, as it is now, with a warning."""
    stored = load_code(run, best.trial.attrs.get("made_with", {}).get("code", ""))
    now = {} if stored else read_own_code(Recipe.from_json(best.trial.attrs["recipe"]).own_names)
    if now:
        log.warning("the bundle's code/ is %s as it is now: the trial has kept none", ", ".join(now))
    return stored or now


def replace_folder(aside: Path, folder: Path) -> None:
    """Rename the finished folder into place; the old one is deleted last."""
    old = aside.with_name(f"{aside.name}.old")
    if folder.exists():
        folder.rename(old)
    try:
        aside.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, data: Any) -> None:
    path.write_text(format_json(data, 2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class OpenBundle:
    """A bundle whose files are as they were exported, with its recipe, and the facts of metrics.json."""

    folder: Path
    recipe: Recipe
    facts: Mapping[str, Any]
    runs_code: bool = False  # that in its folder code/, which is trusted

    def search_code(self) -> None:
        """Look for the modules of its parts in its own code first, if that is trusted."""
        if self.runs_code:
            sys.dont_write_bytecode = True  # which would be a file that was not exported
            search_in({self.folder / CODE: "the code of the bundle", **working_folder()})

    def load_model(self, is_tried: bool = True) -> nn.Module:
        """Return the trained model in eval mode: normalized float images in, logits out; else BundleError.

        It is tried at its image size without data before memory is taken for it, which takes seconds to import;
        without `is_tried`, a model of tuner's own is not.
        """
        from tuner.export.trained_model import load_trained_model

        self.search_code()
        return load_trained_model(self.recipe, self.folder / WEIGHTS, is_tried)


BundleLike: TypeAlias = "str | os.PathLike[str] | OpenBundle"


def open_bundle(folder: BundleLike, trust: bool = False) -> OpenBundle:
    """Return a bundle after checking its files and fields, else BundleError; an open one is returned as it is.

    This is the only way into a bundle. Opening it runs nothing of it. Its recipe may name code that is not of
    tuner, which runs when it is used, only with `trust`.
    """
    if isinstance(folder, OpenBundle):
        return folder
    folder = expand_path(folder, BundleError)
    verify_bundle(folder)
    path = folder / "recipe.json"
    try:
        recipe = Recipe.from_json(read_json(path, BundleError))
    except (ValueError, TypeError) as error:
        raise BundleError(f"{path}: {error}.") from error
    own, has_code = recipe.own_names, (folder / CODE).is_dir()
    if own and not trust and not (has_code and is_own_code(folder / CODE, own)):
        where = f"It is in {folder / CODE} and would run with your rights: read it. " if has_code else ""
        raise BundleError(
            f"{folder} runs code of its own: {printable(format_names(own, 3))}. {where}"
            "If you trust those who made it, allow it with --trust, in Python with trust=True."
        )
    bundle = OpenBundle(folder, recipe, read_facts(folder), bool(own) and trust and has_code)
    bundle.search_code()
    return bundle


def is_own_code(code: Path, own: Collection[str]) -> bool:
    """Return whether all code that a bundle needs is in the user's own folders too, byte for byte."""
    here = own_sources(own)
    modules = [find_own_file(name.partition(":")[0]) for name in own]
    is_whole = all(file in here.values() for file in modules)
    return is_whole and all(is_same(code / path, file) for path, file in here.items())


def is_same(one: Path, other: Path) -> bool:
    return one.is_file() and read_bytes(one, BundleError) == read_bytes(other, BundleError)


def read_facts(folder: Path) -> dict[str, Any]:
    """Return what metrics.json says of the exported trial: its goal, value, epoch, metrics and params."""
    path = folder / "metrics.json"
    facts = read_json(path, BundleError)
    is_whole = isinstance(facts, dict) and all(
        isinstance(facts.get(k), dict) for k in ("goal", "metrics", "params")
    )
    numbers = is_whole and is_number(facts.get("value")) and is_whole_number(facts.get("epoch"))
    if not numbers or not isinstance(facts["goal"].get("metric"), str):
        raise BundleError(f"{path} has no goal, value, epoch, metrics and params.")
    if odd := [name for name, value in facts["metrics"].items() if not isinstance(value, int | float | None)]:
        raise BundleError(f"{path}: its metric {printable(odd[0])} is not a number.")
    return facts


def read_recipe(folder: BundleLike, trust: bool = False) -> Recipe:
    """Return the recipe of a bundle, checked as `open_bundle` does."""
    return open_bundle(folder, trust).recipe


def load_model(folder: BundleLike, trust: bool = False) -> nn.Module:
    """Return the trained model of a bundle in eval mode: normalized float images in, logits out."""
    return open_bundle(folder, trust).load_model()
