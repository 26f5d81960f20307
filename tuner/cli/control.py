"""The commands that control workers on all hosts: init, stop, pause, resume, budget, workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tuner.cli.common import echo_json, open_engine, to_home
from tuner.cli.continuing import describe_run_command
from tuner.cli.options import COUNT, NUMBER, POSITIVE, json_option, storage_options, study_option
from tuner.errors import StudyError
from tuner.wording import pluralize, write_command

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from tuner.study.info import StudyInfo
    from tuner.study.queries import WorkerInfo

STORE_SECONDS = 10.0  # for the artifact store to delete a checkpoint


@click.command()
@storage_options
def init(home: str, storage: str | None) -> None:
    """Create all tables of a database, or migrate them to this version. Safe to run on several hosts at once.

    The first tuner run does the same; use this to prepare a database before workers start.

    \b
    Example:
      tuner init --storage postgresql://tuner@db.example.org/tuner
    """
    from tuner.study.storage import init as set_up

    for line in set_up(storage or to_home(home).make().database):
        click.echo(line)


@click.command()
@click.argument("trial", type=NUMBER, required=False)
@study_option()
@storage_options
def stop(trial: int | None, study: str | None, home: str, storage: str | None) -> None:
    """Stop a study's workers on every host, or end a single trial.

    Stopped workers save within one step, return their trials to the queue and exit; tuner run resumes. A trial
    that is ended keeps its results and counts as pruned, and its worker takes the next trial. A paused trial that
    is ended will not go on.

    \b
    Examples:
      tuner stop                    all workers of the most recent study
      tuner stop --study unet_k     all workers of that study
      tuner stop 12                 end trial 12
    """
    from tuner.study import control

    engine, info = find_study(storage, home, study)
    if trial is not None:
        if control.stop_trial(engine, info.id, trial):
            drop_checkpoint(info, home, trial)
            click.echo(f"{info.name}: paused trial {trial} stays pruned; it keeps its results")
        else:
            click.echo(f"{info.name}: trial {trial} will end; it keeps its results")
    else:
        number = control.stop_workers(engine, info.id)
        click.echo(f"{info.name}: {pluralize(number, 'worker')} will save and exit")
        click.echo(describe_run_command(engine, info))


def drop_checkpoint(info: StudyInfo, home: str, number: int) -> None:
    """Delete the checkpoint of a trial that will not go on, in the home and in the study's artifact store."""
    from tuner.artifacts.attempts import open_attempts

    attempts = open_attempts(to_home(home), info.artifacts)
    attempts.drop(info.name, info.key, number)
    attempts.close(STORE_SECONDS)


@click.command()
@study_option()
@storage_options
def pause(study: str | None, home: str, storage: str | None) -> None:
    """Pause a study: workers on every host save, return their trials to the queue and wait."""
    from tuner.study import control

    engine, info = find_study(storage, home, study)
    number = control.set_paused(engine, info.id, True)
    click.echo(f"{info.name}: paused; {pluralize(number, 'worker')} will save and wait")
    click.echo(f"continue with: {write_command('resume', study=info.name)}")


@click.command()
@study_option()
@storage_options
def resume(study: str | None, home: str, storage: str | None) -> None:
    """Resume a paused study: its workers continue with the waiting trials."""
    from tuner.study import control

    engine, info = find_study(storage, home, study)
    was = control.read_control_state(engine, info.id).paused
    number = control.set_paused(engine, info.id, False)
    if not was:
        click.echo(f"{info.name}: was not paused")
    elif number:
        click.echo(f"{info.name}: {pluralize(number, 'worker')} will resume")
    else:
        click.echo(f"{info.name}: resumed; no workers are running")
        click.echo(describe_run_command(engine, info))


@click.command()
@click.option("--trials", type=COUNT, help="Total number of trials.")
@click.option("--hours", type=POSITIVE, help="Total wall-clock hours, from the first worker on.")
@click.option("--gpu-hours", type=POSITIVE, help="Total GPU-hours over all GPUs; of workers without a GPU, hours.")
@click.option("--epoch-budget", type=COUNT, metavar="N", help="Total number of epochs over all trials.")
@json_option
@study_option()
@storage_options
def budget(
    trials: int | None, hours: float | None, gpu_hours: float | None, epoch_budget: int | None, as_json: bool,
    study: str | None, home: str, storage: str | None,
) -> None:  # fmt: skip
    """Show the budget of a study and how much of it is spent; raise or lower it, also while workers run.

    Running trials continue, even if the limit is lowered; one of epochs holds within the trial. Paused trials go
    on when a limit is raised.

    Wall-clock hours pass while any worker runs, on any host, trials in progress included, and not while the study
    is paused. GPU-hours pass on each GPU while a trial is trained on it; where there is no GPU they are
    worker-hours, and are shown as such. Both count from the start of the study, also what was used before a limit
    was set.
    """
    from tuner.study import budget as budget_module
    from tuner.study import queries
    from tuner.study.format import format_budget
    from tuner.study.stats import find_device

    engine, info = find_study(storage, home, study)
    if trials and info.search.grid and trials > (points := info.search.num_points):
        raise StudyError(
            f"--trials {trials}: study '{info.name}' is a grid of {pluralize(points, 'point')}, each is one trial."
        )
    limits = {"num_trials": trials, "hours": hours, "gpu_hours": gpu_hours, "epochs": epoch_budget}
    budget_module.set_budget(engine, info.id, **limits)
    now = budget_module.read_budget(engine, info.id)
    device = find_device(queries.read_summary(engine, info))
    if as_json:
        spent = budget_module.spent_to_json(now.spent, device)
        return echo_json({"study": info.name, "budget": vars(now.budget), "spent": spent})
    click.echo(f"{info.name}: {format_budget(now.budget, now.spent, device)}")


@click.command()
@json_option
@study_option("all")
@storage_options
def workers(as_json: bool, study: str | None, home: str, storage: str | None) -> None:
    """List running workers: host, process, device, trial and step of each."""
    from tuner.study import queries

    engine = open_engine(storage, home)
    infos = [queries.find_study(engine, study)] if study else queries.read_studies(engine)
    with engine.connect() as db:
        rows = [(info.name, worker) for info in infos for worker in queries.read_workers(db, info)]
    if as_json:
        return echo_json([{"study": name, **vars(worker)} for name, worker in rows])
    if not rows:
        click.echo("no workers are running")
        for info in infos[:1]:
            click.echo(describe_run_command(engine, info))
    for name, worker in rows:
        click.echo(f"{name:<20} {format_worker(worker)}")


def format_worker(worker: WorkerInfo) -> str:
    from tuner.study.format import format_params, format_steps, format_value

    where = f"{worker.host}:{worker.pid}"
    memory = f"{worker.peak_memory / 2**30:.1f} GB" if worker.peak_memory else ""
    doing = worker.state
    if worker.number is not None:
        steps = format_steps(worker) if worker.state == "training" else worker.state
        doing = f"trial {worker.number} {steps} {format_value(worker.value)} {format_params(worker.params)}"
    return f"{where:<28} {worker.device:<20} {memory:>8}  {doing}".rstrip()


def find_study(storage: str | None, home: str, study: str | None) -> tuple[Engine, StudyInfo]:
    from tuner.study import queries

    engine = open_engine(storage, home)
    return engine, queries.find_study(engine, study)
