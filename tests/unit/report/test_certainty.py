"""How sure: planted cases, and what is said of studies whose truth is known because it was drawn here."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tuner.goal import maximize, minimize
from tuner.report.certainty import (
    Certainty,
    assess_certainty,
    count_contenders,
    describe_certainty,
    describe_rivals,
    expected_maximum,
    format_share,
    group_by_params,
)
from tuner.report.resampling import (
    BY_LIKENESS,
    BY_NAME,
    BY_ORDER,
    ImageGroups,
    choose_groups,
    predict_interval,
    share_ahead,
)
from tuner.report.sections import describe_luck
from tuner.report.study_data import StudyData, TrialData
from tuner.study.info import StudyInfo


def trial(number: int, value: float | None, params: dict[str, Any] | None = None, **more: Any) -> TrialData:
    seconds, curve = more.pop("seconds", 10.0), more.pop("curve", [value])
    epochs = tuple({"epoch": e, "seconds": seconds / len(curve), "val_iou": v} for e, v in enumerate(curve, 1))
    notes = {"result": {"best_epoch": 1, **more}}
    return TrialData(number, "COMPLETE", value, params or {"lr": number}, notes, epochs=epochs)


def story(*trials: TrialData, goal: Any = None) -> StudyData:
    info = StudyInfo("s", "s", goal or maximize("iou"), "shapes")
    return StudyData(info, None, trials)


def scored(scores: np.ndarray, metric: str = "image_iou") -> dict[str, Any]:
    return {"metric": metric, "images": {"scores": scores.tolist(), "groups": {}}}


def single(number: int) -> ImageGroups:
    return ImageGroups(tuple(range(number)))


def sure(found: Certainty | None) -> Certainty:
    assert found is not None
    return found


def test_many_images_take_no_more_memory_and_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn one by one, 40,000 images would take gigabytes."""
    rng = np.random.default_rng(7)
    scores, others = rng.uniform(0.2, 0.9, 1500), rng.uniform(0.2, 0.9, 1500)
    one_by_one = (
        predict_interval(list(scores), single(1500)),
        share_ahead(list(scores), list(others), single(1500)),
    )
    monkeypatch.setattr("tuner.report.resampling.MOST_DRAWN", 100)
    assert predict_interval(list(scores), single(1500)) == pytest.approx(one_by_one[0], abs=0.002)
    assert share_ahead(list(scores), list(others), single(1500)) == pytest.approx(one_by_one[1], abs=0.03)
    assert share_ahead(list(scores), list(scores), single(1500)) == 0.5
    monkeypatch.setattr("tuner.report.resampling.bootstrap_counts", lambda number: pytest.fail("drawn one by one"))
    low, high = predict_interval([0.25, 0.75] * 20_000, single(40_000))
    assert low == pytest.approx(0.5 - 1.96 * 0.25 / 200 * math.sqrt(2), abs=2e-4) and low < 0.5 < high


def test_two_equal_trials_cannot_be_told_apart_and_the_cheaper_is_shipped() -> None:
    rng = np.random.default_rng(7)
    hard = rng.uniform(0.4, 0.9, 60)
    details = {0: scored(hard + rng.normal(0, 0.02, 60)), 1: scored(hard + rng.normal(0, 0.02, 60))}
    found = sure(assess_certainty(story(trial(0, 0.70, seconds=100), trial(1, 0.699, seconds=20)), details))
    assert (found.best, found.tied, found.cheaper, found.ship) == (0, (1,), 1, 1)
    words = " ".join(describe_certainty(found))
    assert "trial 0 cannot be told apart from trial 1" in words and "Ship" not in words
    assert "prefer the cheaper one, trial 1" in words
    assert "validation images trial 0's mean image_iou is" in words  # not that of the one to ship


def test_a_mean_of_means_is_called_a_mean() -> None:
    rng = np.random.default_rng(7)
    hard = rng.uniform(0.4, 0.9, 60)
    details = {0: scored(hard, "mean IoU")}
    assert "its mean IoU is" in " ".join(describe_certainty(sure(assess_certainty(story(trial(0, 0.7)), details))))


