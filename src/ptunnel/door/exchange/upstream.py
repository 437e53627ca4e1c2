"""A connection to the next proxy or to an origin, which carries one request after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IPushProducer, ITransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.net.transports import abort, hasSaidGoodbye, isSecure, setReceiver, tune
from ptunnel.route.forwards import Reach


class User(Protocol):
    """The request that a connection carries now."""

    def received(self, data: bytes) -> None:
        """Take what has come."""

    def lost(self, clean: bool) -> None:
        """The connection is closed. @param clean: in order, not by a reset."""


@implementer(IPushProducer)
class Valve:
    """Tells when a transport holds as much as it should, and when it has room again."""

    def __init__(self, turned: Callable[[bool], None]) -> None:
        """@param turned: called with True when it is full, then with False."""
        self._turned = turned

    def pauseProducing(self) -> None:
        self._turned(True)

    def resumeProducing(self) -> None:
        self._turned(False)

    def stopProducing(self) -> None:
        """Unused: who has the transport is told of its end."""


@implementer(IProtocol)
class Upstream:
    """One connection.

    @ivar user: the request that it carries; None between two.
    @ivar isUsed: an answer has come on it.
    @ivar isOpen: a request has passed on it, so that the next one need not say who we are where
        the connection is what the proxy knows.
    @ivar isLost: it is closed, or given up.
    @ivar count: bytes that it received.
    """

    user: User | None = None
    isUsed = isOpen = isLost = False
    count = 0

    def __init__(
        self,
        transport: Any,
        reach: Reach,
        turned: Callable[[bool], None],
        heard: Callable[[int], None],
    ) -> None:
        """
        @param turned: called as that of a L{Valve} for what is sent on it.
        @param heard: called with the number of bytes whenever some have come.
        """
        self.transport = transport
        self.reach = reach
        self._heard = heard
        setReceiver(transport, self)
        tune(transport)
        transport.registerProducer(Valve(turned), True)
        self.isSecure = isSecure(transport)

    def channel(self) -> bytes | None:
        """Return the channel binding of its TLS with the proxy; None without TLS."""
        if not self.reach.isSecure:
            return None
        from ptunnel.tls import connectionOf, endPointOf  # only a challenge is answered by it

        connection = connectionOf(self.transport)
        return None if connection is None else endPointOf(connection)

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def hangUp(self) -> None:
        """Close it at once, whatever it still has to send."""
        if not self.isLost:
            self.isLost = True
            self.user = None
            abort(self.transport)

    def close(self) -> None:
        """Close it behind its last answer."""
        if self.isSecure:
            self.hangUp()  # a TLS peer might let us wait for its close_notify
        elif not self.isLost:
            self.isLost = True
            self.user = None
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def release(self) -> ITransport:
        """Return its transport to whoever takes it over."""
        self.transport.unregisterProducer()
        self.user = None
        transport: ITransport = self.transport
        return transport

    # Called by the transport

    def makeConnection(self, transport: ITransport) -> None:
        """Unused: already connected."""

    def connectionMade(self) -> None:
        """Unused: already connected."""

    def dataReceived(self, data: bytes) -> None:
        if self.isLost:
            return
        self.count += len(data)
        self._heard(len(data))
        if self.user is None:
            self.hangUp()  # an answer to no request
        else:
            self.user.received(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        user, self.user = self.user, None
        wasLost, self.isLost = self.isLost, True
        if user is not None and not wasLost:
            user.lost(self._endedInOrder(reason))

    def _endedInOrder(self, reason: Failure) -> bool:
        """Return False for a reset, and for TLS that ends without a close_notify."""
        if self.isSecure:
            isBroken = reason.check("OpenSSL.SSL.Error")
            return not isBroken and hasSaidGoodbye(self.transport)
        return bool(reason.check(ConnectionDone))
