"""The protocol of a connection that has arrived and waits to be taken over."""

from __future__ import annotations

from twisted.internet.interfaces import IProtocol, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer


@implementer(IProtocol)
class Arrived:
    """Holds the transport until somebody takes it over, who is told by the endpoint's Deferred.

    @ivar way: the name of the way that was taken, as a Route tells it; None: nobody did.
    """

    # Factories of others, made with Factory.forProtocol, put themselves there.
    __slots__ = ("factory", "transport", "way")

    def __init__(self) -> None:
        self.way: str | None = None

    def makeConnection(self, transport: ITransport) -> None:
        self.transport = transport

    def connectionMade(self) -> None:
        """Unused."""

    def dataReceived(self, data: bytes) -> None:
        """Unused: the transport is taken over first."""

    def connectionLost(self, reason: Failure) -> None:
        """Unused: whoever has taken it over is told as well."""
