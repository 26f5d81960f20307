"""Fewer generated images, and fewer of them explained, for tests that train but not for how much is learned."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.generated_images import NUM_SHAPES
from tuner.data.synthetic import shapes
from tuner.search import trial_pictures

ALL_SHAPES = {  # modules with studies of version 0.1, processes that do not fork, or few trainings
    *("test_version_0_1", "test_ray", "test_notebook", "test_cluster_commands", "test_own_parts", "test_install"),
    *("test_names_not_utf8", "test_limits", "test_check_agrees", "test_trial_pictures"),
}


@pytest.fixture(scope="module", autouse=True)
def fewer_shapes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have half of the shapes, two steps an epoch instead of four, and one image explained after a trial."""
    if request.path.stem in ALL_SHAPES:
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes, "COUNT", 60)
        patch.setattr(trial_pictures, "MAX_EXPLAINED", 1)
        patch.setenv(NUM_SHAPES, "60")
        yield
