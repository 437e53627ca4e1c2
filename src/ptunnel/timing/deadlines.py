"""Deadlines: one timer shared by many connections, and single ones.

A timer for each connection would cost a heap operation at each byte or each close. Looking at all
connections at an interval costs next to nothing, and makes a timeout late by one interval at most.

A timer that fires much too late proves nothing about a peer: this process was suspended or busy,
and bytes that came in time wait in the sockets, which a reactor reads after its timers. So the
sockets get a turn first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol, cast

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

_log = Logger()


class Watched(Protocol):
    """A member of a Sweep."""

    def check(self, now: float) -> None:
        """Act on each timeout that has passed. @param now: the clock's time, in seconds."""


def clockOf(reactor: IReactorTime | None) -> IReactorTime:
    """Return the clock that was passed in, or else the reactor. Importing that installs it."""
    if reactor is None:
        from twisted.internet import reactor as installed

        return cast(IReactorTime, installed)
    return reactor


# A single timer that is late by more seconds than this is much too late; less is a busy moment.
LATE = 1.0
# A turn of the reactor reads from at least this many sockets. More members need more turns.
MEMBERS_A_TURN = 128


class Patient:
    """A clock whose calls let the sockets have a turn first when they are much too late.

    It has the part of IReactorTime that C{Deferred.addTimeout} and single deadlines need.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self.seconds = clock.seconds

    def callLater(self, delay: float, function: Callable[..., Any], *args: Any) -> PatientCall:
        return PatientCall(self._clock, delay, function, args)


class PatientCall:
    """A pending call of a L{Patient} clock: the part of IDelayedCall that deadlines use."""

    def __init__(
        self,
        clock: IReactorTime,
        delay: float,
        function: Callable[..., Any],
        args: tuple[Any, ...],
    ) -> None:
        """@param delay: in seconds."""
        self._clock = clock
        self._due = clock.seconds() + delay
        self._function = function
        self._args = args
        self._call = clock.callLater(delay, self._reached)

    def active(self) -> bool:
        return bool(self._call.active())

    def cancel(self) -> None:
        self._call.cancel()

    def _reached(self) -> None:
        if self._clock.seconds() - self._due > LATE:
            self._call = self._clock.callLater(0, self._function, *self._args)
        else:
            self._function(*self._args)


class Sweep:
    """Calls `check` on each of its members at an interval, while it has any.

    @ivar interval: seconds between two rounds.
    """

    def __init__(self, clock: IReactorTime | None, interval: float = 1.0) -> None:
        """@param clock: None: the reactor, from the first member on."""
        self._reactor = clock
        self.interval = interval
        self._members: set[Watched] = set()
        self._timer: IDelayedCall | None = None
        self._due = 0.0
        self._turns = 0

    @cached_property
    def clock(self) -> IReactorTime:
        return clockOf(self._reactor)

    @classmethod
    def fine(cls, clock: IReactorTime | None, *timeouts: float | None) -> Sweep:
        """A Sweep whose interval suits the shortest of some timeouts, in seconds."""
        return cls(clock, min([1.0, *(t / 4 for t in timeouts if t)]))

    def add(self, member: Watched) -> None:
        self._members.add(member)
        if self._timer is None:
            self._schedule()

    def discard(self, member: Watched) -> None:
        self._members.discard(member)
        if not self._members and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        self._turns = 0
        self._due = self.clock.seconds() + self.interval
        self._timer = self.clock.callLater(self.interval, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self.clock.seconds()
        if now - self._due > self.interval and self._turns * MEMBERS_A_TURN <= len(self._members):
            self._turns += 1
            self._timer = self.clock.callLater(0, self._look)
            return
        for member in tuple(self._members):
            if member not in self._members:
                continue  # discarded by a member before it
            try:
                member.check(now)
            except Exception:
                _log.failure("a check failed")
        if self._members and self._timer is None:
            self._schedule()