def test_a_clearly_better_trial_is_ahead_though_images_differ_far_more_than_trials() -> None:
    rng = np.random.default_rng(7)
    hard = rng.uniform(0.1, 0.9, 60)
    details = {0: scored(hard + 0.05 + rng.normal(0, 0.02, 60)), 1: scored(hard + rng.normal(0, 0.02, 60))}
    found = sure(assess_certainty(story(trial(0, 0.75), trial(1, 0.7, seconds=1)), details))
    assert found.tied == () and found.ship == 0 and found.rivals[0].ahead > 0.99 and found.rivals[0].by_images
    assert "over 99%" in " ".join(describe_certainty(found))


def test_the_interval_holds_the_mean_of_other_images_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(300):
        low, high = predict_interval(rng.beta(4, 2, 40).tolist(), single(40))
        held += low <= rng.beta(4, 2, 40).mean() <= high
    assert 0.92 <= held / 300 <= 0.99


def draw_groups(rng: np.random.Generator, number: int, size: int) -> tuple[np.ndarray, list[int]]:
    """Scores of images in groups of about `size`: three quarters of the variance lie between groups."""
    labels = np.repeat(np.arange(number), rng.integers(1, 2 * size, number))
    return 0.6 + 0.1 * rng.normal(size=number)[labels] + 0.06 * rng.normal(size=len(labels)), labels.tolist()


@pytest.mark.parametrize("found_by", ["names", "likeness"])
def test_the_interval_holds_the_mean_of_other_groups_as_often_as_it_says(found_by: str) -> None:
    """As if the images were independent, it holds it in about half of the cases."""
    rng, held, held_alone, judged = np.random.default_rng(3), 0, 0, 0
    for _ in range(300):
        (scores, labels), (test, _) = draw_groups(rng, 24, 6), draw_groups(rng, 24, 6)
        groups = choose_groups(scores.tolist(), {found_by: labels})
        assert groups.count == 24
        if groups.are_few:
            continue
        judged += 1
        low, high = predict_interval(scores.tolist(), groups)
        held += low <= test.mean() <= high
        alone = 1.96 * scores.std() * math.sqrt(2 / len(scores))
        held_alone += abs(scores.mean() - test.mean()) <= alone
    assert judged > 250 and held / judged >= 0.93 and held_alone / judged < 0.75


def test_a_film_is_found_by_the_order_of_its_scores_and_independent_images_are_left_alone() -> None:
    rng = np.random.default_rng(4)
    walk = np.cumsum(rng.normal(0, 0.02, 200)) + 0.5
    assert choose_groups(walk.tolist(), {}).found_by == BY_ORDER
    alone = [choose_groups(rng.uniform(size=60).tolist(), {}).found_by for _ in range(40)]
    assert alone.count("") >= 38


