"""What several tests need: a clock that is as strict as a reactor, protocols that keep what they
get, transports that can be taken over, endpoints that do what they are told."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError, ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IHostnameResolver,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

ADDRESS = IPv4Address("TCP", "192.0.2.1", 3128)


# Any text, with what UTF-8 cannot carry, such as os.environ has of bytes that are none.
anyText = st.lists(st.integers(0, 0x10FFFF).map(chr)).map("".join)


class StrictClock(Clock):
    """Refuses a delay below zero, as every reactor does."""

    def callLater(self, delay: float, callable: Any, *args: object, **kw: object) -> Any:
        assert delay >= 0, f"{delay} is not greater than or equal to 0 seconds"
        return super().callLater(delay, callable, *args, **kw)


class Transport(StringTransport):
    """A StringTransport that knows its protocol, by the attribute that Twisted's transports use.

    @ivar aborted: how often it was.
    """

    protocol: Any = None
    aborted = 0

    def abortConnection(self) -> None:
        self.aborted += 1
        super().abortConnection()

    @property
    def closing(self) -> bool:
        return self.disconnecting

    def receive(self, data: bytes) -> None:
        """Let whoever is the protocol now get data."""
        self.protocol.dataReceived(data)

    def endReading(self) -> None:
        """What Twisted does when a peer half-closes."""
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.readConnectionLost()
        else:
            self.lose()

    def endWriting(self) -> None:
        """What Twisted does when our half-close is through."""
        if IHalfCloseableProtocol.providedBy(self.protocol):
            self.protocol.writeConnectionLost()

    def lose(self, why: Exception | None = None) -> None:
        """End the connection."""
        self.protocol.connectionLost(Failure(why or ConnectionDone()))


class Recorder(Protocol):
    """Notes what happens to it, in `events`, which may be shared.

    @ivar greeting: what it writes as soon as it is connected.
    """

    def __init__(self, events: list[Any] | None = None, greeting: bytes = b"") -> None:
        self.events: list[Any] = [] if events is None else events
        self.greeting = greeting

    @property
    def received(self) -> bytes:
        return b"".join(data for what, data in self.events if what == "data")

    def connectionMade(self) -> None:
        self.events.append(("made", None))
        if self.greeting:
            self.transport.write(self.greeting)

    def dataReceived(self, data: bytes) -> None:
        self.events.append(("data", data))

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        self.events.append(("lost", reason.type))


@implementer(IHalfCloseableProtocol)
class HalfCloseRecorder(Recorder):
    """Notes half-closes too."""

    def readConnectionLost(self) -> None:
        self.events.append(("read lost", None))

    def writeConnectionLost(self) -> None:
        self.events.append(("write lost", None))


class Builder(Factory):
    """A factory that keeps what it built, started and stopped.

    @ivar build: makes the protocols; may return None or raise.
    """

    noisy = False
    starts = stops = 0

    def __init__(self, build: Callable[[], IProtocol | None] = Recorder) -> None:
        self.build = build
        self.built: list[Any] = []
        self.addresses: list[IAddress | None] = []

    def doStart(self) -> None:
        self.starts += 1

    def doStop(self) -> None:
        self.stops += 1

    def buildProtocol(self, addr: IAddress | None) -> Any:
        protocol = self.build()
        self.built.append(protocol)
        self.addresses.append(addr)
        return protocol


@implementer(IStreamClientEndpoint)
class Endpoint:
    """Connects when it is told to.

    @ivar factories: of all attempts.
    @ivar pending: the Deferred of the last attempt.
    @ivar cancels: how many were cancelled.
    @ivar onCancel: what a cancelled attempt fails with; None: it takes no notice.
    """

    def __init__(self) -> None:
        self.factories: list[IProtocolFactory] = []
        self.pending: Deferred[Any] = Deferred()
        self.cancels = 0
        self.onCancel: Exception | None = ConnectingCancelledError(ADDRESS)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        self.factories.append(protocolFactory)
        self.pending = Deferred(self._cancelled)
        return self.pending

    @property
    def attempts(self) -> int:
        return len(self.factories)

    def _cancelled(self, pending: Deferred[Any]) -> None:
        self.cancels += 1
        if self.onCancel is not None:
            pending.errback(self.onCancel)

    def accept(self) -> Transport:
        """The last attempt succeeds."""
        protocol = self.factories[-1].buildProtocol(ADDRESS)
        assert protocol is not None
        transport = Transport(peerAddress=ADDRESS)
        transport.protocol = protocol
        protocol.makeConnection(transport)
        self.pending.callback(protocol)
        return transport

    def fail(self, error: Exception) -> None:
        """The last attempt fails."""
        self.pending.errback(error)


@implementer(IStreamClientEndpoint)
class RaisingEndpoint:
    """Raises, where an endpoint should have failed its Deferred."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        raise self.error


