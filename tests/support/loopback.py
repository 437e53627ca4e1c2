"""Fixtures: connections in memory and over loopback TCP, a fake endpoint, and what was logged."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.error import (
    ConnectingCancelledError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
)
from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableDescriptor,
    IHalfCloseableProtocol,
    IProtocol,
    IPushProducer,
    IStreamClientEndpoint,
    ITCPTransport,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted import internet

# In memory


@implementer(IHalfCloseableProtocol)
class Recorder(Protocol):
    """A protocol that notes what it is told; `gone` fires when its connection is lost."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.calls.append("dataReceived")

    def readConnectionLost(self) -> None:
        self.calls.append("readConnectionLost")

    def writeConnectionLost(self) -> None:
        self.calls.append("writeConnectionLost")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.calls.append("connectionLost")
        self.gone.callback(None)


@implementer(ITransport, IConsumer, IPushProducer)
class MemoryTransport:
    """Does what Twisted's transports do, at once and without a reactor.

    @ivar sent: what its peer has got.
    @ivar held: what it has still to send, while `stuck`.
    @ivar unread: what its peer has sent while it was paused.
    @ivar how: the names of the ways in which it was told to end.
    """

    bufferSize = 65536
    halfCloses = False

    def __init__(self, protocol: Any = None, peer: Any = None) -> None:
        self.protocol = protocol
        self.peer = peer or IPv4Address("TCP", "192.0.2.1", 4321)
        self.sent = self.held = b""
        self.unread: list[bytes] = []
        self.how: list[str] = []
        self.paused = self.stuck = self.lost = self.readEnded = False
        self.writeEnded = self.disconnecting = False
        self.producer: Any = None
        self._producerPaused = self._ending = False
        if protocol is not None:
            protocol.makeConnection(self)

    @property
    def dataBuffer(self) -> bytes:
        """As Twisted's sockets call what is held."""
        return self.held

    # What its peer does

    def receive(self, data: bytes) -> None:
        if self.paused:
            self.unread.append(data)
        elif not self.lost:
            self.protocol.dataReceived(data)

    def end(self) -> None:
        """The peer has closed its writing half."""
        if IHalfCloseableProtocol.providedBy(self.protocol) and self.halfCloses:
            self.readEnded = True
            self.protocol.readConnectionLost()
        else:
            self.lose(ConnectionDone())

    def lose(self, why: Exception | None = None) -> None:
        """It is lost; without a reason the peer has reset it."""
        if not self.lost:
            self.lost = True
            if self.producer is not None:
                self.producer.stopProducing()
            self.protocol.connectionLost(Failure(why or ConnectionLost()))

    def unstick(self) -> None:
        """The peer reads all that was held."""
        self.stuck = False
        self._flush()

    # ITransport

    def write(self, data: bytes) -> None:
        if self.lost or self._ending or self.disconnecting:
            return
        self.held += data
        if self.stuck:
            if len(self.held) > self.bufferSize and self.producer and not self._producerPaused:
                self._producerPaused = True
                self.producer.pauseProducing()
        else:
            self._flush()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        self.how.append("loseConnection")
        if not self.disconnecting:
            self.disconnecting = True
            self._flush()

    def abortConnection(self) -> None:
        self.how.append("abortConnection")
        self.lose(ConnectionAborted())

    def getPeer(self) -> Any:
        return self.peer

    getHost = getPeer

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self.producer is not None:
            raise RuntimeError("there is a producer already")
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None
        self._flush()

    # IPushProducer

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False
        if self.readEnded:  # as the kernel would say again, FIELD-NOTES
            self.protocol.readConnectionLost()
        while self.unread and not self.paused:
            self.receive(self.unread.pop(0))

    def stopProducing(self) -> None:
        self.loseConnection()

    def _flush(self) -> None:
        if self.stuck or self.lost:
            return
        self.sent, self.held = self.sent + self.held, b""
        if self._producerPaused and self.producer is not None:
            self._producerPaused = False
            self.producer.resumeProducing()
        if self._ending and not self.writeEnded:
            self.writeEnded = True
            if IHalfCloseableProtocol.providedBy(self.protocol):
                self.protocol.writeConnectionLost()
        if self.disconnecting and self.producer is None:
            self.lose(ConnectionDone())


