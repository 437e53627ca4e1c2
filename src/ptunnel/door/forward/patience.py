"""When nothing moves on a client's connections any more."""

from __future__ import annotations

from ptunnel.door.forward.client import BUSY, CUTTING, ENDING, OVER, Client
from ptunnel.net.transports import abort, probe, unsentBytes
from ptunnel.relay.timeouts import LINGER
from ptunnel.session.leaving import hasLeft


class PatientClient(Client):
    """A Client with timeouts."""

    _probes = False
    _left: int | None = None  # unsent bytes, when nothing had come for a while

    def stirs(self) -> None:
        super().stirs()
        self._left = None

    def idled(self, seconds: float) -> bool:
        """Nothing has moved for so many seconds. @return: whether it is busy, and sees to it."""
        raise NotImplementedError

    def check(self, now: float) -> None:
        """Look whether anything moves; called by the Sweep."""
        if self.passOnCut() or self.phase is OVER:
            return
        isUnseen = self.isPaused or self.hasEnded
        if self.phase is BUSY and isUnseen and hasLeft(self.transport):
            abort(self.transport)
            return
        left = unsentBytes(self.transport) + self.lines.unsentBytes()
        if self._left is not None and left != self._left:
            self.moved = now  # somebody reads slowly, but reads
        self._left = left
        if not self._probes and now > self.moved:  # most are over before they are silent
            self._probes = True
            probe(self.transport, self.terms.keepAlive)
        self._expire(now - self.moved)

    def _expire(self, silence: float) -> None:
        limit = self.terms.idleTimeout
        if self.phase in (ENDING, CUTTING):
            if silence >= LINGER:
                abort(self.transport)
        elif limit is not None and silence >= limit and not self.idled(limit):
            self.end("idle")
