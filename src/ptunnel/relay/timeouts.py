"""When nothing moves between two joined transports any more."""

from __future__ import annotations

from typing import Protocol

from ptunnel.relay.legs.leg import Leg
from ptunnel.relay.outcome import Cause
from ptunnel.relay.terms import Terms

# Seconds without progress for which an ended connection may still hold unsent bytes.
LINGER = 30.0


class Timed(Protocol):
    """The part of a splice that its timeouts look at and act on."""

    legs: tuple[Leg, ...]
    cutting: Leg | None
    terms: Terms

    def speedUp(self) -> None:
        """Replace the legs by faster ones, where that is possible by now."""

    def passOnCut(self) -> bool:
        """Pass on a cut, if all bytes before it have been sent. Return whether it was."""

    def close(self, cause: Cause = "closed") -> None:
        """End both directions in order."""

    def abort(self, cause: Cause = "aborted") -> None:
        """End both directions at once."""


class Timeouts:
    """Looks, for a Sweep, whether bytes move in a splice, and ends it when they do not."""

    __slots__ = ("_left", "_moved", "_probes", "_received", "_splice")

    def __init__(self, splice: Timed, now: float) -> None:
        """@param now: the clock's time, in seconds."""
        self._splice = splice
        self._moved = now  # when something last did
        self._received = 0
        self._left: int | None = None  # unsent bytes, when nothing had been received for a while
        self._probes = False

    def check(self, now: float) -> None:
        splice = self._splice
        splice.speedUp()
        if splice.passOnCut():
            return
        one, two = splice.legs
        # An end counts like a byte, so that its timeout starts at the end and not earlier.
        received = one.received + two.received + one.wroteLast + two.wroteLast
        if received != self._received:
            self._received, self._moved, self._left = received, now, None
            return
        if not self._probes:  # most are over before they are silent for the first time
            self._probes = True
            for leg in splice.legs:
                leg.probe(splice.terms.keepAlive)
        for leg in splice.legs:
            leg.rest()
        limit, cause = self._limit()
        if limit is not None:
            self._lookAtUnsent(limit, cause, now)

    def _limit(self) -> tuple[float | None, Cause]:
        """Return the timeout that applies now, in seconds, and its cause."""
        splice = self._splice
        if splice.cutting is not None or all(leg.wroteLast for leg in splice.legs):
            return LINGER, "linger"  # only what is left to be sent is waited for
        if any(leg.readEnded for leg in splice.legs):
            return splice.terms.halfCloseTimeout, "half-close"
        return splice.terms.idleTimeout, "idle"

    def _lookAtUnsent(self, limit: float, cause: Cause, now: float) -> None:
        """Nothing was received. End the splice, unless its peers still take what was received
        before.
        """
        if self._left is None:
            self._left = self._unsentBytes()
        silence = now - self._moved
        if silence < limit:
            return
        left = self._unsentBytes()
        if left != self._left:  # the peer reads slowly, but reads
            self._moved, self._left = now, left
        elif left:
            if silence >= LINGER:  # a kernel may tell of a slow one in large steps
                self._splice.abort("linger")
        elif cause != "linger":
            self._splice.close(cause)
        else:
            for leg in self._splice.legs:
                leg.hangUp()

    def _unsentBytes(self) -> int:
        return sum(leg.unsentBytes() for leg in self._splice.legs)
