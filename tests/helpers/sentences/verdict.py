"""Sentences on what a trial does not find."""

from __future__ import annotations

from typing import Any

from helpers.planted_studies import PlantedStudy, plant, run
from helpers.sentences import Sentence


def missing(
    *names: str, classes: int = 12, low: dict[str, float] | None = None, value: float = 0.5
) -> PlantedStudy:
    missed: dict[str, Any] = {"names": list(names), "classes": classes, "low": low or {}}
    return plant(run(value, result={"missed": missed}))


FOUND = missing()
NOTHING, NEXT_TO_NOTHING = plant(run(0.0)), plant(run(0.0006))
NO_OBJECT, HARDLY_AN_OBJECT = missing("object", classes=2), missing(classes=2, low={"object": 0.004})
ONE, TWO = missing("sky"), missing("sky", "road")
ONE_LOW, TWO_LOW = missing(low={"sky": 0.004}), missing(low={"sky": 0.004, "road": 0.002})
HALF = missing("sky", "road", classes=4)
MORE_EPOCHS = "for more epochs, with other learning rates and losses; check the data"

VERDICT = (
    Sentence("it finds {}", NOTHING, FOUND, "it finds nothing yet (iou 0)"),
    Sentence("{}nothing yet ({} {})", NEXT_TO_NOTHING, NO_OBJECT, "it finds next to nothing yet (iou 0.0006)",
             shown="nothing yet (iou {})"),
    Sentence("{}nothing yet ({} {})", NOTHING, HARDLY_AN_OBJECT, shown="nothing yet (iou {})"),
    Sentence("next to nothing yet (IoU {})", HARDLY_AN_OBJECT, NO_OBJECT, "next to nothing yet (IoU 0.004)"),
    Sentence("it finds {}", NO_OBJECT, ONE, "it finds nothing yet."),
    Sentence("this class is {} found: {}", ONE, TWO, "his class is never found: sky",
             shown="his class is {} found"),
    Sentence("this class is {} found: {}", ONE_LOW, FOUND, "his class is hardly found: sky (IoU 0.004)",
             shown="his class is {} found"),
    Sentence("these classes are {} found: {} ({} of {})", TWO, ONE, "hese classes are never found: sky",
             shown="hese classes are {} found: {} (2 of 12)"),
    Sentence("these classes are {} found: {} ({} of {})", TWO_LOW, NOTHING, "hese classes are hardly found: sky",
             shown="hese classes are {} found: {} (2 of 12)"),
    Sentence(MORE_EPOCHS, NOTHING, ONE),
    Sentence("for more epochs, and try weights='frequency'", ONE, NOTHING),
    Sentence("for more epochs, and try weights='frequency'", ONE_LOW, FOUND),
    Sentence("Do not ship trial {} yet: {}.", NOTHING, FOUND, "Do not ship trial 0 yet: it finds nothing yet"),
    Sentence("Do not ship trial {} yet: {}.", HALF, TWO, "Do not ship trial 0 yet: these classes are never"),
    Sentence("Ship trial {}.{}", ONE, HALF, "Ship trial 0. This class is never found: sky."),
)  # fmt: skip
