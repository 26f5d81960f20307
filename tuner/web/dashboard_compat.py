"""Every use of a private name of optuna-dashboard, for the versions that pyproject.toml allows.

optuna-dashboard has no public way to serialize single trials, and its own answers take minutes for studies of
thousands of trials. tests/unit/web/test_dashboard_compat.py fails with one line that names what changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bottle
import optuna_dashboard
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from optuna_dashboard._inmemory_cache import _CachedExtraStudyProperty
from optuna_dashboard._pareto_front import get_pareto_front_trials
from optuna_dashboard._serializer import serialize_frozen_study as serialize_study
from optuna_dashboard._serializer import serialize_frozen_trial as serialize_trial
from optuna_dashboard._serializer import serialize_study_detail

__all__ = ["get_pareto_front_trials", "serialize_study", "serialize_trial"]
Parameters = list[tuple[str, BaseDistribution]]

ROUTER = b'url_prefix:"/dashboard"'  # in the script bundle, once: the path of the page


def dashboard_app(storage: BaseStorage, artifacts: Any) -> Any:
    """Return optuna-dashboard as an app whose exceptions reach its caller, not answers with 500."""
    app = optuna_dashboard.wsgi(storage, artifact_store=artifacts)
    app.catchall = False
    app.install(answer_json)
    return app


def answer_json(view: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that optuna-dashboard's `json_api_view` wraps, without what catches its exceptions."""
    plain: Callable[..., Any] | None = getattr(view, "__wrapped__", None)
    if plain is None:  # an answer that is not JSON
        return view

    def answer(**ids: Any) -> Any:
        bottle.response.content_type = "application/json"
        return plain(**ids)

    return answer


def dashboard_files() -> Path:
    """Return the folder of the page, its script and its styles."""
    return Path(optuna_dashboard.__file__).parent


def frozen_study(storage: BaseStorage, study: int, system_attrs: dict[str, Any]) -> FrozenStudy:
    """Return a study as the serializers take it. Public `get_all_studies` reads all attributes of all studies."""
    name, directions = storage.get_study_name_from_id(study), storage.get_study_directions(study)
    user_attrs = storage.get_study_user_attrs(study)
    return FrozenStudy(name, None, user_attrs, system_attrs, study, directions=directions)


def serialize_study_without_trials(
    study: FrozenStudy, system_attrs: dict[str, Any], space: SearchSpaces
) -> dict[str, Any]:
    """Return a study's detail with its saved plots, but without trials."""
    plots = get_plotly_graph_objects(system_attrs)
    detail: dict[str, Any] = serialize_study_detail(study, [], [], *space.as_arguments(), plots, [])
    del detail["trials"], detail["best_trials"]
    return detail


class SearchSpaces:
    """The parameters and attributes that all and that any trials have, as optuna-dashboard collects them."""

    def __init__(self) -> None:
        self.collected = _CachedExtraStudyProperty()

    def add(self, trials: Sequence[FrozenTrial]) -> None:
        self.collected._cursor = -1  # else it stops at the first trial that was not finished when it looked
        self.collected.update(list(trials))

    def as_arguments(self) -> tuple[Parameters, Parameters, Any, bool]:
        """Return intersection, union, user attributes, and whether trials have intermediate values."""
        found = self.collected
        return (
            found.intersection_search_space,
            found.union_search_space,
            found.union_user_attrs,
            found.has_intermediate_values,
        )
