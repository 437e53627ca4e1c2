"""One hop: a connection to a target through the proxy behind any other endpoint.

A ConnectEndpoint is an endpoint over an endpoint, so a chain of proxies is one within another.
Used by service, and by programs that import ptunnel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.address import HostnameAddress
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError, ConnectionDone, NoProtocol
from twisted.internet.error import ConnectionLost as TwistedConnectionLost
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from ptunnel.auth import Credentials
from ptunnel.errors import TunnelError, Unreachable, reasonOf
from ptunnel.handshake import Handshake, connectRequest
from ptunnel.sweep import Sweep, clockOf
from ptunnel.transports import abort, receiverOf

# How long the body of a refusal is waited for, in seconds. It comes with the head, as a rule.
BODY_WAIT = 1.0


@implementer(IStreamClientEndpoint)
class ConnectEndpoint:
    """A connection through an HTTP proxy's CONNECT method (RFC 9110 section 9.3.6).

    `connect` gives a Deferred that fires with the inner protocol when the proxy has answered 2xx
    and the protocol is connected; bytes that came behind the answer follow at once. It fails with

     - L{Unreachable} when there is no connection to the proxy,
     - L{ptunnel.errors.ProxyRefused} when it answers anything but 2xx,
     - L{ptunnel.errors.ProxyFailed} when it answers nothing, or nothing that is HTTP,
     - ConnectingCancelledError when it is cancelled,
     - whatever the factory raised, or NoProtocol when it built none.

    Whichever it is, the connection to the proxy is then aborted.
    """

    def __init__(
        self,
        proxyEndpoint: IStreamClientEndpoint,
        host: str,
        port: int,
        *,
        credentials: Credentials | None = None,
        headers: Sequence[tuple[str, str]] = (),
        timeout: float | None = 30.0,
        hop: str = "",
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param proxyEndpoint: how the proxy is reached: TCP, TLS, or through another proxy.
        @param host: the target's name (ASCII) or address literal, without brackets.
        @param port: the target's port, 1 to 65535.
        @param credentials: for this proxy, sent as Basic (RFC 7617).
        @param headers: further header fields for this proxy.
        @param timeout: seconds for the whole attempt, with DNS, TCP and TLS; None: no limit.
        @param hop: what failures call the proxy; as a rule its `host:port`.
        @param reactor: the clock of the timeout; None: the reactor.
        @raise ValueError: for a target or a header that cannot stand in a request.
        """
        self._proxyEndpoint = proxyEndpoint
        self._host = host
        self._port = port
        self._hop = hop
        self._timeout = timeout
        self._clock = reactor
        self._sweep: Sweep | None = None
        self._authenticated = credentials is not None
        self._secrets = credentials.secrets() if credentials is not None else ()
        fields = [(name.encode(), value.encode()) for name, value in headers]
        if credentials is not None:
            fields.append((b"Proxy-Authorization", credentials.basic()))
        self._request = connectRequest(host, port, fields)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; see the class for how it ends. Cancelling aborts the connection."""
        if self._sweep is None:
            self._sweep = Sweep.fine(clockOf(self._clock), self._timeout)
        handshake = Handshake(
            self._host,
            self._port,
            hop=self._hop,
            authenticated=self._authenticated,
            secrets=self._secrets,
        )
        attempt = _Attempt(self._sweep, self._request, handshake, protocolFactory)
        attempt.address = HostnameAddress(self._host.encode("ascii"), self._port)
        attempt.hop = self._hop
        return attempt.start(self._proxyEndpoint, self._timeout)


class _Attempt(Factory):
    """One attempt at a tunnel: the factory of the one connection that it makes."""

    noisy = False
    address: IAddress
    hop: str

    def __init__(
        self,
        sweep: Sweep,
        request: bytes,
        handshake: Handshake,
        protocolFactory: IProtocolFactory,
    ) -> None:
        self._sweep = sweep
        self.request = request
        self.handshake = handshake
        self.inner = protocolFactory
        self._connection: _ProxyConnection | None = None
        self._connecting: Deferred[IProtocol] | None = None
        self._deadline = float("inf")
        self._done: Deferred[IProtocol] | None = None
        self._timeout = 0.0

    def start(self, endpoint: IStreamClientEndpoint, timeout: float | None) -> Deferred[IProtocol]:
        done = self._done = Deferred(self._cancelled)
        self._timeout = timeout or 0.0
        try:
            self._connecting = endpoint.connect(self)
        except Exception:
            self.fail(Failure())
        else:
            self._connecting.addErrback(self._notConnected)
        # Set only now: of a chain's equal deadlines the first hop's is then due first, and the
        # failure names the hop that is silent.
        if timeout is not None and not self.over:
            self._dueIn(timeout)
        return done

    def doStart(self) -> None:
        self.inner.doStart()

    def doStop(self) -> None:
        self.inner.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        if self._done is None:
            return None  # an endpoint that connects although it was cancelled
        self._connection = _ProxyConnection(self)
        return self._connection

    def succeed(self, protocol: IProtocol) -> None:
        done = self._finish()
        if done is not None:
            done.callback(protocol)

    def fail(self, reason: Failure | Exception) -> None:
        done = self._finish()
        if done is not None:
            self._abort()
            done.errback(reason)

    @property
    def over(self) -> bool:
        return self._done is None

    def hurry(self) -> None:
        """The status is known; what is still missing is a body that may never come."""
        self._dueIn(BODY_WAIT)

    def _dueIn(self, seconds: float) -> None:
        self._deadline = min(self._deadline, self._sweep.clock.seconds() + seconds)
        self._sweep.add(self)

    def check(self, now: float) -> None:
        """Look whether the time is over; called by the Sweep."""
        if now >= self._deadline:
            self._expired()

    def _finish(self) -> Deferred[IProtocol] | None:
        """The Deferred, once; afterwards nothing of this attempt is pending."""
        done, self._done = self._done, None
        self._sweep.discard(self)
        return done

    def _abort(self) -> None:
        if self._connection is not None and self._connection.connected:
            abort(self._connection.transport)
        elif self._connecting is not None:
            self._connecting.cancel()

    def _expired(self) -> None:
        if self._connection is not None and self._connection.connected:
            self.fail(self.handshake.expire(self._timeout))
        else:
            within = f"timed out after {self._timeout:g} s"
            self.fail(self._unreachable(within))

    def _notConnected(self, reason: Failure) -> None:
        if isinstance(reason.value, TunnelError):
            self.fail(reason)  # of a hop before this one
        else:
            self.fail(self._unreachable(reasonOf(reason.value)))

    def _unreachable(self, why: str) -> Unreachable:
        who = f"the proxy {self.hop}" if self.hop else "the proxy"
        return Unreachable(f"cannot reach {who}: {why}", hop=self.hop)

    def _cancelled(self, done: Deferred[IProtocol]) -> None:
        self.fail(ConnectingCancelledError(self.address))

    def connectionLost(self, reason: Failure) -> None:
        # Whoever has begun to answer was reached, even if TLS then breaks.
        if self.handshake.begun or reason.check(ConnectionDone, TwistedConnectionLost):
            self.fail(self.handshake.end())
        else:
            self.fail(self._unreachable(reasonOf(reason.value)))


@implementer(IHalfCloseableProtocol)
class _ProxyConnection(Protocol):
    """Speaks CONNECT, then hands its transport to the inner protocol and passes all on to it.

    It says that it can half-close, whatever the inner protocol can, because Twisted's wrappers ask
    once, before there is an inner protocol.
    """

    _inner: IProtocol | None = None

    def __init__(self, attempt: _Attempt) -> None:
        self._attempt = attempt

    def connectionMade(self) -> None:
        if self._attempt.over:
            abort(self.transport)  # it was cancelled, and connected all the same
        else:
            cast(Any, self.transport).write(self._attempt.request)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            # Looked up each time, because protocols change it.
            self._inner.dataReceived(data)
            return
        attempt = self._attempt
        if not attempt.over:
            try:
                outcome = attempt.handshake.feed(data)
                if outcome is not None:
                    self._established()
                elif attempt.handshake.refusal is not None:
                    attempt.hurry()
            except Exception:
                attempt.fail(Failure())
            else:
                if outcome is not None:
                    self._deliver(outcome.leftover)

    def _established(self) -> None:
        attempt = self._attempt
        inner = attempt.inner.buildProtocol(attempt.address)
        if inner is None:
            raise NoProtocol()
        self._inner = inner
        del self._attempt  # a tunnel may live for months
        inner.makeConnection(cast(Any, self.transport))
        attempt.succeed(inner)

    def _deliver(self, leftover: bytes) -> None:
        transport = cast(Any, self.transport)
        if leftover and not getattr(transport, "disconnecting", False):
            # Whoever waited for the Deferred may have taken the transport over by now.
            receiverOf(transport, cast(IProtocol, self._inner)).dataReceived(leftover)

    def readConnectionLost(self) -> None:
        if self._inner is None:
            self._attempt.fail(self._attempt.handshake.end())
        elif IHalfCloseableProtocol.providedBy(self._inner):
            cast(IHalfCloseableProtocol, self._inner).readConnectionLost()
        else:
            cast(Any, self.transport).loseConnection()

    def writeConnectionLost(self) -> None:
        if IHalfCloseableProtocol.providedBy(self._inner):
            cast(IHalfCloseableProtocol, self._inner).writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is None:
            self._attempt.connectionLost(reason)
        else:
            self._inner.connectionLost(reason)
