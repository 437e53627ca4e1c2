"""One timer for the deadlines of many connections. Used by splice, tunnel, and the endpoints.

A timer of its own for each connection costs a heap operation at each byte or each close; to look
at all of them now and then costs next to nothing, and a timeout may be late by that much.
"""

from __future__ import annotations

from typing import Protocol, cast

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

_log = Logger()


class Watched(Protocol):
    """What a Sweep looks at."""

    def check(self, now: float) -> None:
        """Do what is due. @param now: the clock's time, in seconds."""


def clockOf(reactor: IReactorTime | None) -> IReactorTime:
    """A clock that was passed in, or else the reactor. (To import it is to install it.)"""
    if reactor is None:
        from twisted.internet import reactor as installed

        return cast(IReactorTime, installed)
    return reactor


class Sweep:
    """Calls `check` on each of its members at an interval, while it has any.

    @ivar interval: seconds between two looks.
    """

    def __init__(self, clock: IReactorTime, interval: float = 1.0) -> None:
        self.clock = clock
        self.interval = interval
        self._members: set[Watched] = set()
        self._timer: IDelayedCall | None = None

    @classmethod
    def fine(cls, clock: IReactorTime, *timeouts: float | None) -> Sweep:
        """A Sweep whose interval suits the shortest of some timeouts, in seconds."""
        return cls(clock, min([1.0, *(t / 4 for t in timeouts if t)]))

    def add(self, member: Watched) -> None:
        self._members.add(member)
        if self._timer is None:
            self._timer = self.clock.callLater(self.interval, self._look)

    def discard(self, member: Watched) -> None:
        self._members.discard(member)
        if not self._members and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = self.clock.seconds()
        for member in tuple(self._members):
            if member not in self._members:
                continue  # one before it has sent it away
            try:
                member.check(now)
            except Exception:
                _log.failure("a check failed")
        if self._members and self._timer is None:
            self._timer = self.clock.callLater(self.interval, self._look)
