"""Run a search from Python: `tuner.run` and `tuner.load_study`."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tuner.api.arguments import given_or_environment, to_home, to_text
from tuner.api.function_space import write_function_space
from tuner.api.progress import choose_view
from tuner.api.study import Study
from tuner.errors import (
    FleetError,
    SpaceError,
    StorageError,
    StudyError,
    TunerError,
    bullets,
    describe_value,
    did_you_mean,
)
from tuner.goal import Goal, read_limits
from tuner.paths import Home
from tuner.recipe import Recipe
from tuner.space.search_settings import SearchChoice
from tuner.study import queries

if TYPE_CHECKING:
    from optuna import Trial

SpaceLike = str | os.PathLike[str] | Callable[["Trial"], Recipe]


def run(
    space: SpaceLike | None = None,
    *,
    data: str | os.PathLike[str] | None = None,
    layout: str | None = None,
    trials: int | None = None,
    goal: Goal | Sequence[Goal] | None = None,
    start: Sequence[dict[str, Any]] = (),
    limits: Mapping[str, float] | None = None,
    warm_from: str | Sequence[str] | None = None,
    prior: Mapping[str, tuple[Any, float]] | None = None,
    table: str | os.PathLike[str] | None = None,
    seeds: int | None = None,
    study: str | None = None,
    storage: str | None = None,
    home: str | os.PathLike[str] = "runs",
    artifacts: str | None = None,
    seed: int = 0,
    shrink: int = 1,
    shorten: int = 1,
    rehearse: bool = False,
    hours: float | None = None,
    gpu_hours: float | None = None,
    epoch_budget: int | None = None,
    workers: int | None = None,
    progress: bool = True,
    **options: Any,
) -> Study:
    """Search a space, or train the rows of a published table, and return the study.

    Creates the study or continues it, as `tuner run` does: call it again to resume. Ctrl-C, or Interrupt in a
    notebook, saves every running trial and raises KeyboardInterrupt. TunerError if something is wrong.

    space: the name or path of a search space, or a function `suggest(trial)` that returns a Recipe.
    data: a dataset or a folder of images, instead of the space's own; with `layout` for one that can be read in
        several ways, such as "classes" or "masks=photos,truth".
    trials: how many trials in all, over every worker and call. Default: 50.
    goal: of a function, such as `maximize("iou")`, or several, such as `[maximize("iou"), minimize("params")]`;
        spaces in files define their own.
    start: of a function, the points that are trained first, such as `[{"lr": 1e-3}]`; spaces in files have START.
    limits: the most that a model may cost, such as `{"params": 2e6}`, beside those of the space's LIMITS.
    warm_from: earlier studies of the same database to learn from, such as `["horses"]`.
    prior: for parameters, a value that you believe in and the trust in it, such as `{"lr": (1e-3, 0.7)}`.
    table, seeds: instead of a space, a published table, and how many times each row is trained.
    study: the name of the study. Default: the name of the space or function.
    storage: a database URL. Default: the environment variable TUNER_STORAGE, else tuner.db in `home`.
    home: the folder of the database, caches, checkpoints and pictures.
    artifacts: where all hosts keep checkpoints and pictures, a folder or s3://BUCKET/PREFIX. Default: the
        environment variable TUNER_ARTIFACTS, else `home`.
    seed: the seed of the whole study.
    shrink, shorten: divide image size and widths, or epochs, by a number.
    rehearse: small sizes on generated data, to test that everything works.
    hours, gpu_hours, epoch_budget: budgets over all workers; the last one is of epochs.
    workers: the number of worker processes. Default: one per GPU, or one.
    progress: show progress: a live view in a notebook or terminal, else lines on stderr.

    Further options are those of `tuner run --help` with underscores, such as `sampler="gp"`, `pruning="none"`,
    `gpus="0,1"`, `per_gpu="auto"` or `checkpoint_minutes=10`.
    """
    if threading.current_thread() is not threading.main_thread():
        raise FleetError("tuner.run() must be called from the main thread: it handles Ctrl-C.")
    place, storage = to_home(home), to_storage(storage)
    options |= {
        "data": data,
        "layout": layout,
        "trials": trials,
        "table": table,
        "seeds": seeds,
        "study": study,
        "seed": seed,
    }
    options |= {"shrink": shrink, "shorten": shorten, "rehearse": rehearse, "workers": workers}
    options |= {"hours": hours, "gpu_hours": gpu_hours, "epoch_budget": epoch_budget}
    options |= {"artifacts": given_or_environment(artifacts, "TUNER_ARTIFACTS")}
    given = check_options(options) | {"space": space_argument(space, goal, place, start)}
    given["limits"] = check_limits({} if limits is None else limits)
    given |= check_experience(warm_from, prior)
    if now := find_spent_run(storage or place.database, given):
        return load_study(now.study.name, storage=storage, home=home)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")  # of tqdm, in a notebook without ipywidgets
        from tuner.search.run import RunRequest  # imports torch, which takes seconds
        from tuner.search.run import run as run_search

    done = run_search(RunRequest.from_options(storage or place.database, place, given), choose_view(progress))
    if done.code == 130 or done.is_interrupted:
        raise KeyboardInterrupt(f"study '{done.study}' is saved; run it again to resume")
    if done.code:
        raise TunerError(done.error or f"study '{done.study}' stopped with exit code {done.code}.")
    return load_study(done.study, storage=storage, home=home)


def find_spent_run(url: str, given: Mapping[str, Any]) -> queries.StudySummary | None:
    """Return the study of a run that has nothing to do, as `tuner run` finds it; otherwise None."""
    from tuner.cli.run import run as command
    from tuner.search.spent import find_spent

    if given.get("prior"):  # which the command line has not
        return None
    return find_spent(url, dict.fromkeys(str(param.name) for param in command.params) | dict(given))


def load_study(
    name: str | None = None, *, storage: str | None = None, home: str | os.PathLike[str] = "runs"
) -> Study:
    """Return a study of a database; without a name, the one that was worked on last.

    `storage` is a database URL, by default the environment variable TUNER_STORAGE, else tuner.db in `home`.
    StudyError if there is no such study.
    """
    from tuner.cli.common import open_engine

    place = to_home(home)
    engine = open_engine(to_storage(storage), str(place.folder))
    return Study(engine, queries.find_study(engine, name), place)


def to_storage(storage: str | None) -> str | None:
    """Return the database URL as given or of the environment; None for that of the home."""
    url = given_or_environment(storage, "TUNER_STORAGE")
    return None if url is None else to_text("storage", url, "DATABASE_URL", StorageError)


def space_argument(
    space: SpaceLike | None, goal: Goal | Sequence[Goal] | None, home: Home, start: Sequence[dict[str, Any]] = ()
) -> str | None:
    """Return the name or path of a space; a function is written to a file first."""
    if callable(space):
        return str(write_function_space(space, goal, home.make(), start))
    if goal is not None:
        raise SpaceError("goal= belongs to a space given as a function; a space file defines its own GOAL.")
    return None if space is None else to_text("space", space, "SPACE", SpaceError)


def check_limits(limits: object) -> dict[str, float]:
    """Return the limits; StudyError lists all that is wrong with them."""
    try:
        return read_limits(limits)
    except ValueError as error:
        raise StudyError(f"these limits of tuner.run() cannot be used: {error}.") from None


def check_experience(warm_from: object, prior: object) -> dict[str, Any]:
    """Return what was given of both as settings of the search; StudyError lists all that is wrong."""
    names = warm_from.split(",") if isinstance(warm_from, str) else warm_from
    given = {name: value for name, value in (("warm_from", names), ("prior", prior)) if value is not None}
    return dict(SearchChoice().with_options(given).chosen)


def check_options(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of `tuner run` as the command line converts them, with its defaults.

    StudyError lists all that are unknown or out of range.
    """
    from click.exceptions import BadParameter

    from tuner.cli.run import run as command

    params = {str(param.name): param for param in command.params}
    values = {name: param.default for name, param in params.items() if type(param.default) in (int, float)}
    wrong = []
    for name, value in given.items():
        if name not in params:
            wrong.append(f"'{name}' is unknown.{did_you_mean(name, params)}")
        elif not isinstance(value, str | int | float | os.PathLike | None):
            wrong.append(f"{name}={describe_value(value)}: text or a number is needed.")
        elif value is not None:
            try:
                plain = os.fspath(value) if isinstance(value, os.PathLike) else value
                values[name] = params[name].type.convert(plain, params[name], None)
            except (BadParameter, TypeError, ValueError, OverflowError) as error:
                wrong.append(f"{name}={describe_value(value)}: {getattr(error, 'message', error)}")
    if wrong:
        raise StudyError(f"these options of tuner.run() cannot be used:{bullets(wrong)}")
    return dict.fromkeys(given) | values
