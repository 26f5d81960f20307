"""The command line: parse, call, print, exit code. Everything heavy is imported inside the commands."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from tuner.overview import Overview
    from tuner.runs import Home

DEFAULT_HOME = "runs"


class Commands(click.Group):
    """Errors of ours become one line and exit code 2; a mistyped command gets the near name."""

    def invoke(self, ctx: click.Context) -> Any:
        from tuner.errors import TunerError

        try:
            return super().invoke(ctx)
        except TunerError as error:
            click.echo(f"tuner: {error}", err=True)
            sys.exit(2)
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
            sys.exit(0)
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(0)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            from tuner.errors import near

            commands = self.list_commands(ctx)
            ctx.fail(f"no command '{name}'.{near(name, commands)} Known: {', '.join(commands)}.")
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="tuner", prog_name="tuner")
def main() -> None:
    """Hyperparameter search for image models.

    \b
      tuner run --space unet_k --rehearse     try it: minutes, generated data
      tuner run --space unet_k --data PHOTOS  search on your own images/ and masks/
      tuner best --export best                the best model as a folder
      tuner predict best photo.jpg            use it
    """


home_option = click.option(
    "--home",
    default=DEFAULT_HOME,
    show_default=True,
    metavar="DIR",
    help="Folder of the database, caches, checkpoints and pictures.",
)


def storage_options(command: Any) -> Any:
    storage = click.option(
        "--storage",
        envvar="TUNER_STORAGE",
        metavar="URL",
        help="Database: sqlite:///FILE or postgresql://USER@HOST/NAME. Default: tuner.db in the home.",
    )
    return home_option(storage(command))


def home_of(folder: str) -> Home:
    from tuner.runs import Home

    return Home(Path(folder).expanduser())


def engine_of(storage: str | None, home: str) -> Engine:
    """An engine to read from; a database that is not there yet is not made."""
    from tuner import database
    from tuner.errors import StudyError

    url = storage or home_of(home).database
    if database.is_absent(url):
        raise StudyError(f"no study yet in {database.shown(url)}. Begin one with: tuner run --space unet_k")
    return database.reach(url)


@main.command()
@click.option("--space", required=True, metavar="NAME|PATH", help="A search space: see tuner spaces.")
@click.option("--data", metavar="NAME|PATH", help="Another dataset or folder than the space's own.")
@click.option(
    "--trials", type=click.IntRange(min=1), help="Trials in all, over every worker and restart.  [default: 50]"
)
@click.option(
    "--hours", type=click.FloatRange(min=0, min_open=True), help="Stop after so long; type it again to go on."
)
@click.option("--workers", type=click.IntRange(min=1), help="Worker processes here.  [default: one a GPU, or one]")
@storage_options
@click.option("--study", metavar="NAME", help="Name of the study.  [default: the space's]")
@click.option("--seed", default=0, show_default=True, help="Of the whole study.")
@click.option("--rehearse", is_flag=True, help="Toy size on generated data, into a study of its own.")
@click.option(
    "--cache-gb", type=click.FloatRange(min=0), default=20.0, show_default=True, help="Room for decoded images."
)
def run(home: str, **options: Any) -> None:
    """Search: create the study or go on with it.

    Typing it again goes on where it stopped. Typing it in a second terminal, or on another host with the
    same --storage, adds workers to the same study. Ctrl-C saves and stops; a second Ctrl-C stops at once.

    \b
    Examples:
      tuner run --space unet_k --data ~/photos --trials 100
      tuner run --space my_space.py --hours 8 --workers 2
    """
    from tuner.launch import Request
    from tuner.launch import run as launch

    done = launch(Request(home=home_of(home), **options))
    if done.error:
        click.echo(f"tuner: {done.error}", err=True)
    if done.now:
        tell_result(done.now, home, options["storage"])
    sys.exit(done.code)


def tell_result(now: Overview, home: str, storage: str | None) -> None:
    """How far the study is, its best, and what to type next."""
    from tuner.live import show_params, show_value

    name = now.study.name
    click.echo(f"study '{name}': {now.finished} of {now.num_trials or 'any number of'} trials ended")
    if now.best:
        best = f"{show_value(now.best.value)}, trial {now.best.number}, {show_params(now.best.params)}"
        click.echo(f"best: {now.study.goal.metric} {best}")
        click.echo(f"next: tuner best --study {name} --export best{at(home, storage)}")
    if now.num_trials and now.finished >= now.num_trials:
        click.echo(f"the budget is spent; raise it to go on: --trials {2 * now.num_trials}")


def at(home: str, storage: str | None) -> str:
    """What to add to the next command so that it finds the same study."""
    shown = "" if home == DEFAULT_HOME else f" --home {home}"
    return shown + (" --storage ..." if storage and "TUNER_STORAGE" not in os.environ else "")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def spaces(as_json: bool) -> None:
    """List the search spaces: your own ./search_spaces first."""
    from tuner.space import about, known_spaces

    rows = [{"name": name, "about": about(path), "path": str(path)} for name, path in known_spaces().items()]
    if as_json:
        return echo_json(rows)
    for row in rows:
        click.echo(f"{row['name']:<20} {row['about']}\n{'':<20} {click.style(row['path'], dim=True)}")
    if not rows:
        click.echo("no spaces yet: put a .py file into ./search_spaces")


@main.command()
@click.argument("space")
@click.option("--data", metavar="NAME|PATH", help="Another dataset or folder than the space's own.")
def check(space: str, data: str | None) -> None:
    """Check a space: 64 random draws, every recipe, without training.

    \b
    Example:
      tuner check search_spaces/my_space.py
    """
    from tuner.data.datasets import data_name, swap_data
    from tuner.space import describe, draw, load_space

    found = load_space(space)
    draws = draw(found)
    name = data_name(draws.recipes[0], data)
    from tuner.check import check_recipes  # loads torch: a space that cannot be drawn from is told before

    check_recipes([swap_data(r, name) for r in draws.recipes], found.goal, str(found.path))
    click.echo(f"{found.path}: {len(draws.recipes)} draws, all can be trained")
    click.echo(f"goal: {found.goal}   data: {name}")
    for parameter, distribution in draws.parameters.items():
        click.echo(f"  {parameter:<14} {describe(distribution)}")


@main.command()
@click.argument("path", required=False)
@home_option
@click.option("--sheet", metavar="FILE.png", help="Where to draw the contact sheet.  [default: in the home]")
def data(path: str | None, home: str, sheet: str | None) -> None:
    """List the datasets; or check one, by name or folder, and draw a contact sheet.

    \b
    Example:
      tuner data ~/photos
    """
    if path is None:
        return list_data()
    from tuner.console import progress_bar
    from tuner.data.datasets import data_problems, open_data
    from tuner.data.survey import survey
    from tuner.errors import DataError, FilesError, writing
    from tuner.recipe import Part
    from tuner.report.sheet import draw_sheet

    if wrong := data_problems(Part(path)):
        raise DataError(" ".join(wrong))
    if sheet and Path(sheet).suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise FilesError(f"the contact sheet is a picture; {sheet} ends in neither .png nor .jpg.")
    source = open_data(Part(path))
    place = home_of(home).make()
    with progress_bar(f"reading {source.name}") as progress:
        found = survey(source, place.cache, progress)
    picture = Path(sheet).expanduser() if sheet else place.folder / f"sheet-{source.name}.png"
    with writing(picture):
        draw_sheet(source, picture)
    classes = f" of {len(source.classes)} classes" if source.classes else ""
    click.echo(f"{source.where}: {len(source.items)} images with {source.targets}{classes}; {source.counts()}")
    for notice in found.notices():
        click.echo(f"  notice: {notice}")
    click.echo(f"contact sheet: {picture}")


def list_data() -> None:
    from tuner.data.datasets import DATASETS, roots
    from tuner.parts import locate

    for name in DATASETS:
        about = (locate("dataset", DATASETS, name).__doc__ or "").partition("\n")[0]
        places = [root / name for root in roots() if (root / name).is_dir()]
        here = "generated" if name == "shapes" else f"at {places[0]}" if places else "not on this machine"
        click.echo(f"{name:<16} {about}\n{'':<16} {click.style(here, dim=True)}")
    click.echo(f"\nlooked for in: {', '.join(map(str, roots()))}   (add folders with TUNER_DATA)")
    click.echo("or any folder: --data PATH, with images/ + masks/, rgb/ + figure_ground/, or a folder a class")


@main.command()
@storage_options
@click.option("--study", metavar="NAME", help="One study.  [default: all]")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def status(home: str, storage: str | None, study: str | None, as_json: bool) -> None:
    """Show the studies: trials by state, the best so far, who works on them."""
    from tuner import overview
    from tuner.live import show_params, show_value

    engine = engine_of(storage, home)
    infos = [overview.find_study(engine, study)] if study else overview.all_studies(engine)
    views = [overview.overview(engine, info) for info in infos]
    if as_json:
        return echo_json([status_json(now) for now in views])
    if not views:
        click.echo("no study yet. Begin one with: tuner run --space unet_k")
    for now in views:
        mark = " (rehearsal)" if now.study.rehearsal else ""
        states = ", ".join(f"{n} {s.lower()}" for s, n in sorted(now.states.items())) or "no trials"
        click.echo(f"{click.style(now.study.name, bold=True)}{mark}: {now.study.goal} on {now.study.data}")
        click.echo(f"  {now.finished} of {now.num_trials or 'any number of'} trials ended ({states})")
        if now.best:
            best = f"{show_value(now.best.value)}, trial {now.best.number}, {show_params(now.best.params)}"
            click.echo(f"  best {now.study.goal.metric} {best}")
        for worker in now.workers:
            where = f"{worker.host} pid {worker.pid} ({worker.device})"
            click.echo(f"  worker {where}: {worker.state}, trial {worker.number}, {worker.step}/{worker.steps}")


def status_json(now: Any) -> dict[str, Any]:
    from dataclasses import asdict

    best = now.best and {"trial": now.best.number, "value": now.best.value, "params": now.best.params}
    return {
        "study": now.study.name,
        "space": now.study.space,
        "data": now.study.data,
        "goal": asdict(now.study.goal),
        "rehearsal": now.study.rehearsal,
        "trials": now.num_trials,
        "ended": now.finished,
        "states": now.states,
        "best": best,
        "workers": [asdict(worker) for worker in now.workers],
    }


@main.command()
@storage_options
@click.option("--study", metavar="NAME", help="Of which study.  [default: the one worked on last]")
@click.option("--export", "folder", metavar="DIR", help="Write the model and all about it into a new folder.")
@click.option("--force", is_flag=True, help="Replace an existing bundle.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def best(
    home: str, storage: str | None, study: str | None, folder: str | None, force: bool, as_json: bool
) -> None:
    """Show the best trial; export its model as a folder that needs no database.

    \b
    Example:
      tuner best --export best && tuner predict best photo.jpg
    """
    from tuner.best import best as find_best

    found = find_best(engine_of(storage, home), study)
    if folder:
        from tuner.bundle import export

        run_of_trial = home_of(home).run(found.study.name, found.study.key, found.trial.number)
        export(found, run_of_trial, Path(folder).expanduser(), force)
    if as_json:
        return echo_json(found.to_json() | ({"exported": folder} if folder else {}))
    click.echo(
        f"{found.study.name}: trial {found.trial.number}, {found.study.goal.metric} {found.trial.value:.4f}"
    )
    click.echo(f"  best of {found.finished} trials, beat {found.beaten}, {found.failed} failed")
    for name, value in found.trial.params.items():
        click.echo(f"  {name:<14} {value:.4g}" if isinstance(value, float) else f"  {name:<14} {value}")
    click.echo(f"  at epoch {found.epoch}:")
    for name, value in found.metrics.items():
        click.echo(f"    {name:<16} {value:.4f}")
    if folder:
        click.echo(f"exported to {folder}; use it with: tuner predict {folder} IMAGE...")


@main.command()
@click.argument("bundle", type=click.Path())
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option(
    "--out", default="predictions", show_default=True, metavar="DIR", help="Folder for masks and overlays."
)
def predict(bundle: str, images: tuple[str, ...], out: str) -> None:
    """Write a mask and an overlay for each image, with an exported bundle alone.

    \b
    Example:
      tuner predict best photos/*.jpg --out masks
    """
    from tuner.predict import predict_files

    for path in predict_files(Path(bundle), [Path(image) for image in images], Path(out)):
        click.echo(path)


@main.command()
@storage_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on: loopback only.")
@click.option("--port", default=8080, show_default=True, help="0 takes a free one.")
def dashboard(home: str, storage: str | None, host: str, port: int) -> None:
    """Open the studies in optuna-dashboard: curves, pictures and recipes of every trial."""
    from tuner.dashboard import serve

    place = home_of(home)
    try:
        serve(storage or place.database, place, host, port, lambda url: click.echo(f"{url}   (Ctrl-C ends it)"))
    except KeyboardInterrupt:
        click.echo("stopped")


def echo_json(data: Any) -> None:
    import json

    click.echo(json.dumps(data, indent=2))


if __name__ == "__main__":
    main()