@implementer(ITCPTransport, IHalfCloseableDescriptor)
class MemoryTCP(MemoryTransport):
    """One with half-close, as plain TCP has it."""

    halfCloses = True
    noDelay = keepAlive = False

    def loseWriteConnection(self) -> None:
        self.how.append("loseWriteConnection")
        self._ending = True
        self._flush()

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.noDelay = enabled

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.keepAlive = enabled

    def getTcpNoDelay(self) -> bool:
        return self.noDelay

    def getTcpKeepAlive(self) -> bool:
        return self.keepAlive


@implementer(IStreamClientEndpoint)
class FakeEndpoint:
    """An endpoint whose attempts wait until the test decides.

    @ivar attempts: a Deferred for each.
    @ivar cancelled: how many were cancelled.
    """

    def __init__(self) -> None:
        self.attempts: list[Deferred[IProtocol]] = []
        self.factories: list[Any] = []
        self.cancelled = 0

    def connect(self, protocolFactory: Any) -> Deferred[IProtocol]:
        attempt: Deferred[IProtocol] = Deferred(self._cancel)
        self.attempts.append(attempt)
        self.factories.append(protocolFactory)
        return attempt

    def _cancel(self, attempt: Deferred[IProtocol]) -> None:
        self.cancelled += 1
        attempt.errback(ConnectingCancelledError(IPv4Address("TCP", "192.0.2.9", 9)))

    def succeed(self, number: int = -1, transport: Any = None) -> Any:
        """Connect an attempt; gives its transport."""
        transport = transport or MemoryTCP()
        transport.protocol = self.factories[number].buildProtocol(transport.getPeer())
        transport.protocol.makeConnection(transport)
        self.attempts[number].callback(transport.protocol)
        return transport

    def fail(self, error: Exception, number: int = -1) -> None:
        self.attempts[number].errback(error)


def captureLog(case: Any) -> list[LogEvent]:
    """The events of ptunnel while a test runs."""
    events: list[LogEvent] = []

    def observer(event: LogEvent) -> None:
        if event.get("log_namespace") == "ptunnel":
            events.append(event)

    globalLogPublisher.addObserver(observer)
    case.addCleanup(globalLogPublisher.removeObserver, observer)
    return events


def lines(events: list[LogEvent]) -> list[str]:
    """Events as `level: text`."""
    return [f"{event['log_level'].name}: {formatEvent(event)}" for event in events]


def useReactor(case: Any, fake: Any) -> None:
    """Let a test find `fake` where programs import the reactor from."""
    from twisted.internet import reactor  # so that there is one to be replaced

    assert reactor is not None
    case.patch(internet, "reactor", fake)


# Over loopback

# Not that of `random`, which Hypothesis makes the same in each run.
_CHANCE = random.SystemRandom()
_given: set[int] = set()


