"""The commands that see to a study's workers, wherever they are: set up, stop, pause, go on, more, less."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tuner.cli.common import FiniteFloat, echo_json, open_engine, storage_options, to_home

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from tuner.study.info import StudyInfo
    from tuner.study.queries import WorkerInfo

study_option = click.option("--study", metavar="NAME", help="Which study.  [default: the one worked on last]")


@click.command()
@storage_options
def init(home: str, storage: str | None) -> None:
    """Set up a database: all tables, once, whoever else is at it.

    The first tuner run does the same; this is for setting up before the workers come.

    \b
    Example:
      tuner init --storage postgresql://tuner@db.example.org/tuner
    """
    from tuner.study.storage import init as set_up

    for line in set_up(storage or to_home(home).make().database):
        click.echo(line)


@click.command()
@click.argument("trial", type=click.IntRange(min=0), required=False)
@study_option
@storage_options
def stop(trial: int | None, study: str | None, home: str, storage: str | None) -> None:
    """Stop a study's workers on every host, or end one trial as it stands.

    Stopped workers save within a step, put their trials back and leave; tuner run goes on. A trial that is
    ended keeps what it has, counts as pruned, and its worker takes the next.

    \b
    Examples:
      tuner stop                    all workers of the study worked on last
      tuner stop --study unet_k     all workers of that study
      tuner stop 12                 end trial 12
    """
    from tuner.study import control

    engine, info = find_study(storage, home, study)
    if trial is not None:
        control.stop_trial(engine, info.id, trial)
        click.echo(f"{info.name}: trial {trial} is told to end; it keeps what it has")
    else:
        click.echo(f"{info.name}: {count_workers(control.stop_workers(engine, info.id))} told to save and leave")


@click.command()
@study_option
@storage_options
def pause(study: str | None, home: str, storage: str | None) -> None:
    """Have a study's workers save, put their trials back and wait, on every host."""
    from tuner.study import control

    engine, info = find_study(storage, home, study)
    number = control.set_paused(engine, info.id, True)
    click.echo(f"{info.name}: paused; {count_workers(number)} told to save and wait. Go on with: tuner resume")


@click.command()
@study_option
@storage_options
def resume(study: str | None, home: str, storage: str | None) -> None:
    """Let a paused study's workers go on."""
    from tuner.study import control

    engine, info = find_study(storage, home, study)
    was = control.read_control_state(engine, info.id).paused
    number = control.set_paused(engine, info.id, False)
    if not was:
        click.echo(f"{info.name}: was not paused")
    elif number:
        click.echo(f"{info.name}: {count_workers(number)} told to go on")
    else:
        click.echo(f"{info.name}: goes on; it has no workers now. Start some with: tuner run")


@click.command()
@click.option("--trials", type=click.IntRange(min=1), help="Trials in all.")
@click.option("--hours", type=FiniteFloat(min=0, min_open=True), help="Hours by the clock in all.")
@click.option("--gpu-hours", type=FiniteFloat(min=0, min_open=True), help="Hours of all GPUs together.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@study_option
@storage_options
def budget(
    trials: int | None,
    hours: float | None,
    gpu_hours: float | None,
    as_json: bool,
    study: str | None,
    home: str,
    storage: str | None,
) -> None:
    """Show what a study may take and has taken; raise or lower it, also while workers run.

    Trials that have begun go on, also beyond a lower limit.
    """
    from tuner.study import budget as budget_module

    engine, info = find_study(storage, home, study)
    budget_module.set_budget(engine, info.id, num_trials=trials, hours=hours, gpu_hours=gpu_hours)
    limits, taken = budget_module.read_budget(engine, info.id), budget_module.read_budget_use(engine, info.id)
    if as_json:
        return echo_json({"study": info.name, "budget": vars(limits), "spent": vars(taken)})
    click.echo(f"{info.name}: {format_budget(limits, taken)}")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--study", metavar="NAME", help="Of one study.  [default: all]")
@storage_options
def workers(as_json: bool, study: str | None, home: str, storage: str | None) -> None:
    """Show who works: host, process, device, trial and step of every worker."""
    from tuner.study import queries

    engine = open_engine(storage, home)
    infos = [queries.find_study(engine, study)] if study else queries.read_studies(engine)
    rows = [(info.name, worker) for info in infos for worker in queries.read_workers(engine, info)]
    if as_json:
        return echo_json([{"study": name, **vars(worker)} for name, worker in rows])
    if not rows:
        click.echo("nobody works now. Start workers with: tuner run")
    for name, worker in rows:
        click.echo(f"{name:<20} {format_worker(worker)}")


def format_worker(worker: WorkerInfo) -> str:
    """One worker in one line."""
    from tuner.study.format import format_params, format_value

    where = f"{worker.host}:{worker.pid}"
    memory = f"{worker.peak_memory / 2**30:.1f} GB" if worker.peak_memory else ""
    doing = worker.state
    if worker.number is not None:
        steps = f"epoch {worker.step}/{worker.steps}" if worker.state == "training" else worker.state
        doing = f"trial {worker.number} {steps} {format_value(worker.value)} {format_params(worker.params)}"
    return f"{where:<28} {worker.device:<20} {memory:>8}  {doing}".rstrip()


def format_budget(limits: Any, taken: Any) -> str:
    """'12 of 50 trials, 1.5 of 8 hours'."""
    parts = [f"{taken.num_trials} of {limits.num_trials or 'any number of'} trials begun"]
    if limits.hours is not None:
        parts.append(f"{taken.hours:.2f} of {limits.hours:g} hours")
    if limits.gpu_hours is not None:
        parts.append(f"{taken.gpu_hours:.2f} of {limits.gpu_hours:g} GPU-hours")
    return ", ".join(parts)


def find_study(storage: str | None, home: str, study: str | None) -> tuple[Engine, StudyInfo]:
    from tuner.study import queries

    engine = open_engine(storage, home)
    return engine, queries.find_study(engine, study)


def count_workers(number: int) -> str:
    return "1 worker is" if number == 1 else f"{number} workers are"