@implementer(IHostResolution)
class _Resolution:
    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        pass


@implementer(IHostnameResolver)
class Resolver:
    """Answers at once with its addresses, or never.

    @ivar asked: the names that it was asked for.
    """

    def __init__(self, *addresses: str, silent: bool = False) -> None:
        self.addresses = addresses
        self.silent = silent
        self.asked: list[str] = []
        self.receivers: list[IResolutionReceiver] = []

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        self.asked.append(hostName)
        resolution = _Resolution(hostName)
        resolutionReceiver.resolutionBegan(resolution)
        if self.silent:
            self.receivers.append(resolutionReceiver)
            return resolution
        for host in self.addresses:
            kind = IPv6Address if ":" in host else IPv4Address
            resolutionReceiver.addressResolved(kind("TCP", host, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolution


@implementer(IReactorPluggableNameResolver)
class ResolvingReactor(MemoryReactorClock):
    """A memory reactor with a resolver, which Twisted's own has not in every version."""

    def __init__(self, resolver: IHostnameResolver) -> None:
        super().__init__()
        self.nameResolver = resolver

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        previous, self.nameResolver = self.nameResolver, resolver
        return previous


def acceptTCP(reactor: MemoryReactorClock, index: int = -1) -> Transport:
    """One of a memory reactor's outgoing connections comes about."""
    host, port, factory = reactor.tcpClients[index][:3]
    kind = IPv6Address if ":" in host else IPv4Address
    address = kind("TCP", host, port)
    protocol: Any = factory.buildProtocol(address)
    assert protocol is not None
    transport = Transport(peerAddress=address)
    transport.protocol = protocol
    protocol.makeConnection(transport)
    return transport


def refuseTCP(reactor: MemoryReactorClock, error: Exception, index: int = -1) -> None:
    """One of a memory reactor's outgoing connections fails."""
    factory = reactor.tcpClients[index][2]
    factory.clientConnectionFailed(reactor.connectors[index], Failure(error))


def observe(test: SynchronousTestCase) -> list[LogEvent]:
    """The events that ptunnel logs from now on, to the end of the test."""
    events: list[LogEvent] = []

    def observer(event: LogEvent) -> None:
        if event.get("log_namespace") == "ptunnel":
            events.append(event)

    globalLogPublisher.addObserver(observer)
    test.addCleanup(globalLogPublisher.removeObserver, observer)
    return events


def said(events: list[LogEvent]) -> list[str]:
    """The events as `level text`."""
    return [f"{event['log_level'].name} {formatEvent(event)}" for event in events]


class Counted(bytearray):
    """What a parser has received: a test puts it into the place of the parser's own.

    @ivar seen: how many of its bytes were searched or copied.
    """

    seen = 0

    def find(self, what: Any, start: Any = 0, end: Any = None) -> int:
        found = super().find(what, start, end)
        last = len(self) if end is None else min(end, len(self))
        self.seen += (found + 1 if found >= 0 else last) - start
        return found

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        self.seen += len(part) if isinstance(part, bytearray) else 1
        return part


class CountedPattern:
    """A pattern that counts what it is to look at as a part of that."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self._pattern = pattern

    def fullmatch(self, data: Any, start: int = 0, end: int | None = None) -> Any:
        end = len(data) if end is None else end
        if isinstance(data, Counted):
            data.seen += end - start
        return self._pattern.fullmatch(data, start, end)
