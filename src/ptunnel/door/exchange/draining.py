"""An answer that is not the client's: it is read to its end, so that the connection can be kept."""

from __future__ import annotations

import h11

from ptunnel import causes
from ptunnel.door.exchange.life import DRAINING
from ptunnel.door.exchange.relaying import RelayingExchange
from ptunnel.door.messages.answers import Event

# The most bytes of such an answer that are read; a new connection is then cheaper.
MAX_DRAIN = 256 * 1024
# How many seconds they are waited for.
DRAIN_WAIT = 5.0


class DrainingExchange(RelayingExchange):
    """An Exchange some of whose answers are not the client's."""

    _drained = 0
    _drainBy: float | None = None

    def drain(self, seconds: float | None = DRAIN_WAIT) -> None:
        """Read the rest of the newest answer. @param seconds: the time for it; None: no limit."""
        self.enter(DRAINING)
        self._drained = 0
        self._drainBy = None
        if seconds is not None:
            self._drainBy = self.owner.sweep.clock.seconds() + seconds

    def drained(self, isWhole: bool) -> None:
        """Go on behind the answer. @param isWhole: whether it was read to its end."""
        raise NotImplementedError

    def _end(self, isWhole: bool) -> None:
        upstream = self.upstream
        assert upstream is not None
        self._drainBy = None
        upstream.isUsed = True
        self.drained(isWhole)

    def take(self, event: Event) -> None:
        if self.phase is not DRAINING:
            super().take(event)
        elif isinstance(event, h11.Data):
            self._drained += len(event.data)
            if self._drained > MAX_DRAIN:
                self._end(isWhole=False)
        elif isinstance(event, h11.EndOfMessage):
            self._end(isWhole=True)

    def bad(self, what: str, cause: causes.Cause = causes.BROKEN) -> None:
        if self.phase is DRAINING:
            self._end(isWhole=False)
        else:
            super().bad(what, cause)

    def check(self, now: float) -> None:
        if self._drainBy is not None and now >= self._drainBy and self.phase is DRAINING:
            self._end(isWhole=False)
        super().check(now)
