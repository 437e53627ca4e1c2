"""Two connected transports joined, so that what one receives the other sends.

Twisted's producers and consumers do the flow control, for every kind of transport. Used by tunnel
and stdio, and by programs that import ptunnel.

Each direction goes through the same states. When its source ends, what is still buffered for its
sink is sent, then the sink's writing half is closed; a transport of which both halves have ended
is closed. A transport that is lost otherwise takes the other one with it: a reset is passed on as
a reset; after an orderly end the other gets what it is still to get, and what it goes on sending
is read and dropped until it ends too, because closing over unread input would make the kernel
reset the connection and destroy what the peer has not read yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    IReactorTime,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.sweep import Sweep
from ptunnel.transports import abort, canHalfClose, receiverOf, setReceiver, tune

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
    reactor: IReactorTime | None = None,
) -> Deferred[Ended]:
    """Join two connected transports until both directions have ended.

    Their protocols receive nothing from now on but `connectionLost`.

    @param idleTimeout: seconds without a byte in either direction after which both are closed;
        None: no limit.
    @param halfCloseTimeout: the same, once one direction has ended.
    @param reactor: the clock of the timeouts; None: the reactor.
    @return: a Deferred that fires with L{Ended} when both transports are closed, and fails only
        where it is cancelled, which aborts both.
    @raise TypeError: for a transport that does not let go of its protocol.
    """
    if reactor is None:
        from twisted.internet import reactor as installed

        reactor = cast(IReactorTime, installed)
    sweep = Sweep.fine(reactor, idleTimeout, halfCloseTimeout)
    return Splice(a, b, sweep, idleTimeout, halfCloseTimeout).done


class Splice:
    """Two transports that are joined. See L{splice}.

    @ivar done: fires with L{Ended}.
    """

    __slots__ = (
        "_active",
        "_cause",
        "_first",
        "_halfCloseTimeout",
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
    ) -> None:
        """The same as for L{splice}, with a Sweep that looks after the timeouts."""
        self._sweep = sweep
        self._idleTimeout = idleTimeout
        self._halfCloseTimeout = halfCloseTimeout
        self._active = sweep.clock.seconds()
        self._seen = 0
        self._cause: Cause | None = None
        self._first: int | None = None
        self.done: Deferred[Ended] = Deferred(self._cancelled)
        one, two = self._legs = _Leg(self, a), _Leg(self, b)
        one.start(two)
        two.start(one)
        sweep.add(self)
        for leg in self._legs:
            leg.transport.resumeProducing()

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

    def sourceEnded(self, leg: _Leg) -> None:
        self._note("end", leg)

    def brokenPipe(self, leg: _Leg) -> None:
        self._note("reset", leg)
        self.abort()

    def legLost(self, leg: _Leg, clean: bool) -> None:
        if leg.other.lost:
            self._sweep.discard(self)
            one, two = self._legs
            if not self.done.called:
                cause = self._cause or "aborted"
                self.done.callback(Ended(one.received, two.received, cause, self._first))
        elif clean or not leg.halfCloses:
            self._note("end", leg)
            leg.other.endWriting()
            leg.other.drop()
        else:
            self._note("reset", leg)
            leg.other.abort()

    def _note(self, cause: Cause, leg: _Leg | None) -> None:
        if self._cause is None or (self._cause == "end" and cause != "end"):
            self._cause = cause
            if leg is not None:
                self._first = self._legs.index(leg)

    def _cancelled(self, done: Deferred[Ended]) -> None:
        done.errback(CancelledError())  # before both may be lost at once, which would be a result
        self.abort()


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class _Leg:
    """One of the two transports: the protocol of its own, and a producer for the other.

    @ivar received: bytes that this transport received and the other one was given to send.
    @ivar readEnded: its peer has ended; no more bytes will come from it.
    @ivar wroteLast: it was told to close its writing half behind what it still buffers, or is
        lost.
    @ivar writeEnded: and has done so.
    @ivar lost: it is closed.
    """

    __slots__ = (
        "_paused",
        "_previous",
        "_splice",
        "halfCloses",
        "lost",
        "other",
        "readEnded",
        "received",
        "transport",
        "writeEnded",
        "wroteLast",
    )

    def __init__(self, splice: Splice, transport: ITransport) -> None:
        self._splice = splice
        self.transport = cast(Any, transport)
        self.received = 0
        self._paused = self.readEnded = self.wroteLast = self.writeEnded = self.lost = False
        self.other = self
        self.halfCloses = canHalfClose(transport)
        previous = receiverOf(transport)
        if previous is None:
            raise TypeError(f"cannot take over the bytes of a {type(transport).__name__}")
        self._previous = previous

    def start(self, other: _Leg) -> None:
        self.other = other
        setReceiver(self.transport, cast(IProtocol, self))
        tune(self.transport)
        other.transport.registerProducer(self, True)

    # What the transport tells its protocol

    def makeConnection(self, transport: ITransport) -> None:
        """The transport is connected already."""

    def connectionMade(self) -> None:
        """The same."""

    def dataReceived(self, data: bytes) -> None:
        if not self.other.wroteLast:
            self.received += len(data)
            self.other.transport.write(data)

    def readConnectionLost(self) -> None:
        self.readEnded = True
        self._splice.sourceEnded(self)
        self.other.endWriting()
        self._closeIfFinished()

    def writeConnectionLost(self) -> None:
        if not self.wroteLast:  # nobody reads from a pipe any more
            self._splice.brokenPipe(self)
        self.wroteLast = self.writeEnded = True
        self._closeIfFinished()

    def connectionLost(self, reason: Failure) -> None:
        self.lost = self.wroteLast = True
        try:
            self._previous.connectionLost(reason)
        finally:
            self._splice.legLost(self, reason.check(ConnectionDone) is not None)

    # What the other transport, as a consumer, tells its producer

    def pauseProducing(self) -> None:
        self._paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        if not self.readEnded:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """The other transport is lost; its connectionLost says so too."""

    # What the splice tells it

    def endWriting(self) -> None:
        """Close the writing half behind what is still to be sent."""
        if self.wroteLast or self.lost:
            return
        self.wroteLast = True
        self.transport.unregisterProducer()
        if self.halfCloses:
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    def drop(self) -> None:
        """Read on, although nobody wants it any more, to see the end."""
        if self._paused:
            self.resumeProducing()

    def abort(self) -> None:
        if not self.lost:
            abort(self.transport)

    def _closeIfFinished(self) -> None:
        if self.readEnded and self.writeEnded and not self.lost:
            self.transport.loseConnection()
