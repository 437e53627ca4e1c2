"""One hop: a connection to a target through the proxy behind any other endpoint.

A ConnectEndpoint is an endpoint over an endpoint, so a chain of proxies is one within another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from OpenSSL.SSL import Connection
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

from ptunnel import causes
from ptunnel._version import __version__
from ptunnel.auth import Credentials
from ptunnel.connect.handshake import Challenged, Established, Handshake
from ptunnel.connect.hops import hopOf
from ptunnel.connect.login import Login
from ptunnel.connect.request import authority, connectRequest
from ptunnel.connect.visit import Visit
from ptunnel.errors import (
    CredentialsUnavailable,
    ProxyFailed,
    ProxyRefused,
    TunnelError,
    cannotReach,
    noAnswer,
)
from ptunnel.net.deadlines import Sweep, clockOf
from ptunnel.net.transports import abort, receiverOf
from ptunnel.tls import connectionOf, endPointOf, tlsFailure

_USER_AGENT = (b"User-Agent", f"ptunnel/{__version__}".encode())
# How long the body of a refusal is waited for, in seconds. It comes with the head, as a rule.
BODY_WAIT = 1.0
# How long an attempt with new credentials keeps a second one from trying, in seconds. A proxy says
# soon that it rejects them, as a rule; what takes longer is its way to the target.
VERDICT_WAIT = 3.0
# What a proxy does that ends a connection on which an authentication was begun.
_MIDST = "closes the connection in the midst of the authentication"
# The same for the body of a 407 behind which the connection can go on.
DRAIN_WAIT = 5.0


@implementer(IStreamClientEndpoint)
class ConnectEndpoint:
    """A connection through an HTTP proxy's CONNECT method (RFC 9110 section 9.3.6).

    `connect` gives a Deferred that fires with the inner protocol when the proxy has answered 2xx
    and the protocol is connected; bytes that came behind the answer follow at once. It fails with

     - L{ptunnel.errors.Unreachable} when there is no connection to the proxy,
     - L{ptunnel.errors.ProxyRefused} when it answers anything but 2xx, and
       L{ptunnel.errors.CredentialsRefused} when that is 407 and the credentials do not help, or
       did not just before,
     - L{ptunnel.errors.CredentialsUnavailable} when they could not be had,
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
        credentials: Credentials | Login | None = None,
        headers: Sequence[tuple[str, str]] = (),
        timeout: float | None = 30.0,
        hop: str = "",
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param proxyEndpoint: how the proxy is reached: TCP, TLS, or through another proxy.
        @param host: the target's name (ASCII) or address literal, without brackets.
        @param port: the target's port, 1 to 65535.
        @param credentials: for this proxy, sent when it asks for them and as it asks for them; a
            Login where several endpoints are to share what was found out.
        @param headers: further header fields for this proxy. User-Agent is C{ptunnel/VERSION} where
            it is not among them. A failure shows none of their values.
        @param timeout: seconds for the whole attempt, with DNS, TCP and TLS; None: no limit.
        @param hop: what failures call the proxy; "": its `host:port`, where its endpoint tells it.
        @param reactor: the clock of the timeout; None: the reactor.
        @raise ValueError: for a target or a header that cannot stand in a request.
        """
        self._proxyEndpoint = proxyEndpoint
        self.host = host
        self.port = port
        self.hop = hop = hop or hopOf(proxyEndpoint)
        self._timeout = timeout
        self._clock = reactor
        self._sweep: Sweep | None = None
        if isinstance(credentials, Credentials):
            credentials = Login(credentials, hop=hop, reactor=reactor)
        elif credentials is not None and not credentials.hop:
            credentials.hop = hop
        self.login = credentials
        given = [(name.encode(), value.encode()) for name, value in headers]
        self.secrets = _secretsOf(given)
        self._fields = given
        if not any(name.lower() == b"user-agent" for name, _ in given):
            self._fields = [_USER_AGENT, *given]  # some proxies turn away those who have none
        self._request = connectRequest(host, port, self._fields)
        self.address = HostnameAddress(host.encode("ascii"), port)

    def request(self, authorization: bytes | None = None, bound: bool = False) -> bytes:
        """The bytes of the CONNECT request.

        @param authorization: the value of Proxy-Authorization.
        @param bound: whether it is the connection that is authenticated.
        """
        if authorization is None:
            return self._request
        fields = [*self._fields, (b"Proxy-Authorization", authorization)]
        if bound:
            fields.append((b"Proxy-Connection", b"keep-alive"))
        return connectRequest(self.host, self.port, fields)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; see the class for how it ends. Cancelling aborts the connection."""
        if self._sweep is None:
            self._sweep = Sweep.fine(clockOf(self._clock), self._timeout)
        attempt = _Attempt(self, self._proxyEndpoint, self._sweep, protocolFactory)
        return attempt.start(self._timeout)


