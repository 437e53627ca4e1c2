"""A leg of a splice by Twisted's producers and consumers, for every kind of transport.

The kernel and tlsleg modules have faster ones for sockets, with the same rules.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    ITransport,
)
from zope.interface import implementer

from ptunnel.net.transports import (
    canHalfClose,
    isSecure,
    receiverOf,
    setReceiver,
    tune,
    unsentBytes,
)
from ptunnel.relay.legs.leg import Joint, Leg


@implementer(IHalfCloseableProtocol, IPushProducer)
class ProducersLeg(Leg):
    """One of two transports of any kind: its protocol, and a producer for the other one.

    @ivar halfCloses: one direction can be closed alone.
    """

    halfCloses: bool

    __slots__ = ("_paused", "halfCloses")

    def __init__(self, splice: Joint, transport: ITransport) -> None:
        super().__init__(splice, transport)
        self._paused = False
        self.halfCloses = canHalfClose(self.transport)
        self.secure = isSecure(self.transport)
        self._previous = receiverOf(self.transport)

    def start(self, other: Any) -> None:
        self.other = other
        setReceiver(self.transport, cast(IProtocol, self))
        tune(self.transport)
        other.transport.registerProducer(self, True)

    # Called by the transport, as its protocol

    def dataReceived(self, data: bytes) -> None:
        if not self.other.wroteLast:
            self.received += len(data)
            self.other.transport.write(data)

    def writeConnectionLost(self) -> None:
        if not self.wroteLast:  # the reading end of a pipe was closed
            self._splice.brokenPipe(self)
        self.wroteLast = self.writeEnded = True
        if self.readEnded and not self.lost:
            self._close()

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
        if self.wroteLast or self.lost:
            return
        self.wroteLast = True
        self.transport.unregisterProducer()
        if self.halfCloses:
            self.transport.loseWriteConnection()
        else:
            self.transport.loseConnection()

    def drop(self) -> None:
        if getattr(self.transport, "closesOverInput", False) and self.other.lost:
            self.transport.loseConnection()
        elif self._paused:
            self.resumeProducing()

    def unsentBytes(self) -> int:
        return 0 if self.lost else unsentBytes(self.transport)

    def hangUp(self) -> None:
        if self.halfCloses and not self.lost:
            self.transport.loseConnection()
        else:
            self.abort()

    def _close(self) -> None:
        self.transport.loseConnection()
