"""Answers take a part of the reactor's time only: it is the tunnels' reactor."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

# After a call it rests for this many times what the call took.
REST = 3.0


class Pace:
    """Makes calls one at a time, with a rest after each."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._rested = float("-inf")  # when the last rest is over
        self._timer: IDelayedCall | None = None

    def run(self, call: Callable[[], None], *, isUrgent: bool = False) -> None:
        """Make a call, now or when its turn comes. @param call: it raises nothing."""
        if not self._waiting and self._clock.seconds() >= self._rested:
            self._make(call)
            return
        if isUrgent:
            self._waiting.appendleft(call)
        else:
            self._waiting.append(call)
        self._goOnLater()

    def _make(self, call: Callable[[], None]) -> None:
        began = self._clock.seconds()
        call()
        ended = self._clock.seconds()
        self._rested = ended + REST * (ended - began)

    def _goOnLater(self) -> None:
        if self._timer is None:
            delay = max(self._rested - self._clock.seconds(), 0.0)
            self._timer = self._clock.callLater(delay, self._goOn)

    def _goOn(self) -> None:
        self._timer = None
        while self._waiting and self._clock.seconds() >= self._rested:
            self._make(self._waiting.popleft())
        if self._waiting:
            self._goOnLater()
