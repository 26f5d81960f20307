"""Optuna's own published tests of samplers, run against ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.samplers import BaseSampler
from optuna.testing.pytest_samplers import BasicSamplerTestCase

from tuner.search.sampling import SubsetTPESampler


class TestSampler(BasicSamplerTestCase):
    @pytest.fixture
    def sampler(self) -> Callable[[], BaseSampler]:
        return lambda: SubsetTPESampler(0, is_maximized=False)
