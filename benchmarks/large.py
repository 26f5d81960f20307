"""Scaling from 100 to 5000 trials: sampling, status, best, dashboard."""

from __future__ import annotations

import gzip
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, Row, Section, Setting, child, in_turns, median, seconds, spread
from benchmarks.server import Server, postgres

ASK_TARGET, LOOK_TARGET = 2.0, 1.5
SPACE = """\
from tuner import Recipe, maximize, search, use

GOAL = maximize("iou")
SEARCH = search(pruning="stop")


def suggest(trial):
    return Recipe(
        task="binary", data=use("shapes", image_size=32), model=use("unet", k=trial.suggest_int("k", 4, 64)),
        loss=use(trial.suggest_categorical("loss", ["bce", "dice"])),
        optimizer=use("adam", lr=trial.suggest_float("lr", 1e-5, 1e-1, log=True)), augment=use("flip"),
        batch_size=trial.suggest_int("batch_size", 4, 32), epochs=trial.suggest_int("epochs", 20, 40),
    )
"""


def measure(setting: Setting) -> Section:
    few, many = 100, setting.pick(5000, 400)
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(dir=setting.folder) as folder,
        postgres(Path(folder) / "pg") as server,
    ):
        urls = {number: server.fresh() for number in (few, many)}
        for number, url in urls.items():
            child("large", {"do": "fill", "url": url, "trials": number, "folder": folder})
        rows += [*asks(setting, urls), *looks(setting, urls, Path(folder))]
        rows += pages(server, few, setting.pick(10_000, 400), folder)
    rows += searches(setting)
    reading = [
        f"Studies on PostgreSQL of {few} and of {many} finished trials of 5 parameters, three of five pruned, the "
        "others of 20 epochs.",
        "Ask plus tell: the time until a worker has a trial with parameters sampled by TPE, plus the time "
        "until its value is stored. A worker reads the whole study once, for its first trial.",
        "`status` and `best` are whole processes. The dashboard asks for the whole study each time it is opened, "
        "and every few seconds for what is new; its trials have a note of 1.2 kB and two pictures each.",
        "The last rows: above 250 trials, the sampler's history is limited to 300. Best value found (0 is "
        "optimal) for a function with one maximum and one with many; mean and deviation over the seeds.",
    ]
    head = ("", f"{many} trials", f"{few} trials")
    return Section("large", f"A study of {many} trials", head, rows, reading)


def asks(setting: Setting, urls: dict[int, str]) -> Iterator[Row]:
    """Measure ask plus tell at both sizes, with tuner and with Optuna alone."""
    times: dict[str, dict[int, list[float]]] = {"session": {}, "bare": {}}
    first: dict[int, list[float]] = {}
    for _ in range(setting.pick(4, 1)):  # in turns: a busy minute falls on both sizes
        for number, url in urls.items():
            for way in times:
                answer = child("large", {"do": way, "url": url, "times": setting.pick(15, 5)})
                times[way].setdefault(number, []).extend(answer["times"])
                if way == "session":
                    first.setdefault(number, []).append(answer["first"])
    few, many = urls
    for way, what in (("session", "ask plus tell, ms"), ("bare", "the same, Optuna alone, ms")):
        ratio = median(times[way][many]) / median(times[way][few])
        target = (f"at most {ASK_TARGET:g}", ratio <= ASK_TARGET) if way == "session" else ("", None)
        yield Row(what, shown(times[way][many]), shown(times[way][few]), f"{ratio:.2f}", *target)
    yield Row("a worker's first trial, s", spread(first[many], 2), spread(first[few], 2))


def looks(setting: Setting, urls: dict[int, str], home: Path) -> Iterator[Row]:
    """Measure the commands status and best as whole processes."""
    few, many = urls
    for name in ("status", "best"):
        ways = {
            str(number): lambda url=url, name=name: seconds(
                lambda: tuner(name, "--storage", url, "--home", str(home))
            )
            for number, url in urls.items()
        }
        in_turns(1, **ways)
        times = in_turns(setting.pick(11, 2), **ways)
        ratio = median(times[str(many)]) / median(times[str(few)])
        yield Row(
            f"tuner {name}, ms", shown(times[str(many)]), shown(times[str(few)]), f"{ratio:.2f}",
            f"at most {LOOK_TARGET:g}", ratio <= LOOK_TARGET,
        )  # fmt: skip


