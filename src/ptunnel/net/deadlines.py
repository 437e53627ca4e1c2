"""Deadlines: one timer for those of many connections, and single ones.

A timer of its own for each connection costs a heap operation at each byte or each close; to look
at all of them now and then costs next to nothing, and a timeout may be late by that much.

A timer that fires much too late proves nothing about a peer: this process was suspended or busy,
and what came in time waits in the sockets, which a reactor reads after its timers. So the sockets
get a turn first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

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


# Seconds by which a single timer is much too late; less is a busy moment.
LATE = 1.0
# A turn of the reactor reads from as many sockets, at least; it takes more turns for more members.
MEMBERS_A_TURN = 128


class Patient:
    """A clock whose calls, when they are much too late, let the sockets have a turn first.

    It has what C{Deferred.addTimeout} and single deadlines need of IReactorTime.
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

    @ivar interval: seconds between two looks.
    """

    def __init__(self, clock: IReactorTime, interval: float = 1.0) -> None:
        self.clock = clock
        self.interval = interval
        self._members: set[Watched] = set()
        self._timer: IDelayedCall | None = None
        self._due = 0.0
        self._turns = 0

    @classmethod
    def fine(cls, clock: IReactorTime, *timeouts: float | None) -> Sweep:
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
                continue  # one before it has sent it away
            try:
                member.check(now)
            except Exception:
                _log.failure("a check failed")
        if self._members and self._timer is None:
            self._schedule()
