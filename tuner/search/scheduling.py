"""The scheduler of a study, by its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuner.search.scheduler import BySeconds, NoHalving, PromoteHalving, Scheduler, StopHalving

if TYPE_CHECKING:
    from tuner.space.search_settings import SearchSettings
    from tuner.study.info import StudyInfo


def make_scheduler(info: StudyInfo) -> Scheduler:
    """Return the scheduler of a study; given trials, such as the rows of a table, are trained to their ends."""
    return make_halving(info.search, info.search.pruning) if info.is_pruned else NoHalving()


def make_halving(search: SearchSettings, pruning: str) -> Scheduler:
    """Return the halving of that name with the rungs of these settings."""
    first, factor = search.first_count, search.factor
    promoting = PromoteHalving(first, factor, part=search.part)
    if pruning == "thaw":
        from tuner.search.thaw import Thaw  # which imports numpy

        return Thaw(promoting)
    made = StopHalving(first, factor, part=search.part) if pruning == "stop" else promoting
    return BySeconds(made) if search.seconds else made