def tcpPair(bufferSize: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Two connected TCP sockets, not blocking.

    @param bufferSize: of their four buffers in the kernel, which doubles it for its own use.
    """

    def limit(sock: socket.socket) -> None:
        if bufferSize is not None:
            for option in socket.SO_SNDBUF, socket.SO_RCVBUF:
                sock.setsockopt(socket.SOL_SOCKET, option, bufferSize)

    with socket.socket() as listener:
        limit(listener)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        here = socket.socket()
        limit(here)
        here.connect(listener.getsockname())
        there, _ = listener.accept()
    for sock in here, there:
        sock.setblocking(False)
    return here, there


def takenPort(case: Any) -> int:
    """A port of 127.0.0.1 that somebody else listens on while a test runs."""
    listener = socket.socket()
    case.addCleanup(listener.close)
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    port: int = listener.getsockname()[1]
    return port


def freePort() -> int:
    """A port of 127.0.0.1 that nobody listens on, another one each time.

    It is of those that the kernel does not give to outgoing connections, one of which could have
    it before a server does, or meet itself there.
    """
    while True:
        port = _CHANCE.randrange(20000, 32000)
        if port in _given:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.add(port)
            return port


@implementer(IHalfCloseableProtocol)
class Peer(Protocol):
    """A program at the far end of a connection: sends, ends, and notes what it gets.

    It closes its socket when both directions have ended.

    @ivar received: all bytes so far.
    @ivar ended: whether the other side has ended its direction.
    @ivar lost: how the connection was lost.
    """

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = self._finished = False
        self.lost: Failure | None = None
        self.gone: Deferred[None] = Deferred()
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def send(self, data: bytes) -> None:
        self.transport.write(data)

    def end(self) -> None:
        """End the direction from here, behind what is still to be sent."""
        self._finished = True
        if self.ended:
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def reset(self) -> None:
        self.transport.abortConnection()

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        """Wait for something about this peer."""
        done: Deferred[None] = Deferred()
        self._waiting.append((condition, done))
        self._look()
        return done

    def gets(self, count: int) -> Deferred[None]:
        """Wait until it has received so many bytes."""
        return self.until(lambda: len(self.received) >= count)

    def isEnded(self) -> Deferred[None]:
        return self.until(lambda: self.ended)

    def isLost(self) -> Deferred[None]:
        return self.until(lambda: self.lost is not None)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._look()

    def readConnectionLost(self) -> None:
        self.ended = True
        if self._finished:
            self.transport.loseConnection()
        self._look()

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason
        self.ended = True
        self._look()
        self.gone.callback(None)

    def _look(self) -> None:
        waiting, self._waiting = self._waiting, []
        for condition, done in waiting:
            if condition():
                done.callback(None)
            else:
                self._waiting.append((condition, done))


class _One(Factory):
    noisy = False

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: Any) -> Any:
        return self._protocol


class Loopback:
    """Connections over 127.0.0.1, all of them closed when the test is over."""

    def __init__(self, case: Any) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self._protocols: list[Any] = []
        self._sockets: list[socket.socket] = []
        case.addCleanup(self.close)

    def connection(self, *, tls: Any = None, bufferSize: int | None = None) -> tuple[Peer, Any]:
        """A connection between a Peer and a Recorder.

        @param tls: the context factories of the Peer, a TLS client, and of the Recorder.
        """
        here, there = tcpPair(bufferSize)
        peer, recorder = Peer(), Recorder()
        self.adopt(there, recorder, tls and tls[1], False)
        self.adopt(here, peer, tls and tls[0], True)
        return peer, recorder

    def rawConnection(self, bufferSize: int) -> tuple[socket.socket, Any]:
        """A connection between a bare socket and a Recorder."""
        here, there = tcpPair(bufferSize)
        self._sockets.append(here)
        recorder = Recorder()
        self.adopt(there, recorder)
        return here, recorder

    def adopt(
        self, sock: socket.socket, protocol: Any, tls: Any = None, isClient: bool = False
    ) -> None:
        factory: Any = _One(protocol)
        if tls is not None:
            factory = TLSMemoryBIOFactory(tls, isClient, factory)
            factory.noisy = False
            factory.protocol = TLSMemoryBIOProtocol  # as tls.TlsEndpoint has it
        self.reactor.adoptStreamConnection(sock.fileno(), sock.family, factory)
        sock.close()
        self._protocols.append(protocol)

    def turn(self) -> Deferred[None]:
        """Let the reactor look at everything once."""
        return deferLater(self.reactor, 0, lambda: None)

    def close(self) -> Deferred[Any]:
        for sock in self._sockets:
            sock.close()
        for protocol in self._protocols:
            if not protocol.gone.called:
                protocol.transport.abortConnection()
        return gatherResults([protocol.gone for protocol in self._protocols])