def _secretsOf(fields: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, ...]:
    """What no failure may show of header fields that were set."""
    if not fields:
        return ()
    from ptunnel.connect.excerpts import secretsOf

    return tuple(secret for _, value in fields for secret in secretsOf(value))


class _Attempt(Factory):
    """One attempt at a tunnel: the factory of the connections that it makes, one after the other.

    @ivar handshake: that of the newest connection.
    """

    noisy = False
    handshake: Handshake

    def __init__(
        self,
        hop: ConnectEndpoint,
        proxyEndpoint: IStreamClientEndpoint,
        sweep: Sweep,
        protocolFactory: IProtocolFactory,
    ) -> None:
        self._hop = hop
        self._proxyEndpoint = proxyEndpoint
        self._sweep = sweep
        self.inner = protocolFactory
        self.address = hop.address
        self.request = b""
        self._visit: Visit | None = None
        self._connection: _ProxyConnection | None = None
        self._waiting: Deferred[Any] | None = None
        self._deadline = self._bodyDeadline = self._answered = float("inf")
        self._done: Deferred[IProtocol] | None = None
        self._timeout = 0.0
        self._asking = self._isReused = self._isRedialled = False
        self._authorization: bytes | None = None
        self._tls: Connection | None = None

    def start(self, timeout: float | None) -> Deferred[IProtocol]:
        done = self._done = Deferred(self._cancelled)
        self._timeout = timeout or 0.0
        login = self._hop.login
        if login is None or not login.speaksFirst():
            self._dial(None)
        else:
            self._await(self._enter(login).first(), self._dial)
        # Set only now: of a chain's equal deadlines the first hop's is then due first, and the
        # failure names the hop that is silent.
        if timeout is not None and not self.over:
            self._deadline = self._sweep.clock.seconds() + timeout
            self._sweep.add(self)
        return done

    def _enter(self, login: Login) -> Visit:
        if self._visit is None:
            self._visit = Visit(login, authority(self._hop.host, self._hop.port))
        return self._visit

    def _await(self, waiting: Deferred[Any], go: Callable[..., None]) -> None:
        """Do something with what the visit has to say."""
        self._asking = True
        self._waiting = waiting
        waiting.addCallback(go).addErrback(self.fail)

    def _dial(self, authorization: bytes | None) -> None:
        """Connect, and send a request."""
        self._asking = False
        if self.over:
            return
        self._prepare(authorization)
        self._isReused = False
        try:
            connecting = self._proxyEndpoint.connect(self)
        except Exception:
            self.fail(Failure())
        else:
            if not self._asking:
                self._waiting = connecting
            connecting.addErrback(self._notConnected)

    def _prepare(self, authorization: bytes | None) -> None:
        """The next request, and what reads the answer to it."""
        hop, visit = self._hop, self._visit
        self.request = hop.request(authorization, visit is not None and visit.bound)
        self._authorization = authorization
        self.handshake = Handshake(
            hop.host,
            hop.port,
            hop=hop.hop,
            authenticated=authorization is not None,
            answerable=hop.login is not None,
            midway=visit is not None and visit.midway,
            secrets=hop.secrets + (visit.secrets() if visit is not None else ()),
        )

    def feed(self, data: bytes) -> Established | Challenged | None:
        """Take what the newest connection received."""
        if self._asking:
            self._hangUp()  # it says something that nobody has asked
            return None
        outcome = self.handshake.feed(data)
        if isinstance(outcome, Challenged):
            self._challenged(outcome)
        elif outcome is None and self.handshake.refusal is not None:
            self._hurry()
        return outcome

    def _challenged(self, challenge: Challenged) -> None:
        """The proxy asks who we are."""
        assert self._hop.login is not None
        self._bodyDeadline = float("inf")
        # A proxy that ended a connection that it seemed to keep is not believed again.
        if not challenge.reusable or (self._isRedialled and not challenge.midway):
            self._hangUp()
        visit = self._enter(self._hop.login)
        self._await(visit.answer(challenge, self._channel()), self._again)

    def _again(self, authorization: bytes) -> None:
        """Send the next request, on the same connection where that is possible."""
        self._asking = False
        if self._connection is not None and not self.over:
            self._prepare(authorization)
            self._isReused = True
            self._send(self._connection)
        elif self._visit is not None and self._visit.sticky:
            self._giveWay(self._broken(_MIDST))
        else:
            self._dial(authorization)

    def connected(self, connection: _ProxyConnection) -> None:
        """The newest connection stands: send the request, or find out what it is to carry."""
        visit = self._visit
        if self._hop.login is not None and not connection.isWithin:
            self._tls = connectionOf(connection.transport)
        if visit is not None and visit.opens:
            self._await(visit.open(self._channel()), self._open)
        else:
            self._send(connection)

    def _open(self, authorization: bytes | None) -> None:
        """Send the first request on the connection that it was made for, if that still stands."""
        self._asking = False
        if self._connection is None or self.over:
            self._dial(authorization)
        else:
            self._prepare(authorization)
            self._send(self._connection)

    def _send(self, connection: _ProxyConnection) -> None:
        connection.send(self.request)
        if self._authorization is not None and self._visit is not None:
            self._visit.sent()
            self._answered = self._sweep.clock.seconds()
            self._sweep.add(self)  # without a timeout too, others wait for the verdict

    def _channel(self) -> bytes | None:
        """What binds an authentication to the TLS connection with the proxy; None without TLS."""
        return None if self._tls is None else endPointOf(self._tls)

    def _giveWay(self, error: TunnelError) -> None:
        """The connection has ended that the authentication was bound to."""
        assert self._visit is not None
        self._hangUp()
        self._await(self._visit.giveWay(error), self._again)

    def _hangUp(self) -> None:
        """Another connection will take the place of this one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.letGo()

    def doStart(self) -> None:
        self.inner.doStart()

    def doStop(self) -> None:
        self.inner.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        if self.over:
            return None  # an endpoint that connects although it was cancelled
        self._connection = _ProxyConnection(self)
        return self._connection

    def succeed(self, protocol: IProtocol) -> None:
        if self._visit is not None:
            self._visit.accepted(self.handshake.authenticationInfo)
        done = self._finish()
        if done is not None:
            done.callback(protocol)

    def fail(self, reason: Failure | Exception) -> None:
        error = reason.value if isinstance(reason, Failure) else reason
        if self._visit is not None and isinstance(error, ProxyRefused):
            self._visit.refused(error)
        done = self._finish()
        if done is not None:
            self._abort()
            done.errback(reason)

    @property
    def over(self) -> bool:
        return self._done is None

    def _hurry(self) -> None:
        """The status is known; what is still missing is a body that may never come."""
        challenged = self.handshake.challenged
        wait = BODY_WAIT if challenged is None else DRAIN_WAIT
        if challenged is not None and challenged.midway:
            wait = float("inf")  # only this connection can go on
        if self._bodyDeadline == float("inf"):
            now = self._sweep.clock.seconds()
            # Half of what is left is for the connection that takes the place of this one.
            self._bodyDeadline = now + min(wait, (self._deadline - now) / 2)
            self._sweep.add(self)

    def check(self, now: float) -> None:
        """Look whether the time is over; called by the Sweep."""
        if self._visit is not None and now >= self._answered + VERDICT_WAIT:
            self._visit.stepAside()
        if now >= self._deadline or (now >= self._bodyDeadline and not self._cutShort()):
            self._expired()

    def _cutShort(self) -> bool:
        """The body of a 407 does not come to its end.

        @return: whether that is so, and the challenge is answered on another connection.
        """
        if self._bodyDeadline == float("inf") or self.handshake.challenged is None:
            return False
        self.handshake.loseConnection()
        self._challenged(self.handshake.challenged)
        return True

    def _finish(self) -> Deferred[IProtocol] | None:
        """The Deferred, once; afterwards nothing of this attempt is pending."""
        done, self._done = self._done, None
        self._sweep.discard(self)
        if self._visit is not None:
            self._visit.leave()
        return done

    def _abort(self) -> None:
        waiting, self._waiting = self._waiting, None
        if self._connection is not None and self._connection.connected:
            abort(self._connection.transport)
        if waiting is not None:
            waiting.cancel()

    def _expired(self) -> None:
        if self._asking:
            what = f"no credentials for {self._who()} within {self._timeout:g} s"
            cause = causes.CREDENTIALS_UNAVAILABLE.id
            if self._visit is not None and self._visit.waiting:
                what = (
                    f"{self._who()} did not say within {self._timeout:g} s whether it accepts the "
                    "credentials, which another connection tries"
                )
                cause = causes.SILENT.id
            self.fail(CredentialsUnavailable(what, hop=self._hop.hop, cause=cause))
        elif self._connection is not None and self._connection.connected:
            self.fail(self.handshake.expire(self._timeout))
        else:
            self.fail(noAnswer(self._hop.hop, self._timeout))

    def _notConnected(self, reason: Failure) -> None:
        if isinstance(reason.value, TunnelError):
            self.fail(reason)  # of a hop before this one
        else:
            self.fail(cannotReach(cast(BaseException, reason.value), self._hop.hop))

    def _broken(self, what: str) -> ProxyFailed:
        return ProxyFailed(f"{self._who()} {what}", hop=self._hop.hop, cause=causes.BROKEN.id)

    def _who(self) -> str:
        return f"the proxy {self._hop.hop}" if self._hop.hop else "the proxy"

    def _cancelled(self, done: Deferred[IProtocol]) -> None:
        self.fail(ConnectingCancelledError(self.address))

    def connectionLost(self, reason: Failure) -> None:
        """The newest connection has ended before there was a tunnel."""
        if self._asking:
            self._hangUp()
        elif self._cutShort() or (not self.handshake.begun and self._goOn()):
            pass
        # Whoever has begun to answer was reached, even if TLS then breaks.
        elif self.handshake.begun or reason.check(ConnectionDone, TwistedConnectionLost):
            self.fail(self.handshake.end())
        elif reason.check("OpenSSL.SSL.Error"):
            # Since TLS 1.3 a server looks at our certificate when the handshake is done for us.
            self.fail(tlsFailure(cast(BaseException, reason.value), self._hop.hop))
        else:
            self.fail(cannotReach(cast(BaseException, reason.value), self._hop.hop))

    def _goOn(self) -> bool:
        """Make up for a connection that has ended without a byte of an answer.

        @return: whether that can be done.
        """
        visit = self._visit
        if visit is None:
            return False
        if self._isReused and not visit.sticky:
            # It looked as if it were kept alive, and the request was never read.
            self._isRedialled = True
            self._hangUp()
            self._dial(self._authorization)
        elif visit.sticky:
            self._giveWay(self._broken(_MIDST))
        elif visit.midway:
            self._giveWay(self.handshake.end())
        else:
            return False
        return True


@implementer(IHalfCloseableProtocol)
class _ProxyConnection(Protocol):
    """Speaks CONNECT, then hands its transport to the inner protocol and passes all on to it.

    It says that it can half-close, whatever the inner protocol can, because Twisted's wrappers ask
    once, before there is an inner protocol.

    @ivar isWithin: whether it goes through another proxy, whose TLS is not this one's.
    """

    _inner: IProtocol | None = None
    isWithin = False

    def __init__(self, attempt: _Attempt) -> None:
        self._attempt: _Attempt | None = attempt

    def connectionMade(self) -> None:
        attempt = self._attempt
        if attempt is None or attempt.over:
            abort(self.transport)  # it was cancelled, and connected all the same
        else:
            attempt.connected(self)

    def send(self, request: bytes) -> None:
        cast(Any, self.transport).write(request)

    def letGo(self) -> None:
        """Nobody wants this connection any more."""
        self._attempt = None
        abort(self.transport)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            # Looked up each time, because protocols change it.
            self._inner.dataReceived(data)
            return
        attempt = self._attempt
        if attempt is None or attempt.over:
            return
        try:
            outcome = attempt.feed(data)
            if isinstance(outcome, Established):
                self._established(attempt)
        except Exception:
            attempt.fail(Failure())
        else:
            if isinstance(outcome, Established):
                self._deliver(outcome.leftover)

    def _established(self, attempt: _Attempt) -> None:
        inner = attempt.inner.buildProtocol(attempt.address)
        if inner is None:
            raise NoProtocol()
        self._inner = inner
        if isinstance(inner, _ProxyConnection):
            inner.isWithin = True
        self._attempt = None  # a tunnel may live for months
        inner.makeConnection(cast(Any, self.transport))
        attempt.succeed(inner)

    def _deliver(self, leftover: bytes) -> None:
        transport = cast(Any, self.transport)
        if leftover and not getattr(transport, "disconnecting", False):
            # Whoever waited for the Deferred may have taken the transport over by now.
            receiverOf(transport, cast(IProtocol, self._inner)).dataReceived(leftover)

    def readConnectionLost(self) -> None:
        if self._inner is None:
            if self._attempt is not None:
                self._attempt.connectionLost(connectionDone)
        elif IHalfCloseableProtocol.providedBy(self._inner):
            cast(IHalfCloseableProtocol, self._inner).readConnectionLost()
        else:
            cast(Any, self.transport).loseConnection()

    def writeConnectionLost(self) -> None:
        if IHalfCloseableProtocol.providedBy(self._inner):
            cast(IHalfCloseableProtocol, self._inner).writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif self._attempt is not None:
            self._attempt.connectionLost(reason)
