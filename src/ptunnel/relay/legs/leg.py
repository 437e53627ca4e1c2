"""A leg of a splice: one of its two transports, its state, and how it tells of its end.

How bytes are moved is up to the subclasses, of which producers has one for every transport.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, ITransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.net.transports import abort, hasSaidGoodbye, probe

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


@implementer(IProtocol)
class Leg:
    """One of the two transports, and from `start` on its protocol.

    A subclass implements the methods that raise NotImplementedError.

    @ivar received: bytes that this transport received and the other one was given to send.
    @ivar readEnded: its peer has ended; no more bytes will come from it.
    @ivar wroteLast: it was told to close its writing half after its buffered bytes, or is lost.
    @ivar writeEnded: its writing half is closed.
    @ivar lost: it is closed.
    @ivar secure: it is TLS, which tells an end from a cut.
    @ivar _previous: the transport's protocol before.
    """

    transport: Any
    secure: bool
    _previous: Any

    __slots__ = (
        "_previous",
        "_splice",
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
        self.transport = transport
        self.received = 0
        self.readEnded = self.wroteLast = self.writeEnded = self.lost = False
        self.other = self

    @classmethod
    def inPlaceOf(cls, leg: Leg) -> Self:
        """Make a leg that continues in place of another one."""
        new = cls(leg._splice, leg.transport)
        new._previous = leg._previous
        new.received = leg.received
        return new

    # Called by the transport, as its protocol

    def makeConnection(self, transport: ITransport) -> None:
        """Unused: already connected."""

    def connectionMade(self) -> None:
        """Unused: already connected."""

    def dataReceived(self, data: bytes) -> None:
        raise NotImplementedError

    def readConnectionLost(self) -> None:
        self.readEnded = True
        self._splice.sourceEnded(self)
        self._splice.passOnEnd(self)
        if self.writeEnded and not self.lost:
            self._close()

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

    # Called by the splice

    def start(self, other: Any) -> None:
        """Become the transport's protocol. The other leg is made, and perhaps started."""
        raise NotImplementedError

    def resumeProducing(self) -> None:
        """Read, or go on reading."""
        raise NotImplementedError

    def endWriting(self) -> None:
        """Close the writing half after the buffered bytes."""
        raise NotImplementedError

    def drop(self) -> None:
        """Read on and drop the bytes, to see the end.

        A socket that is closed over unread input resets its connection; others do not.
        """
        raise NotImplementedError

    def rest(self) -> None:
        """Release what only a busy connection needs; called when nothing came for a while."""

    def probe(self, seconds: float | None) -> None:
        """Let the kernel ask its peer, after so many seconds of silence, whether it is there."""
        if not self.lost:
            probe(self.transport, seconds)

    def unsentBytes(self) -> int:
        """Return the number of bytes that its peer has not taken yet."""
        raise NotImplementedError

    def hangUp(self) -> None:
        """Close a connection whose peer has taken all bytes."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close it at once; its peer sees a reset."""
        if not self.lost:
            abort(self.transport)

    def _close(self) -> None:
        """Close the transport, of which both halves have ended."""
        raise NotImplementedError
