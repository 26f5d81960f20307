"""Cost of pictures: their share of a trial's time, during training and at its end.

Real trials of a worker's own parts: trained with the strip's thread and without, in turns; then the end of
each, drawn and hung. Processor time is measured beside the clock, for a busy machine slows both down.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, Section, Setting, child, median, spread

TARGET_SHARE = 0.03
TRIALS = 64  # of a study: one in fourteen of them leads when it ends


def measure(setting: Setting) -> Section:
    config = {"rounds": setting.pick(3, 1), "k": setting.pick(32, 4), "size": setting.pick(128, 32), "epochs": 10}
    found = child("pictures", config)
    whole = median(found["with"])
    ending, training = median(found["end"]), median(found["painted"])
    share = (ending + training) / whole
    leading = sum(1 / place for place in range(1, TRIALS + 1)) / TRIALS  # in a random order
    mean = share + leading * median(found["explained"]) / whole
    cpu = (median(found["end_cpu"]) + training) / median(found["with_cpu"])
    rows = [
        Row("training with the strip, s", spread(found["with"]), spread(found["without"]), "", ""),
        Row("- of it drawing the strip, processor s", spread(found["painted"], 2), "", ""),
        Row("the end: answers, pictures, numbers, s", spread(found["end"], 2), "", ""),
        Row("- of it on the processor, s of all cores", spread(found["end_cpu"], 2), "", ""),
        Row(
            "pictures, of a trial's time",
            f"{share:.1%}",
            "",
            "",
            f"under {TARGET_SHARE:.0%}",
            share < TARGET_SHARE,
        ),
        Row("an explanation, of a trial that is the best when it ends, s", spread(found["explained"], 2), "", ""),
        Row(
            f"pictures with explanations, of the time of {TRIALS} such trials",
            f"{mean:.1%}",
            "",
            "",
            f"under {TARGET_SHARE:.0%}",
            mean < TARGET_SHARE,
        ),
        Row(
            "- the first in processor time of all cores",
            f"{cpu:.1%}",
            "",
            "",
            f"under {TARGET_SHARE:.0%}",
            cpu < TARGET_SHARE,
        ),
    ]
    reading = [
        f"U-Net of k = {config['k']}, {config['size']} px, 60 images, {config['epochs']} epochs, on the processor."
        " Longer trials bear the same end.",
    ]
    return Section("pictures", "What pictures cost", ("", "with pictures", "without"), rows, reading)


def main(config: dict[str, Any]) -> dict[str, Any]:
    import tempfile
    from dataclasses import replace

    import optuna
    import torch

    from tuner.artifacts.optuna_store import TrialArtifacts
    from tuner.data.cache import load_cached
    from tuner.data.synthetic.shapes import shapes
    from tuner.goal import maximize
    from tuner.paths import Home, Run
    from tuner.recipe import Recipe, use
    from tuner.search import trial_pictures
    from tuner.train import loop
    from tuner.train.memory import MicroBatches

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    source, size = shapes(), config["size"]
    recipe = Recipe(
        task="binary", data=use("shapes", image_size=size), augment=use("flip"), model=use("unet", k=config["k"]),
        loss=use("bce"), optimizer=use("adam", lr=3e-3), epochs=config["epochs"], batch_size=8, seed=1,
    )  # fmt: skip
    found: dict[str, list[float]] = {
        name: [] for name in ("with", "without", "with_cpu", "painted", "end", "end_cpu", "explained")
    }
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data = load_cached(replace(source, items=source.items[:60]), "sixty", size, folder / "cache")
        pictures = trial_pictures.TrialPictures(
            optuna.create_study().ask(),
            recipe,
            data,
            Run(folder / "run").make(),
            TrialArtifacts(Home(folder / "home").make()),
        )
        painter_seconds: list[float] = []
        paint = trial_pictures.write_strip

        def timed(*args: Any) -> None:
            began = time.thread_time()
            paint(*args)
            painter_seconds.append(time.thread_time() - began)

        for turn in range(2 * config["rounds"]):
            trial_pictures.write_strip = timed  # type: ignore[assignment]
            pictures.run.clear()
            pictures.run.make()
            strip_thread, shown = trial_pictures.StripThread(pictures), turn % 2 == 0
            painter_seconds.clear()
            began, began_cpu = time.perf_counter(), time.process_time()
            looking = Clocked(loop.load_best_examples)
            loop.load_best_examples = looking  # type: ignore[assignment]
            outcome = loop.train(
                recipe, maximize("iou"), data, pictures.run, device=torch.device("cpu"),
                micro_batches=MicroBatches(folder / "micro.json"), on_epoch=lambda report: None,
                on_frame=strip_thread.show if shown else lambda progress: None,
            )  # fmt: skip
            strip_thread.close()
            loop.load_best_examples = looking.inner
            found["with" if shown else "without"].append(time.perf_counter() - began)
            if shown:
                found["with_cpu"].append(time.process_time() - began_cpu)
                found["painted"].append(sum(painter_seconds))
                began, began_cpu = time.perf_counter(), time.process_time()
                trial_pictures.write_pictures(pictures, outcome, is_explained=False)
                found["end"].append(time.perf_counter() - began + looking.spent)
                found["end_cpu"].append(time.process_time() - began_cpu + looking.cpu)
                began = time.perf_counter()
                trial_pictures.write_explanation(pictures, outcome)
                found["explained"].append(time.perf_counter() - began)
    return found


class Clocked:
    """A function with the time spent in it."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.spent, self.cpu = inner, 0.0, 0.0

    def __call__(self, *args: Any) -> Any:
        began, began_cpu = time.perf_counter(), time.process_time()
        try:
            return self.inner(*args)
        finally:
            self.spent += time.perf_counter() - began
            self.cpu += time.process_time() - began_cpu


if __name__ == "__main__":
    import json
    import sys

    print(json.dumps(main(json.loads(sys.argv[1]))))
