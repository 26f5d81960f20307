"""What an attempt at a trial leaves is kept: brought to the next attempt, and dropped when nobody needs it."""

from __future__ import annotations

from tuner.errors import writing
from tuner.runs import Home, Run, link

TRIES = 5  # to bring over what another attempt moves at that moment


class Keeper:
    """Where attempts find what earlier ones left."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def begin(self, study: str, key: str, number: int, attempt: int, fresh: bool = False) -> Run:
        """The empty folder of an attempt, with what the newest usable earlier attempt left in it.

        `fresh` says that the trial has not begun yet: whatever stands there is of a deleted trial of that number.
        Killed in the middle, nothing is lost: the earlier attempt's files go when all stands in the new folder.
        """
        trial, run = self.home.run(study, key, number), self.home.run(study, key, number, attempt)
        if fresh:
            trial.clear()
        run.clear()
        run.make()
        for _ in range(TRIES):
            earlier = self.newest(study, key, number, attempt)
            if earlier is None or brought(earlier, run):
                self.drop_earlier(study, key, number, attempt)
                break
        return run

    def newest(self, study: str, key: str, number: int, attempt: int) -> Run | None:
        """The run of the newest attempt before this one that can be gone on from."""
        for earlier in self.home.attempts(study, key, number):
            run = self.home.run(study, key, number, earlier)
            if earlier < attempt and run.is_usable:
                return run
        return None

    def drop_earlier(self, study: str, key: str, number: int, attempt: int) -> None:
        """Free what attempts before this one left; with an older version's, the trial's folder itself stays."""
        for earlier in self.home.attempts(study, key, number):
            run = self.home.run(study, key, number, earlier)
            if 0 < earlier < attempt:
                run.clear()
            elif earlier < attempt:
                run.drop_weights()

    def keep(self, run: Run) -> None:
        """After each checkpoint."""

    def settle(self, run: Run, seconds: float) -> bool:
        """Wait until what was kept is safe elsewhere."""
        return True

    def finish(self, run: Run, weights: bool) -> None:
        """At a trial's end: drop what nobody needs; without `weights`, neither checkpoint nor best weights."""
        run.drop_previous()
        if not weights:
            run.drop_weights()

    def fetch(self, study: str, key: str, number: int, attempt: int) -> Run:
        """The run of a finished trial, with its files here."""
        return self.home.run(study, key, number, attempt)


def brought(earlier: Run, run: Run) -> bool:
    """Link everything of an earlier attempt into a new one; False where it was moved away meanwhile."""
    with writing(run.folder):
        for source, target in zip(earlier.weights, run.weights, strict=True):
            try:
                link(source, target)
            except FileNotFoundError:
                if source.exists():
                    raise
    return run.is_usable
