"""A study that learns from earlier ones has a copy of their trials, and trains their best points once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from helpers.sessions import INFO, Bench, opened_bench
from optuna.trial import TrialState, create_trial

from tuner.errors import SpaceChanged, StudyError
from tuner.goal import Goal
from tuner.search.earlier_studies import collect_earlier
from tuner.search.samplers import TrialSampler, make_sampler
from tuner.space.grid import to_distribution
from tuner.space.search_settings import SearchSettings
from tuner.study import queries
from tuner.study.info import StudyInfo
from tuner.study.study import join_study, rejoin_study
from tuner.study.trial_list import FROM_STUDY, add_start_points

THERE: dict[str, dict[str, Any]] = {
    "lr": {"kind": "float", "low": 1e-5, "high": 1e-1, "log": True, "step": None},
    "k": {"kind": "int", "low": 8, "high": 64, "log": False, "step": 8},
    "loss": {"kind": "categorical", "choices": ["bce", "dice"]},
}
HERE = {**THERE, "lr": {**THERE["lr"], "low": 1e-4}, "k": {**THERE["k"], "kind": "float"}, "depth": THERE["k"]}
WARM = SearchSettings("early", "promote", warm_from=["horses"])
NEW = replace(INFO, name="cells", parameters=HERE, search=WARM)


def as_they_are(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return points


def make_earlier(url: str, number: int = 20) -> None:
    """A study that minimized a loss; its last trials are the best, and half of them were pruned."""
    info = replace(INFO, name="horses", goal=Goal("val_loss", "minimize"), parameters=THERE)
    with opened_bench(url, "horses", info) as bench:
        for at in range(number):
            loss, is_pruned = 1 - at / number, at < number / 2
            trial = create_trial(
                state=TrialState.PRUNED if is_pruned else TrialState.COMPLETE,
                value=None if is_pruned else loss,
                params={"lr": 10 ** (-5 + 4 * at / number), "k": 8, "loss": "dice"},
                distributions={name: to_distribution(kind) for name, kind in THERE.items()},
                intermediate_values={1: loss},
            )
            bench.joined.study.add_trial(trial)


def enqueued(bench: Bench) -> list[tuple[dict[str, Any], str]]:
    return [(t.system_attrs["fixed_params"], t.user_attrs.get(FROM_STUDY, "")) for t in bench.trials()]


def test_the_best_points_come_once_and_the_trials_stay_when_the_earlier_study_is_deleted(
    prepared_url: str,
) -> None:
    make_earlier(prepared_url)
    info = replace(NEW, earlier=collect_earlier(prepared_url, NEW, as_they_are))
    start = [{"lr": 0.05}, dict(info.earlier[0].first[1])]

    def type_it(_: int) -> int:
        joined = join_study(prepared_url, info)
        try:
            return add_start_points(joined, prepared_url, start)
        finally:
            joined.engine.dispose()

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(type_it, range(3))) == [0, 0, 4]
    with opened_bench(prepared_url, "cells", replace(info, earlier=())) as bench:  # as the command that resumes it
        bench.joined.storage.delete_study(bench.joined.storage.get_study_id_from_name("horses"))
        assert add_start_points(bench.joined, prepared_url, start) == 0
        (best, *_), (first, second, *others) = info.earlier[0].first, enqueued(bench)
        assert (first, second) == ((start[0], ""), (start[1], "")), "those of the space come first"
        assert others == [(best, "horses"), (info.earlier[0].first[2], "horses")]
        assert best == {"lr": pytest.approx(10**-1.2), "loss": "dice"}, "k is of another kind here"
        assert queries.read_learned(bench.engine, bench.joined.info) == ["horses: 20 trials, 3 points first"]
    joined = rejoin_study(prepared_url, "cells")
    sampler = make_sampler(joined.info, 0)
    joined.engine.dispose()
    assert isinstance(sampler, TrialSampler)
    (learned,) = sampler.sampler.earlier  # type: ignore[attr-defined]
    assert [params["lr"] for params in learned.trials] == pytest.approx(
        [10 ** (-1.2 - at / 5) for at in range(20)]
    )
    assert list(learned.scores) == sorted(learned.scores, reverse=True)


def refusal(url: str, *names: str, **changes: Any) -> str:
    info = replace(NEW, search=replace(WARM, warm_from=names), **changes)
    with pytest.raises(StudyError) as told:
        collect_earlier(url, info, as_they_are)
    return str(told.value)


def test_what_cannot_be_learned_from_is_told(prepared_url: str) -> None:
    make_earlier(prepared_url, number=0)
    assert refusal(prepared_url, "horses") == (
        "warm-from horses: no trial has ended there yet, so there is nothing to learn."
    )
    said = refusal(
        prepared_url, "horsez", "horses", parameters={"k": HERE["k"], "loss": {**THERE["loss"], "choices": ["ce"]}}
    )
    assert "there is no study 'horsez'. Did you mean 'horses'? The database has: horses" in said
    assert "'horses' has no parameter of the same name and kind. It has: lr, k, loss; the space: k, loss" in said


def test_what_a_study_learns_from_stays(prepared_url: str) -> None:
    make_earlier(prepared_url)
    with opened_bench(prepared_url, "cells", replace(NEW, search=SearchSettings("early", "promote"))):
        pass
    with pytest.raises(SpaceChanged, match="warm from: from none to horses"):
        join_study(prepared_url, NEW)


def test_a_study_without_earlier_ones_is_stored_as_earlier_versions_read_it(prepared_url: str) -> None:
    with opened_bench(prepared_url, "plain") as bench:
        stored = bench.joined.study.user_attrs["tuner"]
        assert not {"earlier", "warm_from", "prior"} & {*stored, *stored["search"]}
        assert StudyInfo.from_json(1, "plain", stored).earlier == ()
