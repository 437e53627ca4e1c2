"""A leg of a splice by Twisted's producers and consumers, which serves every kind of transport.

Used by splice; kernel has one for plain sockets that is faster, and keeps to the same rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    ITransport,
)
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.net.transports import (
    abort,
    canHalfClose,
    isSecure,
    receiverOf,
    setReceiver,
    tune,
    unsentBytes,
)

if TYPE_CHECKING:
    from typing_extensions import Self


class Joint(Protocol):
    """What a leg tells the splice that it is part of."""

    def sourceEnded(self, leg: Leg) -> None:
        """Its peer has ended."""

    def passOnEnd(self, leg: Leg) -> None:
        """Let the peer of the other one see that, now or when it has ended itself."""

    def brokenPipe(self, leg: Leg) -> None:
        """Nobody reads what it writes any more."""

    def legLost(self, leg: Leg, clean: bool) -> None:
        """It is closed. @param clean: in order, not by a reset."""


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class Leg:
    """One of the two transports: the protocol of its own, and a producer for the other.

    @ivar received: bytes that this transport received and the other one was given to send.
    @ivar readEnded: its peer has ended; no more bytes will come from it.
    @ivar wroteLast: it was told to close its writing half behind what it still buffers, or is
        lost.
    @ivar writeEnded: and has done so.
    @ivar lost: it is closed.
    @ivar secure: TLS is spoken over it, which says by itself whether an end is one.
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
        "secure",
        "transport",
        "writeEnded",
        "wroteLast",
    )

    def __init__(self, splice: Joint, transport: ITransport) -> None:
        self._splice = splice
        self.transport = cast(Any, transport)
        self.received = 0
        self._paused = self.readEnded = self.wroteLast = self.writeEnded = self.lost = False
        self.other = self
        self._takeOver()

    @classmethod
    def inPlaceOf(cls, leg: Leg) -> Self:
        """Make a leg that goes on where another one is."""
        new = cls(leg._splice, leg.transport)
        new._previous = leg._previous
        new.received = leg.received
        return new

    def _takeOver(self) -> None:
        """Find out what the transport can, and who received its bytes so far."""
        self.halfCloses = canHalfClose(self.transport)
        self.secure = isSecure(self.transport)
        self._previous = receiverOf(self.transport)

    def start(self, other: Leg) -> None:
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
        self._splice.passOnEnd(self)
        self._closeIfFinished()

    def writeConnectionLost(self) -> None:
        if not self.wroteLast:  # nobody reads from a pipe any more
            self._splice.brokenPipe(self)
        self.wroteLast = self.writeEnded = True
        self._closeIfFinished()

    def connectionLost(self, reason: Failure) -> None:
        clean = self._endedInOrder(reason)
        self.lost = self.wroteLast = True
        try:
            self._previous.connectionLost(reason)
        finally:
            self._splice.legLost(self, clean)

    def _endedInOrder(self, reason: Failure) -> bool:
        """Return False for a reset, and for TLS that ends without a close_notify."""
        return reason is connectionDone or bool(reason.check(ConnectionDone))

    # What the other transport, as a consumer, tells its producer

    def pauseProducing(self) -> None:
        self._paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        if not self.readEnded and not self.lost:
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

    def rest(self) -> None:
        """Nothing has come for a while: let go of what only a busy connection needs."""

    def unsentBytes(self) -> int:
        """The bytes for its peer that the peer has not taken yet."""
        return 0 if self.lost else unsentBytes(self.transport)

    def hangUp(self) -> None:
        """Close a connection of which all that was to be sent has been taken."""
        if self.halfCloses and not self.lost:
            self.transport.loseConnection()
        else:
            self.abort()

    def abort(self) -> None:
        if not self.lost:
            abort(self.transport)

    def _closeIfFinished(self) -> None:
        if self.readEnded and self.writeEnded and not self.lost:
            self.transport.loseConnection()