def tuner(*args: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "tuner.cli", *args], cwd=ROOT, env=clean(), check=True, stdout=subprocess.DEVNULL
    )


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "TUNER_STORAGE"}


def pages(server: Server, few: int, many: int, folder: str) -> Iterator[Row]:
    """Measure the dashboard's requests for trials with notes and pictures, as a search writes them."""
    times = {}
    for number in (few, many):
        url = server.fresh()
        child("large", {"do": "fill", "url": url, "trials": number, "folder": folder, "notes": True})
        times[number] = loads(url)
    for what in times[few]:
        ours, other = (f"{times[number][what]:.2f}" for number in (many, few))
        yield Row(f"dashboard, {what}, s ({many} trials)", ours, other)


def loads(url: str) -> dict[str, float]:
    with dashboard(url) as address:
        times = {"list of studies": seconds(lambda: fetch(f"{address}/api/studies"))}
        study = json.loads(fetch(f"{address}/api/studies"))["study_summaries"][0]["study_id"]
        page = f"{address}/api/studies/{study}?after="
        times["first load of the study"] = seconds(lambda: fetch(f"{page}0"))
        times["second load"] = seconds(lambda: fetch(f"{page}0"))
        ended = len(json.loads(fetch(f"{page}0"))["trials"])
        times["what the open page asks for every few seconds"] = seconds(lambda: fetch(f"{page}{ended}"))
        child("large", {"do": "bare", "url": url, "times": 1})
        times["the same after trials ended"] = seconds(lambda: fetch(f"{page}{ended}"))
        times["a load after trials ended"] = seconds(lambda: fetch(f"{page}0"))
    return times


@contextmanager
def dashboard(url: str) -> Iterator[str]:
    """Run a dashboard and yield its address."""
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryFile("w+") as told:
        command = [sys.executable, "-m", "tuner.cli", "dashboard", "--storage", url, "--home", home, "--port", "0"]
        process = subprocess.Popen(command, cwd=ROOT, env=clean(), stdout=told, stderr=subprocess.STDOUT)
        try:
            yield wait_for(told, process).removesuffix("/dashboard/")
        finally:
            process.terminate()
            process.wait()


def wait_for(told: Any, process: subprocess.Popen[bytes]) -> str:
    """Read the address from the dashboard's output."""
    while process.poll() is None:
        told.seek(0)
        found = [word for word in told.read().split() if word.startswith("http://127")]
        if found:
            return str(found[0])
        time.sleep(0.1)
    told.seek(0)
    raise RuntimeError(told.read())


