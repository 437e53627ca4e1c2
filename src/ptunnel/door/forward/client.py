"""One client of whose requests each is answered: its transport, and how that ends."""

from __future__ import annotations

from enum import Enum
from typing import Any, Protocol

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol, IProtocol, ITransport
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.door.exchange.lines import Lines
from ptunnel.door.exchange.upstream import Valve
from ptunnel.net.phases import Phased
from ptunnel.net.transports import (
    abort,
    endInOrder,
    receiverOf,
    setReceiver,
    tune,
    unsentBytes,
)
from ptunnel.relay.outcome import Cause
from ptunnel.relay.terms import Terms
from ptunnel.timing.deadlines import Sweep


class Phase(Enum):
    """Where a client's connection is."""

    IDLE = "idle"  # waits for the next request
    BUSY = "busy"  # a request goes on
    ENDING = "ending"  # has had its last answer; its end has not come yet
    CUTTING = "cutting"  # is cut off as soon as it has what was sent before
    JOINED = "joined"  # bytes flow, in a splice
    OVER = "over"


IDLE, BUSY, ENDING, CUTTING, JOINED, OVER = Phase


class Timed(Protocol):
    """What the ends of a client go by."""

    terms: Terms
    sweep: Sweep


@implementer(IHalfCloseableProtocol, IProtocol)
class Client(Phased):
    """A client's transport, from the moment when it is taken over.

    @ivar transport: the client's.
    @ivar lines: its connection upstream.
    @ivar sent: bytes that came from the client.
    @ivar moved: when something has moved last. @ivar isPaused: the client is not read.
    @ivar hasEnded: the client has closed its sending half.
    @ivar cause: why it ended; None as long as it does not. @ivar first: as in L{Ended}.
    """

    phase: Enum = IDLE
    lines: Lines
    sent = 0
    hasEnded = False
    cause: Cause | None = None
    first: int | None = None
    isPaused = False

    def __init__(self, timed: Timed, transport: Any) -> None:
        self.terms = timed.terms
        self.sweep = timed.sweep
        self.transport = transport
        self._previous = receiverOf(transport)
        self.moved = timed.sweep.clock.seconds()

    def takeOver(self) -> None:
        setReceiver(self.transport, self)
        tune(self.transport)
        self.transport.registerProducer(Valve(self._crowded), True)
        self.sweep.add(self)
        self.transport.resumeProducing()

    def letGo(self) -> None:
        """Let somebody else have the transport."""
        self.sweep.discard(self)
        self.transport.unregisterProducer()

    def send(self, data: bytes) -> None:
        """Send something to the client."""
        self.transport.write(data)

    def read(self, isWanted: bool) -> None:
        """Read the client, or let it wait."""
        if self.isPaused is isWanted and not self.hasEnded and self.phase in (IDLE, BUSY):
            self.isPaused = not isWanted
            (self.transport.resumeProducing if isWanted else self.transport.pauseProducing)()

    def stirs(self) -> None:
        """Note that something has moved."""
        self.moved = self.sweep.clock.seconds()

    def _crowded(self, isCrowded: bool) -> None:
        """The client's connection holds what it should, or has room again."""
        self.stirs()
        self.lines.crowd(isCrowded)

    # Called by the transport

    def makeConnection(self, transport: ITransport) -> None:
        """Unused: already connected."""

    def connectionMade(self) -> None:
        """Unused: already connected."""

    def dataReceived(self, data: bytes) -> None:
        self.sent += len(data)
        if self.phase in (IDLE, BUSY):  # what comes later is nobody's, and does not keep it
            self.stirs()
            self.heard(data)

    def readConnectionLost(self) -> None:
        self.hasEnded = True
        if self.phase in (IDLE, ENDING):
            self.note("end", 0)
            self.transport.unregisterProducer()
            self.transport.loseConnection()
        elif self.phase is not BUSY or not self.mayStillWait():
            self.note("reset", 0)
            abort(self.transport)

    def writeConnectionLost(self) -> None:
        """Unused: behind our end, only the client's is waited for."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        isOrderly = self.phase in (IDLE, ENDING) and reason.check(ConnectionDone)
        self.note("end" if isOrderly else "reset", 0)
        try:
            self._previous.connectionLost(reason)
        finally:
            if self.phase not in (JOINED, OVER):  # a splice gives account
                self.sweep.discard(self)
                self.lost()

    # What others do about it

    def heard(self, data: bytes) -> None:
        """Take what the client says."""
        raise NotImplementedError

    def mayStillWait(self) -> bool:
        """Return whether a client that has ended its sending half may still be served."""
        raise NotImplementedError

    def lost(self) -> None:
        """The connection is closed."""
        raise NotImplementedError

    def check(self, now: float) -> None:
        """Look whether anything moves; called by the Sweep."""
        raise NotImplementedError

    # The end

    def note(self, cause: Cause, first: int | None) -> None:
        """Note why it ends, unless that is known."""
        if self.cause is None:
            self.cause, self.first = cause, first

    def end(self, cause: Cause, first: int | None = None) -> None:
        """End the connection in order: the client gets all, though it may not have been read."""
        self.note(cause, first)
        self.enter(ENDING)
        self.stirs()
        self.lines.end(inOrder=True)
        self.transport.unregisterProducer()
        if self.hasEnded:
            self.transport.loseConnection()
        else:
            endInOrder(self.transport)

    def cutOff(self) -> None:
        """Cut the client off behind what it was sent."""
        self.note("cut", 1)
        self.enter(CUTTING)
        self.stirs()
        self.lines.end(inOrder=False)
        if not self.passOnCut():
            self.sweep.clock.callLater(0, self.passOnCut)  # usually all is sent by then

    def passOnCut(self) -> bool:
        """Cut the client off if it has all that came before. Return whether it was."""
        if self.phase is not CUTTING or unsentBytes(self.transport):
            return False
        abort(self.transport)
        return True
