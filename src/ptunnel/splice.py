"""Two connected transports joined, so that what one receives the other sends.

Each transport has a leg: producers has one for every kind of transport, kernel a faster one for
plain sockets. Used by tunnel and stdio, and by programs that import ptunnel.

Each direction goes through the same states. When its source ends, what is still buffered for its
sink is sent, then the sink's writing half is closed; a transport of which both halves have ended
is closed. A transport that is lost otherwise takes the other one with it: a reset is passed on as
a reset; after an orderly end the other gets what it is still to get, and what it goes on sending
is read and dropped until it ends too, because closing over unread input would make the kernel
reset the connection and destroy what the peer has not read yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime, ITransport

from ptunnel.kernel import KernelLeg, isPlain
from ptunnel.producers import Leg
from ptunnel.sweep import Sweep, clockOf
from ptunnel.tlsleg import TlsLeg, isTlsOverPlain

# How long a connection that is over may take to send what it still holds, in seconds.
LINGER = 30.0

Cause = Literal["end", "reset", "idle", "half-close", "linger", "closed", "aborted"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a splice ended.

    @ivar sent: bytes that the first transport received and the second was given to send.
    @ivar received: bytes that the second transport received and the first was given to send.
    @ivar cause: "end" (of file, on both sides), "reset" (by one side), "idle", "half-close" or
        "linger" (a timeout), "closed" or "aborted" (from here). What cuts an end short counts.
    @ivar first: which transport ended first or was reset, 0 or 1; None: neither did.
    """

    sent: int
    received: int
    cause: Cause
    first: int | None


def splice(
    a: ITransport,
    b: ITransport,
    *,
    idleTimeout: float | None = None,
    halfCloseTimeout: float | None = 60.0,
    inKernel: bool = True,
    holdEnd: bool = False,
    reactor: IReactorTime | None = None,
) -> Deferred[Ended]:
    """Join two connected transports until both directions have ended.

    Their protocols receive nothing from now on but `connectionLost`.

    @param idleTimeout: seconds without a byte in either direction after which both are closed;
        None: no limit.
    @param halfCloseTimeout: the same, once one direction has ended.
    @param inKernel: whether plain sockets on Linux may be spliced by the kernel.
    @param holdEnd: whether the second transport's peer sees the end of the first one's only when it
        has ended itself, since a proxy on the way may end both directions at the first end.
    @param reactor: the clock of the timeouts; None: the reactor.
    @return: a Deferred that fires with L{Ended} when both transports are closed, and fails only
        where it is cancelled, which aborts both.
    @raise TypeError: for a transport that does not let go of its protocol.
    """
    sweep = Sweep.fine(clockOf(reactor), idleTimeout, halfCloseTimeout)
    return Splice(a, b, sweep, idleTimeout, halfCloseTimeout, inKernel, holdEnd).done


class Splice:
    """Two transports that are joined. See L{splice}.

    @ivar done: fires with L{Ended}.
    """

    __slots__ = (
        "_active",
        "_cause",
        "_first",
        "_halfCloseTimeout",
        "_holdEnd",
        "_idleTimeout",
        "_legs",
        "_seen",
        "_sweep",
        "done",
    )

    def __init__(
        self,
        a: ITransport,
        b: ITransport,
        sweep: Sweep,
        idleTimeout: float | None = None,
        halfCloseTimeout: float | None = 60.0,
        inKernel: bool = True,
        holdEnd: bool = False,
    ) -> None:
        """The same as for L{splice}, with a Sweep that looks after the timeouts."""
        self._sweep = sweep
        self._idleTimeout = idleTimeout
        self._holdEnd = holdEnd
        self._halfCloseTimeout = halfCloseTimeout
        self._active = sweep.clock.seconds()
        self._seen = 0
        self._cause: Cause | None = None
        self._first: int | None = None
        self.done: Deferred[Ended] = Deferred(self._cancelled)
        kinds = (_fastLeg(a), _fastLeg(b)) if inKernel else (None, None)
        both = None not in kinds
        one = (kinds[0] if both and kinds[0] else Leg)(self, a)
        two = (kinds[1] if both and kinds[1] else Leg)(self, b)
        self._legs: tuple[Leg, ...] = (one, two)
        one.start(two)
        two.start(one)
        sweep.add(self)
        for leg in self._legs:
            leg.resumeProducing()

    def close(self, cause: Cause = "closed") -> None:
        """End both directions in order: what was received is sent, within LINGER seconds."""
        self._note(cause, None)
        for leg in self._legs:
            leg.endWriting()
        for leg in self._legs:
            leg.drop()

    def abort(self, cause: Cause = "aborted") -> None:
        """End both directions at once."""
        self._note(cause, None)
        for leg in self._legs:
            leg.abort()

    def check(self, now: float) -> None:
        """Look whether a timeout has come; called by the Sweep."""
        one, two = self._legs
        # An end counts like a byte: the timeout that it begins does not begin before it.
        seen = one.received + two.received + one.wroteLast + two.wroteLast
        if seen != self._seen:
            self._seen = seen
            self._active = now
            return
        quiet = now - self._active
        one.rest()
        two.rest()
        if one.wroteLast and two.wroteLast:
            if quiet >= LINGER:
                self.abort("linger")
        elif one.readEnded or two.readEnded:
            self._expire(quiet, self._halfCloseTimeout, "half-close")
        else:
            self._expire(quiet, self._idleTimeout, "idle")

    def _expire(self, quiet: float, limit: float | None, cause: Cause) -> None:
        if limit is not None and quiet >= limit:
            self.close(cause)

    def sourceEnded(self, leg: Leg) -> None:
        self._note("end", leg)

    def passOnEnd(self, leg: Leg) -> None:
        one, two = self._legs
        if not self._holdEnd:
            leg.other.endWriting()
        elif two.readEnded:
            one.endWriting()
            if one.readEnded:
                two.endWriting()

    def brokenPipe(self, leg: Leg) -> None:
        self._note("reset", leg)
        self.abort()

    def legLost(self, leg: Leg, clean: bool) -> None:
        other = leg.other
        if other.lost:
            self._sweep.discard(self)
            one, two = self._legs
            self._legs = ()
            del one.other, two.other  # no cycle is left for the garbage collector to find
            if not self.done.called:
                cause = self._cause or "aborted"
                self.done.callback(Ended(one.received, two.received, cause, self._first))
        elif clean or not leg.halfCloses:
            self._note("end", leg)
            other.endWriting()
            other.drop()
        else:
            self._note("reset", leg)
            other.abort()

    def _note(self, cause: Cause, leg: Leg | None) -> None:
        if self._cause is None or (self._cause == "end" and cause != "end"):
            self._cause = cause
            if leg is not None:
                self._first = self._legs.index(leg)

    def _cancelled(self, done: Deferred[Ended]) -> None:
        done.errback(CancelledError())  # before both may be lost at once, which would be a result
        self.abort()


def _fastLeg(transport: ITransport) -> type[Leg] | None:
    """The leg for a transport that is a socket, or TLS over one."""
    if isPlain(transport):
        return KernelLeg
    return TlsLeg if isTlsOverPlain(transport) else None