def fetch(address: str) -> bytes:
    """Request a page as a browser does, with compression."""
    asked = urllib.request.Request(address, headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(asked) as answer:
        body: bytes = answer.read()
        return gzip.decompress(body) if answer.headers["Content-Encoding"] else body


def searches(setting: Setting) -> Iterator[Row]:
    """Compare the sampler with a limited history and with the whole history."""
    number, seeds = setting.pick(800, 300), setting.pick(10, 2)
    for name in HILLS:
        found = child("large", {"do": "search", "hills": name, "trials": number, "seeds": seeds})
        few, everything = (f"{statistics.mean(v):.3f} ± {statistics.stdev(v):.3f}" for v in found.values())
        what = f"best of {number} trials, {name}, {seeds} seeds"
        yield Row(what, f"shown at most 300: {few}", f"shown all: {everything}")


def one_hill(params: dict[str, float]) -> float:
    return sum((value - 1.3) ** 2 for value in params.values())


def many_hills(params: dict[str, float]) -> float:
    return sum((value - 1.3) ** 2 / 10 + 1 - math.cos(2 * (value - 1.3)) for value in params.values())


HILLS: dict[str, Callable[[dict[str, float]], float]] = {"one hill": one_hill, "many hills": many_hills}


def shown(times: list[float]) -> str:
    return spread([time * 1000 for time in times], 1)


# Processes of their own


def main(config: dict[str, Any]) -> dict[str, Any]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return {"fill": do_fill, "session": do_session, "bare": do_bare, "search": do_search}[config["do"]](config)


def do_fill(config: dict[str, Any]) -> dict[str, Any]:
    from benchmarks.studies import annotate, fill, open_study

    space = Path(config["folder"]) / "five.py"
    space.write_text(SPACE)
    joined = open_study(config["url"], space, "five")
    fill(joined, config["trials"], 20, whole=False)
    if config.get("notes"):
        annotate(joined)
    with joined.engine.connect() as db:
        db.exec_driver_sql("ANALYZE")  # as the server does by itself within a minute
        db.commit()
    joined.engine.dispose()
    return {}


def do_session(config: dict[str, Any]) -> dict[str, Any]:
    """Measure ask and tell as a worker does."""
    from benchmarks.sleeping import quality, who
    from tuner.search.samplers import make_sampler
    from tuner.search.sampling import redraw
    from tuner.search.session import Session
    from tuner.study.study import rejoin_study

    joined = rejoin_study(config["url"], "five")
    kinds = distributions(joined.info.parameters)

    def suggest(trial: Any) -> dict[str, Any]:
        return {name: trial._suggest(name, kind) for name, kind in kinds.items()}

    with Session(joined, who(0)) as session:
        joined.study.sampler = make_sampler(joined.info, session.ordinal)

        def once() -> None:
            held = session.take_trial()
            assert held
            params = redraw(joined.study, session.optuna_trial(held), suggest)
            session.end_trial(held, "COMPLETE", quality(params))
            while session.storage.unwritten:
                time.sleep(0.0005)

        first = seconds(once)
        once()
        times = [seconds(once) for _ in range(config["times"])]
    joined.engine.dispose()
    return {"first": first, "times": times}


def do_bare(config: dict[str, Any]) -> dict[str, Any]:
    """Measure `Study.ask` and `Study.tell`."""
    import optuna

    storage = optuna.storages.get_storage(optuna.storages.RDBStorage(config["url"]))
    study = optuna.load_study(study_name="five", storage=storage, sampler=optuna.samplers.TPESampler(seed=0))
    kinds = distributions(study.user_attrs["tuner"]["parameters"])

    def once() -> None:
        trial = study.ask(kinds)
        study.tell(trial, trial.params["k"] / 100)

    first = seconds(once)
    once()
    return {"first": first, "times": [seconds(once) for _ in range(config["times"])]}


def distributions(parameters: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A plan's parameters as Optuna has them."""
    from optuna.distributions import json_to_distribution

    names = {"float": "FloatDistribution", "int": "IntDistribution", "categorical": "CategoricalDistribution"}
    return {
        name: json_to_distribution(
            json.dumps({"name": names[kind["kind"]], "attributes": {k: v for k, v in kind.items() if k != "kind"}})
        )
        for name, kind in parameters.items()
    }


def do_search(config: dict[str, Any]) -> dict[str, list[float]]:
    """Return the best value for each seed, with a limited and with the whole history."""
    from tuner.search import sampling

    found: dict[str, list[float]] = {"few": [], "all": []}
    most = sampling.NUM_OTHERS
    for seed in range(config["seeds"]):
        for way, others in (("few", most), ("all", 1 << 30)):
            sampling.NUM_OTHERS = others
            found[way].append(search(HILLS[config["hills"]], seed, config["trials"]))
    return found


def search(hills: Callable[[dict[str, float]], float], seed: int, number: int) -> float:
    """Return the best true value; the reported values are noisy."""
    import optuna

    from tuner.search.sampling import SubsetTPESampler

    noise = random.Random(seed)
    study = optuna.create_study(sampler=SubsetTPESampler(seed, is_maximized=False))
    kinds: dict[str, optuna.distributions.BaseDistribution] = {
        f"x{at}": optuna.distributions.FloatDistribution(-5, 5) for at in range(5)
    }
    heights = []
    for _ in range(number):
        trial = study.ask(kinds)
        heights.append(hills(trial.params))
        study.tell(trial, heights[-1] + noise.gauss(0, 0.05))
    return min(heights)


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
