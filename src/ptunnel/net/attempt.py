"""One attempt of an endpoint that talks on its connection before it hands it over.

CONNECT, SOCKS, TLS and STARTTLS differ in what is said. They share how an attempt ends: exactly
once, with the inner protocol or a failure, and then nothing of it is pending.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError, NoProtocol
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.log import Trace, traceOf
from ptunnel.net.arrived import Arrived
from ptunnel.net.phases import Phased
from ptunnel.net.transports import abort, isSocket, receiverOf, setReceiver
from ptunnel.timing.deadlines import Patient, PatientCall, clockOf


class Phase(Enum):
    """Where an attempt is."""

    NEW = "new"
    DIALLING = "dialling"  # waits for a connection
    TALKING = "talking"  # waits for the peer's answer
    RESOLVING = "resolving"  # waits for the target's address
    ASKING = "asking"  # waits for credentials
    CONNECTED = "connected"  # has succeeded: the inner protocol has the connection
    FAILED = "failed"


# Before Python 3.12 an attribute of an Enum is slow, and these are looked up for each connection.
NEW, DIALLING, TALKING, RESOLVING, ASKING, CONNECTED, FAILED = Phase


class Attempt(Phased, Factory):
    """The life of one attempt, and the factory of its connections.

    A subclass implements `begin`, `speaker`, `connected` and `expired`.

    @ivar inner: the factory of the protocol that gets the connection.
    @ivar trace: gets a line for each step; None: none.
    @ivar over: it has succeeded or failed.
    @ivar connection: the newest connection's protocol, until the attempt is over.
    """

    noisy = False
    phase = NEW
    over = False
    trace: Trace | None = None
    connection: Speaker | None = None
    _result: Deferred[IProtocol] | None = None
    _timer: PatientCall | None = None

    def __init__(self, inner: IProtocolFactory, address: IAddress) -> None:
        """@param address: the destination that a ConnectingCancelledError names."""
        self.inner = inner
        trace = traceOf(inner)
        if trace is not None:
            self.trace = trace
        self.address = address

    def subject(self) -> str:
        return str(self.address)

    def start(self) -> Deferred[IProtocol]:
        """Begin; to be called once.

        @return: fires with the inner protocol once that is connected, or fails. Cancelling it
            aborts the connection and fails with ConnectingCancelledError.
        """
        result = self._result = Deferred(self._cancelled)
        self.begin()
        return result

    def dial(
        self, endpoint: IStreamClientEndpoint, factory: IProtocolFactory | None = None
    ) -> None:
        """Connect.

        @param factory: wraps the protocols that this factory builds.
        """
        self.enter(DIALLING)
        if factory is not None and self.trace is not None:
            cast(Any, factory).trace = self.trace
        try:
            connecting = endpoint.connect(factory or self)
        except Exception:
            self.fail(Failure())
            return
        if self.phase is DIALLING:
            self._pending = connecting
        connecting.addErrback(self.notConnected)

    def limit(self, seconds: float | None, clock: IReactorTime | None) -> None:
        """Call `expired` in so many seconds, unless the attempt is over by then; None: never."""
        if seconds is not None:
            self._timer = Patient(clockOf(clock)).callLater(seconds, self.expired)

    def begin(self) -> None:
        """Dial, or do what comes before."""
        raise NotImplementedError

    def speaker(self, address: IAddress | None) -> Speaker:
        """Make the protocol of a new connection."""
        raise NotImplementedError

    def connected(self) -> None:
        """Begin to talk on the newest connection."""
        raise NotImplementedError

    def expired(self) -> None:
        """Fail, because the time is over."""
        raise NotImplementedError

    def notConnected(self, reason: Failure) -> None:
        """The endpoint has failed to connect."""
        self.fail(reason)

    def doStart(self) -> None:
        self.inner.doStart()

    def doStop(self) -> None:
        self.inner.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        if self.over:
            return None  # it was cancelled, and connected all the same
        self.connection = self.speaker(addr)
        return self.connection

    def succeed(self, protocol: IProtocol) -> None:
        result = self._end(CONNECTED)
        if result is not None:
            result.callback(protocol)

    def fail(self, reason: Failure | Exception) -> None:
        """Abort the connection, and fail; nothing once the attempt is over."""
        connection, pending = self.connection, self._pending
        result = self._end(FAILED)
        if result is not None:
            if connection is not None and connection.connected:
                abort(connection.transport)
            if pending is not None:
                pending.cancel()
            result.errback(reason)

    def _end(self, phase: Phase) -> Deferred[IProtocol] | None:
        """@return: the result, once."""
        result, self._result = self._result, None
        if result is not None:
            self.over = True
            self.enter(phase)
            self.connection = None
            timer = self._timer
            if timer is not None and timer.active():
                timer.cancel()
            self.ended()
        return result

    def ended(self) -> None:
        """The attempt is over, before anybody is told."""

    def _cancelled(self, result: Deferred[IProtocol]) -> None:
        self.fail(ConnectingCancelledError(self.address))


class Speaker(Protocol):
    """Talks on a connection of an attempt, and then hands it over.

    @ivar attempt: None once the connection was handed over or given up.
    """

    attempt: Attempt | None

    def __init__(self, attempt: Attempt, address: IAddress | None) -> None:
        """@param address: the one with which the inner protocol is built."""
        self.attempt = attempt
        self._address = address

    def connectionMade(self) -> None:
        attempt = self.attempt
        if attempt is None or attempt.over:
            abort(self.transport)  # it was cancelled, and connected all the same
        else:
            attempt.enter(TALKING)
            attempt.connected()

    def handOver(self, leftover: bytes = b"") -> None:
        """Let the inner protocol have the connection, and end the attempt.

        @param leftover: the bytes that came already and are the inner protocol's.
        """
        attempt = self.attempt
        assert attempt is not None
        transport = cast(ITransport, self.transport)
        try:
            inner = attempt.inner.buildProtocol(cast(IAddress, self._address))
            if inner is None:
                raise NoProtocol()
            self.giveTo(inner)
            self.attempt = None  # a tunnel may live for months
            inner.makeConnection(transport)
            attempt.succeed(inner)
        except Exception:
            attempt.fail(Failure())
        else:
            if leftover:
                deliver(leftover, transport, inner)

    def giveTo(self, inner: IProtocol) -> None:
        """Let the inner protocol have what the transport receives from now on."""
        setReceiver(cast(ITransport, self.transport), inner)


@implementer(IHalfCloseableProtocol)
class LastingSpeaker(Speaker):
    """Talks with a proxy, then hands its transport to the inner protocol. Where that is not a
    socket's, it stays and passes all on: a wrapper asks its protocol once what it can do, before
    there is an inner one. So it says that it can half-close, whatever the inner protocol can.

    @ivar isWithin: whether it goes through another proxy, whose TLS is not this one's.
    """

    _inner: IProtocol | None = None
    isWithin = False

    def heard(self, data: bytes) -> bytes | None:
        """Take what the proxy says.

        @return: None while it talks; then the bytes that are the inner protocol's.
        """
        raise NotImplementedError

    def lost(self, reason: Failure) -> None:
        """The connection has ended before it was handed over."""
        raise NotImplementedError

    def letGo(self) -> None:
        """Nobody wants this connection any more."""
        self.attempt = None
        abort(self.transport)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            # Looked up each time, because protocols change it.
            self._inner.dataReceived(data)
            return
        attempt = self.attempt
        if attempt is None or attempt.over:
            return
        try:
            leftover = self.heard(data)
        except Exception:
            attempt.fail(Failure())
        else:
            if leftover is not None:
                self.handOver(leftover)

    def giveTo(self, inner: IProtocol) -> None:
        if isinstance(inner, LastingSpeaker):
            inner.isWithin = True
        transport = cast(ITransport, self.transport)
        # Any other inner protocol may not know how to half-close.
        if isSocket(transport) and isinstance(inner, (Arrived, LastingSpeaker)):
            setReceiver(transport, inner)  # this one is not needed any more
        else:
            self._inner = inner

    def readConnectionLost(self) -> None:
        if self._inner is None:
            self.connectionLost(connectionDone)
        elif IHalfCloseableProtocol.providedBy(self._inner):
            cast(IHalfCloseableProtocol, self._inner).readConnectionLost()
        else:
            cast(Any, self.transport).loseConnection()

    def writeConnectionLost(self) -> None:
        if IHalfCloseableProtocol.providedBy(self._inner):
            cast(IHalfCloseableProtocol, self._inner).writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        attempt = self.attempt
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif attempt is not None and not attempt.over:
            self.lost(reason)


def deliver(data: bytes, transport: Any, protocol: IProtocol) -> None:
    """Give a connection's first bytes to the protocol that got it, or to the one that has taken
    the transport over since."""
    if data and not getattr(transport, "disconnecting", False):
        receiverOf(transport, protocol).dataReceived(data)
