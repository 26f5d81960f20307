"""What to try next: each piece of advice from numbers that call for it, and none from numbers that do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tuner.goal import maximize
from tuner.report.advice import Advice, describe_no_advice, give_advice, widen_range
from tuner.report.certainty import Certainty, SeedGroup
from tuner.report.importance import Importances
from tuner.report.study_data import StudyData, TrialData
from tuner.report.variance import Share
from tuner.study.info import StudyInfo, StudyKind
from tuner.wording import repeat_options

KINDS: dict[str, dict[str, Any]] = {
    "lr": {"kind": "float", "log": True, "step": None, "low": 1e-5, "high": 1e-2},
    "k": {"kind": "int", "log": False, "step": 2, "low": 8, "high": 64},
    "loss": {"kind": "categorical", "choices": ["bce", "dice"]},
}
INSIDE = {"lr": 1e-3, "k": 32, "loss": "bce"}


def trial(number: int, state: str = "COMPLETE", best: int = 2, **more: Any) -> TrialData:
    losses = more.pop("losses", [0.5, 0.4, 0.3, 0.2])
    train = [1.0, 0.8, 0.6, 0.4]
    rows = [
        {"epoch": e, "seconds": 1.0, "val_iou": 0.5, "val_loss": v, "train_loss": t}
        for e, (v, t) in enumerate(zip(losses, train, strict=True), start=1)
    ]
    notes = {"result": {"best_epoch": best}, "recipe": {"epochs": 4}} | more.pop("notes", {})
    return TrialData(
        number,
        state,
        0.5 - number / 1000 if state == "COMPLETE" else None,
        INSIDE | more,
        notes,
        epochs=tuple(rows),
    )


def given(
    *trials: TrialData, sure: Certainty | None = None, shares: tuple[Share, ...] = (), **info: Any
) -> list[Advice]:
    plain: dict[str, Any] = {"rehearsal": False, "data": "my shapes"} | info
    about = StudyInfo("the study", "unet_k", maximize("iou"), seed=0, parameters=KINDS, **plain)
    source = {"table": about.table} if about.table else {"space": "unet_k"}
    with repeat_options(home="h"):
        return give_advice(StudyData(about, None, trials, KINDS, source=source), sure, Importances(shares))


ENOUGH = [trial(number) for number in range(40)]


def test_a_search_that_covered_its_space_calls_for_nothing() -> None:
    assert given(*ENOUGH) == []


def test_a_best_value_at_the_end_of_its_range_calls_for_a_wider_one() -> None:
    (up,) = given(trial(0, lr=9e-3), *ENOUGH[1:])
    assert up.what == "Widen lr to 1e-05 to 0.03"
    assert up.command == 'trial.suggest_float("lr", 1e-05, 0.03, log=True)'
    (down,) = given(trial(0, k=8), *ENOUGH[1:])
    assert down.command == 'trial.suggest_int("k", 4, 64, step=2)'
    assert given(trial(0, k=8), *ENOUGH[1:], kind=StudyKind.TABLE, subject="t") == []


@pytest.mark.parametrize(
    ("kind", "value", "wider"),
    [
        ({"kind": "float", "low": 0.0, "high": 1.0}, 0.5, None),
        ({"kind": "float", "low": 0.0, "high": 1.0}, 1.0, (0.0, 1.5)),
        ({"kind": "float", "low": 0.0, "high": 1.0}, 0.0, (-0.5, 1.0)),
        ({"kind": "float", "low": 1e-4, "high": 1e-2, "log": True}, 1e-4, (3.33e-05, 1e-2)),
        ({"kind": "int", "low": 1, "high": 8}, 1, None),
        ({"kind": "int", "low": 2, "high": 2}, 2, None),
    ],
)
def test_ranges_are_widened_where_the_value_lies(kind: dict[str, Any], value: float, wider: Any) -> None:
    assert widen_range(kind, value) == wider


def test_a_best_epoch_that_is_the_last_calls_for_more() -> None:
    (longer,) = given(trial(0, best=4), *ENOUGH[1:])
    assert longer.command == "tuner extend --trial 0 --epochs 8 --study 'the study' --home h"


def test_a_validation_loss_that_rises_while_training_falls_is_overfitting() -> None:
    (held,) = given(trial(0, losses=[0.5, 0.3, 0.4, 0.5]), *ENOUGH[1:])
    assert "overfits" in held.why and "(epoch 2) to 0.5" in held.why


def test_a_training_loss_that_rises_with_the_validation_loss_is_no_overfitting() -> None:
    plain = trial(0, losses=[0.2, 0.3, 0.4, 0.5])
    rows = [row | {"train_loss": loss} for row, loss in zip(plain.epochs, [0.4, 0.6, 0.6, 0.5], strict=True)]
    assert given(replace(plain, epochs=tuple(rows)), *ENOUGH[1:]) == []


def test_nothing_is_said_of_a_range_whose_best_lies_at_an_end() -> None:
    about = StudyInfo("s", "s", maximize("iou"), "shapes")
    for low, best, is_inside in ((1, 1, False), (1, 4, True), (8, 8, False)):
        kinds = {"k": {"kind": "int", "low": low, "high": 8}}
        best_one = TrialData(0, "COMPLETE", 0.5, {"k": best}, {})
        says = describe_no_advice(StudyData(about, None, (best_one,), kinds))
        assert ("well inside" in says) == is_inside, (low, best)


def test_too_few_trials_call_for_more_and_the_command_goes_on_with_the_study() -> None:
    more, whole = given(*ENOUGH[:5], shrink=8)
    assert (
        more.command
        == "tuner run --space unet_k --data 'my shapes' --shrink 8 --trials 30 --study 'the study' --home h"
    )
    assert whole.command == "tuner run --space unet_k --data 'my shapes' --home h" and "1/8" in whole.why


def test_failures_of_a_kind_come_first() -> None:
    failed = [trial(50 + at, "FAIL", notes={"failure": "CUDA out of memory"}) for at in range(8)]
    first, *_ = given(*ENOUGH, *failed)
    assert "8 of 48 trials failed: out of memory (trial 50" in first.why and "image_size" in first.what
    assert given(*ENOUGH, failed[0]) == []


def test_near_equals_and_trials_that_were_never_repeated_are_confirmed() -> None:
    sure = Certainty(0, 0.5, tied=(1, 2, 3))
    (again,) = given(*ENOUGH, sure=sure)
    assert again.command == "tuner confirm --study 'the study' --home h" and "told apart" in again.why
    (unknown,) = given(*ENOUGH, sure=Certainty(0, 0.5))
    assert unknown.command == again.command and "trained twice" in unknown.why
    assert given(*ENOUGH, sure=Certainty(0, 0.5, is_only=True)) == []
    (rows,) = given(*ENOUGH, sure=sure, kind=StudyKind.TABLE, subject="t")
    assert rows.command == "tuner run --table t --seeds 3 --home h"
    assert given(*ENOUGH, sure=sure, kind=StudyKind.EXTENSION, subject="t") == []


def test_repeats_of_the_best_are_no_rivals_to_confirm() -> None:
    runs = SeedGroup(INSIDE, (0, 1), 0.5, 0.01, False)
    assert given(*ENOUGH, sure=Certainty(0, 0.5, tied=(1,), seeds=(runs,), runs=runs)) == []
    (again,) = given(*ENOUGH, sure=Certainty(0, 0.5, tied=(1, 2), seeds=(runs,), runs=runs))
    assert again.why == "the best trials cannot be told apart"


def test_what_surely_does_not_matter_is_fixed() -> None:
    lr = Share("lr", 0.9, 0.8, 0.95, 0.9, True)
    loss, k = Share("loss", 0.0, 0.0, 0.06, 0.0, False), Share("k", 0.0, 0.0, 0.2, 0.0, False)
    (fix,) = given(*ENOUGH, shares=(lr, loss, k))
    assert fix.what == "Fix loss at bce and search less" and fix.command == "loss = 'bce'"
    assert fix.why == "beyond lr, it explains at most 6% of the differences between the trials (95 %)"
    assert given(*ENOUGH, shares=(lr, loss), kind=StudyKind.TABLE, subject="t") == []


def test_a_space_without_parameters_calls_for_no_more_trials() -> None:
    about = StudyInfo("s", "s", maximize("iou"), "shapes", seed=0)
    repeats = tuple(TrialData(at, "COMPLETE", 0.3, {}, {}) for at in range(4))
    assert give_advice(StudyData(about, None, repeats), None, Importances()) == []
    one = {"lr": KINDS["lr"]}
    drawn = tuple(TrialData(at, "COMPLETE", 0.3, {"lr": 1e-3}, {}) for at in range(4))
    (more,) = give_advice(StudyData(about, None, drawn, one), None, Importances())
    assert more.why == "only 4 trials for 1 parameter"


@pytest.mark.parametrize(
    ("trials", "info", "command"),
    [
        ([], {}, "tuner run --space unet_k --data 'my shapes' --study 'the study' --home h"),
        ([], {"kind": StudyKind.TABLE, "subject": "t"}, "tuner run --table t --home h"),
        ([trial(0, "RUNNING")], {}, "tuner status --study 'the study' --home h"),
        ([trial(0, "WAITING")], {}, "tuner run --space unet_k --data 'my shapes' --study 'the study' --home h"),
        ([trial(0, "FAIL")], {}, "tuner run --space unet_k --rehearse --home h"),
    ],
)
def test_a_study_with_nothing_finished_is_told_how_to_get_there(
    trials: list[TrialData], info: dict[str, Any], command: str
) -> None:
    assert given(*trials, **info)[-1].command == command


def test_a_rehearsal_is_followed_by_the_real_thing() -> None:
    assert given(*ENOUGH, rehearsal=True)[0].command == "tuner run --space unet_k --home h"
