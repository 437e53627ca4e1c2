"""A leg of a splice by Twisted's producers and consumers, for every kind of transport.

The kernel module has a faster one for plain sockets, with the same rules.
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
    hasSaidGoodbye,
    isSecure,
    probe,
    receiverOf,
    setReceiver,
    tune,
    unsentBytes,
)

if TYPE_CHECKING:
    from typing_extensions import Self


class Joint(Protocol):
    """The part of a splice that its legs call."""

    def sourceEnded(self, leg: Leg) -> None:
        """The leg's peer has ended."""

    def passOnEnd(self, leg: Leg) -> None:
        """Pass the end on to the other leg's peer, now or, with holdEnd, after its own end."""

    def brokenPipe(self, leg: Leg) -> None:
        """The leg's peer no longer reads."""

    def legLost(self, leg: Leg, clean: bool) -> None:
        """The leg is closed. @param clean: in order, not by a reset."""


@implementer(IProtocol, IHalfCloseableProtocol, IPushProducer)
class Leg:
    """One of the two transports: its protocol, and a producer for the other one.

    @ivar received: bytes that this transport received and the other one was given to send.
    @ivar readEnded: its peer has ended; no more bytes will come from it.
    @ivar wroteLast: it was told to close its writing half after its buffered bytes, or is lost.
    @ivar writeEnded: its writing half is closed.
    @ivar lost: it is closed.
    @ivar secure: it is TLS, which tells an end from a cut.
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
        """Make a leg that continues in place of another one."""
        new = cls(leg._splice, leg.transport)
        new._previous = leg._previous
        new.received = leg.received
        return new

    def _takeOver(self) -> None:
        """Set what the transport supports, and its protocol until now."""
        self.halfCloses = canHalfClose(self.transport)
        self.secure = isSecure(self.transport)
        self._previous = receiverOf(self.transport)

    def start(self, other: Leg) -> None:
        self.other = other
        setReceiver(self.transport, cast(IProtocol, self))
        tune(self.transport)
        other.transport.registerProducer(self, True)

    # Called by the transport, as its protocol

    def makeConnection(self, transport: ITransport) -> None:
        """Unused: already connected."""

    def connectionMade(self) -> None:
        """Unused: already connected."""

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
        if not self.wroteLast:  # the reading end of a pipe was closed
            self._splice.brokenPipe(self)
        self.wroteLast = self.writeEnded = True
        self._closeIfFinished()

    def connectionLost(self, reason: Failure) -> None:
        clean = reason is connectionDone or self._endedInOrder(reason)
        self.lost = self.wroteLast = True
        try:
            self._previous.connectionLost(reason)
        finally:
            self._splice.legLost(self, clean)

    def _endedInOrder(self, reason: Failure) -> bool:
        """Return False for a reset, and for TLS that ends without a close_notify.

        What TCP does behind a close_notify does not matter: it may reset the connection because our
        own came too late.
        """
        if reason.check(ConnectionDone):
            return True
        isBroken = reason.check("OpenSSL.SSL.Error")  # to OpenSSL an alert is a goodbye too
        return self.secure and not isBroken and hasSaidGoodbye(self.transport)

    # Called by the other transport, as its producer

    def pauseProducing(self) -> None:
        self._paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        if not self.readEnded and not self.lost:
            self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Unused: the other transport is lost, and its connectionLost is called as well."""

    # Called by the splice

    def endWriting(self) -> None:
        """Close the writing half after the buffered bytes."""
        if self.wroteLast or self.lost:
            return
        self.wroteLast = True
        self.transport.unregisterProducer()
        if self.halfCloses:
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    def drop(self) -> None:
        """Read on and drop the bytes, to see the end.

        A socket that is closed over unread input resets its connection; others do not.
        """
        if getattr(self.transport, "closesOverInput", False) and self.other.lost:
            self.transport.loseConnection()
        elif self._paused:
            self.resumeProducing()

    def rest(self) -> None:
        """Release what only a busy connection needs; called when nothing came for a while."""

    def probe(self, seconds: float | None) -> None:
        """Let the kernel ask its peer, after so many seconds of silence, whether it is there."""
        if not self.lost:
            probe(self.transport, seconds)

    def unsentBytes(self) -> int:
        """Return the number of bytes that its peer has not taken yet."""
        return 0 if self.lost else unsentBytes(self.transport)

    def hangUp(self) -> None:
        """Close a connection whose peer has taken all bytes."""
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
