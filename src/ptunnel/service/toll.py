"""What a stop costs: how many sessions ended in time, and how many were cut."""

from __future__ import annotations

from collections.abc import Iterable

from ptunnel.log import Log


class Toll:
    """Counts the sessions that a stop waits for, and those that it cuts.

    @ivar others: those of other processes: how many ended, and how many were cut.
    """

    def __init__(self) -> None:
        self._waited: set[int] = set()
        self._cut: set[int] = set()
        self.others = (0, 0)

    def waitFor(self, sessions: Iterable[int]) -> None:
        """@param sessions: the numbers of those that are still there."""
        self._waited |= set(sessions)

    def cut(self, sessions: Iterable[int]) -> None:
        """@param sessions: the numbers of those that are aborted."""
        self._cut |= set(sessions)

    def add(self, ended: int, cut: int) -> None:
        """Add those of another process."""
        before = self.others
        self.others = before[0] + ended, before[1] + cut

    def counts(self) -> tuple[int, int]:
        """Return how many have ended in time, if all that were not cut have ended; and how many
        were cut.
        """
        ended, cut = self.others
        return ended + len(self._waited - self._cut), cut + len(self._cut)

    def say(self, log: Log, subject: str = "") -> None:
        """Write a line about it, if there was any session."""
        ended, cut = self.counts()
        fields = {"ended": ended, "cut": cut}
        if cut:
            were = "was" if cut == 1 else "were"
            what = f"stopped: {counted(cut, 'session')} {were} cut; {ended} ended in time"
            log.warning(subject, what, **fields)
        elif ended:
            log.info(subject, f"stopped: {counted(ended, 'session')} ended in time", **fields)


def counted(count: int, what: str) -> str:
    """Return a count with its noun."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
