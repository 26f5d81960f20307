"""The division of the real horses, where they are on this machine."""

from __future__ import annotations

import pytest

from tuner.data.datasets import open_data
from tuner.data.locate import candidate_folders
from tuner.recipe import use


@pytest.mark.skipif(
    not any(place.is_dir() for place in candidate_folders("weizmann_horse")),
    reason="weizmann_horse is not on this machine; name its parent folder in TUNER_DATA",
)
def test_a_fifth_of_the_horses_is_held_out() -> None:
    for seed in range(3):
        assert open_data(use("weizmann_horse", split="exact", split_seed=seed)).counts() == "262 train, 66 val"
    assert open_data(use("weizmann_horse")).counts() == "275 train, 53 val"  # as studies of 0.1 go on with
