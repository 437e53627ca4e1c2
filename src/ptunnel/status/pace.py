"""Answers take a part of the reactor's time only: it is the tunnels' reactor."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

# The part of the time that calls may take, and how many seconds they may take at once, if there was
# none for a while.
SHARE = 0.25
CREDIT = 0.1

_NEARLY = 1e-9  # what is lost in sums


class Pace:
    """Makes calls, at once as long as they take little."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: deque[Callable[[], None]] = deque()
        self._credit = CREDIT  # seconds that calls may take now
        self._counted = clock.seconds()
        self._isMaking = False
        self._timer: IDelayedCall | None = None

    def run(self, call: Callable[[], None], *, isUrgent: bool = False) -> None:
        """Make a call, now or when its turn comes. @param call: it raises nothing."""
        if isUrgent:
            self._waiting.appendleft(call)
        else:
            self._waiting.append(call)
        if self._timer is None and not self._isMaking:
            self._goOn()

    def _goOn(self) -> None:
        self._timer = None
        while self._waiting:
            self._count()
            if self._credit < -_NEARLY:
                self._timer = self._clock.callLater(-self._credit / SHARE, self._goOn)
                return
            self._make(self._waiting.popleft())

    def _count(self) -> None:
        now = self._clock.seconds()
        self._credit = min(self._credit + SHARE * (now - self._counted), CREDIT)
        self._counted = now

    def _make(self, call: Callable[[], None]) -> None:
        began = self._clock.seconds()
        self._isMaking = True
        try:
            call()
        finally:
            self._isMaking = False
        self._credit -= self._clock.seconds() - began