def test_few_groups_of_names_count_only_if_their_scores_differ() -> None:
    rng, labels = np.random.default_rng(5), [at % 2 for at in range(60)]
    same = rng.uniform(0.4, 0.8, 60)
    assert choose_groups(same.tolist(), {"names": labels}).found_by == ""
    apart = same + 0.3 * np.array(labels)
    found = choose_groups(apart.tolist(), {"names": labels})
    assert found.found_by == BY_NAME and found.are_few
    assert choose_groups(same.tolist(), {"names": [at // 3 for at in range(60)]}).count == 20


def test_images_of_one_film_say_nothing_of_others() -> None:
    """Frames in which the scores hardly differ gave an interval of 0.002, far from the test images."""
    rng = np.random.default_rng(7)
    details = {at: scored(0.178 + 0.01 * rng.normal(size=60)) for at in range(2)}
    for one in details.values():
        one["images"]["groups"] = {"likeness": [0] * 60}
    found = sure(assess_certainty(story(trial(0, 0.2), trial(1, 0.1)), details))
    assert found.interval is None and found.rivals == () and found.groups and found.groups.found_by == BY_LIKENESS
    (few,) = [line for line in found.missing if "group" in line]
    assert few.startswith("the validation images form 1 group by their likeness, too few to say")
    words = " ".join(describe_certainty(found))
    assert "On 60 validation images its mean image_iou is 0.1" in words and "95 %" not in words


def test_groups_are_named_in_the_sentence_of_their_interval() -> None:
    scores, labels = draw_groups(np.random.default_rng(6), 30, 4)
    details = {0: scored(scores)}
    details[0]["images"]["groups"] = {"names": labels}
    words = " ".join(describe_certainty(sure(assess_certainty(story(trial(0, 0.7)), details))))
    assert f"On {len(scores)} validation images in 30 groups, by their names, its mean image_iou is 0." in words
    assert "; on as many other groups like them it would lie between 0." in words


def test_records_without_groups_say_that_images_count_as_independent() -> None:
    rng = np.random.default_rng(7)
    details = {0: scored(rng.uniform(0.4, 0.9, 40))}
    found = sure(assess_certainty(story(trial(0, 0.7)), details))
    assert not any("belong together" in line for line in found.missing)
    assert "; on as many others like them it would lie between 0." in " ".join(describe_certainty(found))
    del details[0]["images"]["groups"]
    found = sure(assess_certainty(story(trial(0, 0.7)), details))
    assert any("belong together was not recorded" in line for line in found.missing)


@pytest.mark.parametrize("number", [10, 40])
def test_equal_trials_are_called_different_about_as_rarely_as_is_said(number: int) -> None:
    """In 10 % of the cases, by both ends; by the plain draws of ten images in 14.6 %."""
    rng, apart = np.random.default_rng(11), 0
    for _ in range(1000):
        both = rng.normal(0.6, 0.1, (2, number))
        part = share_ahead(both[0].tolist(), both[1].tolist(), single(number))
        apart += part > 0.95 or part < 0.05
    assert 0.07 < apart / 1000 < 0.13


def test_equal_trials_are_called_different_as_rarely_where_images_form_few_groups() -> None:
    rng, apart, judged = np.random.default_rng(12), 0, 0
    while judged < 600:
        scores, labels = draw_groups(rng, 16, 6)
        groups = ImageGroups(tuple(labels))
        if not groups.are_few:
            judged += 1
            part = share_ahead(scores.tolist(), [0.6] * len(labels), groups)
            apart += part > 0.95 or part < 0.05
    assert 0.065 < apart / judged < 0.135


def test_the_same_scores_are_a_draw_and_of_errors_less_is_better() -> None:
    some = [0.1, 0.5, 0.9, 0.3]
    assert share_ahead(some, some, single(4)) == 0.5
    less, more = [0.1] * 4, [0.2] * 4
    assert share_ahead(less, more, single(4), maximizes=False) == 1.0 and share_ahead(less, more, single(4)) == 0.0
    assert format_share(1.0) == "over 99%" and format_share(0.0) == "under 1%" and format_share(0.5) == "50%"


def test_the_expected_best_of_many_is_what_drawing_gives() -> None:
    rng = np.random.default_rng(7)
    for number in (2, 10, 50):
        drawn = rng.normal(size=(20_000, number)).max(axis=1).mean()
        assert expected_maximum(number) == pytest.approx(drawn, abs=0.03)
    assert expected_maximum(1) == 0.0 and expected_maximum(50) == pytest.approx(2.249, abs=0.005)


def test_what_is_expected_of_the_best_of_fifty_equals_is_near_the_truth_and_the_seen_is_not() -> None:
    rng = np.random.default_rng(7)
    off_seen, off_expected = [], []
    for _ in range(40):
        values = 0.7 + 0.01 * rng.normal(size=50)
        twice = [trial(50 + at, float(0.6 + 0.01 * rng.normal()), {"lr": 99}) for at in range(12)]
        found = sure(assess_certainty(story(*(trial(at, float(v)) for at, v in enumerate(values)), *twice), {}))
        assert found.sigma is not None and found.expected is not None
        off_seen.append(found.seen - 0.7)
        off_expected.append(found.expected - 0.7)
    assert np.mean(off_seen) > 0.018 and abs(np.mean(off_expected)) < 0.006


def test_a_winner_that_stands_alone_owes_nothing_to_luck() -> None:
    repeats = [trial(2 + at, 0.5 + 0.01 * at, {"lr": 99}) for at in range(4)]
    found = sure(assess_certainty(story(trial(0, 0.9), trial(1, 0.55), *repeats), {}))
    assert found.contenders == 1 and found.optimism == 0 and found.expected == 0.9
    assert "No other trial comes so near that luck could have chosen" in describe_luck(found)
    assert "iou has a standard deviation of 0.0129" in describe_luck(found)


def test_luck_is_not_spoken_of_without_measured_noise() -> None:
    """A lead of 0.03, where runs of one recipe range over as much; calm epochs tell nothing of that."""
    curve = [0.25, 0.28, 0.30, 0.301, 0.302, 0.303]
    found = sure(assess_certainty(story(trial(0, 0.333, curve=curve), trial(1, 0.303, curve=curve)), {}))
    assert found.sigma is None and found.rivals == () and found.expected is None
    assert (
        describe_luck(found)
        == "How much of its lead is luck cannot be said: the noise between runs was not measured."
    )
    assert any("no parameters were trained twice" in line for line in found.missing)


def test_few_repeats_leave_room_for_luck() -> None:
    """Two runs tell little of the noise: a trial 0.05 behind may be as good, though they differ by 0.01 alone."""
    rows = [trial(0, 0.60), trial(1, 0.55), trial(2, 0.50, {"lr": 9}), trial(3, 0.51, {"lr": 9})]
    found = sure(assess_certainty(story(*rows), {}))
    assert found.contenders == 4 and "3 other trials came so near" in describe_luck(found)
    assert "No other trial" not in describe_luck(found)
    same = [trial(0, 0.6), trial(1, 0.5, {"lr": 9}), trial(2, 0.5, {"lr": 9})]
    assert describe_luck(sure(assess_certainty(story(*same), {}))) == (
        "Runs of the same parameters gave the same iou each time."
    )


def test_runs_that_were_not_trained_to_the_end_are_told_as_far_as_they_came() -> None:
    """A space without parameters, run four times: the parameters were trained four times, and one run ended."""
    first = [
        TrialData(
            0, "COMPLETE", 0.4, {}, {}, epochs=({"epoch": 1, "val_iou": 0.281}, {"epoch": 2, "val_iou": 0.4})
        )
    ]
    rows = [
        TrialData(at, "PRUNED", None, {}, {}, epochs=({"epoch": 1, "val_iou": value},))
        for at, value in enumerate((0.29, 0.3, 0.314), start=1)
    ]
    found = sure(assess_certainty(story(*first, *rows), {}))
    (line,) = [line for line in found.missing if "seed" in line]
    assert line == (
        "trials 0, 1, 2 and 3 have the same parameters; after epoch 1, their iou was 0.2810 to 0.3140, but "
        "fewer than two of them were trained to the end, so how much a run changes with its seed is not known"
    )


def test_without_any_numbers_beside_the_value_it_says_so() -> None:
    found = sure(assess_certainty(story(trial(0, 0.9)), {}))
    assert found.interval is None and found.sigma is None and found.expected is None and len(found.missing) == 2
    assert describe_certainty(found) == []
    assert assess_certainty(story(trial(0, None)), {}) is None and assess_certainty(story(), {}) is None


@pytest.mark.parametrize(
    "damaged",
    [
        {},
        {"images": 3},
        {"images": {"scores": []}},
        {"images": {"scores": [0.5, "high"]}},
        {"images": {"scores": [math.nan]}},
    ],
)
def test_damaged_details_are_none(damaged: dict[str, Any]) -> None:
    found = sure(assess_certainty(story(trial(0, 0.9), trial(1, 0.8)), {0: damaged, 1: scored(np.array([0.5]))}))
    assert found.interval is None and any("single validation images" in line for line in found.missing)


def test_an_image_in_which_all_is_ignored_takes_no_other_images_scores_with_it() -> None:
    rng = np.random.default_rng(7)
    ours, theirs = rng.uniform(0.6, 0.9, 20), rng.uniform(0.1, 0.4, 20)
    details = {0: scored(ours), 1: scored(theirs)}
    for one in details.values():
        one["images"]["scores"][3] = None
    found = sure(assess_certainty(story(trial(0, 0.9), trial(1, 0.5)), details))
    assert found.images == 19 and found.mean == pytest.approx(np.delete(ours, 3).mean())
    assert [(rival.by_images, rival.ahead > 0.99) for rival in found.rivals] == [(True, True)]


def test_the_cheaper_one_must_be_near_by_the_goal_as_well() -> None:
    """By these images, the trials are equal."""
    scores = np.tile([0.2, 0.9], 10)
    details = {0: scored(scores), 1: scored(scores[::-1])}
    near = sure(assess_certainty(story(trial(0, 0.90, seconds=60.0), trial(1, 0.89, seconds=6.0)), details))
    far = sure(assess_certainty(story(trial(0, 0.90, seconds=60.0), trial(1, 0.50, seconds=6.0)), details))
    assert near.tied == far.tied == (1,) and (near.ship, far.ship) == (1, 0)


def test_trials_judged_on_different_images_are_not_compared_by_them() -> None:
    rng = np.random.default_rng(7)
    details = {
        0: scored(rng.uniform(size=20)),
        1: scored(rng.uniform(size=21)),
        2: scored(rng.uniform(size=20), "dice"),
    }
    found = sure(assess_certainty(story(*(trial(at, 0.9 - at / 10) for at in range(3))), details))
    assert found.images == 20 and found.rivals == ()


def test_runs_of_the_same_parameters_are_put_together() -> None:
    rows = [trial(0, 0.80, {"k": 1}), trial(1, 0.70, {"k": 1}), trial(2, 0.78, {"k": 2}), trial(3, 0.76, {"k": 2})]
    first, second = group_by_params(story(*rows, trial(4, 0.2, {"k": 3})))
    assert (first.numbers, second.numbers) == ((2, 3), (0, 1)) and first.mean == pytest.approx(0.77)
    assert second.overlaps and not first.overlaps and second.deviation == pytest.approx(0.0707, abs=1e-4)
    words = " ".join(describe_certainty(sure(assess_certainty(story(*rows), {}))))
    assert (
        "trials 2 and 3 are best on average: iou 0.7700 ± 0.0141 (2 runs)" in words and "0 and 1 overlap" in words
    )


def test_what_the_winners_parameters_give_on_average_is_expected_and_runs_that_learn_nothing_say_nothing() -> None:
    rows = [trial(0, 0.80, {"k": 1}), trial(1, 0.78, {"k": 1}), trial(2, 0.50, {"k": 2}), trial(3, 0.10, {"k": 2})]
    found = sure(assess_certainty(story(*rows), {}))
    assert found.expected == pytest.approx(0.79) and found.sigma == pytest.approx(0.0141, abs=1e-4)
    words = " ".join(describe_certainty(found))
    assert "From another run expect iou of about 0.790 (0.8 seen): so much its parameters give on average" in words


def test_a_loss_is_better_below() -> None:
    values = {0: (0.31, 1), 1: (0.3, 2), 2: (0.34, 3), 3: (0.36, 3), 4: (0.33, 3)}
    trials = [TrialData(at, "COMPLETE", value, {"lr": lr}, {}) for at, (value, lr) in values.items()]
    found = sure(assess_certainty(story(*trials, goal=minimize("loss")), {}))
    assert found.best == 1 and found.contenders >= 2 and found.expected is not None and found.expected > 0.3


def test_the_lead_is_told_in_the_words_of_how_it_was_judged() -> None:
    repeats = [trial(1 + at, 0.5 + 0.01 * at, {"lr": 99}) for at in range(2)]
    found = sure(assess_certainty(story(trial(0, 0.9), *repeats), {}))
    assert describe_rivals(found) == [
        "It leads each of trials 1 and 2 by more than the noise between runs, as far as 2 runs show it."
    ]
    assert count_contenders(story(trial(0, 0.5)), None) == 1
